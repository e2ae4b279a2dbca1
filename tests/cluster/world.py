"""Voters, workers and gateways, each in a network namespace of its own, with what can befall them.

Everything lives in a PID namespace and on mounts that end with the process that made them: nothing can stay behind."""
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from nodes import members  # noqa: E402

BIN = pathlib.Path(os.environ["WARREN_BIN_DIR"])
LIBC = ctypes.CDLL(None, use_errno=True)
NEWNET, NEWTIME = 0x40000000, 0x80
LIVES_MAX = 60
PORT = 7400
INSIDE = "WARREN_CLUSTER_INSIDE"


def enter():
    """Starts the program again as the first process of a PID namespace with mounts of its own; returns inside."""
    if os.environ.get(INSIDE) is None:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--pid", "--mount", "--fork", "--kill-child=SIGKILL", "--mount-proc",
                              sys.executable, *sys.argv])


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def check(rc, what):
    if rc != 0:
        raise OSError(ctypes.get_errno(), what)


def mount_tmpfs(path, size):
    path.mkdir(parents=True, exist_ok=True)
    check(LIBC.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, f"size={size},mode=0755".encode()), f"mount {path}")


def unmount(path):
    """With all that is mounted below."""
    check(LIBC.umount2(str(path).encode(), 2), f"umount {path}")


class Lan:
    """tests/lib/lan_switch.c."""

    def __init__(self, names, seed):
        self.number = {n: i + 1 for i, n in enumerate(names)}
        self.process = subprocess.Popen([BIN / "lan_switch", str(len(names)), str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        if self.process.stdout.readline() != "ready\n":
            raise AssertionError("lan_switch does not start")

    def order(self, text):
        self.process.stdin.write(text + "\n")
        if self.process.stdout.readline() != "ok\n":
            raise AssertionError(f"lan_switch: {text}")

    def link(self, a, b, loss, delay_ms=0):
        """Frames from a to b only."""
        self.order(f"link {self.number[a]} {self.number[b]} {loss} {delay_ms}")

    def heal(self):
        self.order("heal")

    def address(self, name):
        return f"10.77.0.{self.number[name]}"

    def namespace(self, name):
        return f"/proc/{self.process.pid}/fd/{100 + self.number[name]}"

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Life:
    """One run of a daemon. Its clocks are ahead by offset_s."""

    def __init__(self, process, offset_s, journal):
        self.process, self.offset_s, self.journal = process, offset_s, journal


class World:
    def __init__(self, base, seed, voters=3, workers=4, gateways=2):
        self.base, self.state = base, base / "state"
        self.voters = [f"v{i + 1}" for i in range(voters)]
        self.workers = [f"w{i + 1}" for i in range(workers)]
        self.gateways = [f"g{i + 1}" for i in range(gateways)]
        self.names = self.voters + self.workers + self.gateways
        self.lan = Lan(self.names, seed)
        self.lives = {n: [] for n in self.names}
        self.down, self.log, self.crashes = set(), [], []
        self.offset_s = {n: 0 for n in self.names}
        self.lock = threading.RLock()
        options = [f"--{role}={n}={self.lan.address(n)}:{PORT}" for role, names in
                   (("voter", self.voters), ("worker", self.workers), ("gateway", self.gateways)) for n in names]
        done = self.warren("cluster", "init", *options)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        for n in self.voters + self.workers:
            mount_tmpfs(self.store(n), "24m")

    # --- what differs between workers with and without microVMs

    def store(self, name):
        """Folder of node.mdb, a file system of its own that can be full."""
        return self.state / "cluster" / name / "state"

    def daemon(self, name, journal):
        """Command line of a worker or gateway."""
        raise NotImplementedError

    # ---

    def command(self, name, journal):
        if name not in self.voters:
            return self.daemon(name, journal)
        birth = [] if self.lives[name] else ["--birth"]
        return [BIN / "warren-scheduler", "--config", self.config(name), *birth]

    def born(self):
        return {n for n in self.names if self.lives[n]}

    def warren(self, *args, at=None):
        return subprocess.run([BIN / "warren", *args, "--state-dir", self.state], capture_output=True, text=True,
                              check=False, preexec_fn=(lambda: self.move(at, 0)) if at else None)

    def config(self, name):
        return self.state / "cluster" / name / "cluster.yaml"

    def run_dir(self, name):
        return self.base / "run" / name

    def move(self, name, offset_s):
        """In a child before exec: into the namespaces of a node."""
        fd = os.open(self.lan.namespace(name), os.O_RDONLY)
        check(LIBC.setns(fd, NEWNET), "setns")
        os.close(fd)
        if offset_s != 0:
            check(LIBC.unshare(NEWTIME), "unshare")
            with open("/proc/self/timens_offsets", "w") as f:
                f.write(f"monotonic {offset_s} 0\nboottime {offset_s} 0\n")

    def start(self, name):
        with self.lock:
            self.down.discard(name)
            offset = self.offset_s[name]
            journal = self.base / f"{name}.{len(self.lives[name])}.journal"
            self.run_dir(name).mkdir(parents=True, exist_ok=True)
            with open(self.base / f"{name}.log", "a") as log:
                p = subprocess.Popen(self.command(name, journal), stdout=log, stderr=log,
                                     preexec_fn=lambda: self.move(name, offset))
            if offset != 0 and os.readlink(f"/proc/{p.pid}/ns/time") == os.readlink("/proc/self/ns/time"):
                raise AssertionError("this kernel does not enter a time namespace with exec")
            self.lives[name].append(Life(p, offset, journal))

    def process(self, name):
        return self.lives[name][-1].process

    def kill(self, name):
        with self.lock:
            self.down.add(name)
            p = self.process(name)
            p.kill()
            p.wait()

    def kill_machine(self, name):
        """With all it has started, and what a reboot leaves of its run directory: nothing."""
        with self.lock:
            self.kill(name)
            mark = str(self.run_dir(name)).encode() + b"/"
            for p in pathlib.Path("/proc").iterdir():
                try:
                    if p.name.isdigit() and int(p.name) != 1 and mark in (p / "cmdline").read_bytes():
                        os.kill(int(p.name), signal.SIGKILL)
                except OSError:
                    continue
            subprocess.run(["rm", "-rf", self.run_dir(name)], check=True)

    def signal(self, name, number):
        with self.lock:
            if name not in self.down:
                self.process(name).send_signal(number)

    def fill(self, name):
        """Its store has no room left."""
        with open(self.store(name) / "filler", "wb", buffering=0) as f:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError:
                    pass

    def empty(self, name):
        (self.store(name) / "filler").unlink(missing_ok=True)

    def mind(self):
        """As a service manager: who has ended without being killed is started again."""
        with self.lock:
            for n in self.born() - self.down:
                code = self.process(n).poll()
                if code is not None:
                    self.log.append((now_ns(), f"{n} has ended with {code}"))
                    if code < 0:
                        self.crashes.append(f"{n} died of signal {-code}")
                    if len(self.lives[n]) > LIVES_MAX:
                        raise AssertionError(f"{n} does not stay: " + (self.base / f"{n}.log").read_text()[-500:])
                    self.start(n)

    def status(self):
        at = next((v for v in self.voters if v not in self.down), None)
        done = self.warren("cluster", "status", "--json", "--timeout", "1", at=at)
        try:
            return {a["asked"]: a for a in json.loads(done.stdout)} if done.returncode == 0 else {}
        except ValueError:
            return {}

    def settled(self):
        got = self.status()
        return len(got) == len(self.voters) and all(set(members(a)) == set(self.workers) for a in got.values())

    def until(self, what, holds, timeout_s):
        end = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {timeout_s} s; {json.dumps(self.status())[:3000]}")
            self.mind()
            time.sleep(0.05)

    def begin(self):
        for v in self.voters:
            self.start(v)
        for w in self.workers:
            self.start(w)
        self.until("settled", self.settled, 300)

    def close(self):
        with self.lock:
            for n in self.born():
                self.down.add(n)
                p = self.process(n)
                if p.poll() is None:
                    p.kill()
                p.wait()
        self.lan.close()


class RigWorld(World):
    """Workers and gateways are tests/lib/cluster_rig.c: all of the cluster but the microVMs."""
    KEYS, warm, starts_known = 40, 100, True

    def daemon(self, name, journal):
        if name in self.workers:
            return [BIN / "cluster_rig", "host", self.config(name), self.run_dir(name), journal]
        return [BIN / "cluster_rig", "load", self.config(name), journal, str(self.KEYS)]

    def load(self):
        for g in self.gateways:
            self.start(g)

    def answered(self):
        return sum(life.journal.read_bytes().count(b"\nOK ") for g in self.gateways for life in self.lives[g]
                   if life.journal.exists())

    def finish(self):
        """The clients end and all of their requests have an outcome."""
        for g in self.gateways:
            self.down.add(g)
            self.process(g).send_signal(signal.SIGTERM)
        for g in self.gateways:
            self.process(g).wait(60)

    def left_over(self):
        """What should have ended: with these workers all does when they do."""
        return []

    def history(self):
        """What all journals say, as events for check.py."""
        out = []
        for n in self.workers + self.gateways:
            for i, life in enumerate(self.lives[n]):
                text = life.journal.read_text() if life.journal.exists() else ""
                for line in text.splitlines():
                    event = journal_event(line.split(), f"{n}.{i}", life.offset_s * 10**9)
                    if event:
                        out.append(event)
        return sorted(out, key=lambda e: e.get("t", 0))


def journal_event(w, by, offset):
    if w[0] == "ask":
        return {"ev": "ask", "id": w[1], "op": w[2], "try": 0, "by": by, "t": int(w[3]) - offset}
    if w[0] in ("OK", "FAILED", "UNKNOWN"):
        return {"ev": "answer", "id": w[1], "op": w[2], "try": 0, "by": by, "t": int(w[5]) - offset,
                "outcome": w[0].lower(), "gen": int(w[3])}
    if w[0] == "start":
        return {"ev": "start", "id": w[1], "gen": int(w[2]), "op": w[3], "by": by, "t": int(w[4]) - offset}
    if w[0] == "bind":
        return {"ev": "bind", "id": w[1], "gen": int(w[2]), "by": by}
    return None
