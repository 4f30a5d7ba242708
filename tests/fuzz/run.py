"""Fuzz the native kernels: `python tests/fuzz/run.py --cases N --seed S [--isa ISA ...]`; see docs/fuzzing.md.

Cases run in a process of their own for each instruction set; one that dies names the case it died of.
"""

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

MOST_SHOWN = 20


def work(seed, first, cases, progress):
    """Run cases one after another; print what fails. `progress` is a file that holds the number of the current one."""
    import faulthandler

    faulthandler.enable()
    import fuzz

    from convgrad._native import runtime

    fuzzer, counts, failed = fuzz.Fuzzer(seed), collections.Counter(), 0
    place = os.open(progress, os.O_WRONLY)
    for index in range(first, first + cases):
        os.pwrite(place, index.to_bytes(8, "little"), 0)
        try:
            counts[fuzzer.run(index)] += 1
        except Exception as error:
            failed += 1
            if failed <= MOST_SHOWN:
                print(fuzz.describe(seed, index))
                print("  " + "".join(traceback.format_exception_only(error)).strip(), flush=True)
                if not isinstance(error, fuzz.Mismatch):
                    traceback.print_exc()
    print(f"{runtime.isa()}: {cases} cases of seed {seed} from {first}, {failed} failed, {len(counts)} functions")
    return 1 if failed else 0


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="cases for each instruction set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--isa", nargs="*", help="instruction sets; all that are available where none is named")
    parser.add_argument("--show", type=int, help="describe this case and stop")
    parser.add_argument("--progress", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.show is not None:
        import fuzz

        print(fuzz.describe(given.seed, given.show))
        return 0
    if given.progress:
        return work(given.seed, given.first, given.cases, given.progress)
    from convgrad._native import runtime

    status = 0
    for isa in given.isa or runtime.isas():
        started = time.perf_counter()
        with tempfile.NamedTemporaryFile() as progress:
            Path(progress.name).write_bytes(bytes(8))
            ran = subprocess.run(
                [sys.executable, __file__, "--cases", str(given.cases), "--seed", str(given.seed), "--first",
                 str(given.first), "--progress", progress.name],
                env=os.environ | {"CONVGRAD_ISA": isa}, check=False,
            )  # fmt: skip
            last = int.from_bytes(Path(progress.name).read_bytes(), "little")
        if ran.returncode not in (0, 1):
            print(f"{isa}: died with status {ran.returncode} in case {last} of seed {given.seed}: run it alone with "
                  f"--first {last} --cases 1 --isa {isa}, describe it with --show {last}")  # fmt: skip
        print(f"{isa}: {time.perf_counter() - started:.1f} s", flush=True)
        status = status or (1 if ran.returncode else 0)
    return status


if __name__ == "__main__":
    sys.exit(main())
