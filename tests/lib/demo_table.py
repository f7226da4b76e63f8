"""demo_table FOLDER: what the demo has measured, as a table; exit status 1 when anything was lost."""
import json
import os
import sys


def lines(name):
    with open(os.path.join(sys.argv[1], name)) as f:
        return f.read().splitlines()


def ms(us):
    if us is None:
        return "?"
    return f"{us / 1e6:.2f} s" if us >= 1e6 else f"{us / 1e3:.0f} ms"


def mib(n):
    return "?" if n is None else f"{n / 1048576:.1f} MiB"


def table(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print("  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip())


def longest_gap(report, move):
    """The longest silence any connection saw that overlaps with the move."""
    gaps = [b - a for c in report["connections"] for a, b in c["gaps"]
            if a <= move["ended"] and b >= move["begun"]]
    return max(gaps, default=None)


def main():
    moves = [json.loads(x) for x in lines("moves.json")]
    report = json.loads("\n".join(lines("report.json")))
    before, after = set(lines("before")), set(lines("after"))
    problems = []

    rows = [["move", "total", "pause", "longest client gap", "memory and state", "before it: disk", "the pause consisted of (partly at once)"]]
    for m in moves:
        gap = longest_gap(report, m)
        parts = ", ".join(f"{k} {ms(v)}" for k, v in m.get("pause_parts", {}).items())
        rows.append([f"{m['from']} → {m['to']}", ms(m["total_us"]), ms(m.get("pause_us")),
                     "?" if gap is None else ms(gap * 1e6), mib(m.get("bytes")), ms(m.get("disk1_us")), parts])
    print()
    table(rows)

    conns = report["connections"]
    broken = [c for c in conns if c["errors"] or c.get("opened", 1) != 1]
    for c in broken:
        problems.append(f"connection {c['what']}: opened {c.get('opened')} times, {c['errors'][:2]}")
    if before - after:
        problems.append(f"redis had these connections before and not after: {sorted(before - after)}")
    lost = report["wrong"] + sum(c.get("lost", 0) for c in conns)
    if lost:
        problems.append(f"{lost} keys are not what was written")
    http = next((c for c in conns if c["what"] == "http"), None)
    clock = http["clock"] if http else {}
    back = max((clock[k]["back_ns"] for k in ("monotonic", "boottime") if k in clock), default=None)
    step = max((clock[k]["step_ns"] for k in ("monotonic", "boottime") if k in clock), default=None)
    longest_pause = max((m.get("pause_us") or m["total_us"] for m in moves), default=0)
    if http is None or not clock:
        problems.append("nothing is known of the container's clocks")
    elif back > 0:
        problems.append(f"a clock of the container ran backwards by {back} ns")
    elif step > longest_pause * 1000 + 2e9:
        problems.append(f"a clock of the container jumped by {step / 1e9:.1f} s")
    if http and http["backwards"]:
        problems.append("the counter was set back")

    print()
    table([
        ["connections", f"{len(before)} before, {len(before & after)} of them after; "
                        f"{len(conns) - len(broken)} of {len(conns)} clients never noticed"],
        ["requests", f"{sum(c['answers'] for c in conns):,} answered"],
        ["keys", f"{report['verified']:,} verified, {lost} lost"],
        ["counter", f"{http['counter']:,}, never set back" if http and not http["backwards"] else "?"],
        ["clocks", "never ran backwards; longest step "
                   f"{step / 1e6:.0f} ms" if back == 0 else "?"],
    ])
    for p in problems:
        print(f"PROBLEM: {p}")
    print()
    sys.exit(1 if problems else 0)


main()
