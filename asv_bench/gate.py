"""The performance gate: is HEAD slower than BASE? `python asv_bench/gate.py BASE` builds both and times them in turns.

Exit status 0: no guarded case is more than 5 % slower. 1: some are, each named in the table. 2: it could not be found
out, with one line on standard error that says why; nothing is left behind. docs/gate.md has the method and what it
was tested with.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import gate_build
import gate_cases
from gate_build import Refused
from gate_compare import ROUNDS, SHORT_ROUNDS, Options, compare, table

ROOT = Path(__file__).resolve().parents[1]


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(prog="gate.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("base", nargs="?", metavar="BASE", help="revision to compare with, e.g. HEAD~1 or main")
    add("--head", default="HEAD", metavar="REV", help="revision to judge (default: HEAD; never the working tree)")
    add("--short", action="store_true", help="fewer cases and rounds")
    add("--cases", default="", metavar="TEXT", help="only cases with TEXT in their name")
    add("--limit", type=float, default=5, metavar="PERCENT", help="slowdown that fails (default: 5)")
    add("--rounds", type=int, metavar="N", help=f"rounds of a first look (default: {ROUNDS}, short: {SHORT_ROUNDS})")
    add("--threads", type=int, default=1, metavar="N", help="threads of both sides (default: 1)")
    add(
        "--instructions",
        choices=("fail", "report", "off"),
        default="fail",
        help="what counted instructions of the kernels decide: more by the limit fails (default), are only shown, or "
        "are not counted",
    )
    add("--report-only", action="store_true", help="print the table; exit 0 whatever it says")
    add("--json", type=Path, metavar="FILE", help="write the rows there too")
    add("--list", action="store_true", help="print the guarded cases and stop")
    add("--history", type=int, metavar="N", help="compare neighbours among N commits over the project's life")
    add("--repo", type=Path, default=ROOT, help=argparse.SUPPRESS)  # tests bring repositories of their own
    options = parser.parse_args(arguments)
    if options.base is None and options.history is None and not options.list:
        parser.error("BASE is missing: name a revision, e.g. HEAD~1")
    if options.base is not None and options.history is not None:
        parser.error("--history chooses the commits itself: leave BASE out")
    if options.history is not None and options.history < 2:
        parser.error(f"--history needs at least 2 commits; got {options.history}")
    if options.rounds is not None and options.rounds < 3:
        parser.error(f"--rounds must be at least 3; got {options.rounds}")
    if options.threads < 1:
        parser.error(f"--threads must be at least 1; got {options.threads}")
    if not 0 < options.limit < 100:
        parser.error(f"--limit must be above 0 and below 100 percent; got {options.limit:g}")
    return options


def settings(options):
    """`Options` of a comparison from the command line; Refused where no case is chosen."""
    cases = gate_cases.chosen(options.cases, options.short)
    if not cases:
        raise Refused(f"no guarded case contains {options.cases!r}; --list shows them")
    rounds = options.rounds or (SHORT_ROUNDS if options.short else ROUNDS)
    return Options(cases, options.limit / 100, rounds, options.threads, options.instructions)


def write_json(path, content):
    """Write `content` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(json.dumps(content, indent=1) + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def judge(options):
    """Compare, print, and return the exit status."""
    chosen = settings(options)
    base, head = (gate_build.resolve(options.repo, name) for name in (options.base, options.head))
    if options.head == "HEAD" and gate_build.git(options.repo, "status", "--porcelain", "--untracked-files=no"):
        chosen.notes.append("changes that are not committed are not part of HEAD")
    print(f"BASE {base.short}  {base.subject}\nHEAD {head.short}  {head.subject}", flush=True)
    rows = compare(options.repo, base, head, chosen)
    print("\n".join(table(rows, chosen)))
    if options.json:
        content = {"base": base.hash, "head": head.hash, "limit": chosen.limit, "rows": [asdict(row) for row in rows]}
        write_json(options.json, content)
    accused = [row for row in rows if row.accused]
    for row in accused:
        if row.slower:
            same = row.instructions and row.instructions[0] == row.instructions[1]
            print(
                f"slower: {row.case} by {100 * (row.ratio - 1):.1f} % ({row.rounds} rounds in {row.attempts} series)"
                + ("; the same AVX2 instructions: look at where code and memory lie" if same else "")
            )
        if row.more:
            print(f"more instructions: {row.case}")
        if row.failed:
            print(f"failed: {row.case}: {row.failed}")
    if not accused:
        print(f"no guarded case is more than {options.limit:g} % slower")
    return 1 if accused and not options.report_only else 0


def main(arguments=None):
    """Run the gate; returns the exit status."""
    options = parse(arguments)
    if options.list:
        print("\n".join(case.name for case in gate_cases.chosen(options.cases, options.short)))
        return 0
    try:
        if options.history is not None:
            from gate_history import history

            return history(options.repo, options.history, settings(options), write_json)
        return judge(options)
    except Refused as error:
        print(f"gate.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gate.py: interrupted; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
