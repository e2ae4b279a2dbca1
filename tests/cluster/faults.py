"""Fault schedules, drawn from a seed: what befalls whom, when, and for how long."""
import random
import signal
import time

SPAN_S, LONGEST_S = 10.0, 9.0


def draw(world, seed, number=None):
    """A list of (start in s, kind, nodes, for how many s), in order; the same for the same seed and number."""
    r = random.Random(seed)
    anyone, stores = world.names, world.voters + world.workers
    out = []
    for _ in range(number or r.randint(2, 5)):
        kind = r.choice(sorted(KINDS))
        who = {"clock_step": world.voters + world.gateways, "full": stores, "reboot": world.workers,
               "voterless": world.workers + world.gateways}.get(kind, anyone)
        number_of = {"cut": 2, "cut_one_way": 2, "split": r.randint(2, len(who) // 2)}.get(kind, 1)
        nodes = r.sample(who, number_of)
        length = 0.0 if kind == "clock_step" else r.choice((0.5, 2.0, 4.0, LONGEST_S))
        out.append((round(r.uniform(0, SPAN_S), 2), kind, tuple(nodes), length))
    return sorted(out)


def text(schedule):
    return "; ".join(f"{at:.2f} s {kind} {'-'.join(nodes)} for {length} s" for at, kind, nodes, length in schedule)


class Hands:
    """Carries a schedule out. Overlapping faults of one node are fine: links are set anew from all that hold. What meets
    a node that is down already has no effect; dropped tells such faults."""

    def __init__(self, world):
        self.world, self.links, self.stopped, self.held, self.filled = world, [], [], [], []
        self.dropped = []

    def run(self, schedule):
        steps = [(at, "begin", i) for i, (at, *_) in enumerate(schedule)]
        steps += [(at + length, "end", i) for i, (at, _, _, length) in enumerate(schedule)]
        begun = time.monotonic()
        for at, what, i in sorted(steps):
            while time.monotonic() < begun + at:
                self.world.mind()
                time.sleep(min(0.02, max(0.0, begun + at - time.monotonic())))
            _, kind, nodes, _ = schedule[i]
            if KINDS[kind](self, what == "begin", nodes) is False:
                self.dropped.append(f"{kind} {'-'.join(nodes)}")
        self.everything_ends()

    def everything_ends(self):
        """All faults have ended by themselves: what is left is a fault of this harness."""
        left = self.links + self.stopped + self.held + self.filled
        if left or self.world.down:
            raise AssertionError(f"faults that have not ended: {left} {self.world.down}")
        self.world.lan.heal()

    # --- kinds; False: without effect

    def kill(self, begin, nodes):
        had = nodes[0] in self.world.down
        if begin and not had:
            self.world.kill(nodes[0])
        self.hold_down(begin, nodes[0])
        return not (begin and had)

    def reboot(self, begin, nodes):
        """The machine: all of its processes, its run directory; its clocks start elsewhere."""
        if begin:
            self.world.offset_s[nodes[0]] += 100000
            self.world.kill_machine(nodes[0])
        self.hold_down(begin, nodes[0])
        return True

    def hold_down(self, begin, name):
        """Until the last of the faults that have it down ends."""
        (self.held.append if begin else self.held.remove)(name)
        if name not in self.held:
            self.world.start(name)

    def clock_step(self, begin, nodes):
        """Of a voter or gateway: started again at once with other clocks. A worker's would outlive its machine's."""
        if begin and nodes[0] in self.world.down:
            return False
        if begin:
            self.world.offset_s[nodes[0]] += 3600
            self.world.kill(nodes[0])
            self.world.start(nodes[0])
        return True

    def stop(self, begin, nodes):
        (self.stopped.append if begin else self.stopped.remove)(nodes[0])
        number = signal.SIGSTOP if nodes[0] in self.stopped else signal.SIGCONT
        return self.world.signal(nodes[0], number) or not begin

    def full(self, begin, nodes):
        (self.filled.append if begin else self.filled.remove)(nodes[0])
        if begin:
            self.world.fill(nodes[0])
        elif nodes[0] not in self.filled:
            self.world.empty(nodes[0])
        return True

    def set_links(self, begin, rules):
        for rule in rules:
            (self.links.append if begin else self.links.remove)(rule)
            holds = [k for k in self.links if k[:2] == rule[:2]]
            loss, delay = max((k[2] for k in holds), default=0), max((k[3] for k in holds), default=0)
            self.world.lan.link(rule[0], rule[1], loss, delay)

    def cut(self, begin, nodes):
        a, b = nodes
        self.set_links(begin, [(a, b, 100, 0), (b, a, 100, 0)])

    def cut_one_way(self, begin, nodes):
        self.set_links(begin, [(nodes[0], nodes[1], 100, 0)])

    def isolate(self, begin, nodes):
        self.set_links(begin, [r for n in self.others(nodes) for r in ((n, nodes[0], 100, 0), (nodes[0], n, 100, 0))])

    def deaf(self, begin, nodes):
        self.set_links(begin, [(n, nodes[0], 100, 0) for n in self.others(nodes)])

    def mute(self, begin, nodes):
        self.set_links(begin, [(nodes[0], n, 100, 0) for n in self.others(nodes)])

    def lossy(self, begin, nodes):
        """20 % of all frames from and to it are lost, the others are 30 ms late."""
        self.set_links(begin, [r for n in self.others(nodes) for r in ((n, nodes[0], 20, 30), (nodes[0], n, 20, 30))])

    def voterless(self, begin, nodes):
        """Clients and workers still reach each other: nothing but the lease keeps its sessions from running on."""
        self.set_links(begin, [r for v in self.world.voters for r in ((v, nodes[0], 100, 0), (nodes[0], v, 100, 0))])

    def split(self, begin, nodes):
        """These, and all others."""
        rest = [n for n in self.world.names if n not in nodes]
        self.set_links(begin, [r for a in nodes for b in rest for r in ((a, b, 100, 0), (b, a, 100, 0))])

    def others(self, nodes):
        return [n for n in self.world.names if n != nodes[0]]


KINDS = {"kill": Hands.kill, "reboot": Hands.reboot, "clock_step": Hands.clock_step, "stop": Hands.stop,
         "full": Hands.full, "cut": Hands.cut, "cut_one_way": Hands.cut_one_way, "isolate": Hands.isolate,
         "deaf": Hands.deaf, "mute": Hands.mute, "lossy": Hands.lossy, "voterless": Hands.voterless, "split": Hands.split}
