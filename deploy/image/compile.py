"""Compiles every Python file of the guest, run by the guest's own Python.

The root file system is read-only and software emulation makes compiling slow, so the result is
shipped; it is never checked against the source (the source cannot change) and must come out the
same each time. What the marshaller writes depends on what the process did before, so the work is
cut into a fixed number of shares, each done in order by a fresh child.
"""

import os
import py_compile
import sys

SHARES = 4
ROOTS = ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/python3")


def sources():
    found = []
    for root in ROOTS:
        for folder, folders, files in os.walk(root):
            folders.sort()
            found += [os.path.join(folder, name) for name in files if name.endswith(".py")]
    return sorted(found)


def compile_share(share):
    failed = 0
    for path in share:
        try:
            py_compile.compile(
                path,
                doraise=True,
                optimize=0,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            failed += 1  # templates and samples of other Python versions
    return failed


def main():
    everything = sources()
    size = -(-len(everything) // SHARES)
    waiting = [everything[i * size : (i + 1) * size] for i in range(SHARES)]
    running = 0
    broken = 0
    limit = os.cpu_count() or 1
    while waiting or running:
        if waiting and running < limit:
            share = waiting.pop(0)
            if os.fork() == 0:
                os._exit(min(compile_share(share), 255))
            running += 1
            continue
        _, status = os.wait()
        running -= 1
        if not os.WIFEXITED(status):
            sys.exit("compile: a child died")
        broken += os.WEXITSTATUS(status)
    if broken > 20:
        sys.exit(f"compile: {broken} of {len(everything)} files do not compile")
    print(f"compiled {len(everything) - broken} of {len(everything)} files")


main()
