#!/usr/bin/env python3
"""Runs every breakage of swim_mutants.txt and prints who found it: a unit case, or a seed of the
membership simulator. usage: swim_mutants.py UNIT SIM LIST [N...]. Exit 1 when one survives."""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

unit, sim, listing = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
only = set(sys.argv[4:])


def call(mutant, *command):
    env = dict(os.environ, SCHED_MUTANT=mutant)
    try:
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    except subprocess.TimeoutExpired:
        return None


def run(line):
    number, how, which, what = line.split(None, 3)
    if how == "unit":
        good = call("0", unit, which)
        out = call(number, unit, which)
        if good is None or good.returncode != 0:
            return number, what, None, f"{which} fails without the breakage"
        if out is None or out.returncode == 0:
            return number, what, None, which
        return number, what, re.sub(r"^.*/", "", out.stderr.strip() or "signal"), which
    out = call(number, sim, "--quiet", "--seeds", which)
    found = out and re.search(r"^(BROKEN.*seed (\d+))$", out.stdout, re.M)
    return number, what, found and found[1], f"seed {found[2]}" if found else f"seeds {which}"


def main():
    lines = [x for x in listing.read_text().splitlines()
             if x and not x.startswith("#") and (not only or x.split()[0] in only)]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for number, what, found, by in pool.map(run, lines):
            print(f"{number:>3}  {what:<56.56}  {by:<60.60}  {found or 'SURVIVED'}")
            bad += not found
    print(f"{len(lines)} breakages, {bad} survived")
    return bad != 0


sys.exit(main())
