"""The pool's lock under ThreadSanitizer, and every module compiled without the GIL: `python tests/race/run.py`.

Needs Cython, NumPy, the headers of this Python and a C compiler with ThreadSanitizer; nothing is installed. The modules
are translated, the pool is driven by eight threads without an interpreter (tests/race/pool.c), the same with its lock
planted away must be reported, and without the sanitizer forks while the lock is held must leave it free in the child,
which a pool that takes no care of them must be seen to miss. With --headers DIR, the folder of
Python.h of CPython 3.13 or later, all modules are compiled as a free-threaded interpreter compiles them
(Py_GIL_DISABLED), every warning an error, and each must declare that it needs no GIL.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the driver never calls stays unresolved: the interpreter.
LINK = ["-lpthread", "-lm", "-Wl,--unresolved-symbols=ignore-all", "-no-pie"]


def translated(folder):
    """The Cython modules as C files in `folder`."""
    from Cython.Build import cythonize

    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                  "initializedcheck": False, "freethreading_compatible": True}  # fmt: skip
    copy = folder / "src"
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    os.chdir(copy)
    names = [str(path.relative_to(copy)) for path in sorted((copy / "convgrad" / "_native").glob("*.pyx"))]
    cythonize(names, include_path=["."], compiler_directives=directives, quiet=True)
    return sorted((copy / "convgrad" / "_native").glob("*.c"))


def run(command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def driver(folder, compiler, pool, flags, halt=0):
    import numpy

    program = folder / "pool"
    command = [compiler, "-g", "-O1", "-std=gnu11", "-w", *flags, f'-DPOOL_C="{pool}"',
               "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION", f"-I{sysconfig.get_path('include')}",
               f"-I{numpy.get_include()}", ROOT / "tests" / "race" / "pool.c", "-o", program, *LINK]  # fmt: skip
    built = run(command)
    if built.returncode:
        raise SystemExit(f"the driver does not compile:\n{built.stderr[-3000:]}")
    # ThreadSanitizer of some versions cannot place its memory where addresses are spread too far apart.
    spread = ["setarch", os.uname().machine, "-R"] if shutil.which("setarch") else []
    if spread and run([*spread, "true"]).returncode:
        spread = []
    return run([*spread, program], env=os.environ | {"TSAN_OPTIONS": f"halt_on_error={halt}"}, timeout=600)


def check_pool(folder, compiler, modules):
    pool = next(path for path in modules if path.name == "memory.c")
    sanitizer = ["-fsanitize=thread"]
    clean = driver(folder, compiler, pool, sanitizer)
    if clean.returncode or "the pool holds" not in clean.stdout or "WARNING" in clean.stderr:
        raise SystemExit(f"the pool under ThreadSanitizer:\n{clean.stdout}{clean.stderr[-4000:]}")
    text = pool.read_text()
    planted = pool.with_name("planted.c")
    planted.write_text(text.replace("while (__atomic_test_and_set(&cg_pool_lock, __ATOMIC_ACQUIRE))", "while (0)"))
    if planted.read_text() == text:
        raise SystemExit("there is no lock to plant away: does run.py still know how memory.pyx takes it?")
    raced = driver(folder, compiler, planted, sanitizer, halt=1)  # a broken pool may never end
    if "data race" not in raced.stderr:
        raise SystemExit(f"ThreadSanitizer says nothing of a pool without its lock:\n{raced.stdout}{raced.stderr}")
    forked = driver(folder, compiler, pool, ["-DFORKS=300"])
    if forked.returncode or "the pool holds" not in forked.stdout:
        raise SystemExit(f"the pool beside forks:\n{forked.stdout}{forked.stderr}")
    hung = driver(folder, compiler, pool, ["-DFORKS=300", "-DUNPROTECTED"])
    if not hung.returncode:
        raise SystemExit("a child that inherits the lock goes unnoticed")
    print(
        "pool: no report from ThreadSanitizer, eight threads; without its lock it reports; 300 forks while the lock is "
        "held, and without the care for them a child that hangs"
    )


def check_headers(folder, compiler, modules, headers):
    import numpy

    def compile_one(path):
        command = [compiler, "-c", "-O0", "-std=gnu11", "-Wall", "-Werror", "-Wno-sign-compare", "-Wno-unused-function",
                   "-Wno-unknown-pragmas", "-DPy_GIL_DISABLED=1", "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION",
                   f"-I{headers}", f"-I{numpy.get_include()}", f"-I{ROOT / 'csrc'}", path, "-o",
                   folder / f"{path.stem}.o"]  # fmt: skip
        built = run([*command, "-fopenmp"] if path.name == "runtime.c" else command)
        if built.returncode:
            raise SystemExit(f"{path.name} does not compile without the GIL:\n{built.stderr[-3000:]}")
        text = run([*command[:1], "-E", *command[2:-2]]).stdout
        if "Py_mod_gil" not in path.read_text() or "((void *)1)" not in text:  # Py_MOD_GIL_NOT_USED
            raise SystemExit(f"{path.name} does not declare that it needs no GIL")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, modules))
    print(f"{len(modules)} modules compile for a free-threaded interpreter and declare that they need no GIL")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--compiler", default=shutil.which("clang") or "cc")
    parser.add_argument("--headers", help="folder with Python.h of CPython 3.13 or later")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = translated(folder)
        check_pool(folder, options.compiler, modules)
        if options.headers:
            check_headers(folder, options.compiler, modules, options.headers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
