"""Reads `gate-history.json`: what `gate.py --history` found on pairs of commits, measured side by side."""

from dataclasses import dataclass, field

from .results import Unusable, load


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case of a step: time after / time before, and whether the gate confirmed it as slower."""

    name: str
    ratio: float
    rounds: int
    slower: bool


@dataclass(frozen=True, slots=True)
class Regression:
    """A confirmed slowdown and the commit that made it, or the last of `commits` among which it is."""

    case: str
    ratio: float
    commit: str
    short: str
    subject: str
    commits: int


@dataclass(frozen=True, slots=True)
class Step:
    """A commit against an earlier one, `commits` before it."""

    base: str
    head: str
    subject: str
    commits: int
    note: str
    cases: list = field(repr=False)
    regressions: list = field(repr=False)
    skipped: list = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gate:
    """The file: where, when and how it was measured, and its steps, the oldest first. `limit` is a fraction."""

    machine: str
    date: str
    command: str
    limit: float
    steps: list


def read_gate(path):
    """The Gate of a file, or None where there is none; Unusable where it is not what gate.py writes."""
    if not path.is_file():
        return None
    content = load(path)
    try:
        steps = [read_step(entry) for entry in content["steps"]]
        words = (str(content[name]) for name in ("machine", "date", "command"))
        return Gate(*words, positive(content["limit"]), steps)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(
            f"{path} is not what `python asv_bench/gate.py --history N` writes ({type(error).__name__}: {error}); "
            "write it again or remove it"
        ) from None


def read_step(entry):
    """One step, its cases marked where they are among the regressions."""
    regressions = [
        Regression(r["case"], positive(r["ratio"]), r["commit"], r["short"], r["subject"], int(r["commits"]))
        for r in entry["regressions"]
    ]
    slower = {regression.case for regression in regressions}
    missing = sorted(slower - set(entry["cases"]))
    if missing:
        raise ValueError(f"{missing[0]!r} is slower but was not measured")
    cases = [
        Outcome(name, positive(case["ratio"]), int(case["rounds"]), name in slower)
        for name, case in entry["cases"].items()
    ]
    skipped = [f"{item['case']}: {item['why']}" for item in entry["skipped"]]
    head = [entry[name] for name in ("base", "head", "subject")]
    return Step(*head, int(entry["commits"]), entry["note"], cases, regressions, skipped)


def positive(value):
    """The value as a float, if it is a positive number."""
    if not 0 < float(value) < float("inf"):
        raise ValueError(f"{value} is not a positive number")
    return float(value)
