#!/usr/bin/env python3
"""Proves the agent in a real microVM, by hand or from ctest: boots the image, attaches, seeds, runs
code, moves files, interrupts, fills memory; snapshots and clones; prints what it measured.

usage: guest_vm.py BUILD-FOLDER [--image DIR] [--memory MIB] [--only NAME] [--keep-log]
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from guestlib import *  # noqa: E402,F403


def tsc_khz():
    """The rate of the time stamp counter, as the engine measures it."""
    for line in open("/proc/cpuinfo"):
        if line.startswith("cpu MHz"):
            return int(float(line.split(":")[1]) * 1000)
    return 2000000


class Machine:
    """One QEMU. With `state` it continues from a snapshot, on a private copy of the memory."""

    def __init__(self, work, args, state=None, number=0):
        self.dir = os.path.join(work, f"vm{number}")
        os.mkdir(self.dir)
        self.sock = {n: os.path.join(self.dir, n) for n in ("ctl", "bulk", "qmp")}
        self.log_path = os.path.join(self.dir, "console")
        self.memory = os.path.join(work, "memory")
        clone = state is not None
        khz = tsc_khz()
        argv = ["qemu-system-x86_64", "-M", "microvm,pit=off,pic=off,rtc=on,isa-serial=on,"
                "x-option-roms=off,mem-merge=off,memory-backend=ram", "-accel", "tcg",
                "-cpu", "max,erms=off,smap=off,la57=off",
                "-m", f"{args.memory}M", "-nodefaults", "-no-user-config", "-no-reboot",
                "-display", "none", "-object",
                f"memory-backend-file,id=ram,size={args.memory}M,mem-path={self.memory},"
                f"share={'off' if clone else 'on'}",
                "-blockdev", "driver=raw,node-name=root,read-only=on,file.driver=file,"
                f"file.read-only=on,file.locking=off,file.filename={args.image}/rootfs.sqfs",
                "-device", "virtio-blk-device,drive=root",
                "-device", "virtio-serial-device,max_ports=4"]
        for name in ("ctl", "bulk"):
            argv += ["-chardev", f"socket,id={name},path={self.sock[name]},server=on,wait=off",
                     "-device", f"virtserialport,chardev={name},name=warren.{name}"]
        argv += ["-chardev", f"socket,id=qmp,path={self.sock['qmp']},server=on,wait=off",
                 "-mon", "chardev=qmp,mode=control"]
        if clone:
            argv += ["-serial", "null", "-incoming", "defer"]
        else:
            argv += ["-serial", f"file:{self.log_path}", "-kernel", f"{args.image}/vmlinuz",
                     "-initrd", os.path.join(work, "initrd"), "-append",
                     f"console=ttyS0 tsc=reliable tsc_early_khz={khz} lpj={khz * 4} no_timer_check "
                     "init_on_alloc=0 nowatchdog psi=0 mitigations=off cryptomgr.notests lsm=landlock,yama "
                     "initcall_blacklist=init_kprobe_trace rcupdate.rcu_expedited=1 quiet "
                     f"reboot=t panic=-1 warren.kernels={args.kernels}"]
        self.errors = open(os.path.join(self.dir, "qemu"), "w")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.errors,
                                        stderr=self.errors)
        self.wait_socket()
        self.qmp = self.open_qmp()
        if clone:
            self.command("migrate-set-capabilities", capabilities=[
                {"capability": "x-ignore-shared", "state": True}])
            self.command("migrate-incoming", uri=f"exec:cat {state}")

    def wait_socket(self):
        end = time.monotonic() + 60
        while not all(os.path.exists(p) for p in self.sock.values()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("QEMU did not start: " + open(self.errors.name).read())
            time.sleep(0.005)

    def open_qmp(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        s.connect(self.sock["qmp"])
        f = s.makefile("rw")
        json.loads(f.readline())
        self.qmp = f
        self.command("qmp_capabilities")
        return f

    def command(self, name, **arguments):
        self.qmp.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])

    def snapshot(self, path):
        self.command("migrate-set-capabilities", capabilities=[
            {"capability": "x-ignore-shared", "state": True}])
        self.command("migrate", uri=f"exec:cat > {path}")
        while self.command("query-migrate").get("status") != "completed":
            time.sleep(0.01)

    def guest(self, **more):
        return Guest(self.sock["ctl"], self.sock["bulk"], timeout=1500, **more)

    def cpu_s(self):
        f = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def console(self):
        try:
            return open(self.log_path, errors="replace").read()
        except OSError:
            return ""

    def close(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


def median_ms(times):
    return f"{1000 * statistics.median(times):.1f} ms (min {1000 * min(times):.1f})"


def measure(n, what):
    times = []
    for _ in range(n):
        t = time.monotonic()
        what()
        times.append(time.monotonic() - t)
    return median_ms(times)


PLOT = """import matplotlib.pyplot as plt
plt.plot([1, 4, 9, 16])
plt.title("squares")
"""


def figures(g, m):
    """The numbers of the report."""
    g.run("1+1")
    print("ping:", measure(50, g.ctl.ping), flush=True)
    print("1+1:", measure(50, lambda: check(g.run("1+1").text == "2")), flush=True)
    inside = [g.run("1+1").done.duration_us / 1000 for _ in range(20)]
    print(f"1+1 inside the guest: {statistics.median(inside):.2f} ms", flush=True)
    print("print:", measure(20, lambda: check(g.run("print('x')").stdout == b"x\n")), flush=True)
    print("error:", measure(10, lambda: check(g.run("1/0").error == "ZeroDivisionError")), flush=True)
    print("seed allocated:", measure(20, lambda: g.seed(stage=2)), flush=True)
    print("plot:", measure(3, lambda: check("image/png" in g.run(PLOT).displays[0])), flush=True)
    print("shell echo:", measure(10, lambda: check(g.run("echo x", SHELL).stdout == b"x\n")),
          flush=True)
    data = os.urandom(1 << 20) * 32
    t = time.monotonic()
    g.put("big", [data])
    t1 = time.monotonic()
    check(g.get("big") == data)
    t2 = time.monotonic()
    g.delete("big")
    print(f"32 MB put {32 / (t1 - t):.0f} MB/s, get {32 / (t2 - t1):.0f} MB/s", flush=True)
    idle(m, "idle, attached")


def idle(m, what, seconds=10):
    time.sleep(1)
    before = m.cpu_s()
    time.sleep(seconds)
    print(f"{what}: {100 * (m.cpu_s() - before) / seconds:.2f} % CPU", flush=True)


def check(ok, what=None):
    if not ok:
        raise AssertionError(what)


def passed(name, since):
    print(f"ok: {name} ({time.monotonic() - since:.1f} s)", flush=True)


def alive(g):
    """The agent answers and a new cell works, whatever the one before did."""
    g.ctl.ping()
    outcome = g.run("6 * 7", timeout_ms=120000)
    check(outcome.text == "42", outcome.events)


def hostile(g):
    """Code that takes all it can get."""
    t = time.monotonic()
    outcome = g.run("keep = 1\nblocks = []\nwhile True:\n    blocks.append(bytearray(8 << 20))")
    check(outcome.status in (OOM, FAILED), outcome.done)
    check(outcome.status == OOM or outcome.error == "MemoryError", outcome.done)
    alive(g)
    passed(f"eats all memory: status {outcome.status}", t)

    t = time.monotonic()
    outcome = g.run("tail /dev/zero", SHELL)
    check(outcome.status == OOM, outcome.done)
    alive(g)
    passed("a command eats all memory", t)

    t = time.monotonic()
    id, stream = g.start("bomb() { bomb | bomb & }; bomb; sleep 60", SHELL, timeout_ms=5000)
    for _ in range(5):
        time.sleep(0.5)
        g.ctl.ping()
    outcome = Outcome(list(g.events(id, stream)))
    check(outcome.status in (TIMEOUT, FAILED, DIED), outcome.done)
    g.run("pkill -9 -u 1000 bash; true", SHELL)
    g.run("import os\nos.kill(-1, 9)")
    alive(g)
    check(g.run("echo back", SHELL).stdout == b"back\n")
    passed(f"fork bomb: status {outcome.status}", t)

    t = time.monotonic()
    outcome = g.run("import os\nwhile True:\n    os.fork()", timeout_ms=5000)
    check(outcome.status in (FAILED, TIMEOUT, DIED), outcome.done)
    alive(g)
    passed(f"forks without end: status {outcome.status}", t)

    t = time.monotonic()
    outcome = g.run("import os\nblock = b'y' * (1 << 20)\nleft = 1 << 30\nwhile left:\n"
                    "    left -= os.write(1, block[:left])", stdout_max=5000)
    check(outcome.status == OK and outcome.done.stdout_bytes == 1 << 30, outcome.done)
    check(len(outcome.stdout) == 5000)
    alive(g)
    passed("1 GB of output", t)

    t = time.monotonic()
    outcome = g.run("import os\nf = open('full', 'wb')\nblock = bytes(1 << 20)\n"
                    "while True:\n    f.write(block)")
    check(outcome.status in (FAILED, OOM), outcome.done)
    try:
        g.put("more", [bytes(1 << 20)] * 300, size_max=1 << 30)
        check(False, "the upload fits into a full file system")
    except Refused as e:
        check(e.code == ERR["FULL"], e)
    check([e.name for e in g.list()] == ["full"], "what is left")
    g.delete("full")
    alive(g)
    passed(f"fills the file system: status {outcome.status}", t)

    t = time.monotonic()
    for code in ("import os\nos.kill(-1, 9)", "import os\nos._exit(3)",
                 "import os\nos.kill(os.getpid(), 9)"):
        g.run(code)
        alive(g)
    check(g.run("import os\nos.kill(1, 9)").error == "PermissionError")
    g.put("a/b", b"x")
    g.run("rm -rf /mnt/data /tmp /home/session / 2>/dev/null", SHELL)
    check(g.list() == [])
    g.put("a/b", b"x")
    alive(g)
    passed("kills and deletes all it may", t)

    t = time.monotonic()
    outcome = g.run("import os, pathlib\n(os.getuid(), os.getcwd(), os.environ['HOME'], "
                    "os.access('/etc/passwd', os.W_OK), pathlib.Path('/proc/1/root').exists() "
                    "if os.access('/proc/1/root', os.R_OK) else False)")
    check(outcome.text == "(1000, '/mnt/data', '/home/session', False, False)", outcome.text)
    check(g.run("sudo id || su -c id", SHELL).status == FAILED)
    passed("user code has no rights", t)


FIRST = """
import os, random, uuid, numpy, ssl, tempfile
print(os.urandom(8).hex())
print(random.random())
print(uuid.uuid4())
print(uuid.uuid1())
print(numpy.random.default_rng().random())
print(numpy.random.rand())
print(ssl.RAND_bytes(8).hex())
print(next(tempfile._get_candidate_names()))
"""


def clones(work, args, machines, count):
    """Clones of one snapshot: none says what another one says; how long they take."""
    m = machines[0]
    g = m.guest(seed=False)
    for kernel, name in ((PYTHON, "template.py"), (SHELL, "template.sh")):
        code = open(f"{args.build}/guest/warm/{name}").read()
        outcome = g.run(code, kernel, hidden=True, timeout_ms=200000)
        check(outcome.status == OK, outcome.traceback)
    check(g.ctl.call(quiesce=pb.GuestQuiesce()).code == 0)
    g.close()
    state = os.path.join(work, "state")
    m.snapshot(state)
    m.close()
    machines.clear()
    seen, times = {}, []
    for i in range(count):
        t = time.monotonic()
        c = Machine(work, args, state, number=i + 1)
        machines.append(c)
        g = c.guest(seed=False)
        t1 = time.monotonic()
        check(not g.hello.seeded)
        g.seed()
        t2 = time.monotonic()
        first = g.run(FIRST)
        check(first.status == OK, first.traceback)
        t3 = time.monotonic()
        g.seed(stage=2, kernels=[NODE])
        values = first.stdout.decode().split()
        values += g.run("echo $RANDOM$RANDOM$RANDOM", SHELL).stdout.decode().split()
        values += [g.run("crypto.randomUUID()", NODE).text, g.run("Math.random()", NODE).text]
        values += [g.get("/etc/machine-id", absolute=True).decode()]
        values += [g.run("import multiprocessing\n"
                         "bytes(multiprocessing.current_process().authkey).hex()").text]
        for k, v in enumerate(values):
            check(v not in seen.setdefault(k, set()), (k, v))
            seen[k].add(v)
        check(abs(float(g.run("import time; time.time()").text) - time.time()) < 30)
        check(g.run("import socket; socket.gethostname()").text == "'session'")
        times.append((t1 - t, t2 - t1, t3 - t2))
        g.close()
        if i >= 2:
            machines.pop().close()
    for k, name in enumerate(("spawn to attached", "first seed", "first cell")):
        print(f"clone, {name}: {median_ms([x[k] for x in times])}", flush=True)
    passed(f"{count} clones, {len(seen)} kinds of randomness, all different", time.monotonic())
    for c in machines:
        idle(c, "idle clone, nobody attached", 5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--image", default="/var/cache/warren/images/current")
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--kernels", default="python,shell")
    parser.add_argument("--only", default="figures,hostile,clones")
    parser.add_argument("--clones", type=int, default=8)
    args = parser.parse_args()
    if not os.path.exists(args.image + "/vmlinuz") or not shutil.which("qemu-system-x86_64"):
        print("no guest image or no QEMU")
        return 77
    work = tempfile.mkdtemp(prefix="warren-vm-", dir="/dev/shm")
    machines = []
    try:
        with open(os.path.join(work, "initrd"), "wb") as out:
            for part in (args.image + "/modules.cpio", args.build + "/guest/guest.cpio"):
                out.write(open(part, "rb").read())
        t = time.monotonic()
        m = Machine(work, args)
        machines.append(m)
        g = m.guest(seed=False)
        print(f"boot to attached: {time.monotonic() - t:.1f} s", flush=True)
        only = args.only.split(",")
        if "clones" in only:
            g.close()
            clones(work, args, machines, args.clones)
            m = machines[0]
            g = m.guest(seed=False)
        g.seed()
        if "figures" in only:
            figures(g, m)
        if "hostile" in only:
            hostile(g)
            idle(m, "idle afterwards")
    except BaseException:
        for m in machines:
            print(m.console()[-3000:], file=sys.stderr)
        raise
    finally:
        for m in machines:
            m.close()
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
