#!/usr/bin/env python3
"""The official MCP clients from npm, of both eras, against /mcp before an echo worker.

usage: mcp_sdk.py BIN_DIR PACKAGES_DIR    77 when the packages cannot be installed"""
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gateway_system import System, eq  # noqa: E402


def install(folder):
    """None, or why there are no packages."""
    if shutil.which("npm") is None:
        return "npm is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "mcp_sdk.mjs"):
        shutil.copy(HERE / "npm" / name, folder / name)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefer-offline"], cwd=folder,
                          capture_output=True, text=True, timeout=240)
    return None if done.returncode == 0 else "npm install: " + done.stderr.strip()[-300:]


def main():
    folder = pathlib.Path(sys.argv[2])
    why = install(folder)
    if why is not None:
        print("skipped:", why)
        return 77
    s = System(sys.argv[1])
    try:
        done = subprocess.run(["node", "mcp_sdk.mjs", f"{s.url}/pools/python/mcp"], cwd=folder, timeout=120)
        eq(done.returncode, 0)
        for _ in range(3):  # each of the clients gave up one call; the worker was told to stop each
            eq(s.workers[0].process.stdout.readline(), "cancelled running\n")
    finally:
        codes = s.stop()
    eq(codes, [0, 0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
