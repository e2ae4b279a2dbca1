"""Judges a history of a cluster: what clients asked and were told and, where it is known, what ran.

The rules are S1, S2, S3, S4 and S8 of tests/sim/check.c as far as they can be seen from outside. The code is another:
those look into the state of simulated nodes, and here there are only events.

Events are dicts; "t" is in ns of one clock for all. A request (id, op) may be asked several times ("try"):
  ask     id op try by t              a client sends it; "if" is the generation in which it may run and in no other: who
                                      names one has been told that earlier sessions are gone, and takes a second run
  answer  id op try by t outcome      "ok", "failed" (it has not run), "unknown"; ok has gen, and with microVMs
                                      instance (made once by each machine) and ops (all that ran there, in order)
  start   id gen op by t              a worker runs it (only of workers without microVMs)
  bind    id gen by t                 a worker begins a session (the same)
Who is killed leaves questions without an answer: their outcome is unknown."""
import collections


def judge(events, starts_known):
    """List of violations, as text; empty when all is well."""
    history = History(events)
    out = history.answers_are_for_questions() + history.generations_go_up() + history.told_truthfully()
    out += history.seen_inside() + history.outcomes_inside() + history.ran_where_they_may()
    return out + (history.seen_at_workers() if starts_known else [])


CLOSED = ("ConnectionResetError", "RemoteDisconnected", "BrokenPipeError")
AT_ONCE_NS = 500 * 10**6


def refused(answer, asked, restarts):
    """Whether nobody has taken the question, because the gateway was being started again: the connection was refused,
    or was an earlier one's, which it had closed meanwhile. A new connection that breaks, or one that breaks later, had
    taken it."""
    begun, ended = restarts.get(answer["by"].partition(".")[0], (0, -1))
    if not begun <= answer["t"] <= ended:
        return False
    closed = answer.get("reused") and answer.get("why") in CLOSED and answer["t"] - asked <= AT_ONCE_NS
    return answer.get("why") == "ConnectionRefusedError" or bool(closed)


def nothing_failed(events, restarts):
    """Of a rolling upgrade: every question was answered with success, but those that a gateway did not take while it was
    started again; restarts has from when to when. And what was asked has an answer."""
    out, done = [], {e["op"] for e in events if e["ev"] == "answer" and e["outcome"] == "ok"}
    asked = {(e["op"], e["try"]): e["t"] for e in events if e["ev"] == "ask"}
    for e in events:
        if e["ev"] == "answer" and e["outcome"] != "ok" and not refused(e, asked.get((e["op"], e["try"]), 0), restarts):
            out.append(f"{e['id']}: {e['op']} failed: {e}")
    return out + [f"{e['id']}: {e['op']} was not answered" for e in events
                  if e["ev"] == "ask" and e["try"] == 0 and e["op"] not in done]


def no_session_lost(events, ended):
    """Of a rolling upgrade: whoever asks again finds the session that was there; but a worker may have ended its own in
    order: ended has which one, from when to when."""
    out, last = [], {}
    bound = {(e["id"], e["gen"]): e["by"].partition(".")[0] for e in events if e["ev"] == "bind"}
    for e in sorted((e for e in events if e["ev"] == "answer" and e["outcome"] == "ok"), key=lambda e: e["t"]):
        gen, t = last.get(e["id"], (e["gen"], e["t"]))
        if e["gen"] != gen and not any(worker == bound.get((e["id"], gen)) and begun < e["t"] and t < to
                                       for worker, begun, to in ended):
            out.append(f"{e['id']}: {e['op']} is answered by {e['gen']}, and {gen} is lost")
        last[e["id"]] = (e["gen"], e["t"])
    return out


class History:
    def __init__(self, events):
        self.by_kind = collections.defaultdict(list)
        for e in events:
            self.by_kind[e["ev"]].append(e)
        self.asks = {(e["op"], e["try"]): e for e in self.by_kind["ask"]}
        self.first, self.named = {}, collections.defaultdict(set)
        for e in self.by_kind["ask"]:
            self.first[e["op"]] = min(e["t"], self.first.get(e["op"], e["t"]))
            if "if" in e:
                self.named[e["op"]].add(e["if"])
        self.oks = [e for e in self.by_kind["answer"] if e["outcome"] == "ok"]
        self.per_id = collections.defaultdict(list)
        for e in self.oks:
            self.per_id[e["id"]].append(e)

    def asked(self, answer):
        """When the operation was asked for the first time: what it is told has run later, by whichever question."""
        return self.first[answer["op"]]

    def again(self, op, generations):
        """Of the generations in which an operation ran those after the first in which it should not have."""
        return [g for g in sorted(generations)[1:] if g not in self.named[op]]

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
        """What is asked after an answer has come is answered by that session or a later one."""
        out = []
        for name, oks in self.per_id.items():
            done, i, best = sorted(oks, key=lambda e: e["t"]), 0, None
            for e in sorted(oks, key=self.asked):
                while i < len(done) and done[i]["t"] < self.asked(e):
                    best = max(best or 0, done[i]["gen"])
                    i += 1
                if best is not None and e["gen"] < best:
                    out.append(f"{name}: generation {e['gen']} answers {e['op']} after {best}: two sessions")
        return out

    def told_truthfully(self):
        """A run has one result, however often it is asked for; and there is one run of an operation, or one more in each
        generation that was named."""
        out, told, where = [], {}, collections.defaultdict(set)
        for e in self.oks:
            what = (e["gen"], e.get("instance"), tuple(e.get("ops", ())))
            where[e["op"]].add(e["gen"])
            if told.setdefault((e["op"], e["gen"]), what) != what:
                out.append(f"{e['id']}: {e['op']} was told two ways: {told[(e['op'], e['gen'])]}, {what}")
        return out + [f"{op} was told two ways: of {sorted(at)}" for op, at in where.items() if self.again(op, at)]

    def ran_where_they_may(self):
        """Who names a generation gets an answer of it or of an earlier one, in which it had run."""
        return [f"{e['id']}: {e['op']} was to run in {ask['if']} and ran in {e['gen']}" for e in self.oks
                for ask in [self.asks[(e["op"], e["try"])]] if e["gen"] > ask.get("if", e["gen"])]

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
            for b in answers:
                lost = [a["op"] for a in answers if a["t"] < self.asked(b) and a["op"] not in b["ops"]]
                out += [f"{instance}: {b['op']} does not find what {op} did" for op in lost]
        return out

    def outcomes_inside(self):
        """Nothing runs twice, in one machine or in two; what was said not to have run has not."""
        out, where, longest, generation = [], collections.defaultdict(set), {}, {}
        for e in self.oks:
            if "instance" in e:
                generation[e["instance"]] = e["gen"]
                at = longest.get(e["instance"], [])
                longest[e["instance"]] = max(at, e["ops"], key=len)
        for instance, ops in longest.items():
            out += [f"{op} ran {n} times in {instance}" for op, n in collections.Counter(ops).items() if n > 1]
            for op in ops:
                where[op].add(instance)
        out += [f"{op} ran in {len(at)} machines" for op, at in where.items()
                if self.again(op, [generation[i] for i in at])]
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
        begun = {}
        for e in sorted(self.by_kind["bind"], key=lambda e: e["t"]):
            binds[(e["id"], e["gen"])] += 1
            if e["gen"] < begun.get(e["id"], 0):
                out.append(f"{e['id']}: {e['gen']} begins after {begun[e['id']]}")
            begun[e["id"]] = max(e["gen"], begun.get(e["id"], 0))
        out += [f"{key}: begun {n} times" for key, n in binds.items() if n > 1]
        last = {}
        for e in sorted(self.by_kind["start"], key=lambda e: e["t"]):
            if e["gen"] < last.get(e["id"], 0):
                out.append(f"{e['id']}: {e['gen']} runs {e['op']} after {last[e['id']]} has begun: two sessions")
            last[e["id"]] = max(e["gen"], last.get(e["id"], 0))
        return out
