#!/usr/bin/env python3
"""Runs every breakage of mutants.txt in the simulator and prints who found it.
usage: mutants.py SIM_MUTANTS FOLDER [N...]. Exit 1 when one survives or is marked open, and when a
breakage in the sources of the cores is not in the list."""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

sim, folder = sys.argv[1], pathlib.Path(sys.argv[2])
only = set(sys.argv[3:])


def run(line):
    number, how, rest = line.split(None, 2)
    if how == "open":
        _, what = rest.split(None, 1)
        return number, what, None, "OPEN"
    if how in ("seeds", "dense", "pool", "pools", "catalog", "catdense"):
        span, what = rest.split(None, 1)
        args = ["--seeds", span] + ["--fault-ms", "1500"] * how.endswith("dense") + ["--pool", "1"] * (how == "pool") + ["--pools", "3"] * (how == "pools")
        args += ["--catalog", "1"] * how.startswith("cat")
    else:
        what = rest
        args = ["--schedule", str(folder / how)]
        good = subprocess.run([sim, *args], capture_output=True, text=True)
        if good.returncode != 0:
            return number, what, None, f"{how} fails without the breakage: {good.stdout}"
    out = subprocess.run([sim, "--mutant", number, "--expect-bad", *args],
                         capture_output=True, text=True)
    found = re.search(r"seed (\d+): ([\d.]+) s: (.*)", out.stdout)
    by = f"seed {found[1]}" if found and "/" not in how else how
    return number, what, found and found[3], by


def unlisted(lines):
    """Breakages that nobody has to find: 1 to 99 are in the cores that this simulator runs."""
    root = folder.parents[1]
    there = {n for f in [*root.glob("scheduler/core/*.c"), *root.glob("worker/core/*.c")] for n in re.findall(r"MUTANT\((\d{1,2})\)", f.read_text())}
    missing = there ^ {x.split()[0] for x in lines}
    for n in sorted(missing, key=int):
        print(f"{n:>3}  is in only one of the sources and mutants.txt")
    return len(missing)


def main():
    lines = [x for x in (folder / "mutants.txt").read_text().splitlines()
             if x and not x.startswith("#") and (not only or x.split()[0] in only)]
    bad = unlisted(lines) if not only else 0
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for number, what, found, by in pool.map(run, lines):
            print(f"{number:>3}  {what:<62.62}  {by.split('/')[-1]:<28}  {found or 'SURVIVED'}")
            bad += not found
    print(f"{len(lines)} breakages, {bad} not found")
    return bad != 0


sys.exit(main())
