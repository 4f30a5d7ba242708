"""The gate over the project's life: neighbours among commits spread over it, and which commit made what slower.

Writes asv_bench/results/gate-history.json:

- machine, date (ISO 8601, of the last step measured), command, limit (a fraction), cases (names in order);
- commits: [{hash, short, date, subject}], oldest first;
- steps, oldest first: {base, head (full hashes), subject, date (of head), commits (how many the step spans),
  cases: {name: {ratio (head's time / base's), rounds}}, regressions: [{case, ratio, commit, short, subject}],
  improvements: likewise, skipped: [{case, why}], note ("" or why the step could not be measured)}.

After all steps are measured, each that spans several commits and made something slower is halved until the commit that
did it is found: `ratio` is then that commit's own, and `commits` in the entry says how many remain (1: found).
"""

import datetime
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import gate_build
from gate_build import Refused
from gate_compare import compare
from measure import cpu_name

RESULTS = Path(__file__).parent / "results" / "gate-history.json"
MATTERS = ("csrc", "src/convgrad/_native", "src/convgrad/functional", "setup.py")


def life(repo):
    """Hashes of the first-parent history that can change how fast a call is, oldest first."""
    lines = gate_build.git(repo, "log", "--first-parent", "--reverse", "--format=%H", "--", *MATTERS).split()
    if len(lines) < 2:
        raise Refused(
            f"the history holds {len(lines)} commit(s) that touch {', '.join(MATTERS)}; at least 2 are needed"
        )
    return lines


def spread(items, n):
    """`n` of `items` at even distances, the first and the last among them; all where there are no more than `n`."""
    if n >= len(items):
        return list(items)
    return [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)]


def between(items, first, last):
    """Items after `first` up to and without `last`."""
    return items[items.index(first) + 1 : items.index(last)]


def measure_step(repo, base, head, options, compare=compare):
    """One entry of `steps`, without its narrowing."""
    step = {"base": base.hash, "head": head.hash, "subject": head.subject, "date": head.date, "commits": 1}
    step |= {"cases": {}, "regressions": [], "improvements": [], "skipped": [], "note": ""}
    try:
        rows = compare(repo, base, head, options)
    except Refused as error:
        step["note"] = str(error)
        return step
    for row in rows:
        if row.skipped or row.failed:
            step["skipped"].append({"case": row.case, "why": row.skipped or row.failed})
            continue
        step["cases"][row.case] = {"ratio": round(row.ratio, 4), "rounds": row.rounds}
        entry = {"case": row.case, "ratio": round(row.ratio, 4), "commit": head.hash, "short": head.short}
        entry |= {"subject": head.subject, "commits": 1}
        if row.slower:
            step["regressions"].append(entry)
        elif row.ratio < 1 - options.limit:
            step["improvements"].append(entry)
    return step


def narrowed(repo, entry, base, head, inner, options, compare=compare):
    """The entry of a regression with the commit that made it, by halving the commits between `base` and `head`.

    `inner` lists the hashes strictly between. Where a half cannot be built, or no half alone is beyond the limit, what
    remains is named: `commits` says how many commits that is.
    """
    entry = {**entry, "commit": head.hash, "short": head.short, "subject": head.subject, "commits": len(inner) + 1}
    if not inner:
        return entry
    only = replace(options, cases=[case for case in options.cases if case.name == entry["case"]], instructions="off")
    middle = gate_build.resolve(repo, inner[len(inner) // 2])
    before, after = inner[: len(inner) // 2], inner[len(inner) // 2 + 1 :]
    found = []
    for first, last, rest in ((base, middle, before), (middle, head, after)):
        try:
            (row,) = compare(repo, first, last, only)
        except Refused as error:
            options.say(f"  not narrowed further: {error}")
            return entry
        if row.slower:
            found.append((row.ratio, first, last, rest))
    if not found:
        return entry
    ratio, first, last, rest = max(found, key=lambda item: item[0])
    return narrowed(repo, {**entry, "ratio": round(ratio, 4)}, first, last, rest, options, compare)


def history(repo, n, options, write, path=RESULTS, compare=compare):
    """Measure the steps between `n` commits of `repo`, writing `path` after each; steps already there are kept.

    Returns the exit status, 0: what it finds is for the page, not for a verdict.
    """
    options.instructions = "off"
    every = life(repo)
    chosen, kept = spread(every, n), {}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = {(step["base"], step["head"]): step for step in before["steps"]}
        stored = [commit["hash"] for commit in before["commits"]]
        if len(stored) >= n and set(stored) <= set(every):  # go on with it: its commits, and the newest
            chosen = list(dict.fromkeys([*stored, every[-1]]))
    commits = [gate_build.resolve(repo, item) for item in chosen]
    content = {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores",
        "date": "",
        "command": f"python asv_bench/gate.py --history {n}",
        "limit": options.limit,
        "cases": [case.name for case in options.cases],
        "commits": [{"hash": c.hash, "short": c.short, "date": c.date, "subject": c.subject} for c in commits],
        "steps": [],
    }
    known = {commit.hash: commit for commit in commits}
    base = commits[0]
    for head in commits[1:]:
        step = kept.get((base.hash, head.hash))
        if step is None:
            options.say(f"{base.short} .. {head.short}  {head.subject}")
            sys.stdout.flush()
            step = measure_step(repo, base, head, options, compare)
            step["commits"] = len(between(every, base.hash, head.hash)) + 1
            for entry in (*step["regressions"], *step["improvements"]):
                entry["commits"] = step["commits"]
            if step["note"]:
                options.say(f"  {step['note']}")
        content["steps"].append(step)
        _save(write, path, content)
        if not step["note"].startswith(f"{head.short} "):  # a head that does not build is nobody's base
            base = head
    for step in reversed(content["steps"]):  # what was made slower last is of most interest
        base, head = known[step["base"]], known[step["head"]]
        for i, entry in enumerate(step["regressions"]):
            if entry["commits"] > 1 and not entry.get("narrowed"):
                inner = between(every, base.hash, head.hash)
                step["regressions"][i] = entry = narrowed(repo, entry, base, head, inner, options, compare)
                entry["narrowed"] = True  # as far as it went
                _save(write, path, content)
            options.say(f"slower: {entry['case']} {entry['ratio']:.3f} by {entry['short']} {entry['subject']}")
            sys.stdout.flush()
    return 0


def _save(write, path, content):
    content["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write(path, content)
