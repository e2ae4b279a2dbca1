"""Prints the manifest of an image.

usage: manifest.py FOLDER INPUTS_HASH SCRIPT_HASH KERNEL_VERSION IMAGE_JSON KERNEL_PACKAGE...

FOLDER holds the image's three files. A KERNEL_PACKAGE is name=version=arch. The image's id is the
start of a hash over its files, so it names what is in the folder and nothing else.
"""

import hashlib
import json
import os
import sys

FILES = ("modules.cpio", "rootfs.sqfs", "vmlinuz")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main():
    folder, inputs_hash, script_hash, kernel_version, facts_path = sys.argv[1:6]
    with open(facts_path, encoding="utf-8") as file:
        facts = json.load(file)
    packages = facts.pop("debian_packages")
    for spec in sys.argv[6:]:
        packages.append(dict(zip(("name", "version", "arch"), spec.split("="))))
    sums = {name: sha256(os.path.join(folder, name)) for name in FILES}
    # What "sha256sum modules.cpio rootfs.sqfs vmlinuz | sha256sum" prints.
    lines = "".join(f"{sums[name]}  {name}\n" for name in FILES)
    content = hashlib.sha256(lines.encode("ascii")).hexdigest()
    manifest = {
        "format": 1,
        "id": content[:16],
        "content_hash": content,
        "inputs_hash": inputs_hash,
        "script_hash": script_hash,
        "kernel_version": kernel_version,
        **facts,
        "sha256": sums,
        "sizes": {name: os.path.getsize(os.path.join(folder, name)) for name in FILES},
        "created_from": sorted(packages, key=lambda package: package["name"]),
    }
    print(json.dumps(manifest, indent=1))


main()
