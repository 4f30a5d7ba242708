"""Run every kernel from C under sanitizers, valgrind and emulators: `python tests/sanitize/run.py [CHECK ...]`.

Each check builds the kernels and `drive.c`, runs the cases and wants no report; then it breaks a kernel on purpose and
wants the report that this must give. See docs/sanitizers.md.
"""

import argparse
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
# As in setup.py.
FLAGS = ["-std=gnu11", "-g1", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi"]
FLAGS += ["-Wno-unknown-pragmas"]

# What breaks a kernel: (text in csrc/dropout.inc.h, what takes its place).
LOOP = "i < n; i++"
PLANTS = {
    "overrun": (LOOP, "i < n + 1; i++"),
    "race": (LOOP, "i < MIN(n + 1, a->n); i++"),
    "unwritten": ("i = begin * DROPOUT_BLOCK,", "i = begin * DROPOUT_BLOCK + 1,"),
    "overflow": ("scale + shift;", "scale + shift + (REAL)((int32_t)i + INT32_MAX) * 0;"),
}


@dataclass(frozen=True)
class Check:
    """How to build, run and break: compilers and emulators are the first of their names that is installed."""

    build: str
    run: tuple  # arguments of the program
    isas: tuple  # that must have been reached, of those of this CPU; None: whatever it has
    plants: dict = field(default_factory=dict)  # {plant: what the report must contain}
    prefix: tuple = ()  # program to run it under
    needs: tuple = ()  # programs without which the check cannot run
    environment: dict = field(default_factory=dict)


# name: (compilers, options, sources of kernels)
X86, ARM = ("scalar", "sse2", "avx2", "avx512"), ("scalar", "neon")
NATIVE = X86 if platform.machine() in ("x86_64", "AMD64") else ARM
BUILDS = {
    "plain": (("gcc", "cc"), ("-O2", "-fopenmp"), NATIVE),
    "asan": (
        ("gcc",),
        (
            "-O1",
            "-fexpensive-optimizations",
            "-fno-omit-frame-pointer",
            "-fopenmp",
            "-fno-sanitize-recover=all",
            "-fsanitize=address,undefined",
        ),
        NATIVE,
    ),
    "tsan": (("clang",), ("-O1", "-fopenmp", "-fsanitize=thread"), NATIVE),
    "neon": (("aarch64-linux-gnu-gcc",), ("-O1", "-static"), ARM),
}

VALGRIND = ("valgrind", "--quiet", "--error-exitcode=9", "--leak-check=no", "--partial-loads-ok=no")
CHECKS = {
    "guard": Check("plain", ("--cases", "200", "--guard"), None, {"overrun": "status -11"}),
    "asan": Check(
        "asan",
        ("--cases", "40"),
        None,
        {"overrun": "heap-buffer-overflow", "overflow": "runtime error: signed integer overflow"},
        environment={"ASAN_OPTIONS": "detect_leaks=0"},
    ),
    "tsan": Check(
        "tsan",
        ("--cases", "25", "--threads", "4"),
        None,
        {"race": "ThreadSanitizer: data race"},
        environment={"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"},
    ),
    "valgrind": Check(
        "plain",
        ("--cases", "8", "--threads", "2", "--raw"),
        ("scalar", "sse2", "avx2"),
        {"overrun": "Invalid write of size", "unwritten": "depends on uninitialised value"},
        prefix=VALGRIND,
        needs=("valgrind",),
    ),
    "conroe": Check(
        "plain", ("--cases", "8", "--threads", "2"), ("scalar", "sse2"), {},
        prefix=("qemu-x86_64", "-cpu", "Conroe"), needs=("qemu-x86_64",),
    ),
    "nehalem": Check(
        "plain", ("--cases", "15", "--threads", "2"), ("scalar", "sse2"), {},
        prefix=("qemu-x86_64", "-cpu", "Nehalem"), needs=("qemu-x86_64",),
    ),
    "haswell": Check(
        "plain", ("--cases", "8", "--threads", "2"), ("scalar", "sse2", "avx2"), {},
        prefix=("qemu-x86_64", "-cpu", "Haswell"), needs=("qemu-x86_64",),
    ),
    "neon": Check(
        "neon", ("--cases", "25"), ("scalar", "neon"), {}, prefix=("qemu-aarch64",), needs=("qemu-aarch64",)
    ),
}  # fmt: skip


class Missing(Exception):
    """A program that is not installed."""


class Failed(Exception):
    """A check that did not come out as it must."""


def tool(*names):
    for name in names:
        path = shutil.which(name) or shutil.which(f"{name}-static")
        if path:
            return path
    raise Missing(f"not installed: {' or '.join(names)}")


def execute(command, environment=(), timeout=1800):
    """(status, everything printed)"""
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [str(part) for part in command], env=inherited | dict(environment), capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def processor_time():
    """Seconds that programs started from here took so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def must(command):
    status, printed = execute(command)
    if status:
        raise Failed(f"{' '.join(map(str, command))}: status {status}\n{printed[-6000:]}")


class Program:
    """The driver, built once in a folder of its own and again with a broken kernel."""

    def __init__(self, build, folder, compiled=None):
        """`compiled`: a folder somewhere in which the objects of the kernels are, built with the same options."""
        names, self.options, isas = BUILDS[build]
        self.compiler = tool(*names)
        self.folder = folder / build
        self.folder.mkdir()
        sources = [path for path in sorted(CSRC.rglob("*.c")) if path.stem.split("_")[-1] in (*isas, "dispatch")]
        self.objects = {path.stem: self.found(compiled, path) for path in sources} if compiled else {}
        sources = ([] if compiled else sources) + sorted(HERE.glob("*.c"))
        with ThreadPoolExecutor(2) as pool:
            self.objects |= dict(zip((path.stem for path in sources), pool.map(self.compile, sources), strict=True))
        self.path = self.link(self.objects, "drive")

    @staticmethod
    def found(folder, source):
        objects = list(Path(folder).rglob(f"{source.stem}.o"))
        if len(objects) != 1:
            raise Failed(f"{len(objects)} files {source.stem}.o in {folder}, not one")
        return objects[0]

    def compile(self, source, target=None, include=CSRC):
        target = target or self.folder / f"{source.stem}.o"
        must([self.compiler, *FLAGS, *self.options, f"-I{include}", "-c", source, "-o", target])
        return target

    def link(self, objects, name):
        must([self.compiler, *self.options, *objects.values(), "-o", self.folder / name, "-lm"])
        return self.folder / name

    def broken(self, plant):
        """The driver with a kernel of float32 in plain C broken."""
        copy, path = self.folder / plant, self.folder / f"drive_{plant}"
        if path.exists():  # two checks of one build may plant the same
            return path
        shutil.copytree(CSRC, copy)
        kernel, (text, instead) = copy / "dropout.inc.h", PLANTS[plant]
        original = kernel.read_text()
        if original.count(text) != 1:
            raise Failed(f"{text!r} is not in {kernel.name} once: PLANTS in {Path(__file__).name} needs another place")
        kernel.write_text(original.replace(text, instead))
        target = self.compile(copy / "isa" / "f32_scalar.c", copy / "f32_scalar.o", copy)
        return self.link(self.objects | {"f32_scalar": target}, f"drive_{plant}")


def archer(environment):
    """Where clang's OpenMP finds the library that tells ThreadSanitizer of its barriers."""
    command = [tool("clang"), "-print-resource-dir"]
    resources = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    path = Path(resources).parents[1] / "libarcher.so"
    if path.is_file():
        return environment | {"OMP_TOOL_LIBRARIES": str(path), "ARCHER_OPTIONS": "verbose=1"}
    raise Missing("not installed: libarcher.so (libomp-dev)")


def run_check(name, programs, folder, cases, compiled):
    """One line that says what was done."""
    check = CHECKS[name]
    for needed in check.needs:
        tool(needed)
    if check.isas and "sse2" in check.isas and NATIVE is not X86:
        raise Missing("a processor of x86-64")
    prefix = (tool(check.prefix[0]), *check.prefix[1:]) if check.prefix else ()
    environment = archer(check.environment) if name == "tsan" else check.environment
    started = processor_time()
    if check.build not in programs:
        programs[check.build] = Program(check.build, folder, compiled.get(check.build))
    program = programs[check.build]
    options = list(check.run)
    options[options.index("--cases") + 1] = str(cases or options[options.index("--cases") + 1])
    status, printed = execute([*prefix, program.path, *options], environment)
    if status:
        raise Failed(f"{name}: status {status}\n{printed[-6000:]}")
    reached = re.findall(r"^(\w+): (\d+) of \2 kernels reached$", printed, re.MULTILINE)
    comparisons = re.search(r"^(\d+) comparisons, 0 wrong$", printed, re.MULTILINE)
    if not comparisons or not reached or len(reached) != printed.count("kernels reached"):
        raise Failed(f"{name}: some kernels were not reached\n{printed[-6000:]}")
    n_kernels, reached = reached[0][1], [isa for isa, _ in reached]
    if check.isas and set(reached) != set(check.isas):
        raise Failed(f"{name}: ran on {', '.join(reached)}; must be {', '.join(check.isas)}\n{printed[-2000:]}")
    if name == "tsan" and "Archer detected OpenMP application with TSan" not in printed:
        raise Failed(f"tsan: archer did not start\n{printed[-2000:]}")
    if name == "neon" and "plain" in programs:
        against_this_machine(program, programs["plain"], prefix, options)
    spoke = []
    for plant, words in check.plants.items():
        plant_options = [*options[:1], "20", *options[2:], "--only", "dropout", "--isa", "scalar"]
        status, printed = execute([*prefix, program.broken(plant), *plant_options], environment)
        if status == 0 or words not in f"{printed}status {status}":
            raise Failed(f"{name}: a planted {plant} goes unseen: status {status}\n{printed[-6000:]}")
        spoke.append(plant)
    return (
        f"{name}: {', '.join(reached)}: {n_kernels} kernels, {comparisons[1]} comparisons, nothing to report"
        f"{'; reports a planted ' + ' and '.join(spoke) if spoke else ''} "
        f"({processor_time() - started:.0f} s of processor time)"
    )


def against_this_machine(program, plain, prefix, options):
    """The results of NEON against those of this machine's plain C."""
    results = program.folder / "neon.bin"
    for command in (
        [*prefix, program.path, *options, "--isa", "neon", "--write", results],
        [plain.path, *options, "--against", results],
    ):
        status, printed = execute(command)
        if status or " 0 wrong" not in printed:
            raise Failed(f"neon against this machine: status {status}\n{printed[-4000:]}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help="all where none is named")
    parser.add_argument("--cases", type=int, help="cases of each family, in place of those of each check")
    parser.add_argument(
        "--objects", action="append", default=[], metavar="BUILD=FOLDER", type=lambda text: text.split("=", 1),
        help=f"take the kernels' objects of a build ({', '.join(BUILDS)}) from this folder",
    )  # fmt: skip
    parser.add_argument("--require", action="store_true", help="what is not installed fails")
    given = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        programs = {}
        for name in given.checks or CHECKS:
            try:
                print(run_check(name, programs, Path(folder), given.cases, dict(given.objects)), flush=True)
            except Missing as missing:
                print(f"{name}: skipped: {missing}", flush=True)
                failed |= given.require
            except Failed as wrong:
                print(wrong, flush=True)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
