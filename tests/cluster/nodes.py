"""A cluster of real processes on loopback, with the keys and settings that `warren cluster` makes."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BIN = pathlib.Path(os.environ["WARREN_BIN_DIR"])
LEAVES = 3  # a worker whose life is over ends like this; who starts next has another one
RIG = os.environ.get("WARREN_CLUSTER_RIG", "")


def tied(command):
    """The command line of a process that ends with the one that starts it, however that ends. Not by a function between
    fork and exec: what fails there fails without a word."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]


def wait_for(what, holds, timeout_s=60):
    """Asks again and again."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.001)


def free_ports(n):
    """Ports that are free for TCP and UDP; held until all are found."""
    held, ports = [], []
    for _ in range(100 * n):
        if len(ports) == n:
            break
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        try:
            udp.bind(tcp.getsockname())
            ports.append(tcp.getsockname()[1])
            held += [tcp, udp]
        except OSError:
            tcp.close()
            udp.close()
    for s in held:
        s.close()
    if len(ports) < n:
        raise AssertionError(f"only {len(ports)} of {n} ports are free for TCP and UDP")
    return ports


class Nodes:
    """Voters, hosts and load generators of tests/lib/cluster_rig.c, by name."""

    def __init__(self, voters=(), workers=(), gateways=(), options=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="warren-test-cluster-"))
        self.procs, self.logs = {}, {}
        names = [("voter", n) for n in voters] + [("worker", n) for n in workers] + \
            [("gateway", n) for n in gateways]
        self.voters = list(voters)
        options = [*options] + [f"--{role}={n}=127.0.0.1:{p}" for (role, n), p in zip(names, free_ports(len(names)))]
        done = self.warren("init", *options)
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    def warren(self, *args):
        return subprocess.run([BIN / "warren", "cluster", *args, "--state-dir", self.dir],
                              capture_output=True, text=True, check=False)

    def config(self, name):
        return self.dir / "cluster" / name / "cluster.yaml"

    def spawn(self, name, *command):
        """Its log goes to a file; started again it goes on there."""
        log = self.logs.setdefault(name, self.dir / f"{name}.log")
        with open(log, "a") as f:
            self.procs[name] = subprocess.Popen(tied(command), stdout=f, stderr=f)

    def voter(self, name, *args):
        self.spawn(name, BIN / "warren-scheduler", "--config", self.config(name), *args)

    def old(self, name):
        """The voter's store is as of a cluster that was born before there were catalogues."""
        state = next(line.split(":", 1)[1].strip().strip('"') for line in self.config(name).read_text().splitlines()
                     if line.startswith("state_dir:"))
        subprocess.run([RIG, "old", self.config(name), state, "-"], check=True)

    def host(self, name):
        run = self.dir / f"{name}.run"
        run.mkdir(exist_ok=True)
        self.spawn(name, RIG, "host", self.config(name), run, self.dir / f"{name}.journal")

    def load(self, name, keys):
        self.spawn(name, RIG, "load", self.config(name), self.dir / f"{name}.journal", str(keys))

    def signal(self, name, number):
        self.procs[name].send_signal(number)

    def kill(self, name):
        p = self.procs.pop(name)
        p.kill()
        p.wait()

    def end(self, name):
        p = self.procs.pop(name)
        p.send_signal(signal.SIGTERM)
        return p.wait()

    def status(self):
        """Answers of the voters by name."""
        done = self.warren("status", "--json", "--timeout", "1")
        return {a["asked"]: a for a in json.loads(done.stdout)} if done.returncode == 0 else {}

    def until(self, what, holds, timeout_s=120):
        """Asks the voters again and again."""
        end = time.monotonic() + timeout_s
        while True:
            got = self.status()
            if holds(got):
                return got
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {timeout_s} s; {json.dumps(got)[:3000]}")
            for n, p in list(self.procs.items()):
                if p.poll() == LEAVES and n.startswith("w"):
                    p.wait()
                    self.host(n)  # as a service manager does
                elif p.poll() is not None:
                    raise AssertionError(f"{n} has ended with {p.returncode} while waiting for: {what}\n" +
                                         self.logs[n].read_text()[-3000:])

    def journal(self, name):
        path = self.dir / f"{name}.journal"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def close(self):
        """Who has ended and was not told to is an error, also when nobody has waited for it."""
        ended = {n: p.poll() for n, p in self.procs.items() if p.poll() is not None}
        for p in self.procs.values():
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.kill()
            p.wait()
        shutil.rmtree(self.dir)
        if ended:
            raise AssertionError(f"ended by themselves, with these codes: {ended}")


def members(answer):
    """Names and lives of the members with a lease and settled partitions, as a voter sees them."""
    return {m["node"]: m["incarnation"] for m in answer["view"]["members"]
            if m["leaseMs"] > 0 and m["unsettledBuckets"] == 0 and
            m["installed"] == answer["view"]["number"]}
