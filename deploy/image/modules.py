"""Lays the kernel modules of the guest's initramfs out in load order.

usage: modules.py KERNEL_MODULES_FOLDER OUTPUT_FOLDER NAME...

Copies each named module and what it depends on into OUTPUT_FOLDER and writes OUTPUT_FOLDER/order,
one file name a line; loading them one after the other needs no depmod and no modprobe. A name
that is built into the kernel is left out.
"""

import os
import re
import shutil
import sys


def plain(name):
    return name.replace("-", "_")


def find_modules(folder):
    found = {}
    for path, _, files in os.walk(folder):
        for name in files:
            if name.endswith(".ko"):
                found[plain(name[:-3])] = os.path.join(path, name)
    return found


def find_builtin(folder):
    with open(os.path.join(folder, "modules.builtin"), encoding="ascii") as lines:
        return {plain(os.path.basename(line.strip())[:-3]) for line in lines}


def depends(path):
    with open(path, "rb") as file:
        found = re.findall(rb"\0depends=([^\0]*)\0", file.read())
    if len(found) != 1:
        sys.exit(f"modules: {path}: no single list of dependencies")
    return [plain(name) for name in found[0].decode("ascii").split(",") if name]


def main():
    folder, output, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
    modules, builtin = find_modules(folder), find_builtin(folder)
    order = []

    def add(name):
        name = plain(name)
        if name in order or name in builtin:
            return
        if name not in modules:
            sys.exit(f"modules: this kernel has no module '{name}'")
        for other in depends(modules[name]):
            add(other)
        order.append(name)

    for name in wanted:
        add(name)
    os.makedirs(output)
    for name in order:
        shutil.copyfile(modules[name], os.path.join(output, name + ".ko"))
    with open(os.path.join(output, "order"), "w", encoding="ascii") as file:
        file.writelines(name + ".ko\n" for name in order)


main()
