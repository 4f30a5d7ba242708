"""Reads `gate-history.json`: what `gate.py` found on pairs of commits, each measured side by side in one process."""

from dataclasses import dataclass, field

from .results import Unusable, load


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case of a step: time after / time before, and whether the gate confirmed it as slower."""

    name: str
    ratio: float
    rounds: int
    regression: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A commit against the one before it."""

    base: str
    head: str
    subject: str
    cases: list = field(repr=False)
    skipped: list = field(repr=False)

    @property
    def regressions(self):
        """Confirmed slowdowns, the largest first."""
        return sorted((case for case in self.cases if case.regression), key=lambda case: -case.ratio)


@dataclass(frozen=True, slots=True)
class Gate:
    """The file: where and when it was measured, and its steps, the oldest first."""

    machine: str
    date: str
    steps: list
    bound: float


def read_gate(path):
    """The Gate of a file, or None where there is none; Unusable where it is not what gate.py writes."""
    if not path.is_file():
        return None
    content = load(path)
    try:
        steps = [step(entry) for entry in content["steps"]]
        machine = content["machine"]
        if isinstance(machine, dict):
            machine = ", ".join(f"{value}" for value in machine.values())
        return Gate(str(machine), str(content["date"]), steps, float(content.get("bound", 1.05)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(
            f"{path} is not what gate.py writes ({type(error).__name__}: {error}); write it again or remove it"
        ) from None


def step(entry):
    """One step, its cases marked where they are listed as regressions."""
    named = {item if isinstance(item, str) else item["case"] for item in entry["regressions"]}
    cases = []
    for name, case in entry["cases"].items():
        ratio = float(case["ratio"])
        if not 0 < ratio < float("inf"):
            raise ValueError(f"{name} has ratio {ratio}")
        rounds = case.get("rounds", 0)
        cases.append(Outcome(name, ratio, len(rounds) if isinstance(rounds, list) else int(rounds), name in named))
    missing = named - {case.name for case in cases}
    if missing:
        raise ValueError(f"regression of {sorted(missing)[0]}, which was not measured")
    return Step(entry["base"], entry["head"], entry["subject"], cases, list(entry.get("skipped", [])))
