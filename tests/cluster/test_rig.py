#!/usr/bin/python3
"""Three voters, three workers without microVMs, two gateways under load: what is killed, stopped and
started again must not make any request run twice, and must be told truthfully."""
import collections
import signal
import sys
import pathlib
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
        starts = collections.Counter()
        binds = collections.defaultdict(list)
        for h in HOSTS:
            for line in self.nodes.journal(h):
                if line[0] == "start":
                    starts[line[3]] += 1
                else:
                    binds[line[1]].append(int(line[2]))
        asked = {line[2] for g in GATEWAYS for line in self.nodes.journal(g) if line[0] == "ask"}
        answered = [line[2] for line in self.answers()]
        self.assertEqual(len(answered), len(set(answered)), "one outcome each")
        self.assertEqual(set(answered), asked, "all have an outcome")
        self.assertEqual([e for e, n in starts.items() if n != 1], [], "nothing starts twice")
        for word, _, exec_id, _, _ in self.answers():
            if word == "OK":
                self.assertEqual(starts[exec_id], 1)
            elif word == "FAILED":
                self.assertEqual(starts[exec_id], 0)
        for key, epochs in binds.items():
            self.assertEqual(len(epochs), len(set(epochs)), f"key {key}: an epoch is bound once")
        a = self.nodes.status()
        self.assertTrue(all(v["mesh"]["late"] == 0 for v in a.values()))
        return {w: self.count(w) for w in ("OK", "FAILED", "UNKNOWN")}

    def test_a_killed_voter_is_not_noticed_by_any_client(self):
        self.nodes.kill("v2")
        self.wait_ok(500)
        self.nodes.voter("v2")
        self.nodes.until("v2 votes again", lambda a: a.get("v2", {}).get("voting") is True)
        self.wait_ok(100)
        told = self.judge()
        self.assertEqual((told["FAILED"], told["UNKNOWN"]), (0, 0), told)

    def test_a_killed_worker_is_replaced_and_comes_back(self):
        self.nodes.kill("w2")
        self.nodes.until("w2 is out", lambda a: self.settled(a, ("w1", "w3")))
        self.wait_ok(300)
        slow = [int(line[4]) for line in self.answers() if line[0] == "OK"]
        self.assertLess(max(slow), 12000)
        self.nodes.host("w2")
        a = self.nodes.until("w2 is back", lambda a: self.settled(a, HOSTS))
        self.assertGreater(members(a["v1"])["w2"], 1, "under another incarnation")
        self.wait_ok(300)
        self.judge()

    def test_a_worker_that_is_started_again_at_once_keeps_its_life(self):
        before = members(self.nodes.status()["v1"])
        self.nodes.kill("w1")
        self.nodes.host("w1")
        self.wait_ok(300)
        a = self.nodes.until("settled", lambda a: self.settled(a, HOSTS))
        self.assertEqual(members(a["v1"]), before)
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
        ok = -1
        while self.count("OK") != ok:  # the leases run out
            ok = self.count("OK")
            self.nodes.status()
            self.nodes.status()
        self.nodes.voter("v1")
        self.nodes.voter("v3")
        self.nodes.until("settled", lambda a: self.settled(a, HOSTS))
        self.wait_ok(200)
        self.judge()


if __name__ == "__main__":
    unittest.main(verbosity=2)
