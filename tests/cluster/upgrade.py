"""A rolling upgrade: every node of a cluster under load is stopped in order and started again, one after the other.
With WARREN_OLD_BIN_DIR they run that build until then, and the cluster's version of messages rises when the last is replaced."""
import random
import time

import check
from world import now_ns


def play(world, seed, told):
    told["stage"] = "start"
    world.begin()
    world.load()
    world.until("requests succeed", lambda: world.answered() > world.warm, 120)
    order = list(world.names)
    random.Random(seed).shuffle(order)
    print(f"  {seed}: {' '.join(order)}", flush=True)
    restarts = {}
    for name in order:
        told["stage"], begun = f"upgrade of {name}", now_ns()
        told["bad"] += restart(world, name)
        restarts[name] = (begun, now_ns())
        told["counts"]["restarts"] += 1
    begun = time.monotonic()
    world.until("settled at the end", world.settled, 60)
    told["settled s"], told["stage"] = round(time.monotonic() - begun, 1), "end"
    world.until("the version of the messages is that of this build", world.up_to_date, 60)
    told["bad"] += world.finish() + world.left_over()
    told["bad"] += check.nothing_failed(world.history(), restarts) + check.no_session_lost(world.history(), world.ended)


def restart(world, name):
    """Returns when it serves again; what went wrong, as lines."""
    bad = world.take_out(name) if name in world.workers else world.end([name])
    world.upgraded.add(name)
    world.start(name)
    if name in world.workers:
        world.bring_back(name)
    world.until(f"settled after {name}", world.settled, 60)
    if name in world.gateways:
        world.until(f"{name} answers again", lambda: world.served_by(name), 60)
    return bad
