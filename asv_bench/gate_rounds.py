"""Paired rounds of BASE and HEAD in one process, and what they prove.

Both sides get the same arrays. A round times one sample of each, BASE first in one round and HEAD first in the next;
its ratio is HEAD's time over BASE's. Rounds in which the scheduler took the processor away are set aside. After every
few rounds the arrays move and the sides exchange their memory, for where memory lies is worth several percent.
"""

import gc
import itertools
import json
import math
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

SAMPLE_SECONDS = 0.0004
ROUNDS_PER_PLACEMENT = 4
TOLERANCE = {"float32": 5e-4, "float64": 1e-9}  # of the largest value


@dataclass(slots=True)
class Timed:
    """Outcome of one case: median seconds of each side, ratios (see `pair_ratios`), rounds kept and set aside.

    `skipped` says why a case was not timed; `failed` why HEAD cannot pass it.
    """

    case: str
    base: float = math.nan
    head: float = math.nan
    ratios: tuple = ()
    rounds: int = 0
    set_aside: int = 0
    skipped: str = ""
    failed: str = ""


def verdict(attempts, limit):
    """(median over attempts of each attempt's median ratio, True where that is a slowdown beyond `limit`)."""
    medians = [statistics.median(ratios) for ratios in attempts if ratios]
    ratio = statistics.median(medians) if medians else math.nan
    return ratio, ratio > 1 + limit


def suspicious(ratios, limit):
    """True where a first look, slower or faster, is close enough to the limit for a second."""
    return bool(ratios) and not 1 / (1 + 0.7 * limit) <= statistics.median(ratios) <= 1 + 0.7 * limit


def _preemptions():
    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    return resource.getrusage(who).ru_nivcsw


def sample(call, repeats, clock=time.perf_counter, preemptions=_preemptions):
    """(seconds of one call, True if nobody took the processor away); a call before the clock starts warms up."""
    call()
    before = preemptions()
    start = clock()
    for _ in range(repeats):
        call()
    seconds = (clock() - start) / repeats
    return seconds, preemptions() == before


def repeats_for(call, seconds=SAMPLE_SECONDS):
    """Calls in one sample, so that it lasts about `seconds`."""
    call()
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return max(1, round(seconds / max(best, 1e-8)))


def rounds(bind, n_rounds, take=sample):
    """Run about `n_rounds` kept rounds on an even number of placements; thrice as many where others keep it busy.

    `bind()` returns the two calls on a fresh placement and the repeats of a sample. Returns for each placement its kept
    rounds [(base seconds, head seconds), ...], all of them where hardly any could be kept, and the number set aside.
    """
    placements, set_aside = [], 0
    for _ in range(2 * max(1, round(n_rounds / (2 * ROUNDS_PER_PLACEMENT)))):
        calls, repeats = bind()
        good, bad = [], []
        while len(good) < ROUNDS_PER_PLACEMENT and len(good) + len(bad) < 3 * ROUNDS_PER_PLACEMENT:
            times, calm = [0.0, 0.0], True
            for side in (0, 1) if (len(good) + len(bad)) % 2 == 0 else (1, 0):
                times[side], undisturbed = take(calls[side], repeats)
                calm = calm and undisturbed
            (good if calm else bad).append(tuple(times))
        if len(good) < ROUNDS_PER_PLACEMENT // 2:
            good, bad = good + bad, []
        placements.append(good)
        set_aside += len(bad)
    return placements, set_aside


def pair_ratios(placements):
    """A ratio for each two placements, in which the sides exchanged their memory.

    The geometric mean of both medians: what one side gained by where its memory lay it lost in the other placement.
    """
    medians = [statistics.median(head / base for base, head in kept) for kept in placements]
    return tuple(math.sqrt(a * b) for a, b in zip(medians[::2], medians[1::2], strict=True))


def time_case(case, base, head, n_rounds):
    """The `Timed` of one case on two sides."""
    outcome = Timed(case.name)
    arrays = case.arrays()
    outcome.failed, expected = _try(head, case, arrays)
    if outcome.failed:
        return outcome
    outcome.skipped, result = _try(base, case, arrays)
    if not outcome.skipped and not agree(result, expected, TOLERANCE[case.dtype]):
        outcome.skipped = "BASE computes something else"
    if outcome.skipped:
        return outcome
    if case.checked:
        with head.active(), head.module.backend("numpy"):
            if not agree(expected, case.bind(head.module, *arrays)(), TOLERANCE[case.dtype]):
                outcome.failed = "HEAD disagrees with its NumPy twin"
                return outcome
    del arrays, expected, result
    gc.disable()
    try:
        placements, outcome.set_aside = rounds(_placements(case, base, head), n_rounds)
    finally:
        gc.enable()
    kept = [pair for placement in placements for pair in placement]
    outcome.base, outcome.head = (statistics.median(column) for column in zip(*kept, strict=True))
    outcome.ratios, outcome.rounds = pair_ratios(placements), len(kept)
    return outcome


def _placements(case, base, head):
    """`bind` for `rounds`. Memory that one side gave up goes to the other in the next placement."""
    turns, repeats = itertools.count(), []

    def bind():
        gc.collect()
        for side in (base, head):
            side.module.empty_cache()
        arrays, calls = case.arrays(), {}
        for side in (base, head) if next(turns) % 2 == 0 else (head, base):
            with side.active():
                calls[side] = case.bind(side.module, *arrays)
                calls[side]()  # what is imported or planned late is now there
        if not repeats:
            repeats.append(max(map(repeats_for, calls.values())))
        return (calls[base], calls[head]), repeats[0]

    return bind


def _try(side, case, arrays):
    """(why the side cannot run the case or "", its result)."""
    with side.active():
        try:
            return "", _copy(case.bind(side.module, *arrays)())
        except AttributeError as error:
            return f"{side.name} has no {getattr(error, 'name', None) or error}", None
        except ModuleNotFoundError as error:
            return f"{side.name} has no {error.name}", None
        except Exception as error:  # whatever an old commit raises, the case says so and the rest goes on
            return f"{side.name} refuses it: {type(error).__name__}: {str(error).splitlines()[0][:120]}", None


def _copy(result):
    return tuple(np.array(part) for part in (result if isinstance(result, tuple) else (result,)) if part is not None)


def agree(ours, theirs, tolerance):
    """True where two results, arrays or tuples of arrays, differ by less than `tolerance` of the largest value."""
    ours, theirs = _copy(ours), _copy(theirs)
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and bool(np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=1))
        for a, b in zip(ours, theirs, strict=True)
    )


def main():
    """Worker of `gate.py`: reads its orders as JSON, writes a line of JSON for each case."""
    from gate_cases import GUARDED
    from gate_sides import load_both

    orders = json.loads(sys.argv[1])
    base, head = load_both(Path(orders["base"]), Path(orders["head"]), orders["head_first"])
    for side in (base, head):
        side.module.set_num_threads(orders["threads"])
    by_name = {case.name: case for case in GUARDED}
    for name in orders["cases"]:
        print(json.dumps(asdict(time_case(by_name[name], base, head, orders["rounds"]))), flush=True)


if __name__ == "__main__":
    main()
