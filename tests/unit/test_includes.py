#!/usr/bin/env python3
"""Who may include whom: the table of ARCHITECTURE.md, "Folders", against every #include of src/.

The table is read from the page itself, so that it cannot say something else than what is checked."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SRC = os.path.join(ROOT, "src")


def table():
    text = open(os.path.join(ROOT, "ARCHITECTURE.md"), encoding="utf-8").read()
    part = text.split("## Folders and who may include whom", 1)[1].split("\n## ", 1)[0]
    rows = {}
    for line in part.splitlines():
        m = re.match(r"\| (\w+)[^|]*\| ([^|]+) \|$", line)
        if not m or m.group(1) == "room":
            continue
        rows[m.group(1)] = m.group(2)
    return rows


def main():
    rows = table()
    rooms = sorted(d for d in os.listdir(SRC) if os.path.isdir(os.path.join(SRC, d)))
    host = ["job", "http", "db", "storage", "network", "image_store", "runtime", "migrate", "api"]
    bad = []
    for room in rooms:
        if room not in rows:
            bad.append("src/%s: not in the table of ARCHITECTURE.md" % room)
            continue
        words = re.findall(r"[a-z_]+", rows[room])
        allowed = {room} | {r for r in rooms if r in words}
        if "everything" in words:
            allowed |= set(host) | {"base", "sys"}
        for folder, _, files in os.walk(os.path.join(SRC, room)):
            for name in files:
                if not name.endswith((".c", ".h")):
                    continue
                path = os.path.join(folder, name)
                for n, line in enumerate(open(path, encoding="utf-8"), 1):
                    m = re.match(r'\s*#\s*include\s+"([a-z_]+)/', line)
                    if m and m.group(1) in rooms and m.group(1) not in allowed:
                        bad.append("%s:%d: %s may not include %s" %
                                   (os.path.relpath(path, ROOT), n, room, m.group(1)))
    print("1..1")
    for b in bad:
        print("# " + b)
    print("%sok 1 - include matrix (%d rooms)" % ("not " if bad else "", len(rooms)))
    return 1 if bad else 0


sys.exit(main())
