"""Whether `gate.py` can be trusted: quiet on one commit against itself, loud on a slowdown of 8 % that is planted.

`python asv_bench/gate_proof.py` clones the repository, plants a commit whose activations compute the first 8 % of every
block twice, runs the gate on HEAD against HEAD 20 times and on the plant 10 times, and prints both counts. Exit status
0: every run was right. Counted instructions are left out: the clock has to find it alone.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gate
from gate_build import cache_folder

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "csrc/activation.inc.h"
CALL = re.compile(r"^( *activation_value_run\(a->op, .*)\bn\);$", re.MULTILINE)
PLANTED = ("sigmoid", "tanh", "elu", "gelu")  # what is computed is nearly all of their time


def plant(clone):
    """Commit the slowdown in `clone`."""
    path = clone / SOURCE
    text, n = CALL.subn(r"\1n);\n\1n * 8 / 100);", path.read_text(encoding="utf-8"))
    if n != 1:
        raise SystemExit(f"gate_proof.py: {SOURCE} has {n} places for the plant, not one")
    path.write_text(text, encoding="utf-8")
    identity = ["-c", "user.name=gate", "-c", "user.email=gate@localhost"]
    subprocess.run(["git", "-C", clone, *identity, "commit", "-qam", "planted: activations 8 % slower"], check=True)


def run(clone, base, head, *more):
    """(exit status, cases that the gate called slower)."""
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        status = gate.main([base, "--head", head, "--repo", str(clone), "--instructions", "off", *more])
    return status, set(re.findall(r"^slower: (.*?) by ", heard.getvalue(), re.MULTILINE))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quiet-runs", type=int, default=20, metavar="N", help="runs on one commit (default: 20)")
    parser.add_argument("--planted-runs", type=int, default=10, metavar="N", help="runs on the plant (default: 10)")
    parser.add_argument("--short", action="store_true", help="the gate's short form")
    options = parser.parse_args()
    form = ["--short"] if options.short else []
    wanted = {"tanh", "gelu"} if options.short else set(PLANTED)
    with tempfile.TemporaryDirectory(prefix="convgrad-proof-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", "--shared", ROOT, clone], check=True)
        os.environ["CONVGRAD_GATE_CACHE"] = str(cache_folder(ROOT))  # builds are kept for the next time
        plant(clone)
        quiet = 0
        for i in range(options.quiet_runs):
            status, slower = run(clone, "HEAD~1", "HEAD~1", *form)
            quiet += status == 0
            print(f"same commit {i + 1}: exit {status} {sorted(slower) or ''}", flush=True)
        caught = 0
        for i in range(options.planted_runs):
            status, slower = run(clone, "HEAD~1", "HEAD", *form)
            caught += status == 1 and wanted <= slower
            missed, others = sorted(wanted - slower), sorted(slower - set(PLANTED))
            print(f"plant {i + 1}: exit {status}, missed {missed or 'none'}, others {others or 'none'}", flush=True)
    print(f"quiet on the same commit: {quiet} of {options.quiet_runs}")
    print(f"planted slowdown caught in every planted case: {caught} of {options.planted_runs}")
    return 0 if (quiet, caught) == (options.quiet_runs, options.planted_runs) else 1


if __name__ == "__main__":
    sys.exit(main())
