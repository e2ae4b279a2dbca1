#!/usr/bin/env python3
"""The official MCP clients from npm, of both eras, against /mcp with a key, before an echo worker.

usage: mcp_sdk.py BIN_DIR    77 when the packages cannot be installed"""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import eq  # noqa: E402
from mcp_system import KeyedSystem  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402


def main():
    packages = Packages.needed()
    s = KeyedSystem(sys.argv[1])
    try:
        with packages.scripts(NPM / "mcp_sdk.mjs") as folder:
            done = subprocess.run([packages.node, "mcp_sdk.mjs", f"{s.url}/pools/python/mcp", s.key], cwd=folder, timeout=120,
                                  env={**packages.environment(folder), "NODE_EXTRA_CA_CERTS": str(s.dir / "cert.pem")})
        eq(done.returncode, 0)
        for _ in range(3):  # each of the clients gave up one call; the worker was told to stop each
            eq(s.workers[0].process.stdout.readline(), "cancelled running\n")
    finally:
        codes = s.stop()
    eq(codes, [0, 0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
