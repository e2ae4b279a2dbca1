#!/usr/bin/env python3
"""The official conformance suite of MCP, both sets of requirements, against /mcp before an echo worker: as it is, and, in
development builds, with the fixture tools that the suite likes to call.

usage: mcp_conformance.py BIN_DIR fixtures|none    77 when the packages cannot be installed"""
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gateway_system import conclude, eq, run_tests  # noqa: E402
from mcp_system import KeyedSystem, proxy  # noqa: E402
from npm_packages import Packages  # noqa: E402

REVISIONS = ("2025-11-25", "2026-07-28")


def expected(revision, fixtures, pool):
    """What may fail: features that a server of tools does not have, a pool without all tools fewer still. Without fixtures
    also what needs them."""
    names = ["expected"] + ([] if fixtures else ["expected-without-fixtures"])
    names += ["expected-standard-tools"] if pool == "python" else []
    return "server:\n" + "".join((HERE / "mcp_conformance" / f"{n}-{revision}.yml").read_text() for n in names)


def conformance(packages, s, revision, fixtures, pool, *broken):
    with proxy(packages, s.url, s.key_of(pool), s.dir / "cert.pem", *broken) as url, \
            tempfile.TemporaryDirectory(prefix="warren-test-") as work:
        file = pathlib.Path(work) / f"{revision}.yml"
        file.write_text(expected(revision, fixtures, pool))
        done = subprocess.run(
            [packages.node, packages.folder / "node_modules/@modelcontextprotocol/conformance/dist/index.js", "server",
             "--url", f"{url}/pools/{pool}/mcp", "--requirements", revision, "--expected-failures", file],
            cwd=work, env=packages.environment(work), capture_output=True, text=True, timeout=240)
    total = [line for line in done.stdout.splitlines() if line.startswith("Total: ")]
    print(revision, *total, flush=True)
    assert len(total) == 1, done.stdout[-6000:] + done.stderr[-2000:]
    return done


def suite(packages, s, fixtures, pool="python"):
    for revision in REVISIONS:
        done = conformance(packages, s, revision, fixtures, pool)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_as_it_is(packages, bin_dir):
    s = KeyedSystem(bin_dir)
    try:
        suite(packages, s, False)
    finally:
        codes = s.stop()
    eq(codes, [0, 0])


def test_with_fixtures(packages, bin_dir, has_fixtures):
    if not has_fixtures:
        try:
            KeyedSystem(bin_dir, more=("mcp_fixtures: true",))
        except AssertionError as e:
            assert "mcp_fixtures" in str(e), e
            return
        raise AssertionError("a build without fixtures took the switch")
    s = KeyedSystem(bin_dir, more=("mcp_fixtures: true",))
    try:
        suite(packages, s, True)
        suite(packages, s, True, pool="more")  # all tools, and resources
    finally:
        codes = s.stop()
    eq(codes, [0, 0])


def test_a_broken_rule_is_noticed(packages, bin_dir):
    """One method less on the way: the suite names it, and nothing else."""
    s = KeyedSystem(bin_dir)
    try:
        done = conformance(packages, s, "2025-11-25", False, "python", "ping")
    finally:
        codes = s.stop()
    eq(codes, [0, 0])
    unexpected = done.stdout.partition("Unexpected failures (not in baseline)")[2]
    eq((done.returncode, re.findall(r"^ +\u2717 (.*)$", unexpected, re.MULTILINE)), (1, ["ping"]))


def main():
    packages = Packages.needed()
    return conclude(run_tests(globals(), packages=packages, bin_dir=sys.argv[1], has_fixtures=sys.argv[2] == "fixtures"))


if __name__ == "__main__":
    sys.exit(main())
