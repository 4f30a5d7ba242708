"""Run the tests on extension modules built with AddressSanitizer and UBSan: `python tests/sanitize/suite.py`.

Build them first, in a copy of the tree: `CONVGRAD_SANITIZE=address,undefined python setup.py build_ext --inplace`.
Python itself is not instrumented, so the sanitizers' library is preloaded. First it must report errors made on purpose;
then the tests and the fuzzer run, the fuzzer on every instruction set. See docs/sanitizers.md.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent

# What reaches kernels or the Cython around them without PyTorch. Not here: what starts processes of its own (they would
# inherit the preloaded library), compiles, times, or needs extras.
FILES = (
    "test_activation.py",
    "test_backends.py",
    "test_conv_errors.py",
    "test_convolve.py",
    "test_dropout.py",
    "test_fuzz.py",
    "test_inputs.py",
    "test_kernel_table.py",
    "test_layers.py",
    "test_local.py",
    "test_loss.py",
    "test_norm.py",
    "test_optimizers.py",
    "test_pool.py",
    "test_pool_average.py",
    "test_pool_errors.py",
    "test_prepack.py",
    "test_properties.py",
    "test_same_bits.py",
    "test_winograd.py",
    "test_winograd_axis.py",
    "test_winograd_numbers.py",
)

PREPARE = """
import ctypes, sys
import numpy as np
from convgrad._native import elementwise, memory, runtime
recycled = memory.empty((20_000,), np.dtype(np.float32))
address, size = recycled.ctypes.data, recycled.nbytes
x = np.ones(1_000, np.float32)
"""
# name: (code, what the report must contain)
PLANTS = {
    "a kernel writes past an array": (
        "elementwise.activation(3, 0.0, x, np.empty(896, np.float32))", "heap-buffer-overflow"
    ),
    "a kernel reads past an array": (
        "elementwise.activation_backward(3, 0.0, x[:896].copy(), x, np.empty(1_000, np.float32))",
        "heap-buffer-overflow",
    ),
    "past a recycled array": ("ctypes.memset(address + size, 0, 1)", "use-after-poison"),
    "into a recycled array that was freed": ("del recycled; ctypes.memset(address, 0, 1)", "use-after-poison"),
    "signed overflow": (
        "elementwise.activation_backward_bias(0, 0.0, x, x, (1, 1 << 62, 4), x.copy(), x.copy())",
        "runtime error: signed integer overflow",
    ),
}  # fmt: skip


def environment(isa=""):
    """Variables under which a Python that is not instrumented runs the modules that are."""
    library = subprocess.run(
        [os.environ.get("CC", "gcc"), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "LD_PRELOAD": library,
        # Python and NumPy keep memory until the process ends; sizes that no machine has give NULL, and forbidden pages
        # a signal, as ever.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": path,
        "PYTHONMALLOC": "malloc",  # each object in memory of its own
        "OPENBLAS_NUM_THREADS": "1",
        "CONVGRAD_ISA": isa,
    }


def python(arguments, isa="", **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment(isa), check=False, **options
    )


def plants():
    """Each overrun made on purpose must end the process with a report."""
    for name, (code, words) in PLANTS.items():
        done = python(["-c", PREPARE + code], capture_output=True, text=True)
        if done.returncode == 0 or words not in done.stderr:
            sys.exit(f"suite: {name}: no {words!r} reported; status {done.returncode}\n{done.stderr[-3000:]}")
    done = python(["-c", PREPARE + "print(*runtime.isas())"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"suite: {done.stderr[-3000:]}")
    print(f"{len(PLANTS)} errors made on purpose reported: {', '.join(PLANTS)}", flush=True)
    return done.stdout.split()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1500, help="cases of the fuzzer on each instruction set")
    parser.add_argument("files", nargs="*", default=FILES)
    given = parser.parse_args(arguments)
    isas = plants()
    # -s: where a sanitizer ends the process, what it says must not be lost with pytest's captured output.
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    done = python(["-m", "pytest", *options, *(TESTS / name for name in given.files)], capture_output=True, text=True)
    passed = re.search(r"(\d+) passed", done.stdout)
    print(done.stdout[-3000 if done.returncode else -200 :], done.stderr[-6000:], flush=True)
    if done.returncode or not passed:
        return 1
    status = 0
    for isa in isas:
        status |= python([TESTS / "fuzz" / "run.py", "--cases", given.cases, "--seed", 7, "--isa", isa]).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{passed[1]} tests passed; {given.cases} fuzzed calls on each of {', '.join(isas)}"
        f"{', some of which failed' if status else ''} ({used.ru_utime + used.ru_stime:.0f} s of processor time)"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
