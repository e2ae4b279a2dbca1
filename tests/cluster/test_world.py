#!/usr/bin/python3
"""What the worlds of fault schedules must see and say: who ends by itself, who is served, which faults had no effect."""
import collections
import contextlib
import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("WARREN_BIN_DIR", "/nowhere")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import faults  # noqa: E402
import swarm  # noqa: E402
import world  # noqa: E402


class FakeLan:
    def __init__(self):
        self.links, self.process = {}, subprocess.Popen(["sleep", "1000"])

    def link(self, a, b, loss, delay_ms=0):
        self.links[(a, b)] = loss

    def heal(self):
        self.links.clear()

    def close(self):
        self.process.kill()
        self.process.wait()


class FakeWorld(world.RigWorld):
    """Daemons are what a test says, in no namespace; a full store is noted only."""
    script = "exec sleep 1000"

    def prepare(self):
        self.lan = FakeLan()
        for n in self.names:
            self.start(n)

    def daemon(self, name, journal):
        return ["sh", "-c", self.script]

    def command(self, name, journal):
        return self.daemon(name, journal)

    def at_node(self, name, command, ahead_s=0):
        return command

    def start(self, name):
        ahead, self.offset_s[name] = self.offset_s[name], 0  # no clocks of its own here
        super().start(name)
        self.offset_s[name] = ahead

    def fill(self, name):
        self.full.add(name)
        self.lives[name][-1].saw_full = True

    def empty(self, name):
        self.full.remove(name)

    def strangers(self):
        return {}


class Told:
    """An answer."""

    def __init__(self, status, generation=None, op=None):
        self.status, self.headers = status, {"x-warren-generation": str(generation)} if generation else {}
        self.json = {"result": {"stdout": json.dumps(["m1", [op], [op]])}}

    def code(self):
        return None


class FakeClient:
    """Answers in their order; keeps which generations were named."""

    def __init__(self, *answers):
        self.answers, self.named, self.connection = list(answers), [], None

    def execute(self, name, code, operation, generation):
        self.named.append(generation)
        answer = self.answers.pop(0)
        self.connection = None if isinstance(answer, Exception) else self
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clients(unittest.TestCase):
    def ask(self, *answers):
        """One operation; the generations that its questions name, and the journal."""
        client = FakeClient(*answers)
        with tempfile.TemporaryDirectory(prefix="warren-test-swarm-") as folder:
            journal = pathlib.Path(folder) / "journal"
            clients = swarm.Swarm("g1", 0, journal, 1, 1, 0)
            clients.stopping.wait = lambda _: False
            clients.one(client, random.Random(1), "a", "o1")
            os.close(clients.file)
            return client.named, [json.loads(line) for line in journal.read_text().splitlines()]

    def test_who_is_told_a_generation_names_it_at_once(self):
        named, journal = self.ask(Told(502, 7), Told(200, 7, "o1"))
        self.assertEqual(named, [None, 7])
        self.assertEqual([e.get("if") for e in journal if e["ev"] == "ask"], [None, 7])
        self.assertEqual([e["outcome"] for e in journal if e["ev"] == "answer"], ["unknown", "ok"])

    def test_a_generation_is_named_until_its_session_is_lost(self):
        named, journal = self.ask(Told(502, 7), Told(503), TimeoutError(), Told(410), Told(502, 9), Told(200, 9, "o1"))
        self.assertEqual(named, [None, 7, 7, 7, None, 9])
        self.assertEqual([e["outcome"] for e in journal if e["ev"] == "answer"],
                         ["unknown", "failed", "unknown", "failed", "unknown", "ok"])

    def test_lost_connections_are_not_counted_as_answers(self):
        refused = [ConnectionRefusedError() for _ in range(2 * swarm.TRIES)]
        self.assertEqual(len(self.ask(*refused, Told(200, 7, "o1"))[0]), 2 * swarm.TRIES + 1)
        self.assertEqual(len(self.ask(*[Told(503) for _ in range(2 * swarm.TRIES)])[0]), swarm.TRIES)

    def test_who_loses_a_connection_says_whether_it_was_new(self):
        journal = self.ask(ConnectionResetError(), Told(503), ConnectionResetError(), Told(200, 7, "o1"))[1]
        self.assertEqual([e.get("reused") for e in journal if e["ev"] == "answer"], [False, None, True, None])

    def test_an_answer_that_is_none_is_odd(self):
        journal = self.ask(Told(404))[1]
        self.assertIn("odd", [e["ev"] for e in journal])

    def test_a_client_that_fails_ends_all(self):
        with tempfile.TemporaryDirectory(prefix="warren-test-swarm-") as folder:
            clients = swarm.Swarm("g1", 0, pathlib.Path(folder) / "journal", 1, 1, 0)
            clients.thread = lambda i: {}[i]
            with contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(clients.run(), 1)
            os.close(clients.file)
            self.assertTrue(clients.stopping.is_set())


class Worlds(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="warren-test-world-")
        self.addCleanup(folder.cleanup)
        self.world = FakeWorld(pathlib.Path(folder.name), 1)
        self.addCleanup(self.world.close)
        self.world.prepare()

    def end_with(self, name, code):
        """A process ends by itself; its successor stays."""
        self.world.kill(name)
        FakeWorld.script = f"exit {code}"
        self.world.start(name)
        FakeWorld.script = "exec sleep 1000"
        return self.world.process(name)

    def crashes(self):
        self.world.mind()
        return self.world.crashes

    def test_nothing_has_ended(self):
        self.assertEqual(self.crashes(), [])

    def test_who_ends_by_itself_is_named(self):
        for name, code in (("v1", 1), ("w2", 0), ("g1", 0)):
            self.end_with(name, code).wait()
        self.assertEqual(sorted(c.partition(":")[0] for c in self.crashes()),
                         ["g1 has ended by itself with 0", "v1 has ended by itself with 1",
                          "w2 has ended by itself with 0"])

    def test_a_signal_that_nobody_sent_is_named(self):
        os.kill(self.world.process("w1").pid, signal.SIGKILL)
        self.world.process("w1").wait()
        self.assertIn("w1 has ended by itself with -9", self.crashes()[0])

    def test_who_ends_just_before_it_is_killed_is_named(self):
        self.end_with("v2", 5).wait()
        self.world.kill("v2")
        self.assertIn("v2 has ended by itself with 5", self.world.crashes[0])

    def test_who_ends_just_before_the_end_is_named(self):
        self.end_with("v2", 5).wait()
        self.world.close()
        self.assertIn("v2 has ended by itself with 5", self.world.crashes[0])

    def test_a_worker_may_leave_once_there_were_faults(self):
        self.end_with("w1", world.LEAVES).wait()
        self.assertEqual(len(self.crashes()), 1)
        self.world.disturbed = True
        self.end_with("w1", world.LEAVES).wait()
        self.assertEqual((len(self.crashes()), self.world.lost_lives), (1, 1))

    def test_who_has_no_room_may_fail(self):
        p = self.end_with("v3", 1)
        self.world.fill("v3")
        p.wait()
        self.assertEqual(self.crashes(), [])

    def test_who_has_ended_is_started_again_a_little_later(self):
        self.end_with("v3", 1).wait()
        self.crashes()
        self.assertEqual((len(self.world.lives["v3"]), len(self.crashes())), (2, 1))
        world.wait_for("it is started again", lambda: self.crashes() and len(self.world.lives["v3"]) == 3)
        self.assertEqual(len(self.crashes()), 1)

    def test_a_client_that_ends_is_an_error(self):
        self.world.clients["g1.swarm"] = subprocess.Popen(["false"])
        (self.world.base / "g1.swarm.log").write_text("why")
        self.world.clients["g1.swarm"].wait()
        with self.assertRaisesRegex(AssertionError, "g1.swarm has ended with 1: why"):
            self.world.mind()

    def test_a_network_that_ends_is_an_error(self):
        self.world.lan.close()
        with self.assertRaisesRegex(AssertionError, "lan_switch has ended"):
            self.world.mind()

    def test_an_end_otherwise_than_with_0_is_told(self):
        self.assertEqual([line.partition(":")[0] for line in self.world.end(["w3"])], ["w3 ends with -15"])

    def run_faults(self, *schedule):
        hands = faults.Hands(self.world)
        hands.run(sorted(schedule))
        return hands.dropped

    def test_faults_that_meet_nobody_are_counted(self):
        lives = collections.Counter({n: len(self.world.lives[n]) for n in self.world.names})
        dropped = self.run_faults((0.0, "kill", ("w1",), 0.2), (0.05, "stop", ("w1",), 0.05), (0.1, "kill", ("w1",), 0.2),
                                  (0.1, "clock_step", ("g1",), 0.0), (0.15, "reboot", ("w2",), 0.05))
        self.assertEqual(dropped, ["stop w1", "kill w1"])
        lives.update({"w1": 1, "w2": 1, "g1": 1})
        self.assertEqual({n: len(self.world.lives[n]) for n in self.world.names}, dict(lives))

    def test_a_store_is_full_until_the_last_of_two_faults_ends(self):
        seen = []
        self.world.mind = lambda: seen.append("v1" in self.world.full)
        self.run_faults((0.0, "full", ("v1",), 0.05), (0.02, "full", ("v1",), 0.15))
        self.assertEqual((set(seen), self.world.full), ({True}, set()))

    def test_a_fault_that_does_not_end_is_an_error_of_the_harness(self):
        hands = faults.Hands(self.world)
        hands.stop(True, ("v1",))
        with self.assertRaisesRegex(AssertionError, "not ended"):
            hands.everything_ends()

    def test_a_worker_that_is_taken_out_ended_its_own_sessions(self):
        self.world.kill("w2")
        FakeWorld.script = f"trap 'exit {world.LEAVES}' USR1; echo > {self.world.base}/w2.up; while :; do sleep 0.01; done"
        self.world.start("w2")
        FakeWorld.script = "exec sleep 1000"
        world.wait_for("it listens", (self.world.base / "w2.up").exists)
        begun = world.now_ns()
        self.assertEqual(self.world.take_out("w2"), [])
        (name, since, to), = self.world.ended
        self.assertEqual((name, begun <= since < to <= world.now_ns()), ("w2", True))

    def test_served_is_what_was_asked_for_since(self):
        def answer(by, name, op, at, outcome="ok"):
            who = {"id": name, "op": op, "try": 0, "by": by}
            return [{"ev": "ask", "t": at, **who}, {"ev": "answer", "t": at + 5, "outcome": outcome, **who}]
        history = answer("g1.0", "a", "1", 8) + answer("g1.1", "b", "2", 10) + answer("g2.0", "a", "3", 11, "unknown")
        self.assertEqual(world.served_since(history, 10), {("g1", "b")})


if __name__ == "__main__":
    unittest.main()
