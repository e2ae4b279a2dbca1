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
                "x-option-roms=off,mem-merge=off,memory-backend=ram", "-accel", "tcg", "-cpu", "max",
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
                     "nowatchdog psi=0 mitigations=off cryptomgr.notests "
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
        return Guest(self.sock["ctl"], self.sock["bulk"], timeout=300, **more)

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


def check(ok):
    if not ok:
        raise AssertionError()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--image", default="/var/cache/warren/images/current")
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--kernels", default="python,shell")
    parser.add_argument("--only", default="")
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
        g.seed()
        figures(g, m)
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
