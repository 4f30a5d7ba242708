"""The vector vocabulary of every instruction set against plain C, and the kernels through other compilers.

A program is made of `check_ops.inc.h` and of each file in csrc/isa as it is, with the bodies replaced: the target
pragma and the headers under test are the library's own.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from convgrad._native import runtime

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
# As in setup.py.
FLAGS = [
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-psabi",
    "-Wno-unknown-pragmas",
]
X86_ISAS = ("scalar", "sse2", "avx2", "avx512")
# Which headers, in csrc/simd, make up the vocabulary of an instruction set.
HEADERS = {
    "scalar": ("scalar.h",),
    "sse2": ("sse2.h", "vector.h", "compare.h", "partial.h"),
    "avx2": ("avx2.h", "vector.h", "compare.h"),
    "avx512": ("avx512.h", "vector.h"),
    "neon": ("neon.h", "vector.h", "compare.h", "partial.h", "narrow.h"),
}

# A sanitizer preloaded into this process must not find its way into compilers and emulators.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def tool(*names):
    """Path of the first of `names` that is installed; skips the test where none is."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip(f"not installed: {' or '.join(names)}")


def run(*command, timeout=120):
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def checking_source(isa, dtype, folder):
    """csrc/isa/<dtype>_<isa>.c with the checks in place of the bodies, as a file in `folder`."""
    original = (CSRC / "isa" / f"{dtype}_{isa}.c").read_text()
    source = original.replace('"../bodies.inc.h"', '"check_ops.inc.h"').replace('"../simd/', '"simd/')
    assert source.count("check_ops.inc.h") == 1
    assert source.count('"simd/') == 2
    path = folder / f"check_{dtype}_{isa}.c"
    path.write_text(source)
    return path


def check_ops(compiler, isa, dtype, folder, *options, prefix=(), edit=None):
    """Compile the checks and run them; return what they print."""
    source = checking_source(isa, dtype, folder)
    if edit:
        source.write_text(edit(source.read_text()))
    program = source.with_suffix("")
    run(compiler, *FLAGS, *options, f"-I{CSRC}", f"-I{HERE}", source, "-o", program, "-lm")
    return subprocess.run([*prefix, program], capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)


def on_this_cpu(isa):
    if isa not in runtime.isas():
        pytest.skip(f"{isa} cannot run here; available: {', '.join(runtime.isas())}")


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("isa", X86_ISAS)
@pytest.mark.parametrize("compiler, optimization", [("cc", "-O3"), ("clang", "-O2")])
def test_every_operation_equals_plain_c(compiler, optimization, isa, dtype, tmp_path):
    on_this_cpu(isa)
    compiler = tool("cc", "gcc") if compiler == "cc" else tool(compiler)
    result = check_ops(compiler, isa, dtype, tmp_path, optimization)
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith(f"{isa}, ")
    assert result.stdout.endswith(": 0 differences\n")


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_operation_of_neon_equals_plain_c(dtype, tmp_path):
    if platform.machine() in ("aarch64", "arm64"):
        result = check_ops(tool("cc", "gcc"), "neon", dtype, tmp_path, "-O3")
    else:
        compiler, emulator = tool("aarch64-linux-gnu-gcc"), tool("qemu-aarch64", "qemu-aarch64-static")
        result = check_ops(compiler, "neon", dtype, tmp_path, "-O3", "-static", prefix=[emulator])
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith("neon, ")
    assert result.stdout.endswith(": 0 differences\n")


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("v_max", "vec wrong(vec a, vec b) { return v_blend(v_lt(b, a), b, a); }"),
        ("v_min", "vec wrong(vec a, vec b) { return v_blend(v_le(a, b), a, b); }"),  # differs for zeros alone
        ("v_load_n", "vec wrong(const REAL *p, ptrdiff_t n) { return n == LANES ? v_load(p) : v_zero(); }"),
        ("v_store_n", "void wrong(REAL *p, vec v, ptrdiff_t n) { v_store_n(p, v, n > 1 ? n - 1 : n); }"),
        ("v_abs", "vec wrong(vec a) { return v_max(a, v_zero() - a); }"),  # differs for NaN alone
        ("v_isnan", "v_mask wrong(vec a) { return v_not(v_lt(a, a)); }"),
    ],
)
def test_the_checks_notice_a_wrong_operation(name, wrong, tmp_path):
    isa = "sse2" if "sse2" in runtime.isas() else "scalar"

    def edit(source):
        include = '#include "check_ops.inc.h"'
        return source.replace(include, f"INLINE {wrong}\n#define {name} wrong\n{include}")

    result = check_ops(tool("cc", "gcc"), isa, "f32", tmp_path, "-O1", edit=edit)
    assert result.returncode == 1, f"not noticed: {result.stdout}{result.stderr}"
    assert name in result.stdout


def operations(*headers):
    text = "".join((CSRC / "simd" / name).read_text() for name in headers)
    return set(re.findall(r"^INLINE \w+ \*?(v_\w+)\(", text, re.MULTILINE))


# What only some have; bodies ask for V_LOAD_WHERE or V_LOAD_COLUMNS before they use them.
OPTIONAL = {"v_slide_1", "v_slide_2", "v_load_columns", "v_store_columns"}


def test_every_instruction_set_has_the_same_operations_and_all_are_checked():
    vocabulary = operations(*HEADERS["scalar"])
    assert len(vocabulary) >= 40
    for isa, headers in HEADERS.items():
        # Helpers of vector.h (shuffles that compilers have as builtins) and avx2.h, not of the bodies.
        assert operations(*headers) - {"v_shuffle_by_table", "v_halves", "v_pairs"} - OPTIONAL == vocabulary, isa
    checks = (HERE / "check_ops.inc.h").read_text()
    assert not [name for name in vocabulary | OPTIONAL if not re.search(rf"\b{name}\(", checks)]
    assert {path.name for path in (CSRC / "simd").glob("*.h")} == {
        "system.h", *(name for headers in HEADERS.values() for name in headers)
    }  # fmt: skip


SOURCES = sorted(path.relative_to(CSRC) for path in CSRC.rglob("*.c"))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_clang_compiles_without_warnings(source, tmp_path):
    compiler = tool("clang")
    output = run(compiler, *FLAGS, "-Wall", "-Wextra", "-O0", "-c", CSRC / source, "-o", tmp_path / "object.o")
    assert output == ""


@pytest.mark.parametrize("source", [path for path in SOURCES if path.stem.endswith(("neon", "dispatch"))], ids=str)
def test_the_cross_compiler_compiles_neon_without_warnings(source, tmp_path):
    compiler = tool("aarch64-linux-gnu-gcc")
    output = run(compiler, *FLAGS, "-Wall", "-Wextra", "-O0", "-c", CSRC / source, "-o", tmp_path / "object.o")
    assert output == ""
