#!/usr/bin/python3
"""Histories that lie, and check.py must say so; and one that does not."""
import copy
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import check  # noqa: E402


def exchange(op, at, gen, ops, instance="m1", name="a", outcome="ok", number=0, only=None):
    """A question at `at` and its answer 10 later."""
    ask = {"ev": "ask", "id": name, "op": op, "try": number, "by": "g1", "t": at, **({"if": only} if only else {})}
    answer = {"ev": "answer", "id": name, "op": op, "try": number, "by": "g1", "t": at + 10, "outcome": outcome}
    if outcome == "ok":
        answer.update(gen=gen, instance=instance, ops=list(ops))
    return [ask, answer]


def ran(op, at, gen, name="a", by="w1.0"):
    return {"ev": "start", "id": name, "gen": gen, "op": op, "by": by, "t": at}


TRUE = (exchange("o1", 0, 5, ["o1"]) + exchange("o2", 20, 5, ["o1", "o2"]) +
        exchange("o3", 40, 0, [], outcome="failed") + exchange("o4", 60, 0, [], outcome="unknown") +
        exchange("o4", 80, 9, ["o4"], "m2", number=1) + exchange("o5", 100, 9, ["o4", "o5"], "m2") +
        exchange("p1", 100, 3, ["p1"], "m3", name="b"))


def told(op, events, number=0):
    return next(e for e in events if e["ev"] == "answer" and (e["op"], e["try"]) == (op, number))


class Lies(unittest.TestCase):
    def setUp(self):
        self.events = copy.deepcopy(TRUE)

    def bare(self):
        """As of workers without microVMs."""
        for e in self.events:
            e.pop("instance", None)
            e.pop("ops", None)
        runs = [("o1", 5, 5), ("o2", 25, 5), ("o4", 65, 9), ("o5", 105, 9)]
        self.events += [ran(*r) for r in runs] + [ran("p1", 105, 3, "b", "w2.0")]
        self.events += [{"ev": "bind", "id": "a", "gen": g, "by": "w1.0", "t": g} for g in (5, 9)]

    def lie(self, word, starts=False):
        found = check.judge(self.events, starts)
        self.assertTrue(any(word in line for line in found), found)

    def test_the_truth(self):
        self.assertEqual(check.judge(self.events, False), [])
        self.bare()
        self.assertEqual(check.judge(self.events, True), [])

    def test_an_answer_without_a_question(self):
        self.events = [e for e in self.events if (e["ev"], e["op"]) != ("ask", "o2")]
        self.lie("without its question")

    def test_an_answer_to_another_identifier(self):
        told("p1", self.events)["id"] = "a"
        self.lie("without its question")

    def test_two_answers(self):
        self.events.append(dict(told("o3", self.events), t=55))
        self.lie("two answers")

    def test_a_generation_that_goes_down(self):
        told("o5", self.events).update(gen=5, instance="m1", ops=["o1", "o2", "o5"])
        self.lie("two sessions")

    def test_overlapping_questions_may_meet_either_session(self):
        self.events += exchange("o6", 85, 5, ["o1", "o2", "o6"])  # asked before any answer of 9
        self.assertEqual(check.judge(self.events, False), [])

    def test_two_machines_of_one_generation(self):
        told("o2", self.events).update(instance="m9", ops=["o2"])
        self.lie("two machines")

    def test_one_machine_of_two_generations(self):
        told("o5", self.events).update(gen=11)
        self.lie("answers for")

    def test_the_answer_of_another(self):
        told("o2", self.events)["ops"] = ["o1", "o2", "o7"]
        self.lie("is another's")

    def test_state_that_has_vanished(self):
        told("o2", self.events)["ops"] = ["o2"]
        self.lie("does not find")
        self.lie("has changed")

    def test_an_operation_that_ran_twice_in_a_machine(self):
        told("o5", self.events)["ops"] = ["o4", "o4", "o5"]
        self.lie("ran 2 times")

    def test_an_operation_that_ran_in_two_machines(self):
        told("o4", self.events, 1)["ops"] = told("o5", self.events)["ops"] = ["o2", "o4"]
        told("o5", self.events)["ops"] = ["o2", "o4", "o5"]
        self.lie("ran in 2 machines")

    def test_what_was_said_not_to_have_run(self):
        told("o5", self.events)["ops"] = ["o4", "o3", "o5"]
        self.lie("was said not to have run")

    def test_what_nobody_asked_for(self):
        told("o5", self.events)["ops"] = ["o4", "zz", "o5"]
        self.lie("nobody asked")

    def test_two_stories_of_one_request(self):
        self.events += exchange("o1", 30, 5, ["o1", "o2", "o1"], number=1)
        self.lie("told two ways")

    def test_a_told_again_answer_says_nothing_about_now(self):
        self.events += exchange("o1", 120, 5, ["o1"], number=1)
        self.assertEqual(check.judge(self.events, False), [])

    def test_two_runs_at_workers(self):
        self.bare()
        self.events.append(ran("o2", 30, 9, by="w2.0"))
        self.lie("ran 2 times", True)

    def test_a_run_that_was_denied(self):
        self.bare()
        self.events.append(ran("o3", 45, 5))
        self.lie("was said not to have run", True)

    def test_a_success_that_never_ran(self):
        self.bare()
        self.events = [e for e in self.events if (e["ev"], e.get("op")) != ("start", "o2")]
        self.lie("is said to have run", True)

    def test_two_sessions_at_a_time_at_workers(self):
        self.bare()
        self.events += [e for op in ("o8",) for e in exchange(op, 95, 0, [], outcome="unknown")]
        self.events += [ran("o8", 106, 5)]
        self.lie("has begun: two sessions", True)

    def test_a_session_that_begins_twice(self):
        self.bare()
        self.events.append({"ev": "bind", "id": "a", "gen": 9, "by": "w2.0", "t": 10})
        self.lie("begun 2 times", True)

    def test_a_session_that_begins_after_a_later_one(self):
        self.bare()
        self.events.append({"ev": "bind", "id": "a", "gen": 7, "by": "w2.0", "t": 10})
        self.lie("7 begins after 9", True)

    def moved(self, only):
        """o2 is asked for again when a later session has begun."""
        self.events = [e for e in self.events if e["op"] != "o2" or e["ev"] == "ask"]
        told("o5", self.events)["ops"] = ["o4", "o2", "o5"]
        self.events += exchange("o2", 85, 9, ["o4", "o2"], "m2", number=1, only=only)
        self.events += exchange("o7", 30, 5, ["o1", "o2", "o7"])

    def test_a_second_run_that_was_wanted(self):
        self.moved(9)
        self.assertEqual(check.judge(self.events, False), [])

    def test_a_second_run_that_was_not_wanted(self):
        self.moved(None)
        self.lie("o2 ran in 2 machines")

    def test_a_second_run_elsewhere_than_wanted(self):
        self.moved(8)
        self.lie("was to run in 8 and ran in 9")

    def test_a_second_run_of_what_was_answered(self):
        told("o5", self.events)["ops"] = ["o4", "o2", "o5"]
        self.events += exchange("o2", 85, 9, ["o4", "o2"], "m2", number=1)
        self.lie("o2 was told two ways")

    def test_what_is_asked_again_finds_the_state(self):
        self.events += exchange("o8", 101, 0, [], outcome="unknown")
        self.events += exchange("o8", 112, 9, ["o8"], "m2", number=1, only=9)
        self.lie("does not find what o4 did")

    def fails(self, why, restarts, t=201, **how):
        """What is said about a question of 200 that fails at t and is asked again with success."""
        events = [e for e in self.events if e["op"] not in ("o3", "o4")]
        events += exchange("o9", 200, 0, [], outcome="unknown") + exchange("o9", t + 10, 9, ["o9"], "m2", number=1)
        told("o9", events).update(t=t, why=why, **how)
        return [line.partition(":")[2][:10] for line in check.nothing_failed(events, restarts)]

    def test_an_upgrade_without_failures(self):
        events = [e for e in self.events if e["op"] not in ("o3", "o4")]
        self.assertEqual(check.nothing_failed(events, {}), [])

    def test_an_upgrade_in_which_connections_are_refused(self):
        self.assertEqual(self.fails("ConnectionRefusedError", {"g1": (195, 400)}), [])
        for restarts in ({}, {"g1": (300, 400)}, {"g2": (195, 400)}):
            self.assertEqual(self.fails("ConnectionRefusedError", restarts), [" o9 failed"], "it was not started again then")
        self.assertEqual(self.fails("TimeoutError", {"g1": (195, 400)}), [" o9 failed"])

    def test_an_upgrade_in_which_requests_are_dropped(self):
        late = 201 + check.AT_ONCE_NS
        for why in check.CLOSED:
            restarts = {"g1": (195, late)}
            self.assertEqual(self.fails(why, restarts, reused=True), [], "it was closed before the gateway was asked")
            self.assertEqual(self.fails(why, {}, reused=True), [" o9 failed"])
            self.assertEqual(self.fails(why, restarts, late, reused=True), [" o9 failed"])
            self.assertEqual(self.fails(why, restarts, reused=False), [" o9 failed"])
            self.assertEqual(self.fails(why, restarts), [" o9 failed"])

    def test_an_upgrade_in_which_something_is_never_answered(self):
        events = exchange("o9", 200, 0, [], outcome="unknown")
        told("o9", events)["why"] = "ConnectionRefusedError"
        self.assertEqual(check.nothing_failed(events, {"g1": (205, 400)}), ["a: o9 was not answered"])

    def test_a_session_that_is_lost_in_an_upgrade(self):
        self.assertEqual(check.no_session_lost(self.events, []), ["a: o4 is answered by 9, and 5 is lost"])
        self.bare()  # 5 was at w1
        self.assertEqual(check.no_session_lost(self.events, [("w1", 50, 70)]), [], "its worker ended it in order")
        self.assertEqual(len(check.no_session_lost(self.events, [("w2", 50, 70)])), 1, "another has left")
        self.assertEqual(len(check.no_session_lost(self.events, [("w1", 5, 29), ("w1", 91, 99)])), 1)

    def test_nobody_ends_a_session_of_which_is_not_known_where_it_was(self):
        self.assertEqual(len(check.no_session_lost(self.events, [("w1", 50, 70)])), 1)

    def test_a_history_is_lines_of_json(self):
        text = "".join(json.dumps(e) + "\n" for e in self.events)
        self.assertEqual(check.judge([json.loads(line) for line in text.splitlines()], False), [])


if __name__ == "__main__":
    unittest.main()
