#!/usr/bin/env python3
"""Includes are spelled from the repository root, so an include line is the dependency.
This checks every one against the layer table, and bans the outside world from the cores."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

BASE = {"proto/base", "proto"}
SCHED = BASE | {"scheduler/core"}
ALLOW = {  # folder: what it may include
    "proto/base": {"proto/base"},
    "proto/net": BASE | {"proto/net"},
    "proto/yaml": BASE | {"proto/yaml"},
    "proto/pool": BASE | {"proto/pool"},
    "proto/lmdb": BASE | {"proto/lmdb"},
    "proto": BASE,
    "scheduler/core": SCHED,
    "scheduler/wire": SCHED | {"scheduler/wire"},
    "scheduler/io": SCHED | {"scheduler/wire", "scheduler/io", "proto/net", "proto/pool", "proto/yaml", "proto/lmdb"},
    "scheduler": SCHED | {"scheduler/wire", "scheduler/io", "proto/net"},
    "worker/guest": BASE | {"worker/guest"},
    "worker/core": SCHED | {"worker/core"},
    "worker/wire": SCHED | {"worker/core", "worker/wire"},
    "worker/io": SCHED | {"worker/jail", "scheduler/io", "scheduler/wire", "worker/core", "worker/wire", "worker/io", "proto/net", "proto/pool", "proto/yaml", "proto/lmdb"},
    "worker/jail": BASE | {"worker/core", "worker/jail"},
    "worker": SCHED | {"scheduler/io", "scheduler/wire", "worker/core", "worker/wire", "worker/io", "worker/jail", "proto/net", "proto/pool"},
    "gateway/core": SCHED | {"gateway/core"},
    "gateway/wire": SCHED | {"gateway/core", "gateway/wire"},
    "gateway/keys": BASE | {"gateway/keys"},
    "gateway/io": SCHED | {"gateway/keys", "scheduler/io", "scheduler/wire", "gateway/core", "gateway/wire", "gateway/io", "proto/net", "proto/pool"},
    "gateway/cli": BASE | {"gateway/cli", "gateway/keys", "proto/net", "proto/pool", "proto/yaml"},
    "gateway": SCHED | {"gateway/keys", "scheduler/io", "scheduler/wire", "gateway/core", "gateway/wire", "gateway/io", "proto/net", "proto/pool"},
    "tests": {"*"},
    "bench": {"*"},
}
PURE = ("/core", "/wire")
PURE_BAN = re.compile(
    r"<(ev|zmq|lmdb|time|unistd|stdio|stdlib|pthread|fcntl|signal|errno|poll|jansson)\.h>|<(sys|openssl|netinet|arpa)/")


def layer(path):
    parts = path.split("/")
    for n in (2, 1):
        key = "/".join(parts[:n])
        if key in ALLOW and (n == 1 or len(parts) > n):
            return key
    return None


def main():
    bad = 0
    for f in sorted(ROOT.rglob("*.[ch]")):
        rel = f.relative_to(ROOT).as_posix()
        if rel.startswith(("build/", "node_modules/")) or "/node_modules/" in rel:
            continue
        me = layer(rel)
        if me is None:
            print(f"{rel}: C code in a folder the layer table does not know")
            bad += 1
            continue
        for i, line in enumerate(f.read_text().splitlines(), 1):
            if me.endswith(PURE) and line.startswith("#include") and PURE_BAN.search(line):
                print(f"{rel}:{i}: a core may not include {line.split()[1]}")
                bad += 1
            m = re.match(r'#include "([^"]+)"', line)
            if not m or "*" in ALLOW[me]:
                continue
            to = layer(m[1])
            if to is None or to not in ALLOW[me]:
                print(f"{rel}:{i}: {me} may not include {m[1]}")
                bad += 1
    return bad != 0


sys.exit(main())
