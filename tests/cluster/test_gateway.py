#!/usr/bin/python3
"""A gateway of a cluster in front of two workers without microVMs: the share of the cluster is tests/lib/cluster_rig.c,
what requests are answered with is tests/lib/echo_worker.c. What a gateway does when one of them stands still."""
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from nodes import BIN, Nodes, free_ports, members, tied, wait_for  # noqa: E402

WORKERS = ("w1", "w2")
EXECUTIONS = "/executions?api-version=2025-10-02-preview&identifier="
CODE = {"code": "print hello", "codeInputType": "inline", "executionType": "synchronous"}
MORE_THAN_A_WINDOW = 300 << 10
NAMES = [f"name-{i:04}" for i in range(24)]  # either worker is the home of some


class Rig(unittest.TestCase):
    """A gateway, and as much of its cluster as a test starts."""
    options = ()
    settings = ()  # more lines of gateway.yaml

    def setUp(self):
        self.nodes = Nodes(("v1",), WORKERS, ("g1",), self.options)
        self.addCleanup(self.nodes.close)
        self.addCleanup(self.close)
        self.echo, self.gateway, self.connection = {}, None, None

    def start_cluster(self):
        self.nodes.voter("v1", "--birth")
        for w in WORKERS:
            self.start_echo(w)
            self.start_host(w)
        self.until_members(WORKERS)

    def close(self):
        if self.connection is not None:
            self.connection.close()
        for p in [*self.echo.values(), self.gateway]:
            if p is not None:
                p.send_signal(signal.SIGCONT)
                p.kill()
                p.wait()
                if p.stdout is not None:
                    p.stdout.close()

    def until_members(self, names):
        self.nodes.until(f"members {names}", lambda a: bool(a) and all(
            set(members(x)) == set(names) for x in a.values()))

    def cluster(self, *parts):
        return self.nodes.dir.joinpath("cluster", *parts)

    def start_echo(self, name, *endpoints):
        if name in self.echo:
            self.echo[name].stdout.close()
        at = [f"--{o}={e}" for o, e in zip(("ctl", "bulk"), endpoints)]
        self.echo[name] = subprocess.Popen(
            tied([BIN / "echo_worker", "--pool", "python:PythonLTS:1000", "--key", self.cluster(name, "node.curve"),
                  "--clients", self.cluster("roster"), *at]), stdout=subprocess.PIPE, text=True)
        self.echo[name].endpoints = self.echo[name].stdout.readline().split()

    def start_host(self, name):
        """It tells the cluster where gateways reach the worker."""
        ports = dict(zip(("WARREN_RIG_CTL", "WARREN_RIG_BULK"),
                         (e.rpartition(":")[2] for e in self.echo[name].endpoints)))
        os.environ.update(ports)
        self.nodes.host(name)

    def spawn_gateway(self, listen, *args, fds=()):
        lines = ["name: g1", f"listen: {listen}", "insecure: true",
                 f"cluster: {self.cluster('g1', 'cluster.yaml')}", f"curve_secret: {self.cluster('g1', 'node.curve')}",
                 f"cluster_key: {self.cluster('cluster.key')}"]  # no worker: the cluster knows them
        lines += self.settings
        config = self.nodes.dir / "gateway.yaml"
        config.write_text("\n".join(lines) + "\n")
        with open(self.nodes.dir / "gateway.log", "ab") as log:
            self.gateway = subprocess.Popen(tied([BIN / "warren-gateway", "--config", config, *args]), pass_fds=fds,
                                            stderr=log)

    def start_gateway(self):
        r, w = os.pipe()
        self.spawn_gateway("127.0.0.1:0", "--ready-fd", w, fds=[w])
        os.close(w)
        self.ready = os.fdopen(r)
        self.addCleanup(self.ready.close)

    def connect(self, port):
        self.port, self.connection = port, http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()

    def connect_when_ready(self):
        self.connect(int(json.loads(self.ready.readline())["text"].rpartition(":")[2]))

    def connect_when_listening(self):
        """Ready it is only with a worker."""
        where = None
        while where is None:
            self.assertIsNone(self.gateway.poll())
            where = re.search(r"listening url=http://127.0.0.1:(\d+)", self.nodes.dir.joinpath("gateway.log").read_text())
        self.connect(int(where.group(1)))

    def ask(self, method, where, body=None, pool="python"):
        self.connection.request(method, f"/pools/{pool}{where}", body=body,
                                headers={"Content-Type": "application/json"} if body else {})
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def execute(self, name, pool="python", padding=0, **fields):
        return self.ask("POST", EXECUTIONS + name, json.dumps({**CODE, **fields}) + " " * padding, pool)

    def list(self):
        status, body, _ = self.ask("GET", "/listSessions?api-version=2025-10-02-preview")
        return status, json.loads(body)

    def listed(self):
        """The list when the gateway knows the view."""
        wait_for("a whole list", lambda: self.list()[0] != 503)
        return self.list()

    def health(self):
        self.connection.request("GET", "/healthz")
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


class Alone(Rig):
    """Before the cluster is known."""

    def setUp(self):
        super().setUp()
        self.start_gateway()
        self.connect_when_listening()

    def test_nothing_is_said_about_sessions(self):
        for method, what in (("GET", "/listSessions"), ("POST", "/.management/listSessions")):
            status, body, _ = self.ask(method, f"{what}?api-version=2025-10-02-preview")
            self.assertEqual((status, json.loads(body)["error"]["code"]), (503, "SessionListIncomplete"), what)
        self.start_cluster()
        status = 503
        while status == 503:
            status, body = self.list()
        self.assertEqual((status, body["sessions"]), (200, []))

    def request(self):
        """One for a pool, on a connection of its own, which is not answered yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request("POST", f"/pools/python{EXECUTIONS}{NAMES[0]}", body=json.dumps(CODE),
                           headers={"Content-Type": "application/json"})
        return connection

    def test_who_asks_about_the_gateway_does_not_wait_for_a_worker(self):
        waits = self.request()
        self.assertEqual(self.health()[0], 503)
        self.assertEqual(self.ask("GET", "/nothing")[0], 404)
        self.assertEqual(select.select([waits.sock], [], [], 0)[0], [], "it is answered before a worker is known")
        self.assertEqual(waits.getresponse().status, 503, "there is none after a while")
        self.assertEqual(json.loads(self.ready.readline())["event"], "ready")
        self.assertEqual(self.execute(NAMES[0])[0], 503)

    def test_who_waits_may_go_and_a_gateway_that_is_stopped_answers_the_others(self):
        waits = [self.request() for _ in range(3)]
        self.assertEqual(self.health()[0], 503)
        waits.pop(1).close()
        self.assertEqual(self.health()[0], 503)
        self.gateway.send_signal(signal.SIGTERM)
        self.assertEqual([w.getresponse().status for w in waits], [503, 503])
        self.assertEqual(self.gateway.wait(60), 0)

    def test_health_is_of_members(self):
        status, body = self.health()
        self.assertEqual((status, body["status"], body["workers"]), (503, "degraded", 0))
        self.start_cluster()
        healthy = {"status": "healthy", "workers": 2, "workersConnected": 2}
        self.until_health(200, healthy)
        self.echo["w2"].kill()
        self.echo["w2"].wait()
        self.until_health(200, {"status": "degraded", "workers": 2, "workersConnected": 1})
        self.nodes.kill("w2")  # with its lease it is a member no more
        self.until_members(("w1",))
        self.until_health(200, {"status": "healthy", "workers": 1, "workersConnected": 1})

    def until_health(self, status, body):
        """The test's time-out is the bound."""
        got = None
        while got != (status, body):
            got = self.health()
            self.assertTrue(got[0] == 503 or got[1]["workersConnected"] > 0, got)


class Catalog(Rig):
    """Pools and keys of MCP endpoints as the voters have them; the gateway is told nothing but seeds and its own keys."""

    def setUp(self):
        super().setUp()
        self.start_cluster()
        self.start_gateway()
        self.connect_when_ready()

    def warren(self, *args):
        return subprocess.run([BIN / "warren", *args, "--state-dir", self.nodes.dir, "--json"], capture_output=True,
                              text=True, check=False)

    def done(self, *args):
        done = self.warren(*args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def pool(self, name, mcp=False, **scale):
        path = self.nodes.dir / f"{name}.json"
        path.write_text(json.dumps({"name": name, "properties": {
            "containerType": "PythonLTS", "scaleConfiguration": {"maxConcurrentSessions": 9, **scale},
            "mcpServerSettings": {"isMcpServerEnabled": mcp}}}))
        return path

    def until_status(self, status, pool, name="name-0001"):
        wait_for(f"{status} for {pool}", lambda: self.execute(name, pool)[0] == status, 10)

    def mcp(self, key):
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}
        self.connection.request("POST", "/pools/python/mcp", json.dumps(body), {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "x-ms-apikey": key})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def until_key(self, key, status=200):
        wait_for(f"{status} for a key", lambda: self.mcp(key) == status, 10)

    def restart_gateway(self):
        self.connection.close()
        self.gateway.kill()
        self.gateway.wait()
        self.start_gateway()
        self.connect_when_ready()

    def test_a_pool_is_there_when_it_is_applied_and_gone_when_it_is_deleted(self):
        self.assertEqual(self.execute(NAMES[0])[0], 200)  # no catalogue: what the workers have
        self.assertTrue(self.done("pool", "apply", self.pool("other"))[0]["changed"])
        self.until_status(404, "python")
        status, body, _ = self.execute(NAMES[0])
        self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "SessionPoolNotFound"))
        self.assertEqual(self.ask("GET", "/listSessions?api-version=2025-10-02-preview")[0], 404)
        applied = self.done("pool", "apply", self.pool("python"), self.pool("other"))
        self.assertEqual([p["changed"] for p in applied], [True, False])
        self.until_status(200, "python")
        self.assertEqual({p["name"]: p["maxConcurrentSessions"] for p in self.done("pool", "list")},
                         {"python": 9, "other": 9})
        self.assertEqual(self.done("pool", "show", "python")["pool"]["name"], "python")
        self.assertEqual(self.nodes.status()["v1"]["catalog"]["entries"], 2)
        for name in ("python", "other"):
            self.assertTrue(self.done("pool", "delete", name)["deleted"])
        self.assertEqual(self.nodes.status()["v1"]["catalog"]["entries"], 1)  # that there have been some
        self.until_status(404, "python")  # none is left, and none comes back
        self.assertEqual(self.done("pool", "list"), [])
        self.assertEqual(self.warren("pool", "delete", "python").returncode, 5)

    def test_deleting_a_pool_that_is_not_there_changes_nothing(self):
        done = self.warren("pool", "delete", "python")  # the workers have it by their files
        self.assertEqual(done.returncode, 5)
        self.assertIn("there is no pool 'python' in the catalogue", done.stderr)
        catalog = self.nodes.status()["v1"]["catalog"]
        self.assertEqual((catalog["version"], catalog["entries"]), (0, 0))
        self.assertEqual(self.execute(NAMES[0])[0], 200)

    def test_the_first_pools_wait_for_workers_that_do_not_answer(self):
        self.nodes.kill("w2")  # what it has by its own files nobody knows
        done = self.warren("pool", "apply", self.pool("python"))
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertIn("no answer from w2", done.stderr)
        self.assertIn("--ignore-silent", done.stderr)
        self.assertEqual(self.done("pool", "list"), [])
        self.assertTrue(self.done("pool", "apply", "--ignore-silent", self.pool("python"))[0]["changed"])
        self.assertTrue(self.done("pool", "apply", self.pool("other"))[0]["changed"])  # not the first one

    def test_what_is_wrong_is_refused_by_its_path(self):
        done = self.warren("pool", "apply", self.pool("python", readySessionInstances=10))
        self.assertEqual(done.returncode, 2)
        self.assertIn("readySessionInstances: is more than maxConcurrentSessions", done.stderr)
        self.assertEqual(self.done("pool", "list"), [])
        self.assertEqual(self.warren("quota", "set", "--issuer", "https://a").returncode, 2)
        self.done("quota", "set", "--sessions", "3")
        self.done("quota", "set", "--issuer", "https://a", "--tenant", "b", "--sessions", "5")
        self.assertEqual({(q.get("tenant"), q["sessions"]) for q in self.done("quota", "list")}, {(None, 3), ("b", 5)})
        self.done("quota", "delete", "--issuer", "https://a", "--tenant", "b")
        self.assertEqual([q["sessions"] for q in self.done("quota", "list")], [3])

    def test_a_wrong_key_is_refused_where_nothing_was_ever_in_the_catalogue(self):
        """And not taken for one that may be known elsewhere."""
        self.until_key("0" * 64, 401)
        catalog = self.nodes.status()["v1"]["catalog"]
        self.assertEqual((catalog["version"], catalog["entries"]), (0, 0))

    def test_the_catalogue_is_there_after_all_voters_were_down_and_a_new_gateway_has_it(self):
        self.done("pool", "apply", self.pool("python", mcp=True))
        first = self.done("pool", "mcp-key", "--pool", "python")["apiKey"]
        self.assertEqual(self.done("pool", "mcp-key", "--pool", "python")["apiKey"], first)
        self.until_key(first)
        self.assertEqual(self.mcp("0" * 64), 401)
        self.assertEqual(self.nodes.end("v1"), 0)
        self.nodes.voter("v1")
        self.restart_gateway()
        seen = set()
        wait_for("200 for a key", lambda: seen.add(self.mcp(first)) or 200 in seen, 10)
        self.assertLessEqual(seen, {200, 503})  # what it has not heard yet it does not refuse
        second = self.done("pool", "mcp-key", "--pool", "python", "--rotate")["apiKey"]
        self.until_key(second)
        self.assertEqual(self.mcp(first), 200)  # five minutes more

    def test_a_key_that_a_gateway_makes_is_everybody_s(self):
        self.done("pool", "apply", self.pool("python", mcp=True))
        where = "/{}MCPServerCredentials?api-version=2025-10-02-preview"
        wait_for("the endpoint", lambda: self.ask("POST", where.format("fetch"))[0] == 200, 10)
        key = json.loads(self.ask("POST", where.format("fetch"))[1])["apiKey"]
        self.assertEqual(self.mcp(key), 200)  # at once
        self.assertEqual(self.done("pool", "mcp-key", "--pool", "python")["apiKey"], key)
        rotated = json.loads(self.ask("POST", where.format("rotate"))[1])["apiKey"]
        self.assertNotEqual(rotated, key)
        self.restart_gateway()
        self.until_key(rotated)

    def test_a_key_of_before_the_cluster_moves_to_the_catalogue_and_is_void_with_its_pool(self):
        """It stays in the folder all the while."""
        keys = self.nodes.dir / "alone" / "keys" / "cluster.key"
        keys.parent.mkdir(parents=True)
        keys.touch(mode=0o600)
        keys.write_text("5" * 32 + "\n")
        done = subprocess.run([BIN / "warren", "pool", "mcp-key", "--state-dir", self.nodes.dir / "alone"],
                              capture_output=True, text=True, check=True)
        key = done.stdout.strip()
        for folder in ("keys", "mcp"):
            shutil.copytree(self.nodes.dir / "alone" / folder, self.nodes.dir / folder)
        self.settings = [f"mcp_keys: {self.nodes.dir / 'mcp'}"]
        self.restart_gateway()
        self.done("pool", "apply", self.pool("python", mcp=True))
        self.until_key(key)
        self.assertEqual(self.done("pool", "mcp-key")["apiKey"], key)
        self.done("pool", "delete", "python")
        self.assertEqual(self.warren("pool", "mcp-key").returncode, 5)  # no pool, no key
        self.done("pool", "apply", self.pool("python", mcp=True))
        self.until_key(key, 401)
        self.restart_gateway()
        wait_for("the endpoint", lambda: self.ask("POST", "/fetchMCPServerCredentials?api-version=2025-10-02-preview")[0] == 200)
        other = self.done("pool", "mcp-key")["apiKey"]
        self.assertNotEqual(other, key)
        self.until_key(other)
        self.assertEqual(self.mcp(key), 401)


class HalfUpgraded(unittest.TestCase):
    """Voters of this release in a cluster of the one before."""

    def setUp(self):
        self.nodes = Nodes(("v1", "v2", "v3"), ("w1",), ("g1",))
        self.addCleanup(self.nodes.close)
        for v in self.nodes.voters:
            self.nodes.old(v)
        for v in ("v1", "v2"):
            self.nodes.voter(v)
        self.nodes.host("w1")

    def warren(self, *args):
        return subprocess.run([BIN / "warren", *args, "--state-dir", self.nodes.dir], capture_output=True, text=True,
                              check=False)

    def test_a_pool_is_refused_with_the_reason_until_the_last_node_is_upgraded(self):
        self.nodes.until("who holds it back", lambda a: len(a) == 2 and all(
            set(members(x)) == {"w1"} and [h["node"] for h in x["messages"]["heldBy"]] == ["v3"] for x in a.values()))
        path = self.nodes.dir / "python.json"
        path.write_text(json.dumps({"name": "python", "properties": {}}))
        for args in (("apply", path), ("list",), ("delete", "python")):
            done = self.warren("pool", *args)
            self.assertEqual(done.returncode, 5, (args, done.stderr))
            self.assertIn("the cluster is at version 2 and has a catalogue from 3 on; v3 holds it back", done.stderr)
        self.nodes.voter("v3")
        self.nodes.until("a catalogue", lambda a: len(a) == 3 and all(x["messages"]["version"] == 3 for x in a.values()))
        done = self.warren("pool", "apply", path)
        self.assertEqual(done.returncode, 0, done.stderr)


class ShortLease(Rig):
    options = ("--lease-ms=2000",)

    def test_a_list_that_was_begun_before_a_worker_was_removed_is_of_those_that_are_left(self):
        """The worker is out of the cluster long before the question to it is given up."""
        self.start_cluster()
        self.start_gateway()
        self.connect_when_ready()
        for n in NAMES:
            self.assertEqual(self.execute(n)[0], 200)
        self.echo["w2"].send_signal(signal.SIGSTOP)
        self.nodes.kill("w2")
        status, body = self.list()
        self.assertEqual(status, 200, body)
        names = [s["identifier"] for s in body["sessions"]]
        self.assertTrue(0 < len(names) < len(NAMES) and set(names) <= set(NAMES), names)


class Gateway(Rig):
    def setUp(self):
        super().setUp()
        self.start_cluster()
        self.start_gateway()
        self.connect_when_ready()

    def connects(self):
        try:
            self.connect(self.port)
        except ConnectionRefusedError:
            return False
        return True

    def test_the_first_request_to_a_gateway_is_served(self):
        """Who asks before the gateway knows a worker waits for that, also with more than it takes meanwhile."""
        self.connection.close()
        self.gateway.send_signal(signal.SIGTERM)
        self.assertEqual(self.gateway.wait(60), 0)
        self.spawn_gateway(f"127.0.0.1:{self.port}")
        wait_for("a connection", self.connects)
        status, body, _ = self.execute(NAMES[0], padding=MORE_THAN_A_WINDOW)
        self.assertEqual(status, 200, body)

    def gossip(self, node):
        """What the voter has heard of a node."""
        return next((g["state"] for a in self.nodes.status().values() for g in a["gossip"] if g["node"] == node), None)

    def test_a_gateway_that_is_stopped_says_goodbye(self):
        wait_for("the gateway is known", lambda: self.gossip("g1") == "alive")
        self.connection.close()
        self.gateway.send_signal(signal.SIGTERM)
        self.assertEqual(self.gateway.wait(60), 0)
        self.assertEqual(self.gossip("g1"), "left")

    def test_a_list_is_whole_or_says_who_is_missing(self):
        for n in NAMES:
            self.assertEqual(self.execute(n)[0], 200)
        status, body = self.list()
        self.assertEqual(status, 200)
        self.assertEqual(sorted(s["identifier"] for s in body["sessions"]), NAMES)
        self.echo["w2"].kill()
        self.echo["w2"].wait()
        status, body = self.list()  # a member still: its sessions may live
        self.assertEqual((status, body["error"]["code"]), (503, "SessionListIncomplete"))
        self.assertIn("w2", body["error"]["message"])
        self.nodes.kill("w2")
        self.until_members(("w1",))
        status, body = self.listed()
        self.assertEqual(status, 200)
        names = [s["identifier"] for s in body["sessions"]]
        self.assertTrue(0 < len(names) < len(NAMES) and set(names) <= set(NAMES), names)

    def all_served(self):
        """Asks until every identifier is; a client may, when it is told 502 or 503."""
        left = set(NAMES)

        def ask():
            answers = {n: self.execute(n) for n in left}
            self.assertLessEqual({a[0] for a in answers.values()}, {200, 502, 503}, answers)
            left.intersection_update({n for n, a in answers.items() if a[0] != 200})
            return not left
        wait_for("all are served", ask)

    def join(self, name):
        port = free_ports(1)[0]
        self.assertEqual(self.nodes.warren("join", f"--worker={name}=127.0.0.1:{port}").returncode, 0)
        self.start_echo(name)
        self.start_host(name)

    def test_a_worker_that_joins_is_found(self):
        self.join("w3")
        self.until_members((*WORKERS, "w3"))
        self.all_served()
        for w in WORKERS:  # all that is left is the new one
            self.echo[w].kill()
            self.echo[w].wait()
            self.nodes.kill(w)
        self.until_members(("w3",))
        self.all_served()
        self.assertEqual(len(self.list()[1]["sessions"]), len(NAMES))

    def test_the_key_of_a_worker_is_replaced(self):
        """Both keys are listed, the worker comes back with the new one, the old one is taken out: then it is refused, by
        gateways and by the cluster."""
        self.all_served()
        roster = self.cluster("roster")
        one_key = roster.read_text()
        old = next(line for line in one_key.splitlines() if line.split()[:2] == ["worker", "w2"])
        secret, kept = self.cluster("w2", "node.curve"), self.cluster("w2", "old.curve")
        secret.rename(kept)
        public = json.loads(subprocess.run([BIN / "gateway_keytool", secret], check=True, capture_output=True,
                                           text=True).stdout)["public"]
        both = one_key + f"worker w2 {public}\n"
        self.replace(roster, both)
        self.restart_host("w2")
        self.all_served()  # what answers gateways has the old key still
        self.assertEqual(self.list()[0], 200)
        self.replace(roster, both.replace(old + "\n", ""))
        wait_for("the gateway lets go of the old key", lambda: self.list()[0] == 503)
        self.assertIn("w2", self.list()[1]["error"]["message"])
        told = next((s for s in (self.execute(n, timeoutInSeconds=1)[0] for n in NAMES) if s != 200), None)
        self.assertEqual(told, 503, "whom it has is not served")
        self.until_members(WORKERS)
        self.restart_echo("w2")
        self.all_served()
        self.assertEqual(self.listed()[0], 200)
        self.cluster_refuses(roster, secret, kept, both)

    def cluster_refuses(self, roster, secret, old_secret, both):
        """The worker itself is given the old key, which is listed again and taken out again."""
        new = roster.read_text()
        self.replace(roster, both)
        secret.rename(secret.with_name("new.curve"))
        old_secret.rename(secret)
        self.restart_host("w2")
        self.replace(roster, new)
        self.until_members(("w1",))
        self.assertIsNone(self.nodes.procs["w2"].poll(), "it runs, and nobody takes it")
        self.nodes.kill("w2")
        self.start_host("w2")
        self.assertEqual(self.nodes.procs.pop("w2").wait(60), 1)
        self.assertIn("is not that of 'w2' in the roster", self.nodes.logs["w2"].read_text())

    def restart_host(self, name):
        """With the key that it has now, under which it gets leases."""
        self.nodes.kill(name)
        before = self.leases(name)
        self.start_host(name)
        wait_for(f"{name} has a lease", lambda: self.leases(name) > before)
        self.until_members(WORKERS)

    def leases(self, name):
        return sum(line[0] == "lease" for line in self.nodes.journal(name))

    def restart_echo(self, name):
        """Where it was, with the key that it has now."""
        self.echo[name].kill()
        self.echo[name].wait()
        self.start_echo(name, *self.echo[name].endpoints)

    def replace(self, path, text):
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.chmod(path.stat().st_mode)
        beside.rename(path)

    def test_what_no_worker_tells_is_not_waited_for_at_each(self):
        """Five seconds for all."""
        more = ("w3", "w4", "w5")
        for name in more:
            self.join(name)
        self.until_members((*WORKERS, *more))
        while self.health()[1]["workersConnected"] < len(self.echo):
            pass
        for p in self.echo.values():
            p.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        self.assertIn(self.execute(NAMES[0])[0], (503, 504))
        self.assertLess(time.monotonic() - begun, 7)

    def test_who_can_tell_about_a_pool_is_asked_whoever_cannot(self):
        """That there is no such pool is told, and not remembered."""
        self.join("w3")
        self.until_members((*WORKERS, "w3"))
        while self.health()[1]["workersConnected"] < len(self.echo):
            pass
        for well in self.echo:  # whichever of them comes first
            ill = [p for name, p in self.echo.items() if name != well]
            for p in ill:
                p.send_signal(signal.SIGSTOP)
            self.assertEqual(self.execute(NAMES[0], "none")[0], 404)
            for p in ill:
                p.send_signal(signal.SIGCONT)

    def test_identifiers_do_not_wait_for_a_worker_that_stands_still(self):
        """What the gateway asks about the pool any worker can answer, not only the one that the identifier had before."""
        self.assertEqual({self.execute(n)[0] for n in NAMES}, {200})
        self.nodes.signal("w2", signal.SIGSTOP)
        self.echo["w2"].send_signal(signal.SIGSTOP)
        self.until_members(("w1",))
        self.assertEqual(self.listed()[0], 200)
        for n in NAMES:
            status, body, _ = self.execute(n)
            self.assertIn(status, (200, 502), body)
            if status == 502:  # it was sent to w2, and nobody can know
                self.assertEqual(json.loads(body)["error"]["code"], "ExecutionOutcomeUnknown")
                self.assertEqual(self.execute(n)[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
