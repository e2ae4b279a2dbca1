#!/usr/bin/python3
"""`warren up --workers 3` with real microVMs: three voters, three workers, a gateway, on one machine.
What is killed and stopped, and what a client is told meanwhile."""
import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
import warren_cluster as wc  # noqa: E402

WORKERS = 3
TEMPLATES = os.environ.get("WARREN_TEST_TEMPLATES")


def setUpModule():
    reason = wc.why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = wc.Cluster([wc.pool("python", maximum=18, ready=3)],
                                 options=["--workers", str(WORKERS)])
        if TEMPLATES:  # kept, a folder for each: they would get in each other's way making one
            for i in range(1, WORKERS + 1):
                folder = cls.cluster.state / "cluster" / f"w{i}" / "worker"
                folder.mkdir(parents=True, mode=0o700)
                kept = pathlib.Path(TEMPLATES) / f"w{i}"
                kept.mkdir(parents=True, exist_ok=True, mode=0o700)
                (folder / "templates").symlink_to(kept)
        try:
            cls.cluster.start(timeout_s=1500)
        except BaseException:
            cls.cluster.kill_everything()
            raise
        cls.until_settled()

    @classmethod
    def tearDownClass(cls):
        code = cls.cluster.stop()
        left = cls.cluster.left_behind()
        cls.cluster.remove()
        if code != 0 or left:
            raise AssertionError(f"exit code {code}, left behind: {left}")

    def setUp(self):
        self.client = self.cluster.client()
        self.addCleanup(self.client.close)

    @classmethod
    def status(cls):
        done = cls.cluster.cli("cluster", "status", "--json", text=True)
        return json.loads(done.stdout) if done.returncode == 0 else []

    @classmethod
    def members(cls):
        """Name: member, as the voter with the latest view sees those with a lease."""
        best = max(cls.status(), key=lambda a: a["view"]["number"], default=None)
        return {} if best is None else {m["node"]: m for m in best["view"]["members"]
                                        if m["leaseMs"] > 0 and m["unsettledBuckets"] == 0 and
                                        m["installed"] == best["view"]["number"]}

    @classmethod
    def until_settled(cls, names=("w1", "w2", "w3")):
        wc.wait_for(f"members {names}", lambda: set(cls.members()) == set(names), 120, 0.2)

    def pid(self, name):
        """Of the daemon of a node."""
        mark = f"/cluster/{name}/".encode()
        for p in pathlib.Path("/proc").iterdir():
            try:
                line = (p / "cmdline").read_bytes() if p.name.isdigit() else b""
            except OSError:
                continue
            if mark in line and str(self.cluster.state).encode() in line and b"warren-" in line:
                return int(p.name)
        return None

    def run_in(self, identifier, code, tries_s=90):
        """Asks until it is answered with 200; a client may do so when it is told 503."""
        told = []

        def once():
            answer = self.client.execute(identifier, code)
            self.assertIn(answer.status, (200, 502, 503), answer)
            told.append(answer)
            return answer if answer.status == 200 else None
        try:
            return wc.wait_for(f"{identifier} is served", once, tries_s, 0.2)
        except wc.Expired as e:
            said = collections.Counter(repr(a) for a in told)
            raise AssertionError(f"{e}; {said}; {json.dumps(self.status())}\n"
                                 f"{self.cluster.logs()}") from None

    def begun(self, name):
        """How many sessions have begun at a worker: it says so before anybody is answered."""
        return (self.cluster.state / "log" / f"{name}.log").read_text(errors="replace").count(" session begins ")

    def generation(self, answer):
        return int(answer.headers["x-warren-generation"])

    def active_when(self, least):
        """Sessions of members, when they are so many; what a worker says is some seconds old."""
        active = {n: m["active"] for n, m in self.members().items()}
        return active if sum(active.values()) >= least else None

    def test_sessions_are_spread_and_keep_their_state(self):
        names = [f"spread-{i:04}" for i in range(5)]
        first = {n: self.run_in(n, f"x = {i}") for i, n in enumerate(names)}
        for i, n in enumerate(names):
            again = self.run_in(n, "print(x)")
            self.assertIn(str(i), again.body.decode())
            self.assertEqual(self.generation(again), self.generation(first[n]))
        active = wc.wait_for("all are counted", lambda: self.active_when(5), 30)
        for n in names:
            self.assertEqual(self.client.delete_session(n).status, 204)
            self.assertGreater(self.generation(self.run_in(n, "1")), self.generation(first[n]))
            self.assertEqual(self.client.delete_session(n).status, 204)
        self.assertGreaterEqual(sum(v > 0 for v in active.values()), 2, active)

    def test_a_killed_voter_is_not_noticed(self):
        before = self.run_in("voter-0001", "y = 1")
        since = len(self.cluster.events)
        os.kill(self.pid("v2"), signal.SIGKILL)
        answer = self.client.execute("voter-0001", "print(y)")
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(self.generation(answer), self.generation(before))
        self.cluster.wait_ready_again("v2", since)
        self.assertEqual(self.client.execute("voter-0002", "1").status, 200)

    def test_a_killed_worker_daemon_keeps_its_sessions(self):
        names = [f"daemon-{i:04}" for i in range(3)]
        before = {n: self.run_in(n, f"z = {i}") for i, n in enumerate(names)}
        lives = {n: m["incarnation"] for n, m in self.members().items()}
        for w in ("w1", "w2", "w3"):
            since = len(self.cluster.events)
            os.kill(self.pid(w), signal.SIGKILL)
            self.cluster.wait_ready_again(w, since)
        self.until_settled()
        # On a busy machine a daemon may need longer than its lease lasts: then its life is over,
        # and the client is told a new generation.
        all_kept = {n: m["incarnation"] for n, m in self.members().items()} == lives
        for i, n in enumerate(names):
            answer = self.run_in(n, "print(globals().get('z', 'gone'))")
            kept = self.generation(answer) == self.generation(before[n])
            self.assertTrue(kept or not all_kept, n)
            self.assertIn(str(i) if kept else "gone", answer.body.decode())
            self.assertGreaterEqual(self.generation(answer), self.generation(before[n]))

    def test_what_has_run_is_told_after_its_session_and_makes_no_new_one(self):
        code = "import time; print(time.time_ns())"
        for i in range(3):
            name, operation = f"told-{i:04}", f"operation-{i}"
            first = self.client.execute(name, code, operation=operation)
            self.assertEqual(first.status, 200, first)
            self.assertEqual(self.client.delete_session(name).status, 204)
            again = self.client.execute(name, code, operation=operation)
            self.assertEqual((again.status, again.json["result"]["stdout"]),
                             (200, first.json["result"]["stdout"]))
            self.assertEqual(self.client.call("GET", "/session", identifier=name).status, 404)

    def test_a_drained_worker_takes_nothing_new_and_comes_back(self):
        def order(*words):
            return self.cluster.cli("worker", *words, "--run-dir", str(self.cluster.run / "w1"), text=True)
        kept = [f"kept-{i:04}" for i in range(3)]
        before = {n: self.run_in(n, "k = 1") for n in kept}
        done = order("drain", "--no-wait")
        self.assertEqual(done.returncode, 0, done.stderr)
        wc.wait_for("w1 has no weight", lambda: self.members()["w1"]["weight"] == 0, 60)
        active = self.members()["w1"]["active"]
        for i in range(3):
            self.assertEqual(self.run_in(f"while-{i:04}", "1").status, 200)
        self.assertLessEqual(self.members()["w1"]["active"], active)
        for n in kept:
            answer = self.run_in(n, "print(k)")
            self.assertEqual(self.generation(answer), self.generation(before[n]))
        self.assertEqual(order("undrain").returncode, 0)
        wc.wait_for("w1 is back", lambda: self.members().get("w1", {"weight": 0})["weight"] > 0, 60)
        for n in kept + [f"while-{i:04}" for i in range(3)]:
            self.assertEqual(self.client.delete_session(n).status, 204)

    def ask_again(self, name, told, same):
        """An operation of before: its outcome is known where it ran, and it never runs twice."""
        again = self.client.execute(name, "w = 1", operation=f"before-{name}")
        if same:
            self.assertEqual((again.status, again.body), (200, told.body))
            other = self.client.execute(name, "w = 2", operation=f"before-{name}")
            self.assertEqual((other.status, other.code()), (422, "IdempotencyKeyReused"), other)
            return
        self.assertEqual((again.status, again.code()), (502, "ExecutionOutcomeUnknown"), again)
        self.assertIn("NameError", self.run_in(name, "w").body.decode())
        where = f"/executions/before-{name}"
        state = self.client.call("GET", where, identifier=name)
        self.assertNotEqual(state.status, 404, state)
        generation = again.headers["x-warren-generation"]
        for _ in range(2):  # who knows that the old session is gone may have it run, once
            third = self.client.call(
                "POST", "/executions", {"code": "w = globals().get('w', 0) + 1; print(w)", "codeInputType": "inline",
                                        "executionType": "synchronous"},
                {"operation-id": f"before-{name}", "x-warren-if-generation": generation}, identifier=name)
            self.assertEqual((third.status, third.json["result"]["stdout"].strip()), (200, "1"), third)

    def test_what_ran_at_a_stopped_worker_begins_anew_elsewhere(self):
        names = [f"stopped-{i:04}" for i in range(3)]
        begun = {w: self.begun(w) for w in ("w1", "w2", "w3")}
        before = {n: self.run_in(n, "v = 1") for n in names}
        told = {n: self.client.execute(n, "w = 1", operation=f"before-{n}") for n in names}
        self.assertEqual({a.status for a in told.values()}, {200})
        busy = next(w for w, n in begun.items() if self.begun(w) > n)
        pid = self.pid(busy)
        os.kill(pid, signal.SIGSTOP)
        try:
            self.until_settled({"w1", "w2", "w3"} - {busy})
            new = 0
            for n in names:
                answer = self.run_in(n, "print('v' in globals())")
                same = self.generation(answer) == self.generation(before[n])
                new += not same
                self.assertIn("True" if same else "False", answer.body.decode())
                if not same:
                    self.assertGreater(self.generation(answer), self.generation(before[n]))
                self.ask_again(n, told[n], same)
            self.assertGreater(new, 0)
            since = len(self.cluster.events)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.cluster.wait_ready_again(busy, since, 300)
        self.until_settled()
        self.assertGreater(self.members()[busy]["incarnation"], 1)

    # ---- the catalogue ----

    def warren(self, *args):
        done = self.cluster.cli(*args, "--json", text=True)
        self.assertEqual(done.returncode, 0, (args, done.stderr))
        return json.loads(done.stdout)

    def apply(self, name, **scale):
        path = self.cluster.state / f"{name}.json"
        path.write_text(json.dumps(wc.pool(name, **scale)))
        return self.warren("pool", "apply", str(path))

    def pools(self):
        return {p["name"]: p for p in self.warren("pool", "list")}

    def client_of(self, pool):
        client = self.cluster.client(pool_name=pool)
        self.addCleanup(client.close)
        return client

    def until_status(self, client, identifier, status):
        return wc.wait_for(f"{status} for {identifier}", lambda: self.answers(client, identifier, status), 90, 0.2)

    def answers(self, client, identifier, status):
        answer = client.execute(identifier, "1")
        return answer if answer.status == status else None

    def until_ready(self, name, n):
        def shared_out():
            p = self.pools()[name]
            return p if p["ready"] == n == sum(w["target"] for w in p["workers"]) else None
        return wc.wait_for(f"{n} ready instances of {name}", shared_out, 180, 0.3)

    def test_ready_instances_are_shared_out_over_the_workers(self):
        p = self.until_ready("python", 3)
        self.assertEqual(sorted(w["target"] for w in p["workers"]), [1, 1, 1])
        self.apply("python", maximum=18, ready=5)
        p = self.until_ready("python", 5)
        self.assertEqual(sorted(w["target"] for w in p["workers"]), [1, 2, 2])
        self.apply("python", maximum=18, ready=3)
        self.until_ready("python", 3)  # those beyond end

    def test_a_pool_comes_changes_and_goes_while_the_cluster_runs(self):
        client, others = self.client_of("second"), set(self.cluster.machines())
        self.assertEqual(client.execute("second-0001", "1").status, 404)
        self.apply("second", maximum=4, ready=0)
        before = self.until_status(client, "second-0001", 200)
        self.assertEqual(client.execute("second-0001", "q = 1").status, 200)
        self.apply("second", maximum=4, ready=0, memory="640Mi")  # new ones are larger
        self.assertIn("1", client.execute("second-0001", "print(q)").body.decode())
        larger = "print([int(l.split()[1]) > 540000 for l in open('/proc/meminfo') if l.startswith('MemTotal')])"
        tried = []

        def is_larger():
            tried.append(f"larger-{len(tried):04}")
            answer = client.execute(tried[-1], larger)
            client.delete_session(tried[-1])
            return answer.status == 200 and "True" in answer.body.decode()
        wc.wait_for("a session with more memory", is_larger, 300, 1)
        answer = client.execute("second-0001", "print(q)")
        self.assertEqual(self.generation(answer), self.generation(before))
        self.delete_pool("second", set(self.cluster.machines()) - others)
        for name in ("second-0001", "second-0002"):
            self.assertEqual(client.execute(name, "1").code(), "SessionPoolNotFound")
        self.apply("second", maximum=4, ready=0)
        answer = self.until_status(client, "second-0001", 200)
        self.assertGreater(self.generation(answer), self.generation(before))
        self.warren("pool", "delete", "second")

    def delete_pool(self, pool, machines):
        """All of it ends, and its microVMs are really gone."""
        self.assertTrue(self.warren("pool", "delete", pool)["deleted"])
        wc.wait_for("the end of its microVMs", lambda: not machines & set(self.cluster.machines()), 60, 0.2)

    def test_a_pool_that_is_deleted_and_made_anew_at_once_starts_with_nothing(self):
        client, others = self.client_of("again"), set(self.cluster.machines())
        self.apply("again", maximum=4, ready=0)
        before = self.until_status(client, "again-0001", 200)
        mine = set(self.cluster.machines()) - others
        self.assertTrue(mine)
        self.warren("pool", "delete", "again")
        self.apply("again", maximum=4, ready=0)
        wc.wait_for("the end of the former", lambda: not mine & set(self.cluster.machines()), 60, 0.2)
        after = self.until_status(client, "again-0001", 200)
        self.assertGreater(self.generation(after), self.generation(before))
        self.a_dead_worker_hears_of_it_when_it_is_back(client)

    def a_dead_worker_hears_of_it_when_it_is_back(self, client):
        others, since = set(self.cluster.machines()), len(self.cluster.events)
        begun = {w: self.begun(w) for w in ("w1", "w2", "w3")}
        self.until_status(client, "again-0002", 200)
        mine = set(self.cluster.machines()) - others
        at = next(w for w, n in begun.items() if self.begun(w) > n)
        os.kill(self.pid(at), signal.SIGKILL)
        self.delete_pool("again", mine)
        self.cluster.wait_ready_again(at, since)
        self.assertEqual(client.execute("again-0002", "1").code(), "SessionPoolNotFound")

    def at_once(self, pool, names):
        """Answers of all names, asked at the same time."""
        clients = {n: self.client_of(pool) for n in names}
        with concurrent.futures.ThreadPoolExecutor(len(names)) as threads:
            return dict(zip(names, threads.map(lambda n: clients[n].execute(n, "1"), names)))

    def until_five(self, pool, names):
        """All places are taken by some of the names, asked again as a client may."""
        def five():
            answers = self.at_once(pool, names)
            ok = [n for n, a in answers.items() if a.status == 200]
            self.assertLessEqual(len(ok), 5, answers)
            return ok if len(ok) == 5 else None
        return wc.wait_for("five sessions", five, 120, 0.5)

    def test_a_maximum_is_of_the_whole_cluster(self):
        client = self.client_of("five")
        self.apply("five", maximum=5, ready=0)
        self.until_status(client, "max-0000", 200)
        names = [f"max-{i:04}" for i in range(9)]
        answers = self.at_once("five", names)
        ok = {n for n, a in answers.items() if a.status == 200}
        self.assertEqual(len(ok), 5, answers)
        for n in set(names) - ok:
            self.assertEqual((answers[n].status, answers[n].code()), (429, "SessionPoolFull"), answers[n])
            self.assertGreater(int(answers[n].headers["retry-after"]), 0)
        for n in list(ok)[:2]:
            self.assertEqual(client.delete_session(n).status, 204)
        self.until_five("five", names)  # others have their places, or they have them again
        self.places_of_a_lost_life_come_back(names)
        self.apply("five", maximum=2, ready=0)  # sessions beyond it live on
        self.warren("pool", "delete", "five")

    def places_of_a_lost_life_come_back(self, names):
        busy = next(w["worker"] for w in self.pools()["five"]["workers"] if w["sessions"] > 0)
        pid, since = self.pid(busy), len(self.cluster.events)
        os.kill(pid, signal.SIGSTOP)
        try:
            self.until_settled({"w1", "w2", "w3"} - {busy})
            self.until_five("five", names)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.cluster.wait_ready_again(busy, since, 300)
        self.until_settled()
        self.until_five("five", names)

    def test_the_catalogue_is_there_after_all_voters_were_killed(self):
        since, before = len(self.cluster.events), self.warren("pool", "show", "python")
        for v in ("v1", "v2", "v3"):
            os.kill(self.pid(v), signal.SIGKILL)
        for v in ("v1", "v2", "v3"):
            self.cluster.wait_ready_again(v, since)
        self.assertEqual(wc.wait_for("the catalogue", lambda: self.pools().get("python"), 60)["version"], before["version"])
        self.until_settled()
        self.run_in("voters-0001", "1")


class MadeAnew(unittest.TestCase):
    """All voters' stores are gone; workers still have the catalogue of before in their files."""

    def setUp(self):
        pools = [wc.pool("python", maximum=4, ready=0), wc.pool("second", maximum=4, ready=0)]
        self.cluster = wc.Cluster(pools, options=["--workers", "2"])
        self.addCleanup(self.cluster.remove)
        self.addCleanup(self.cluster.kill_everything)

    def kept(self):
        return [json.loads(p.read_text()) for p in self.cluster.state.rglob("catalog.json")]

    def until_answered(self, pool, status):
        client = self.cluster.client(pool_name=pool)
        self.addCleanup(client.close)
        return wc.wait_for(f"{status} of {pool}", lambda: client.execute("anew-0001", "1").status == status, 90, 0.2)

    def test_workers_drop_the_catalogue_of_before(self):
        self.cluster.start(timeout_s=1500)
        self.until_answered("second", 200)
        before = self.kept()
        self.assertEqual([k["version"] for k in before], [2, 2])
        self.assertEqual(self.cluster.stop(), 0)
        for i in (1, 2, 3):
            shutil.rmtree(self.cluster.state / "cluster" / f"v{i}" / "state", ignore_errors=True)
        self.cluster.events.clear()
        del self.cluster.pools[1]
        self.cluster.start(timeout_s=1500)
        self.until_answered("python", 200)
        self.until_answered("second", 404)
        after = self.kept()
        self.assertEqual([k["version"] for k in after], [1, 1])
        self.assertNotIn(after[0]["birth"], [k["birth"] for k in before])
        self.assertIn("is dropped: it is not of this cluster", self.cluster.logs())
        self.assertEqual(self.cluster.stop(), 0)
        self.assertEqual(self.cluster.left_behind(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
