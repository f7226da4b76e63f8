"""Counts the results of tests that speak TAP: prints "passed failed skipped".

  tap_count.py tap LOG EXITCODE FAILED      the output of one program
  tap_count.py meson TESTLOG_JSON FAILED    what `meson test` wrote
  tap_count.py failed TESTLOG_JSON          the names of the tests that failed, for another try
  tap_count.py merge FIRST SECOND           FIRST with the results of SECOND in place of its own
Names of what failed are written to the file FAILED.  A plan that was not kept, a program that died, and
no test at all are failures; so are skips where CI=true."""
import json
import os
import re
import sys

LINE = re.compile(r"^(not )?ok\b\s*(\d*)\s*(?:-\s*)?(.*?)(?:#\s*(skip|todo)\b(.*))?$", re.I)


def count_tap(text, code, name, failures):
    passed = failed = skipped = 0
    planned = None
    for line in text.splitlines():
        plan = re.match(r"^1\.\.(\d+)", line)
        if plan:
            planned = (planned or 0) + int(plan.group(1))
            continue
        m = LINE.match(line)
        if not m:
            continue
        if (m.group(4) or "").lower() == "skip":
            skipped += 1
            if os.environ.get("CI") == "true":
                failed += 1
                failures.append(f"not ok - {name}: skipped: {m.group(3).strip()}{m.group(5) or ''}")
        elif m.group(1):
            failed += 1
            failures.append(f"not ok - {name}: {m.group(3).strip()}")
        else:
            passed += 1
    seen = passed + failed + (skipped if os.environ.get("CI") != "true" else 0)
    if planned is None or planned != seen:
        failed += 1
        failures.append(f"not ok - {name}: planned {planned}, ran {seen}")
    elif code != 0 and failed == 0:
        failed += 1
        failures.append(f"not ok - {name}: exit status {code}")
    return passed, failed, skipped


def bare(name):
    return name.split(" / ")[-1]


def records(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def retry(words):
    if words[0] == "failed":
        for t in records(words[1]):
            if t["result"] not in ("OK", "EXPECTEDFAIL", "SKIP"):
                print(bare(t["name"]))
        return
    again = {bare(t["name"]): t for t in records(words[2])}
    for t in records(words[1]):
        print(json.dumps(again.get(bare(t["name"]), t)))


def main():
    if sys.argv[1] in ("failed", "merge"):
        retry(sys.argv[1:])
        return
    failures = []
    total = [0, 0, 0]
    if sys.argv[1] == "tap":
        log, code, out = sys.argv[2], int(sys.argv[3]), sys.argv[4]
        with open(log, errors="replace") as f:
            text = f.read()
        name = os.path.basename(log).rsplit(".", 1)[0]
        total = list(count_tap(text, code, name, failures))
    else:
        out = sys.argv[3]
        with open(sys.argv[2]) as f:
            for line in f:
                t = json.loads(line)
                ok = t["result"] in ("OK", "EXPECTEDFAIL")
                text = t.get("stdout", "")
                if re.search(r"^1\.\.\d+", text, re.M):
                    got = count_tap(text, 0 if ok else 1, t["name"], failures)
                elif t["result"] == "SKIP":
                    ci = os.environ.get("CI") == "true"
                    got = (0, 1 if ci else 0, 1)
                    if ci:
                        failures.append(f"not ok - {t['name']}: skipped")
                else:
                    got = (1, 0, 0) if ok else (0, 1, 0)
                    if not ok:
                        failures.append(f"not ok - {t['name']}: {t['result']}")
                total = [a + b for a, b in zip(total, got)]
        if sum(total) == 0:
            total[1] = 1
            failures.append("not ok - meson test: nothing ran")
    with open(out, "w") as f:
        f.write("".join(x + "\n" for x in failures))
    print(*total)


main()
