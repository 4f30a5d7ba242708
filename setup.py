"""Build of the extension modules. Everything declarative is in pyproject.toml.

Environment switches:
  CONVGRAD_OPENMP=0     build without OpenMP (one thread)
  CONVGRAD_COVERAGE=1   let coverage see the lines of the Cython files (slow: for `python -m coverage` alone)
  CONVGRAD_SANITIZE=address,undefined   compile and link with these sanitizers, without optimisation tricks
"""

import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

MSVC = sys.platform == "win32"
OPENMP = os.environ.get("CONVGRAD_OPENMP", "1") != "0"
SANITIZE = os.environ.get("CONVGRAD_SANITIZE", "")
COVERAGE = os.environ.get("CONVGRAD_COVERAGE", "0") != "0"

if MSVC:
    COMPILE, LINK = ["/O2"], []
    OPENMP_COMPILE, OPENMP_LINK = ["/openmp"], []
else:
    # Never -ffast-math: it breaks NaN and infinity, and linking with it turns denormals off for the whole process.
    COMPILE = ["-std=gnu11", "-O2", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
    COMPILE += ["-ffp-contract=fast", "-Wno-psabi", "-Wno-unknown-pragmas"]
    LINK = ["-pthread"]  # where the C library keeps pthread_atfork apart
    OPENMP_COMPILE, OPENMP_LINK = ["-fopenmp"], ["-fopenmp"]
    if sys.platform == "darwin":  # Apple's clang has no OpenMP runtime of its own
        OPENMP_COMPILE, OPENMP_LINK = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
if SANITIZE:
    COMPILE += ["-O1", "-g1", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    # Python's own options may hold -fwrapv, which hides signed overflow; at -O1 GCC contracts no multiplications and
    # additions, which the accuracy of some kernels is measured with.
    COMPILE += ["-fno-wrapv"] + ([] if "clang" in os.environ.get("CC", "") else ["-fexpensive-optimizations"])
    LINK += [f"-fsanitize={SANITIZE}"]
elif not MSVC:  # smaller by a twentieth
    COMPILE += ["-fno-asynchronous-unwind-tables"]
    LINK += ["-s"]
    if sys.platform == "linux":
        # Functions in the order of their names: those of the same name, compiled for each ISA and dtype, are alike, and
        # lie near enough for the wheel's compression to see it, which makes it an eighth smaller.
        COMPILE += ["-ffunction-sections"]
        LINK += ["-Wl,--sort-section=name"]

HEADERS = sorted(glob("csrc/**/*.h", recursive=True) + glob("src/convgrad/_native/*.pxd"))
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION")]
if COVERAGE:
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]


def extension(path):
    """One module per .pyx; the kernels and the only parallel loop live in `runtime`."""
    name = os.path.splitext(os.path.basename(path))[0]
    is_runtime = name == "runtime"
    return Extension(
        f"convgrad._native.{name}",
        [path, *(sorted(glob("csrc/*.c") + glob("csrc/isa/*.c")) if is_runtime else [])],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=MACROS,
        extra_compile_args=COMPILE + (OPENMP_COMPILE if is_runtime and OPENMP else []),
        extra_link_args=LINK + (OPENMP_LINK if is_runtime and OPENMP else []),
        depends=HEADERS,
    )


# Sources whose size in the wheel matters more than the last percent of their speed: the scalar kernels, the baseline of
# x86-64, which only processors older than 2013 use, and glue of large calls. For the rest -O3 would add 155 KB and gain
# nothing: hot loops are explicit vectors, unrolled by hand. -Os would make float64 convolutions 1.4 times as slow.
SMALLER = (
    "scalar",
    "sse2",
    "_cyutility",
    *(f"_native/{name}" for name in ("local", "norm", "pool", "rows", "dense", "winograd", "conv_plan")),
)


def smaller(source):
    """Extra options for compiling `source`."""
    path = source.replace(os.sep, "/")
    return ["-Os"] if not SANITIZE and any(name in path for name in SMALLER) else []


class ParallelBuild(build_ext):
    """Compiles the sources of all modules side by side: the kernels of each ISA are large."""

    def build_extensions(self):
        self.parallel = True
        compile_one = self.compiler.compile
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def compile_all(sources, extra_postargs=(), **options):
                def compile_source(source):
                    return compile_one([source], extra_postargs=[*extra_postargs, *smaller(source)], **options)

                return [o for objects in pool.map(compile_source, sources) for o in objects]

            if not MSVC:
                self.compiler.compile = compile_all
            super().build_extensions()


class SmallWheel(bdist_wheel):
    """Compresses the wheel with Zopfli, where that is installed: 60 KB fewer for every download."""

    def run(self):
        super().run()
        if not importlib.util.find_spec("zopfli"):
            return
        spec = importlib.util.spec_from_file_location("shrink_wheel", "tools/shrink_wheel.py")
        shrink_wheel = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shrink_wheel)
        for kind, _, path in self.distribution.dist_files:
            if kind == "bdist_wheel":
                shrink_wheel.shrink(path)


# The code that Cython would put into every module, memoryviews above all, once: the wheel is a fifth smaller for it.
SHARED = "convgrad._native._cyutility"

setup(
    ext_modules=cythonize(
        [
            *(extension(path) for path in sorted(glob("src/convgrad/_native/*.pyx"))),
            extension("src/convgrad/_native/_cyutility.c"),
        ],
        include_path=["src"],
        shared_utility_qualified_name=SHARED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "freethreading_compatible": True,
            "linetrace": COVERAGE,
        },
    ),
    cmdclass={"bdist_wheel": SmallWheel, "build_ext": ParallelBuild},
)
