"""Prints, as JSON, what is installed in the guest; run by the guest's own Python."""

import importlib.metadata
import json
import platform
import subprocess


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def python_packages():
    seen = {}
    for dist in importlib.metadata.distributions():
        name = dist.metadata["Name"]
        if name:
            seen.setdefault(name, dist.version)
    return [{"name": name, "version": seen[name]} for name in sorted(seen, key=str.lower)]


def debian_packages():
    lines = output("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\n")
    keys = ("name", "version", "arch")
    return [dict(zip(keys, line.split())) for line in sorted(lines.splitlines())]


print(
    json.dumps(
        {
            "python_version": platform.python_version(),
            "node_version": output("node", "--version").strip().lstrip("v"),
            "ipython_version": importlib.metadata.version("ipython"),
            "python_packages": python_packages(),
            "debian_packages": debian_packages(),
        },
        indent=1,
    )
)
