"""A folder of images as crit sees it: every .img is decoded, shown, and encoded to the same bytes; `crit x` knows
all processes.  crit_check.py DIR (run by Debian's python3, which has pycriu)"""
import contextlib
import io
import os
import sys

import pycriu
from pycriu import cli


def image(path):
    data = open(path, "rb").read()
    f = io.BytesIO(data)
    img = pycriu.images.load(f)
    assert f.read() == b"", "not read to its end"
    pycriu.images.loads(data, pretty=True)
    out = io.BytesIO()
    pycriu.images.dump(img, out)
    assert out.getvalue() == data, "encoded again it is another file"
    return img["entries"] if img["magic"] != "PAGEMAP" else []


def explore(folder, what):
    cli.files_img = None
    cli.files_cache.clear()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.explore({"dir": folder, "what": what})
    return out.getvalue()


def main(folder):
    sizes = other = pages = 0
    failed = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith("pages-"):
            assert os.path.getsize(path) % 4096 == 0, name
            pages += os.path.getsize(path) // 4096
            continue
        sizes += os.path.getsize(path)
        if not name.endswith(".img"):
            other += os.path.getsize(path)
            continue
        try:
            image(path)
        except Exception as e:
            failed += 1
            print(f"{name}: {type(e).__name__}: {e}")
    stats = os.path.join(folder, "stats-dump")
    if os.path.exists(stats) and not os.path.exists(os.path.join(folder, "memfd.img")):
        said = image(stats)[0]["dump"]
        if said["pages_written"] + said["shpages_written"] != pages:
            failed += 1
            print(f"stats-dump says {said['pages_written']} and {said['shpages_written']} pages, there are {pages}")
    tree = image(os.path.join(folder, "pstree.img"))
    pids = {p["pid"] for p in tree}
    dead = {p for p in pids if not os.path.exists(os.path.join(folder, f"mm-{p}.img"))}
    for what in ["ps"] if dead else ["ps", "fds", "mems", "rss"]:
        try:
            text = explore(folder, what)
        except Exception as e:
            failed += 1
            print(f"crit x {what}: {type(e).__name__}: {e}")
            continue
        seen = {int(line.split()[0]) for line in text.splitlines()
                if line and (what == "ps" or not line.startswith("\t")) and line.split()[0].isdigit()}
        if not pids <= seen:
            failed += 1
            print(f"crit x {what}: does not show {sorted(pids - seen)}")
    print(f"# {len(pids)} processes in {sizes} bytes beside pages, {other} of them ours")
    return 1 if failed else 0


sys.exit(main(sys.argv[1]))
