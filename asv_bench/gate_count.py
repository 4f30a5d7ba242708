"""Instructions that the AVX2 kernels of one build execute, counted by callgrind: a figure without noise.

Each case runs once inside `valgrind --tool=callgrind`, on one thread, with CONVGRAD_ISA=avx2 (valgrind knows no
AVX-512), and only what executes inside the module that holds the kernels counts: neither Python nor NumPy.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gate_build import compiler

KERNELS = "runtime."  # the extension module that the kernels are linked into

_REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void count_from_here(void) { CALLGRIND_ZERO_STATS; }
void count_to_here(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
"""


def missing():
    """Why instructions cannot be counted here, or ""."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (Debian: apt-get install valgrind)"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        flags = []
    return "" if "avx2" in flags and "fma" in flags else "this CPU has no AVX2"


def requests_library(folder):
    """Compile what tells callgrind where a case begins and ends; its path, or None without valgrind's header."""
    source, library = Path(folder) / "requests.c", Path(folder) / "requests.so"
    source.write_text(_REQUESTS, encoding="ascii")
    done = subprocess.run(
        [compiler().split()[0], "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], capture_output=True
    )
    return library if done.returncode == 0 else None


def count(package_folder, cases, problems):
    """{case: instructions} of the build in `package_folder`.

    `problems`, a list, gets a line for whatever went wrong: a figure that is missing is never silently so.
    """
    with tempfile.TemporaryDirectory(prefix="convgrad-count-") as folder:
        library = requests_library(folder)
        if library is None:
            problems.append("valgrind/callgrind.h is not installed: instructions are not counted")
            return {}
        orders = json.dumps({"library": str(library), "cases": cases})
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENBLAS_"))},
            "PYTHONPATH": str(package_folder),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONVGRAD_ISA": "avx2",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
        done = subprocess.run(
            [*command, sys.executable, __file__, orders], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if not line.startswith("==")]
            problems.append(f"callgrind stopped: {(lines or done.stderr.splitlines() or ['no message'])[-1][:160]}")
        counts = {}
        for path in Path(folder).glob("counts.*"):
            text = path.read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^desc: Trigger: Client Request: case (\d+)$", text, re.MULTILINE)
            if found:
                counts[cases[int(found[1])]] = self_cost(text, Path(package_folder) / "convgrad" / "_native" / KERNELS)
        return counts


def self_cost(profile, prefix):
    """Instructions that a callgrind profile attributes to objects whose path begins with `prefix`."""
    objects, current, total, inclusive = {}, "", 0, False
    for line in profile.splitlines():
        if found := re.match(r"(c?ob)=(\(\d+\))(?: (.*))?$", line):
            which, key, path = found.groups()
            if path is not None:
                objects[key] = path
            if which == "ob":
                current = objects[key]
        elif line.startswith("calls="):
            inclusive = True  # the next line holds the cost of what was called, which counts there
        elif line[:1] in "0123456789+-*" and line:
            if not inclusive and current.startswith(str(prefix)):
                total += int(line.split()[1])
            inclusive = False
    return total


def main():
    """What runs inside valgrind: every case twice to warm up, then once to be counted."""
    from gate_cases import GUARDED

    import convgrad

    orders = json.loads(sys.argv[1])
    library = ctypes.CDLL(orders["library"])
    convgrad.set_num_threads(1)
    by_name = {case.name: case for case in GUARDED}
    ready = []
    for number, name in enumerate(orders["cases"]):
        case = by_name[name]
        try:
            call = case.bind(convgrad, *case.arrays())
            call()
            call()
        except Exception:  # the timing has said what this build cannot run
            continue
        ready.append((f"case {number}".encode(), call))
    library.start()  # once: it throws away all code that valgrind has translated
    for label, call in ready:
        library.count_from_here()
        call()
        library.count_to_here(label)


if __name__ == "__main__":
    main()
