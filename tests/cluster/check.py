"""Judges a history of a cluster: what clients asked and were told and, where it is known, what ran.

The rules are S1, S2, S3, S4 and S8 of tests/sim/check.c as far as they can be seen from outside. The code is another:
those look into the state of simulated nodes, and here there are only events.

Events are dicts; "t" is in ns of one clock for all. A request (id, op) may be asked several times ("try"):
  ask     id op try by t              a client sends it
  answer  id op try by t outcome      "ok", "failed" (it has not run), "unknown"; ok has gen, and with microVMs
                                      instance (made once by each machine) and ops (all that ran there, in order)
  start   id gen op by t              a worker runs it (only of workers without microVMs)
  bind    id gen by                   a worker begins a session (the same)
Who is killed leaves questions without an answer: their outcome is unknown."""
import collections


def judge(events, starts_known):
    """List of violations, as text; empty when all is well."""
    history = History(events)
    out = history.answers_are_for_questions() + history.generations_go_up() + history.told_truthfully()
    out += history.seen_inside() + history.outcomes_inside()
    return out + (history.seen_at_workers() if starts_known else [])


class History:
    def __init__(self, events):
        self.by_kind = collections.defaultdict(list)
        for e in events:
            self.by_kind[e["ev"]].append(e)
        self.asks = {(e["op"], e["try"]): e for e in self.by_kind["ask"]}
        self.oks = [e for e in self.by_kind["answer"] if e["outcome"] == "ok"]
        self.per_id = collections.defaultdict(list)
        for e in self.oks:
            self.per_id[e["id"]].append(e)

    def asked(self, answer):
        return self.asks[(answer["op"], answer["try"])]["t"]

    def answers_are_for_questions(self):
        out, seen = [], set()
        for e in list(self.by_kind["answer"]):
            key = (e["op"], e["try"])
            ask = self.asks.get(key)
            if ask is None or ask["id"] != e["id"] or ask["t"] > e["t"]:
                out.append(f"an answer without its question: {e}")
                self.by_kind["answer"].remove(e)
                if e in self.oks:
                    self.oks.remove(e)
                    self.per_id[e["id"]].remove(e)
            elif key in seen:
                out.append(f"two answers to one question: {e}")
            seen.add(key)
        return out

    def generations_go_up(self):
        """What is asked after an answer has come is answered by that session or a later one. But what is asked again may
        be told of an earlier run."""
        out = []
        for name, oks in self.per_id.items():
            done, i, best = sorted(oks, key=lambda e: e["t"]), 0, None
            for e in sorted((e for e in oks if e["try"] == 0), key=self.asked):
                while i < len(done) and done[i]["t"] < self.asked(e):
                    best = max(best or 0, done[i]["gen"])
                    i += 1
                if best is not None and e["gen"] < best:
                    out.append(f"{name}: generation {e['gen']} answers {e['op']} after {best}: two sessions")
        return out

    def told_truthfully(self):
        """A request has one result, however often it is asked for."""
        out, told = [], {}
        for e in self.oks:
            what = (e["gen"], e.get("instance"), tuple(e.get("ops", ())))
            if told.setdefault(e["op"], what) != what:
                out.append(f"{e['id']}: {e['op']} was told two ways: {told[e['op']]}, {what}")
        return out

    def seen_inside(self):
        """What the microVMs say: one machine per generation, whose list only grows."""
        out, machine, generation, lists = [], {}, {}, collections.defaultdict(list)
        for e in self.oks:
            if "instance" not in e:
                continue
            key = (e["id"], e["gen"])
            if machine.setdefault(key, e["instance"]) != e["instance"]:
                out.append(f"{key}: two machines under one generation, or its state has vanished")
            if generation.setdefault(e["instance"], key) != key:
                out.append(f"{e['instance']} answers for {generation[e['instance']]} and {key}")
            if not e["ops"] or e["ops"][-1] != e["op"]:
                out.append(f"{e['id']}: the answer to {e['op']} is another's: {e['ops'][-1:]}")
            lists[e["instance"]].append(e)
        for instance, answers in lists.items():
            answers.sort(key=lambda e: len(e["ops"]))
            for a, b in zip(answers, answers[1:]):
                if b["ops"][:len(a["ops"])] != a["ops"]:
                    out.append(f"{instance}: its state has changed between {a['op']} and {b['op']}")
        return out + self.state_stays(lists)

    def state_stays(self, lists):
        """An answered request is in the list of every later one of the machine."""
        out = []
        for instance, answers in lists.items():
            for b in (e for e in answers if e["try"] == 0):
                lost = [a["op"] for a in answers if a["t"] < self.asked(b) and a["op"] not in b["ops"]]
                out += [f"{instance}: {b['op']} does not find what {op} did" for op in lost]
        return out

    def outcomes_inside(self):
        """Nothing runs twice, in one machine or in two; what was said not to have run has not."""
        out, where, longest = [], collections.defaultdict(set), {}
        for e in self.oks:
            if "instance" in e:
                at = longest.get(e["instance"], [])
                longest[e["instance"]] = max(at, e["ops"], key=len)
        for instance, ops in longest.items():
            out += [f"{op} ran {n} times in {instance}" for op, n in collections.Counter(ops).items() if n > 1]
            for op in ops:
                where[op].add(instance)
        out += [f"{op} ran in {len(at)} machines" for op, at in where.items() if len(at) > 1]
        known = {op for op, _ in self.asks}
        out += [f"{op} ran and nobody asked for it" for op in where if op not in known]
        return out + [f"{op} was said not to have run, and has" for op in self.failed() if op in where]

    def failed(self):
        """Operations of which every try was said not to have run."""
        outcomes = collections.defaultdict(set)
        answered = {(e["op"], e["try"]): e["outcome"] for e in self.by_kind["answer"]}
        for op, number in self.asks:
            outcomes[op].add(answered.get((op, number), "unknown"))
        return [op for op, told in outcomes.items() if told == {"failed"}]

    def seen_at_workers(self):
        out, runs, binds = [], collections.defaultdict(list), collections.Counter()
        for e in self.by_kind["start"]:
            runs[e["op"]].append(e)
        for op, at in runs.items():
            if len(at) > 1:
                out.append(f"{op} ran {len(at)} times: {at}")
        for e in self.oks:
            if [(r["id"], r["gen"]) for r in runs[e["op"]][:1]] != [(e["id"], e["gen"])]:
                out.append(f"{e['id']}: {e['op']} is said to have run in {e['gen']}, and ran: {runs[e['op']]}")
        out += [f"{op} was said not to have run, and has" for op in self.failed() if runs.get(op)]
        for e in self.by_kind["bind"]:
            binds[(e["id"], e["gen"])] += 1
        out += [f"{key}: begun {n} times" for key, n in binds.items() if n > 1]
        last = {}
        for e in sorted(self.by_kind["start"], key=lambda e: e["t"]):
            if e["gen"] < last.get(e["id"], 0):
                out.append(f"{e['id']}: {e['gen']} runs {e['op']} after {last[e['id']]} has begun: two sessions")
            last[e["id"]] = max(e["gen"], last.get(e["id"], 0))
        return out
