#!/usr/bin/python3
"""Looks for what a test run left behind: processes, mounts, namespaces, sockets, cgroups, files.

A thing counts as ours when it carries the mark (environment of a process) or lies below the folder.
Prints every finding; exit code 1 when there is one."""
import argparse
import os
import pathlib
import sys


def read(path, default=b""):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return default


def kib(pid, field):
    """A size of /proc/PID/status in KiB: VmRSS, VmHWM (its peak) and so on; 0 when it is gone."""
    for line in read(f"/proc/{pid}/status").decode().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def links(folder):
    try:
        for name in os.listdir(folder):
            try:
                yield os.readlink(f"{folder}/{name}")
            except OSError:
                continue
    except OSError:
        return


def below(path, folder):
    return path == folder or path.startswith(folder + "/")


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on; none when it is gone."""
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def own_line():
    """This process and its parents: they carry the mark by right."""
    pids, pid = set(), os.getpid()
    while pid > 0:
        pids.add(pid)
        fields = stat_fields(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0
    return pids


def is_ours(pid, mark, folder):
    if mark and mark.encode() in read(f"/proc/{pid}/environ"):
        return "mark in its environment"
    if folder:
        if folder.encode() in read(f"/proc/{pid}/cmdline"):
            return "folder in its command line"
        for what in ("cwd", "root", "exe"):
            try:
                if below(os.readlink(f"/proc/{pid}/{what}"), folder):
                    return f"its {what} is in the folder"
            except OSError:
                continue
        if any(below(link, folder) for link in links(f"/proc/{pid}/fd")):
            return "has a file of the folder open"
    return None


def processes(mark, folder):
    """(pid, why, command line) of every process of ours but this one and its parents."""
    found = []
    line = own_line()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in line:
            continue
        why = is_ours(int(name), mark, folder)
        if why is None or stat_fields(name)[:1] == [b"Z"]:
            continue
        cmd = read(f"/proc/{name}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
        found.append((int(name), why, cmd[:200] or read(f"/proc/{name}/comm").decode().strip()))
    return found


def mounts(folder):
    lines = read("/proc/self/mountinfo").decode(errors="replace").splitlines()
    points = (line.split()[4].replace("\\040", " ") for line in lines)
    return [p for p in points if below(p, folder)] if folder else []


def net_namespaces(folder):
    """Named namespaces are bind mounts; they live without a process."""
    lines = read("/proc/self/mountinfo").decode(errors="replace").splitlines()
    return [line for line in lines if " - nsfs " in line and folder and folder in line]


def sockets(folder):
    lines = read("/proc/net/unix").decode(errors="replace").splitlines()[1:]
    paths = (line.split(None, 7)[7] for line in lines if len(line.split(None, 7)) == 8)
    return [p for p in paths if folder and below(p.lstrip("@"), folder)]


def cgroups(mark, folder):
    words = [w for w in (mark, pathlib.Path(folder).name if folder else None) if w]
    found = []
    for path, _, _ in os.walk("/sys/fs/cgroup"):
        if any(w in path for w in words):
            found.append(path)
    return found


def files(folder):
    if not folder or not os.path.isdir(folder):
        return []
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def shared_memory(mark):
    return [f"/dev/shm/{n}" for n in os.listdir("/dev/shm") if mark and mark in n]


def findings(mark, folder):
    """Everything that is left, as lines for people."""
    out = [f"process {pid} ({why}): {cmd}" for pid, why, cmd in processes(mark, folder)]
    out += [f"mount {m}" for m in mounts(folder)]
    out += [f"namespace {n}" for n in net_namespaces(folder)]
    out += [f"socket {s}" for s in sockets(folder)]
    out += [f"cgroup {c}" for c in cgroups(mark, folder)]
    out += [f"file {f}" for f in files(folder)]
    out += [f"shared memory {s}" for s in shared_memory(mark)]
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--mark", help="text that every process of the run has in its environment")
    p.add_argument("--folder", help="folder that the run wrote to; must be empty or gone")
    a = p.parse_args()
    folder = os.path.realpath(a.folder) if a.folder else None
    out = findings(a.mark, folder)
    for line in out:
        print("left behind:", line)
    print(f"leak check: {len(out)} findings" if out else
          "leak check: no process, mount, namespace, socket, cgroup or file left")
    return bool(out)


if __name__ == "__main__":
    sys.exit(main())
