#!/usr/bin/env python3
"""A release build has no tools for the conformance suite, and cannot be given any."""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def configure(folder, *more):
    return subprocess.run(["cmake", "-S", ROOT, "--preset", "release", "-B", folder, "-DBUILD_TESTING=OFF", *more],
                          capture_output=True, text=True)


def main():
    with tempfile.TemporaryDirectory(prefix="warren-test-release-") as folder:
        done = configure(folder)
        if done.returncode != 0:
            print(done.stderr)
            return 1
        plan = (pathlib.Path(folder) / "build.ninja").read_text()
        if "WARREN_RELEASE" not in plan or "mcp_fixtures" in plan or "WARREN_MCP_FIXTURES" in plan:
            print("the release build compiles gateway/core/mcp_fixtures.c")
            return 1
        done = configure(folder, "-DWARREN_MCP_FIXTURES=ON")
        if done.returncode == 0 or "development builds only" not in done.stderr:
            print("a release build with WARREN_MCP_FIXTURES can be configured")
            return 1
        done = subprocess.run(["cc", "-DWARREN_RELEASE", "-DWARREN_MCP_FIXTURES", "-I", ROOT, "-fsyntax-only",
                               ROOT / "gateway/core/mcp_fixtures.c"], capture_output=True, text=True)
        if done.returncode == 0 or "development builds only" not in done.stderr:
            print("mcp_fixtures.c can be compiled for a release")
            return 1
    return 0


sys.exit(main())
