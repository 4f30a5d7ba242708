"""convgrad against other libraries, in one process: `python asv_bench/peers.py SUITE`.

Both sides get the same arrays, float32 but for `conv64`, and the same number of threads and return fresh arrays. Calls
alternate; a ratio is the median over rounds of (peer's time / ours), so above 1 ours is faster. Rounds in which other
processes took more than a twentieth of the machine are set aside and counted; a lock keeps two runs of this script
apart.

Writes asv_bench/results/peers-SUITE.json, .md and, with matplotlib, .png. Runs over a part of the cases write nothing.
"""

import argparse
import importlib
import sys

from measure import clean_environment, interleaved, machine_lock

if __name__ == "__main__":
    clean_environment()

import peers_calls
import peers_conv
import peers_elementwise
import peers_linear
import peers_optimizers
import peers_pool
import peers_rows
import peers_train
import report
import suites

SUITES = {
    suite.name: suite
    for suite in (
        peers_conv.SUITE,
        peers_conv.INFERENCE,
        peers_conv.FLOAT64,
        peers_elementwise.SUITE,
        peers_pool.SUITE,
    )
}
THREADS = [1, 2]
# Suites with one column and a family for each row of their table.
PLAIN = {
    "rows": peers_rows,
    "linear": peers_linear,
    "optimizers": peers_optimizers,
    "calls": peers_calls,
    "train": peers_train,
}


def main():
    if sys.argv[1:2] in (["onnx"], ["autograd"]):  # suites with peers and options of their own
        importlib.import_module(f"peers_{sys.argv[1]}").main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["ort"]:  # needs packages that the others do not
        try:
            SUITES["ort"] = importlib.import_module("peers_ort").SUITE
        except ModuleNotFoundError as error:
            sys.exit(f"peers.py: ort needs {error.name}; pip install 'convgrad[peers]'")
    more = "further suites: ort, onnx and autograd, which need packages of their own"
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=more)
    names = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name in (*SUITES, *PLAIN):
        add = names.add_parser(name).add_argument
        add("--threads", type=int, nargs="+", default=THREADS)
        add("--rounds", type=int, default=7)
        add("--min-seconds", type=float, default=0.01, help="length of one sample")
        add("--only", default="", metavar="TEXT", help="only cases with TEXT in their label; writes no files")
        if name in SUITES:
            passes = SUITES[name].passes
            add("--passes", nargs="+", choices=passes, default=passes)
            add("--no-second", action="store_true", help="time only the first column; writes no files")
    options = parser.parse_args()
    if options.suite in PLAIN:
        with machine_lock():
            suites.report(options.suite, PLAIN[options.suite], options, interleaved)
        return
    suite = SUITES[options.suite]
    with machine_lock():
        rows = report.time_suite(suite, options)
    if not rows:
        parser.error(f"no case contains {options.only!r}")
    result = report.make_report(suite, options, rows)
    print("\n".join(report.summary_lines(suite, result)))
    whole = tuple(options.passes) == suite.passes and sorted(options.threads) == THREADS
    if whole and not (options.only or options.no_second):
        report.write(suite, result)


if __name__ == "__main__":
    main()
