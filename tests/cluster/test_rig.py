#!/usr/bin/python3
"""Three voters, three workers without microVMs, two gateways under load: what is killed, stopped and
started again must not make any request run twice, and must be told truthfully."""
import collections
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from nodes import LEAVES, Nodes, members  # noqa: E402

VOTERS, HOSTS, GATEWAYS = ("v1", "v2", "v3"), ("w1", "w2", "w3"), ("g1", "g2")
KEYS = 40


class Rig(unittest.TestCase):
    def setUp(self):
        self.nodes = Nodes(VOTERS, HOSTS, GATEWAYS)
        self.addCleanup(self.nodes.close)
        for n in VOTERS:
            self.nodes.voter(n, "--birth")
        for n in HOSTS:
            self.nodes.host(n)
        self.nodes.until("three settled members", lambda a: self.settled(a, HOSTS))
        for n in GATEWAYS:
            self.nodes.load(n, KEYS)
        self.wait_ok(200)

    def settled(self, answers, names):
        return len(answers) >= 2 and all(set(members(a)) == set(names) for a in answers.values())

    def answers(self):
        return [line for g in GATEWAYS for line in self.nodes.journal(g) if line[0] != "ask"]

    def wait_ok(self, more):
        """So many further requests succeed; the voters' answers are the pause between two looks."""
        want = self.count("OK") + more
        self.nodes.until(f"{more} more requests", lambda _: self.count("OK") >= want)

    def count(self, word):
        return sum(line[0] == word for line in self.answers())

    def judge(self):
        """Ends the load and looks at everything that was said and done."""
        for g in GATEWAYS:
            self.assertEqual(self.nodes.end(g), 0)
        starts, runs = collections.Counter(), collections.defaultdict(list)
        binds = collections.defaultdict(list)
        for h in HOSTS:
            for line in self.nodes.journal(h):
                if line[0] == "start":
                    starts[line[3]] += 1
                    runs[line[1]].append((int(line[4]), int(line[2])))
                elif line[0] == "bind":
                    binds[line[1]].append(int(line[2]))
        asked = {line[2] for g in GATEWAYS for line in self.nodes.journal(g) if line[0] == "ask"}
        answered = [line[2] for line in self.answers()]
        self.assertEqual(len(answered), len(set(answered)), "one outcome each")
        self.assertEqual(set(answered), asked, "all have an outcome")
        self.assertEqual([e for e, n in starts.items() if n != 1], [], "nothing starts twice")
        for word, _, exec_id, *_ in self.answers():
            if word == "OK":
                self.assertEqual(starts[exec_id], 1)
            elif word == "FAILED":
                self.assertEqual(starts[exec_id], 0)
        for key, epochs in binds.items():
            self.assertEqual(len(epochs), len(set(epochs)), f"key {key}: an epoch is bound once")
        # What an earlier session of the key runs after a later one has begun would be a second one.
        for key, told in runs.items():
            epochs = [epoch for _, epoch in sorted(told)]
            self.assertEqual(epochs, sorted(epochs), f"key {key}: two sessions at a time")
        a = self.nodes.until("the voters answer", lambda a: len(a) == 3)
        self.assertTrue(all(v["mesh"]["late"] == 0 for v in a.values()))
        return {w: self.count(w) for w in ("OK", "FAILED", "UNKNOWN")}

    def lives(self):
        a = self.nodes.until("settled", lambda a: self.settled(a, HOSTS))
        return members(next(iter(a.values())))

    def lease_ends(self):
        """When the last lease ends, as far as the workers have heard."""
        return max(int(line[1]) for h in HOSTS for line in self.nodes.journal(h) if line[0] == "lease")

    def test_a_killed_voter_is_not_noticed_by_any_client(self):
        self.nodes.kill("v2")
        self.wait_ok(500)
        self.nodes.voter("v2")
        self.nodes.until("v2 votes again", lambda a: a.get("v2", {}).get("voting") is True)
        self.wait_ok(100)
        told = self.judge()
        self.assertEqual((told["FAILED"], told["UNKNOWN"]), (0, 0), told)

    def test_a_killed_worker_is_replaced_and_comes_back(self):
        before = self.lives()
        self.nodes.kill("w2")
        self.nodes.until("w2 is out", lambda a: self.settled(a, ("w1", "w3")))
        self.wait_ok(300)
        self.nodes.host("w2")
        after = self.lives()
        self.assertGreater(after["w2"], before["w2"], "under another incarnation")
        self.wait_ok(300)
        self.judge()

    def test_a_worker_that_is_started_again_at_once_keeps_its_life(self):
        before = self.lives()
        self.nodes.kill("w1")
        self.nodes.host("w1")
        self.wait_ok(300)
        self.assertEqual(self.lives(), before)
        self.judge()

    def test_a_stopped_worker_loses_its_lease_and_leaves_when_it_wakes(self):
        self.nodes.signal("w3", signal.SIGSTOP)
        self.nodes.until("w3 is out", lambda a: self.settled(a, ("w1", "w2")))
        self.wait_ok(200)
        p = self.nodes.procs.pop("w3")
        p.send_signal(signal.SIGCONT)
        self.assertEqual(p.wait(), LEAVES, "it has heard that its life is over")
        self.nodes.host("w3")
        self.nodes.until("w3 is back", lambda a: self.settled(a, HOSTS))
        self.wait_ok(200)
        self.judge()

    def test_without_a_majority_of_voters_nothing_runs_and_then_it_goes_on(self):
        self.nodes.kill("v1")
        self.nodes.kill("v3")
        while time.clock_gettime_ns(time.CLOCK_BOOTTIME) <= self.lease_ends():
            self.nodes.status()
        ended = self.lease_ends()
        self.nodes.until("v2 answers", lambda a: "v2" in a)
        again = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.nodes.voter("v1")
        self.nodes.voter("v3")
        self.nodes.until("settled", lambda a: self.settled(a, HOSTS))
        self.wait_ok(200)
        self.judge()
        self.assertEqual([line for h in HOSTS for line in self.nodes.journal(h)
                          if line[0] == "start" and ended <= int(line[4]) < again], [])


class Service(unittest.TestCase):
    """Leases last a minute: what happens sooner has not waited for one to run out."""

    def setUp(self):
        self.nodes = Nodes(("v1",), ("w1", "w2"), ("g1",), options=("--lease-ms", "60000"))
        self.addCleanup(self.nodes.close)
        self.nodes.voter("v1", "--birth")
        for n in ("w1", "w2"):
            self.nodes.host(n)
        self.until_members("both", {"w1", "w2"})
        self.nodes.load("g1", KEYS)
        self.until_ok(200)

    def until_members(self, what, names):
        self.nodes.until(what, lambda a: bool(a) and set(members(a["v1"])) == names)

    def until_ok(self, more):
        count = lambda: sum(line[0] == "OK" for line in self.nodes.journal("g1"))
        want = count() + more
        self.nodes.until(f"{more} more requests", lambda _: count() >= want)

    def weight(self, answers, name):
        return next(m["weight"] for m in answers["v1"]["view"]["members"] if m["node"] == name)

    def binds(self, name):
        return sum(line[0] == "bind" for line in self.nodes.journal(name))

    def test_a_worker_that_leaves_gives_its_lease_back(self):
        self.assertGreater(self.binds("w2"), 0)
        lease = max(int(line[1]) for line in self.nodes.journal("w2") if line[0] == "lease")
        p = self.nodes.procs.pop("w2")
        p.send_signal(signal.SIGUSR1)
        self.assertEqual(p.wait(), LEAVES)
        self.until_members("w2 is out", {"w1"})
        self.assertLess(time.clock_gettime_ns(time.CLOCK_BOOTTIME), lease, "it would have run until then")
        self.assertIn(["lease", "0"], self.nodes.journal("w2"), "and nothing runs there any more")
        self.assertIn("drained, and out of the cluster", self.nodes.logs["w2"].read_text())
        self.until_ok(200)
        self.nodes.host("w2")  # the next life
        self.until_members("w2 is back", {"w1", "w2"})
        self.until_ok(200)

    def test_all_workers_leave_at_once_and_come_back(self):
        lease = max(int(line[1]) for w in ("w1", "w2") for line in self.nodes.journal(w) if line[0] == "lease")
        left = [self.nodes.procs.pop(w) for w in ("w1", "w2")]
        for p in left:
            p.send_signal(signal.SIGUSR1)
        self.assertEqual([p.wait() for p in left], [LEAVES, LEAVES])
        a = self.nodes.until("nobody is in the view", lambda a: bool(a) and not members(a["v1"]))
        self.assertEqual(a["v1"]["view"]["members"], [])
        for w in ("w1", "w2"):
            self.assertIn("drained, and out of the cluster", self.nodes.logs[w].read_text())
            self.nodes.host(w)
        self.until_members("both are back", {"w1", "w2"})
        self.until_ok(200)
        self.assertLess(time.clock_gettime_ns(time.CLOCK_BOOTTIME), lease, "no lease was waited for")

    def test_out_of_service_and_back(self):
        self.nodes.signal("w2", signal.SIGUSR2)
        self.nodes.until("no weight", lambda a: bool(a) and self.weight(a, "w2") == 0)
        before = self.binds("w2")
        self.until_ok(200)
        self.assertEqual(self.binds("w2"), before, "no new session")
        self.until_members("it stays a member", {"w1", "w2"})
        self.nodes.signal("w2", signal.SIGUSR2)
        self.nodes.until("weight again", lambda a: bool(a) and self.weight(a, "w2") > 0)
        self.until_ok(200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
