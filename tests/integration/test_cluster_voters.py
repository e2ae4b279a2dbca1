#!/usr/bin/python3
"""Three voters as real processes with the keys and settings that `warren cluster init` makes."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
from nodes import BIN, free_ports  # noqa: E402

NAMES = ("v1", "v2", "v3")


class Cluster(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="warren-test-voters-"))
        self.procs = {}
        self.addCleanup(self.clean)
        self.ports = dict(zip(NAMES, free_ports(3)))
        voters = [f"--voter={n}=127.0.0.1:{p}" for n, p in self.ports.items()]
        self.made = json.loads(self.warren("init", *voters, "--json").stdout)

    def clean(self):
        for p in self.procs.values():
            if p.poll() is None:
                p.kill()
            p.wait()
            p.stdout.close()
        shutil.rmtree(self.dir)

    def warren(self, *args, code=0):
        p = subprocess.run([BIN / "warren", "cluster", *args, "--state-dir", self.dir],
                           capture_output=True, text=True, check=False)
        self.assertEqual(p.returncode, code, p.stdout + p.stderr)
        return p

    def config(self, name):
        return self.dir / "cluster" / name / "cluster.yaml"

    def start(self, name, *args, ready=True):
        read, write = os.pipe()
        p = subprocess.Popen([BIN / "warren-scheduler", "--config", self.config(name), "--ready-fd",
                              str(write), *args], pass_fds=[write], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        os.close(write)
        with os.fdopen(read) as f:
            event = json.loads(f.readline())
        if ready:
            self.assertEqual(event["event"], "ready", event)
            self.procs[name] = p
        else:
            self.assertEqual(event["event"], "failed", event)
            p.wait()
            p.stdout.close()
            self.assertEqual(p.returncode, 1)
        return event["text"]

    def kill(self, name):
        p = self.procs.pop(name)
        p.kill()
        p.wait()
        p.stdout.close()

    def start_all(self):
        for n in NAMES:
            self.start(n, "--birth")

    def answers(self):
        p = subprocess.run([BIN / "warren", "cluster", "status", "--json", "--timeout", "1",
                            "--state-dir", self.dir], capture_output=True, text=True, check=False)
        return {a["asked"]: a for a in json.loads(p.stdout)} if p.returncode == 0 else {}

    def until(self, what, holds):
        """Asks again and again; the test's time-out is the bound."""
        while True:
            got = self.answers()
            if holds(got):
                return got
            for n, p in self.procs.items():
                self.assertIsNone(p.poll(), f"{n} has ended while waiting for: {what}")

    def all_alive(self, got, names=NAMES):
        return all(n in got and {g["node"] for g in got[n]["gossip"] if g["state"] == "alive"} ==
                   set(names) for n in names)

    def test_they_find_each_other_by_seeds_and_keys_and_say_goodbye(self):
        self.start_all()
        got = self.until("all alive", self.all_alive)
        for a in got.values():
            self.assertEqual((a["voting"], a["view"]["number"], a["view"]["members"]), (True, 1, []))
            self.assertEqual(a["voters"], list(NAMES))
            self.assertEqual(a["mesh"]["late"], 0)
        text = self.warren("status").stdout
        self.assertIn("v2", text)
        self.assertIn("view 1", text)
        self.assertIn("voter", self.warren("members").stdout)
        p = self.procs.pop("v3")
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(), 0)
        p.stdout.close()
        left = self.until("v3 has left", lambda a: all(
            any(g["node"] == "v3" and g["state"] == "left" for g in a.get(n, {"gossip": []})["gossip"])
            for n in ("v1", "v2")))
        self.assertNotIn("v3", left)

    def test_one_that_is_killed_comes_back_with_what_it_promised(self):
        self.start_all()
        self.until("all alive", self.all_alive)
        first = {g["node"]: g["incarnation"] for g in self.answers()["v1"]["gossip"]}
        self.kill("v2")
        self.until("v2 is missed", lambda a: any(
            g["node"] == "v2" and g["state"] == "dead" for g in a.get("v1", {"gossip": []})["gossip"]))
        self.start("v2")
        got = self.until("v2 is back", self.all_alive)
        self.assertTrue(got["v2"]["voting"])
        again = {g["node"]: g["incarnation"] for g in got["v1"]["gossip"]}
        self.assertGreater(again["v2"], first["v2"])

    def test_one_that_has_lost_its_store_asks_before_it_votes(self):
        self.start_all()
        self.until("all alive", self.all_alive)
        self.kill("v2")
        shutil.rmtree(self.dir / "cluster" / "v2" / "state")
        self.start("v2")
        self.until("it votes again", lambda a: a.get("v2", {}).get("voting") is True)
        self.procs["v2"].send_signal(signal.SIGTERM)
        out, _ = self.procs["v2"].communicate()
        self.assertIn("not voting until the others have told", out)
        self.assertIn("voting again", out)
        self.procs.pop("v2")

    def test_one_that_ends_while_it_asks_has_kept_nothing(self):
        self.start_all()
        self.until("all alive", self.all_alive)
        self.kill("v3")
        self.kill("v2")
        shutil.rmtree(self.dir / "cluster" / "v2" / "state")
        self.start("v2")
        got = self.until("it has heard of the view, from v1 alone",
                         lambda a: a.get("v2", {"view": {}})["view"].get("number") == 1)
        self.assertFalse(got["v2"]["voting"])
        self.kill("v2")
        self.start("v2")
        got = self.until("it answers", lambda a: "v2" in a)
        self.assertFalse(got["v2"]["voting"])
        self.start("v3")
        self.until("it votes again", lambda a: a.get("v2", {}).get("voting") is True)

    def test_alone_without_a_store_it_never_votes(self):
        self.start("v1")
        got = self.until("it answers", lambda a: "v1" in a)
        self.assertFalse(got["v1"]["voting"])

    def test_the_key_of_the_gossip_is_replaced_while_they_run(self):
        self.start_all()
        self.until("all alive", self.all_alive)
        for verb in ("add", "use", "remove"):
            self.warren("keys", verb)
            for p in self.procs.values():
                while "gossip keys read again" not in p.stdout.readline():
                    self.assertIsNone(p.poll())
        self.assertEqual(json.loads(self.warren("keys", "show", "--json").stdout), [2])
        # Who comes now knows the new key only.
        self.kill("v3")
        self.start("v3")
        self.until("all alive", self.all_alive)

    def test_what_is_wrong_is_named(self):
        self.start("v1", "--birth")
        self.assertIn("another process", self.start("v1", ready=False))
        yaml = self.config("v2").read_text()
        for old, new, word in (("name: v2", "name: v4", "'v4' is not"),
                               ("voters:", "votes:", "unknown key 'votes'"),
                               (f":{self.ports['v2']}\"", ":x\"", "listen"),
                               ("seeds:", "weight: 256\nseeds:", "weight"),
                               ("  - v1\n", "", "voters: must be")):
            self.assertIn(old, yaml)
            self.config("v2").write_text(yaml.replace(old, new, 1))
            self.assertIn(word, self.start("v2", ready=False))
        self.config("v2").write_text(yaml)
        (self.dir / "cluster" / "v2" / "node.curve").chmod(0o644)
        self.assertIn("readable by others", self.start("v2", ready=False))

    def test_a_cluster_is_made_once_and_its_voters_are_fixed(self):
        secrets = [p for p in self.dir.rglob("*") if p.suffix in (".curve", ".key", ".keys")]
        self.assertEqual(len(secrets), 6)
        for p in secrets:
            self.assertEqual(p.stat().st_mode & 0o077, 0, p)
        self.assertIn("already", self.warren("init", "--voter=x=127.0.0.1:1", code=8).stderr)
        self.assertIn("fixed", self.warren("join", "--voter=x=127.0.0.1:1", code=2).stderr)
        self.assertIn("already", self.warren("join", "--worker=v1=127.0.0.1:1", code=8).stderr)
        self.assertIn("NAME=", self.warren("join", "--worker=W=127.0.0.1:1", code=2).stderr)
        self.assertIn("address", self.warren("join", "--worker=w=0.0.0.0:1", code=2).stderr)
        made = json.loads(self.warren("join", "--worker=w1=127.0.0.1:1", "--json").stdout)
        self.assertEqual([(n["name"], n["role"]) for n in made], [("w1", "worker")])
        self.assertIn("no voter answers", self.warren("status", "--timeout=1", code=3).stderr)
        for name in ("admin", "roster"):
            self.assertIn("no name for a node",
                          self.warren("join", f"--worker={name}=127.0.0.1:2", code=2).stderr)

    def test_who_joins_later_gets_the_settings_of_the_others(self):
        shutil.rmtree(self.dir / "cluster")
        self.warren("init", "--voter=v1=127.0.0.1:1", "--lease-ms=4000", "--partition-bits=10",
                    "--members-max=64")
        self.warren("join", "--worker=w1=127.0.0.1:2")
        for name in ("v1", "w1"):
            for line in ("lease_ms: 4000\n", "partition_bits: 10\n", "members_max: 64\n"):
                self.assertIn(line, self.config(name).read_text())
        self.assertIn("fixed", self.warren("join", "--worker=w2=127.0.0.1:3", "--lease-ms=5000",
                                           code=2).stderr)

    def test_a_voter_with_other_settings_is_heard_by_nobody_and_named(self):
        yaml = self.config("v3").read_text()
        self.assertIn("lease_ms: 5000\n", yaml)
        self.config("v3").write_text(yaml.replace("lease_ms: 5000", "lease_ms: 7000"))
        self.start_all()
        self.until("each has refused the other", lambda a: len(a) == 3 and all(
            x["mesh"]["otherSettings"] > 0 for x in a.values()))
        got = self.until("the others are alive", lambda a: self.all_alive(a, ("v1", "v2")))
        self.assertEqual([g["node"] for g in got["v3"]["gossip"]], ["v3"])
        for name, other in (("v1", "v3"), ("v3", "v")):
            p = self.procs.pop(name)
            p.send_signal(signal.SIGTERM)
            self.assertIn(f"node={other}", next(
                line for line in p.communicate()[0].splitlines() if "other settings" in line))

    def test_no_number_stands_for_two_keys_of_the_gossip(self):
        seen = set()
        for _ in range(4):
            self.warren("keys", "add")
            ids = json.loads(self.warren("keys", "show", "--json").stdout)
            self.assertNotIn(ids[-1], seen)
            seen.update(ids)
            self.warren("keys", "remove")
            self.assertEqual(json.loads(self.warren("keys", "show", "--json").stdout), ids[:1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[1:], verbosity=2)
