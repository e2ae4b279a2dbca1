#!/usr/bin/env python3
"""House limits: function 70 lines and 6 parameters, .c 800 lines, .h 250, 100 columns."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FUNC_MAX, PARAM_MAX, C_MAX, H_MAX, COL_MAX = 70, 6, 800, 250, 100
FOLDERS = ("proto", "scheduler", "worker", "gateway", "tests", "bench")


def params(head):
    inner = head[head.index("(") + 1:head.rindex(")")]
    depth, n = 0, 1
    for ch in inner:
        depth += ch == "("
        depth -= ch == ")"
        n += ch == "," and depth == 0
    return 0 if inner.strip() in ("", "void") else n


def check(path, rel, say):
    lines = path.read_text().splitlines()
    limit = C_MAX if rel.endswith(".c") else H_MAX
    if len(lines) > limit:
        say(f"{rel}: {len(lines)} lines, at most {limit}")
    for i, line in enumerate(lines, 1):
        if len(line) > COL_MAX:
            say(f"{rel}:{i}: {len(line)} columns, at most {COL_MAX}")
    # Linux braces: a function body opens with a brace alone in column one.
    for i, line in enumerate(lines):
        if line != "{":
            continue
        k = i - 1
        while k > 0 and lines[k].startswith((" ", "\t")):
            k -= 1
        head = " ".join(lines[k:i])
        if "(" not in head or head.startswith(("struct", "enum", "union")) and ")" not in head:
            continue
        try:
            end = lines.index("}", i)
        except ValueError:
            continue
        name = re.search(r"(\w+)\s*\(", head)
        label = name[1] if name else head
        if end - i - 1 > FUNC_MAX:
            say(f"{rel}:{i + 1}: {label}: {end - i - 1} lines, at most {FUNC_MAX}")
        given = k > 0 and "NOLINTNEXTLINE(readability-function-size)" in lines[k - 1]  # a library's callback
        if not label.isupper() and not given and params(head) > PARAM_MAX:
            say(f"{rel}:{i + 1}: {label}: {params(head)} parameters, at most {PARAM_MAX}")


def main():
    bad = []
    for folder in FOLDERS:
        for f in sorted((ROOT / folder).rglob("*.[ch]")):
            if "node_modules" not in f.parts:
                check(f, f.relative_to(ROOT).as_posix(), bad.append)
    print("\n".join(bad))
    return bool(bad)


sys.exit(main())
