"""The world of world.py with real microVMs: warren-worker, warren-gateway, and swarm.py as its clients."""
import json
import os
import pathlib
import signal
import subprocess
import sys

import swarm
import world
from world import BIN, PORT

HERE = pathlib.Path(__file__).resolve().parent
HTTP_PORT, UID_BASE, UID_STEP = 8080, 200000, 8192
DRAIN_S = 60  # longer than a name is used and its session stays then


class RealWorld(world.World):
    warm, starts_known = 20, False
    COOLDOWN_S, IDENTIFIERS, TURN_S = 30, 6, 0

    def prepare(self):
        super().prepare()
        self.pool = self.base / "python.json"
        self.pool.write_text(json.dumps(self.pool_file()))
        for i, w in enumerate(self.workers):
            (self.store(w) / "templates").symlink_to(os.environ["WARREN_TEST_TEMPLATES"])
            self.write_worker(w, i)
        for g in self.gateways:
            self.write_gateway(g)

    def pool_file(self):
        return {"name": "python", "properties": {
            "containerType": "PythonLTS", "poolManagementType": "Dynamic",
            "scaleConfiguration": {"maxConcurrentSessions": 10, "readySessionInstances": 1},
            "dynamicPoolConfiguration": {"lifecycleConfiguration": {
                "lifecycleType": "Timed", "cooldownPeriodInSeconds": self.COOLDOWN_S}},
            "sessionNetworkConfiguration": {"status": "EgressDisabled"}}}

    def store(self, name):
        return self.state / "cluster" / name / ("state" if name in self.voters else "worker")

    def write(self, path, settings):
        path.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in settings.items()))

    def write_worker(self, name, i):
        folder, cluster = self.state / "cluster" / name, self.state / "cluster"
        self.write(folder / "worker.yaml", {
            "name": name, "id": i + 1, "lease": "cluster", "state_dir": str(self.store(name)),
            "run_dir": str(self.run_dir(name)), "ctl": f"tcp://{self.lan.address(name)}:{PORT + 1}",
            "bulk": f"tcp://{self.lan.address(name)}:{PORT + 2}", "uid_base": UID_BASE + (i + 1) * UID_STEP,
            "cluster": str(self.config(name)), "curve_secret": str(folder / "node.curve"),
            "clients": str(cluster / "roster"), "cluster_key": str(cluster / "cluster.key"),
            "image": os.environ["WARREN_IMAGE"], "accelerator": "auto", "log_level": "info",
            "pools": [str(self.pool)]})

    def write_gateway(self, name):
        folder, cluster = self.state / "cluster" / name, self.state / "cluster"
        self.write(folder / "gateway.yaml", {
            "name": name, "listen": f"127.0.0.1:{HTTP_PORT}", "insecure": True, "cluster": str(self.config(name)),
            "curve_secret": str(folder / "node.curve"), "cluster_key": str(cluster / "cluster.key"),
            "log_level": "info"})

    def daemon(self, name, journal):
        what = "worker" if name in self.workers else "gateway"
        return [self.bin(name) / f"warren-{what}", "--config", self.config(name).parent / f"{what}.yaml"]

    def life_over(self, name, code):
        return code == 1 and "ending so that a successor joins it" in self.tail(name)

    def order(self, name, *words):
        """`warren worker` at a worker's machine."""
        command = [BIN / "warren", "worker", *words, "--run-dir", self.run_dir(name)]
        return subprocess.Popen(self.at_node(name, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def take_out(self, name):
        p = self.order(name, "drain")
        self.until(f"{name} has no session", lambda: p.poll() is not None, DRAIN_S)
        return ([] if p.poll() == 0 else [f"drain of {name}: {p.poll()}"]) + self.end([name])

    def bring_back(self, name):
        self.until(f"{name} is back in service", lambda: self.order(name, "undrain").wait(10) == 0, 60)
        self.until(f"{name} has weight", lambda: all(m["weight"] > 0 for a in self.status().values()
                                                     for m in a["view"]["members"]), 60)

    def load(self):
        for g in self.gateways:
            self.start(g)
            name, journal = f"{g}.swarm", self.base / f"{g}.swarm.jsonl"
            command = [sys.executable, HERE / "swarm.py", g, HTTP_PORT, journal, self.seed, self.IDENTIFIERS,
                       self.TURN_S]
            with open(self.base / f"{name}.log", "w") as log:
                self.clients[name] = subprocess.Popen(self.at_node(g, command), stdout=log, stderr=log)

    def identifiers(self):
        return swarm.names(self.IDENTIFIERS)

    def answered(self):
        return sum(e["ev"] == "answer" and e["outcome"] == "ok" for e in self.history())

    def finish(self):
        bad = []
        for p in self.clients.values():
            p.send_signal(signal.SIGTERM)
        while self.clients:
            name, p = self.clients.popitem()
            code = p.wait(120)
            bad += [f"{name} ends with {code}: {self.tail(name)}"] if code != 0 else []
        return bad

    def history(self):
        out = []
        for g in self.gateways:
            path = self.base / f"{g}.swarm.jsonl"
            if path.exists():
                out += [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return sorted(out, key=lambda e: e["t"])

    def sessions(self, g):
        """What the gateway lists, None when it does not say."""
        command = [sys.executable, "-c",
                   "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())",
                   f"http://127.0.0.1:{HTTP_PORT}/pools/python/listSessions?api-version=2025-10-02-preview"]
        done = subprocess.run(self.at_node(g, command), capture_output=True, text=True, check=False)
        return json.loads(done.stdout)["sessions"] if done.returncode == 0 else None

    def left_over(self):
        """Nobody asks any more: sessions end; then the daemons do, and with them all that runs."""
        bad = []
        try:
            self.until("expired sessions end", lambda: all(self.sessions(g) == [] for g in self.gateways),
                       self.COOLDOWN_S * 9 / 8 + 40)
        except TimeoutError:
            bad.append(f"sessions do not end: {[self.sessions(g) for g in self.gateways]}")
        return bad + super().left_over()


class TurningWorld(RealWorld):
    """Its clients leave a name after a while, so that a worker that is drained has no session some time."""
    COOLDOWN_S, IDENTIFIERS, TURN_S = 8, 4, 8
