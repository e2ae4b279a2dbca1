#!/usr/bin/python3
"""Clients of one gateway: swarm.py GATEWAY PORT JOURNAL SEED IDENTIFIERS TURN_S

All identifiers are others every TURN_S seconds, at all gateways at a time (0: never).

Some threads ask for random identifiers until SIGTERM and then end what is under way. Every request has an operation id,
and the code says what its machine remembers of all before it. What has no certain outcome is asked for again under the
same id; who is told a generation then says with x-warren-if-generation that it knows that the session before is gone. Each question and answer is a line of JSON as check.py wants it, with the times of CLOCK_BOOTTIME; what no
client should ever see is an event "odd"."""
import http.client
import itertools
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
import warren_cluster as wc  # noqa: E402

THREADS, TRIES, TIMEOUT_S = 3, 6, 40
CODE = """import json, os
try:
    told
except NameError:
    told, me = [], os.urandom(8).hex()
told.append({op!r})
with open('/mnt/data/told', 'a') as f:
    f.write({op!r} + '\\n')
print(json.dumps([me, told, open('/mnt/data/told').read().split()]))
"""
LOST = 410  # the session that was named is gone, and nothing has run
DONE, TOLD, LOST_CONNECTION = range(3)
NOT_RUN, UNKNOWN = (429, 503, LOST), (502, 504)


def names(n):
    return [f"swarm-{i:04}" for i in range(n)]


class Swarm:
    def __init__(self, gateway, port, journal, seed, identifiers, turn_s):
        self.gateway, self.port, self.seed, self.turn_s = gateway, port, seed, turn_s
        self.identifiers = names(identifiers)
        self.file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stopping, self.failed = threading.Event(), False

    def note(self, **event):
        event.update(by=self.gateway, t=time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        os.write(self.file, json.dumps(event).encode() + b"\n")

    def ask(self, client, name, op, number, generation):
        """One question; how it ended, and the generation to name the next time."""
        who = {"id": name, "op": op, "try": number}
        self.note(ev="ask", **who, **({"if": generation} if generation else {}))
        reused = client.connection is not None
        try:
            answer = client.execute(name, CODE.format(op=op), operation=op, generation=generation)
        except (OSError, http.client.HTTPException) as e:
            self.note(ev="answer", outcome="unknown", why=type(e).__name__, reused=reused, **who)
            return LOST_CONNECTION if isinstance(e, ConnectionError) else TOLD, generation
        if answer.status in NOT_RUN + UNKNOWN:
            outcome = "failed" if answer.status in NOT_RUN else "unknown"
            self.note(ev="answer", outcome=outcome, why=f"{answer.status} {answer.code()}", **who)
            return TOLD, self.known(answer, generation)
        try:
            me, told, file = json.loads(answer.json["result"]["stdout"])
            if told != file:
                self.note(ev="odd", text=f"variables and files differ: {told} {file}", **who)
            self.note(ev="answer", outcome="ok", gen=int(answer.headers["x-warren-generation"]), instance=me, ops=told,
                      **who)
        except (ValueError, KeyError, TypeError) as e:
            self.note(ev="odd", text=f"{e!r}: {answer!r}", **who)
            self.note(ev="answer", outcome="unknown", **who)
        return DONE, None

    def known(self, answer, generation):
        """The generation that a client may name after this answer."""
        if answer.status == LOST:
            return None
        return int(answer.headers.get("x-warren-generation") or generation or 0) if answer.status == 502 else generation

    def one(self, client, r, name, op):
        """Until it has succeeded, or was answered otherwise often enough: a connection that fails is not counted."""
        generation, answers = None, 0
        for number in itertools.count():
            end, generation = self.ask(client, name, op, number, generation)
            answers += end == TOLD
            if end == DONE or answers == TRIES or self.stopping.wait(r.uniform(0.1, 0.5)):
                return

    def choose(self, r):
        name = r.choice(self.identifiers)
        return f"{name}-{int(time.clock_gettime(time.CLOCK_BOOTTIME) / self.turn_s)}" if self.turn_s else name

    def thread(self, i):
        r = random.Random(f"{self.seed} {self.gateway} {i}")
        client = wc.Client(f"http://127.0.0.1:{self.port}", timeout_s=TIMEOUT_S)
        n = 0
        while not self.stopping.is_set():
            name, n = self.choose(r), n + 1
            self.one(client, r, name, f"{self.gateway}-{i}-{n}")
            self.stopping.wait(r.uniform(0.05, 0.3))
        client.close()

    def guarded(self, i):
        """A client that fails ends all: who looks after this process must hear of it."""
        try:
            self.thread(i)
        except BaseException:
            self.note(ev="odd", text=traceback.format_exc())
            traceback.print_exc()
            self.failed = True
            self.stopping.set()

    def run(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        threads = [threading.Thread(target=self.guarded, args=(i,)) for i in range(THREADS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return 1 if self.failed else 0


if __name__ == "__main__":
    sys.exit(Swarm(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]),
                   int(sys.argv[6])).run())
