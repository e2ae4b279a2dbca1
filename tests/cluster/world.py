"""Voters, workers and gateways, each in a network namespace of its own, with what can befall them.

Everything lives in a PID namespace and on mounts that end with the process that made them: nothing can stay behind."""
import ctypes
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from nodes import LEAVES, members, tied, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["WARREN_BIN_DIR"])
OLD_BIN = pathlib.Path(os.environ.get("WARREN_OLD_BIN_DIR", BIN))  # what nodes run until upgrade.py replaces it
LIBC = ctypes.CDLL(None, use_errno=True)
LIVES_MAX, RESTART_S = 60, 0.2
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


def state_of(pid):
    """R, S, D, T, Z ... of /proc."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


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
        self.process.wait(60)
        self.process.stdout.close()


class Life:
    """One run of a daemon. Its clocks are ahead by offset_s; its store was full at some time."""

    def __init__(self, process, offset_s, journal, saw_full):
        self.process, self.offset_s, self.journal, self.saw_full = process, offset_s, journal, saw_full
        self.since = now_ns()


class World:
    """Nothing runs before begin(); after close() nothing does, however far it came."""

    def __init__(self, base, seed, voters=3, workers=4, gateways=2):
        self.base, self.state, self.seed = base, base / "state", seed
        self.voters = [f"v{i + 1}" for i in range(voters)]
        self.workers = [f"w{i + 1}" for i in range(workers)]
        self.gateways = [f"g{i + 1}" for i in range(gateways)]
        self.names = self.voters + self.workers + self.gateways
        self.lan = None
        self.lives = {n: [] for n in self.names}
        self.clients = {}  # other processes that must stay: name, process
        self.down, self.full = set(), set()
        self.upgraded = set()  # who runs BIN, not OLD_BIN
        self.again = {}  # who has ended by itself, and is started again then
        self.log, self.crashes, self.lost_lives = [], [], 0
        self.disturbed = False  # faults have begun: lives of workers may end
        self.faults = None  # how many; None: a few
        self.ended = []  # workers that were taken out and ended their sessions: name, from, to
        self.offset_s = {n: 0 for n in self.names}

    def prepare(self):
        """The network, keys, settings, and file systems of the stores."""
        self.lan = Lan(self.names, self.seed)
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

    def take_out(self, name):
        """A worker ends in order; what was wrong with that, as lines."""
        raise NotImplementedError

    def bring_back(self, name):
        """It is started, and takes sessions when this returns."""

    def life_over(self, name, code):
        """Has a worker ended because the cluster has removed it?"""
        raise NotImplementedError

    # ---

    def bin(self, name):
        return BIN if name in self.upgraded else OLD_BIN

    def command(self, name, journal):
        if name not in self.voters:
            return self.daemon(name, journal)
        birth = [] if self.lives[name] else ["--birth"]
        return [self.bin(name) / "warren-scheduler", "--config", self.config(name), *birth]

    def born(self):
        return {n for n in self.names if self.lives[n]}

    def warren(self, *args, at=None):
        command = [BIN / "warren", *args, "--state-dir", self.state]
        return subprocess.run(self.at_node(at, command) if at else command, capture_output=True, text=True, check=False)

    def config(self, name):
        return self.state / "cluster" / name / "cluster.yaml"

    def run_dir(self, name):
        return self.base / "run" / name

    def at_node(self, name, command, ahead_s=0):
        """The command line in the namespaces of a node, with clocks that are ahead."""
        clocks = ["unshare", "--time", f"--monotonic={ahead_s}", f"--boottime={ahead_s}", "--"] if ahead_s else []
        return tied(["nsenter", f"--net={self.lan.namespace(name)}", "--", *clocks, *command])

    def start(self, name):
        self.down.discard(name)
        self.again.pop(name, None)
        offset = self.offset_s[name]
        journal = self.base / f"{name}.{len(self.lives[name])}.journal"
        self.run_dir(name).mkdir(parents=True, exist_ok=True)
        command = self.at_node(name, self.command(name, journal), offset)
        with open(self.base / f"{name}.log", "a") as log:
            p = subprocess.Popen(command, stdout=log, stderr=log)
        self.lives[name].append(Life(p, offset, journal, name in self.full))
        if offset != 0:
            wait_for(f"{name} has clocks of its own", lambda: p.poll() is not None or
                     os.readlink(f"/proc/{p.pid}/ns/time") != os.readlink("/proc/self/ns/time"))

    def process(self, name):
        return self.lives[name][-1].process

    def kill(self, name):
        if self.again.pop(name, None) is None:
            self.look_at(name)
        self.down.add(name)
        self.process(name).kill()
        self.process(name).wait()

    def kill_machine(self, name):
        """With all it has started, and what a reboot leaves of its run directory: nothing."""
        if name not in self.down:
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
        """Whether there was anybody to get it. Who is stopped has stopped when this returns."""
        p = self.process(name)
        if name in self.down or p.poll() is not None:
            return False
        p.send_signal(number)
        if number == signal.SIGSTOP:
            wait_for(f"{name} has stopped", lambda: p.poll() is not None or state_of(p.pid) in "TZ")
        return True

    def fill(self, name):
        """Its store has no room left: called again and again, as what runs may make some."""
        self.full.add(name)
        for life in self.lives[name][-1:]:
            life.saw_full = True
        with open(self.store(name) / "filler", "ab", buffering=0) as f:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError as e:
                    if e.errno != errno.ENOSPC:
                        raise

    def empty(self, name):
        self.full.discard(name)
        (self.store(name) / "filler").unlink()

    def look_at(self, name):
        """Whether a process has ended that nobody had ended. A worker may when its life is over, who has no room to
        write may fail; all else is a finding."""
        life = self.lives[name][-1]
        code = life.process.poll()
        if code is None:
            return False
        if name in self.workers and self.life_over(name, code) and self.disturbed:
            self.lost_lives += 1
        elif not (life.saw_full and code == 1):
            self.crashes.append(f"{name} has ended by itself with {code}: {self.tail(name)}")
        self.log.append((now_ns(), f"{name} has ended with {code}"))
        return True

    def tail(self, name):
        return (self.base / f"{name}.log").read_text(errors="replace")[-400:]

    def mind(self):
        """As a service manager: who has ended without being killed is started again."""
        for n in self.born() - self.down:
            if n not in self.again and self.look_at(n):
                if len(self.lives[n]) > LIVES_MAX:
                    raise AssertionError(f"{n} does not stay: {self.tail(n)}")
                self.again[n] = time.monotonic() + RESTART_S
        for n in [n for n, at in self.again.items() if time.monotonic() >= at]:
            self.start(n)
        for n, p in self.clients.items():
            if p.poll() is not None:
                raise AssertionError(f"{n} has ended with {p.poll()}: {self.tail(n)}")
        if self.lan.process.poll() is not None:
            raise AssertionError(f"lan_switch has ended with {self.lan.process.poll()}")
        for n in self.full:
            self.fill(n)

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

    def up_to_date(self):
        told = [a.get("messages") for a in self.status().values()]
        return len(told) == len(self.voters) and all(m and m["version"] == m["speaks"][1] for m in told)

    def until(self, what, holds, timeout_s):
        end = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {timeout_s} s; {json.dumps(self.status())[:3000]}")
            self.mind()
            time.sleep(0.05)

    def begin(self):
        self.prepare()
        for v in self.voters:
            self.start(v)
        for w in self.workers:
            self.start(w)
        self.until("settled", self.settled, 300)

    def until_served(self, timeout_s):
        """Every gateway has every identifier served. How long that took."""
        begun = now_ns()
        want = {(g, i) for g in self.gateways for i in self.identifiers()}

        def missing():
            return want - served_since(self.history(), begun)
        try:
            self.until("served again", lambda: not missing(), timeout_s)
        except TimeoutError as e:
            raise TimeoutError(f"not served again: {sorted(missing())}; {e}") from None
        return (now_ns() - begun) / 1e9

    def served_by(self, gateway):
        """Has it served anything in its present life?"""
        return any(g == gateway for g, _ in served_since(self.history(), self.lives[gateway][-1].since))

    def end(self, names, timeout_s=60):
        """SIGTERM; who ends otherwise than with 0, or not at all, as lines."""
        bad = []
        for n in names:
            if n not in self.down and self.process(n).poll() is None:
                self.down.add(n)
                self.process(n).send_signal(signal.SIGTERM)
        for n in names:
            try:
                code = self.process(n).wait(timeout_s)
                if code != 0:
                    bad.append(f"{n} ends with {code}: {self.tail(n)}")
            except subprocess.TimeoutExpired:
                bad.append(f"{n} does not end: {self.tail(n)}")
        return bad

    def left_over(self):
        """Ends all that should end, as lines what does not."""
        self.until("all run", lambda: not self.again, 10)
        bad = [line for names in (self.gateways, self.workers, self.voters) for line in self.end(names)]
        return bad + [f"left behind: {line}" for line in self.strangers().values()]

    def strangers(self):
        """Pid and command line of what runs in the PID namespace and is not this test's."""
        ours, out = {1, os.getpid(), self.lan.process.pid}, {}
        for p in pathlib.Path("/proc").iterdir():
            if p.name.isdigit() and int(p.name) not in ours:
                try:
                    line = (p / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if line:
                    out[int(p.name)] = line[:200]
        return out

    def close(self):
        """Nothing of it may meet the next world."""
        for n in self.born() - self.down - set(self.again):
            self.look_at(n)
        if self.lan is None:
            return
        for p in [self.process(n) for n in self.born()] + list(self.clients.values()):
            if p.poll() is None:
                p.kill()
            p.wait()
        wait_for("all is gone", self.kill_strangers)
        self.lan.close()

    def kill_strangers(self):
        left = self.strangers()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not left


class RigWorld(World):
    """Workers and gateways are tests/lib/cluster_rig.c: all of the cluster but the microVMs."""
    KEYS, warm, starts_known = 40, 100, True

    def daemon(self, name, journal):
        if name in self.workers:
            return [self.bin(name) / "cluster_rig", "host", self.config(name), self.run_dir(name), journal]
        return [self.bin(name) / "cluster_rig", "load", self.config(name), journal, str(self.KEYS)]

    def life_over(self, name, code):
        return code == LEAVES

    def take_out(self, name):
        """Its sessions end with it."""
        begun = now_ns()
        self.down.add(name)
        self.process(name).send_signal(signal.SIGUSR1)
        code = self.process(name).wait(60)
        self.ended.append((name, begun, now_ns()))
        return [] if code == LEAVES else [f"{name} leaves with {code}: {self.tail(name)}"]

    def load(self):
        for g in self.gateways:
            self.start(g)

    def answered(self):
        return sum(life.journal.read_bytes().count(b"\nOK ") for g in self.gateways for life in self.lives[g]
                   if life.journal.exists())

    def identifiers(self):
        return [str(i + 1) for i in range(self.KEYS)]

    def finish(self):
        """The clients end and all of their requests have an outcome; what is wrong with that, as lines."""
        return self.end(self.gateways)

    def history(self):
        """What all journals say, as events for check.py."""
        out = []
        for n in self.workers + self.gateways:
            for i, life in enumerate(self.lives[n]):
                text = life.journal.read_text() if life.journal.exists() else ""
                for line in text.splitlines(keepends=True):
                    event = journal_event(line.split(), f"{n}.{i}", life.offset_s * 10**9) if line.endswith("\n") else None
                    if event:
                        out.append(event)
        return sorted(out, key=lambda e: e.get("t", 0))


def served_since(history, t):
    """(gateway, identifier) of what was asked for since then with success."""
    asked = {(e["op"], e["try"]) for e in history if e["ev"] == "ask" and e["t"] >= t}
    return {(e["by"].partition(".")[0], e["id"]) for e in history
            if e["ev"] == "answer" and e["outcome"] == "ok" and (e["op"], e["try"]) in asked}


def journal_event(w, by, offset):
    if w[0] == "ask":
        return {"ev": "ask", "id": w[1], "op": w[2], "try": 0, "by": by, "t": int(w[3]) - offset}
    if w[0] in ("OK", "FAILED", "UNKNOWN"):
        return {"ev": "answer", "id": w[1], "op": w[2], "try": 0, "by": by, "t": int(w[5]) - offset,
                "outcome": w[0].lower(), "gen": int(w[3])}
    if w[0] == "start":
        return {"ev": "start", "id": w[1], "gen": int(w[2]), "op": w[3], "by": by, "t": int(w[4]) - offset}
    if w[0] == "bind":
        return {"ev": "bind", "id": w[1], "gen": int(w[2]), "by": by, "t": int(w[3]) - offset}
    return None
