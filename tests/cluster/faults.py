"""Fault schedules, drawn from a seed: what befalls whom, when, and for how long."""
import random
import signal
import time

SPAN_S, LONGEST_S = 10.0, 9.0


def draw(world, seed):
    """A list of (start in s, kind, nodes, for how many s), in order; the same for the same seed."""
    r = random.Random(seed)
    anyone, stores = world.names, world.voters + world.workers
    out = []
    for _ in range(r.randint(2, 5)):
        kind = r.choice(sorted(KINDS))
        who = {"clock_step": world.voters + world.gateways, "full": stores, "reboot": world.workers}.get(kind, anyone)
        two = kind in ("cut", "cut_one_way")
        nodes = r.sample(who, 2) if two else [r.choice(who)]
        length = 0.0 if kind == "clock_step" else r.choice((0.5, 2.0, 4.0, LONGEST_S))
        out.append((round(r.uniform(0, SPAN_S), 2), kind, tuple(nodes), length))
    return sorted(out)


def text(schedule):
    return "; ".join(f"{at:.2f} s {kind} {'-'.join(nodes)} for {length} s" for at, kind, nodes, length in schedule)


class Hands:
    """Carries a schedule out. Overlapping faults of one node are fine: links are set anew from all that hold."""

    def __init__(self, world):
        self.world, self.links, self.stopped, self.held = world, [], [], []

    def run(self, schedule):
        steps = [(at, "begin", i) for i, (at, *_) in enumerate(schedule)]
        steps += [(at + length, "end", i) for i, (at, _, _, length) in enumerate(schedule)]
        begun = time.monotonic()
        for at, what, i in sorted(steps):
            while time.monotonic() < begun + at:
                self.world.mind()
                time.sleep(min(0.02, max(0.0, begun + at - time.monotonic())))
            _, kind, nodes, _ = schedule[i]
            KINDS[kind](self, what == "begin", nodes)
        self.everything_ends()

    def everything_ends(self):
        self.links.clear()
        self.world.lan.heal()
        for n in self.world.names:
            self.world.signal(n, signal.SIGCONT)
            if n in self.world.down:
                self.world.start(n)

    # --- kinds

    def kill(self, begin, nodes):
        self.down(begin, nodes[0], self.world.kill)

    def reboot(self, begin, nodes):
        """The machine: all of its processes, its run directory; its clocks start elsewhere."""
        if begin and nodes[0] not in self.world.down:
            self.world.offset_s[nodes[0]] += 100000
        self.down(begin, nodes[0], self.world.kill_machine)

    def clock_step(self, begin, nodes):
        """Of a voter or gateway: started again at once with other clocks. A worker's would outlive its machine's."""
        if begin and nodes[0] not in self.world.down:
            self.world.offset_s[nodes[0]] += 3600
            self.world.kill(nodes[0])
            self.world.start(nodes[0])

    def down(self, begin, name, kill):
        if begin and name not in self.world.down:
            kill(name)
            self.held.append(name)
        elif not begin and self.held.count(name) == 1:
            self.held.remove(name)
            self.world.start(name)

    def stop(self, begin, nodes):
        if begin:
            self.stopped.append(nodes[0])
        else:
            self.stopped.remove(nodes[0])
        self.world.signal(nodes[0], signal.SIGSTOP if nodes[0] in self.stopped else signal.SIGCONT)

    def full(self, begin, nodes):
        if begin:
            self.world.fill(nodes[0])
        else:
            self.world.empty(nodes[0])

    def set_links(self, begin, rules):
        for rule in rules:
            if begin:
                self.links.append(rule)
            elif rule in self.links:
                self.links.remove(rule)
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

    def others(self, nodes):
        return [n for n in self.world.names if n != nodes[0]]


KINDS = {"kill": Hands.kill, "reboot": Hands.reboot, "clock_step": Hands.clock_step, "stop": Hands.stop,
         "full": Hands.full, "cut": Hands.cut, "cut_one_way": Hands.cut_one_way, "isolate": Hands.isolate,
         "deaf": Hands.deaf, "mute": Hands.mute, "lossy": Hands.lossy}
