"""One comparison of two commits: both builds timed in a process of their own, suspects again, instructions counted."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import gate_build
import gate_count
from gate_build import Refused
from gate_rounds import suspicious, verdict

ROUNDS, SHORT_ROUNDS = 48, 30
CONFIRMATIONS = 2
WORKER = Path(__file__).with_name("gate_rounds.py")


@dataclass(slots=True)
class Row:
    """What the gate says of one case. `ratio` is HEAD's time over BASE's; `slower` and `more` are accusations."""

    case: str
    base: float = 0.0
    head: float = 0.0
    ratio: float = 0.0
    rounds: int = 0
    attempts: int = 0
    slower: bool = False
    skipped: str = ""
    failed: str = ""
    instructions: tuple = ()
    more: bool = False

    @property
    def accused(self):
        """True where this case fails the gate."""
        return self.slower or self.more or bool(self.failed)


@dataclass(slots=True)
class Options:
    """How to compare: limit as a fraction, cases (gate_cases.Guarded), rounds, threads, what counts decide."""

    cases: list
    limit: float = 0.05
    rounds: int = ROUNDS
    threads: int = 1
    instructions: str = "fail"
    say: object = print
    notes: list = field(default_factory=list)


def compare(repo, base, head, options, time_cases=None):
    """Rows of the comparison of two Commits; `options.notes` gets what a reader should know beside them.

    Raises
    ------
    Refused : one of them does not build or import, or the timing process died
    """
    same = gate_build.digest(repo, base) == gate_build.digest(repo, head)
    with tempfile.TemporaryDirectory(prefix="convgrad-sides-") as folder:
        sources = {}
        for name, commit in (("base", base), ("head", head)):
            sources[name] = gate_build.unpack(repo, commit, Path(folder) / name, options.say).parent
        time_cases = time_cases or (lambda names, rounds, swap: run_worker(sources, names, rounds, swap, options))
        rows = timed(options, time_cases)
        if options.instructions != "off":
            if same:
                options.notes.append("both compile the same sources: the instructions are the same")
            else:
                add_instructions(rows, sources, options)
    return rows


def timed(options, time_cases):
    """Rows by time: all cases once, those near the limit again in processes of their own with longer series.

    `time_cases(names, rounds, head_first)` yields dictionaries as `gate_rounds.Timed` has fields.
    """
    rows, attempts = {}, {}
    for outcome in time_cases([case.name for case in options.cases], options.rounds, False):
        row = rows[outcome["case"]] = Row(outcome["case"], outcome["base"], outcome["head"])
        row.skipped, row.failed = outcome["skipped"], outcome["failed"]
        attempts[row.case], row.rounds = [outcome["ratios"]], outcome["rounds"]
    suspects = [name for name, (ratios,) in attempts.items() if suspicious(ratios, options.limit)]
    for turn in range(CONFIRMATIONS if suspects else 0):
        for outcome in time_cases(suspects, 2 * options.rounds, turn % 2 == 0):
            attempts[outcome["case"]].append(outcome["ratios"])
            rows[outcome["case"]].rounds += outcome["rounds"]
    for name, row in rows.items():
        if row.skipped or row.failed:
            continue
        row.attempts = len(attempts[name])
        row.ratio, beyond = verdict(attempts[name], options.limit)
        row.slower = beyond and row.attempts > 1
    return list(rows.values())


def run_worker(sources, names, rounds, head_first, options):
    """Run gate_rounds.py on `names`; yields what it reports."""
    orders = {"base": str(sources["base"]), "head": str(sources["head"]), "cases": names, "rounds": rounds}
    orders |= {"head_first": head_first, "threads": options.threads}
    dropped = ("PYTHONPATH", "CONVGRAD_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(WORKER), json.dumps(orders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Refused(f"the two builds could not be timed side by side: {lines[-1][:200]}")
    for line in done.stdout.splitlines():
        yield json.loads(line)


def add_instructions(rows, sources, options):
    """Fill in the instructions of both sides."""
    why = gate_count.missing()
    if why:
        options.notes.append(f"instructions not counted: {why}")
        return
    counted = {case.name for case in options.cases if case.counted}
    names = [row.case for row in rows if row.case in counted and not row.skipped and not row.failed]
    counts = [gate_count.count(sources[side], names, options.notes) for side in ("base", "head")]
    for row in rows:
        if all(row.case in side for side in counts):
            row.instructions = tuple(side[row.case] for side in counts)
            row.more = options.instructions == "fail" and row.instructions[1] > row.instructions[0] * (
                1 + options.limit
            )


def table(rows, options):
    """The comparison as lines of text."""
    width = max((len(row.case) for row in rows), default=4)
    lines = [f"{'case':{width}} {'BASE us':>9} {'HEAD us':>9} {'ratio':>7} {'rounds':>6}"]
    for row in rows:
        if row.skipped or row.failed:
            lines.append(f"{row.case:{width}} {'FAILED: ' + row.failed if row.failed else 'skipped: ' + row.skipped}")
            continue
        mark = "  SLOWER" if row.slower else "  faster" if row.ratio < 1 - options.limit else ""
        times = f"{row.base * 1e6:9.1f} {row.head * 1e6:9.1f} {row.ratio:7.3f} {row.rounds:6}"
        lines.append(f"{row.case:{width}} {times}{mark}")
    ratios = [row.ratio for row in rows if row.attempts]
    if ratios:
        lines.append(f"{'median of the cases':{width}} {'':9} {'':9} {statistics.median(ratios):7.3f}")
    counted = [row for row in rows if row.instructions]
    if counted:
        lines += ["", f"{'instructions of the AVX2 kernels':{width}} {'BASE':>12} {'HEAD':>12}"]
        for row in counted:
            before, after = row.instructions
            change = "same" if before == after else f"{100 * (after / before - 1):+.2f} %" if before else "new"
            lines.append(f"{row.case:{width}} {before:12} {after:12}  {change}{'  MORE' if row.more else ''}")
    return lines + [f"note: {note}" for note in dict.fromkeys(options.notes)]
