#!/usr/bin/env python3
"""Terminals over WebSockets before real microVMs, by npm's ws (npm/terminal.mjs). Needs root and a guest image; 77
when there are none, or no packages."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import warren_cluster as wc  # noqa: E402
from gateway_system import memory_counts  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402


def main():
    packages = Packages()
    why = wc.why_not() or packages.why
    if why:
        print("skipped:", why)
        return 77
    shell = wc.pool("shell", maximum=4, ready=1)
    shell["properties"]["containerType"] = "Shell"
    cluster = wc.Cluster([shell], templates=os.environ.get("WARREN_TEST_TEMPLATES"))
    try:
        cluster.start()
        pids = [str(cluster.daemon(name)) for name in ("gateway", "worker") if memory_counts(wc.BIN / f"warren-{name}")]
        with packages.scripts(NPM / "terminal.mjs") as folder:
            done = subprocess.run([packages.node, "terminal.mjs", f"{cluster.url}/pools/shell", cluster.token(), *pids],
                                  cwd=folder, env={**os.environ, "NODE_EXTRA_CA_CERTS": cluster.ca_file}, timeout=500)
        if done.returncode != 0:
            print(cluster.logs())
        bad = done.returncode != 0 or cluster.stop() != 0
        left = [] if bad else cluster.left_behind()
        cluster.kill_everything()
        cluster.remove()
        print(*left, sep="\n")
        return bad or bool(left)
    finally:
        cluster.kill_everything()


if __name__ == "__main__":
    sys.exit(main())
