"""The kernels through every compiler that is installed: clang, musl's, the cross compiler for 64-bit ARM, and clang for
Windows. Where the result can run here or under emulation it computes convolutions; building all kernels takes minutes,
so only CONVGRAD_COMPILERS=1 asks for it, as `.ci/run` does."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_vocabulary import CSRC, FLAGS, HERE, SOURCES, run, tool

MINGW_HEADERS = Path("/usr/share/mingw-w64/include")


def build(compiler, folder, *options):
    """Compile and link the kernels with `check_kernels.c`; the program."""

    def compile_one(source):
        target = folder / f"{source.stem}.o"
        run(compiler, *FLAGS, "-O0", *options, f"-I{CSRC}", "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [*(CSRC / source for source in SOURCES), HERE / "check_kernels.c"]))
    run(compiler, *options, *objects, "-o", folder / "check", "-lm")
    return folder / "check"


@pytest.mark.skipif(os.environ.get("CONVGRAD_COMPILERS") != "1", reason="CONVGRAD_COMPILERS is not 1")
@pytest.mark.parametrize(
    "compilers, options, emulators, expected",
    [
        (("clang",), (), (), "scalar: 10 of 10\n"),
        (("musl-gcc",), ("-static",), (), "scalar: 10 of 10\n"),
        (("aarch64-linux-gnu-gcc",), ("-static",), ("qemu-aarch64", "qemu-aarch64-static"), "neon: 10 of 10\n"),
    ],
    ids=lambda value: value[0] if value and isinstance(value, tuple) else "",
)
def test_convolutions(compilers, options, emulators, expected, tmp_path):
    emulator = [tool(*emulators)] if emulators else []
    printed = run(*emulator, build(tool(*compilers), tmp_path, *options))
    assert expected in printed
    assert all(line.endswith(": 10 of 10") for line in printed.splitlines())


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_clang_compiles_for_windows(source):
    """Syntax and types only, with the headers of MinGW-w64: there is nothing to link with."""
    if not MINGW_HEADERS.is_dir():
        pytest.skip("not installed: the headers of MinGW-w64 (mingw-w64-common)")
    run(tool("clang"), "--target=x86_64-w64-windows-gnu", *FLAGS, f"-isystem{MINGW_HEADERS}", "-fsyntax-only",
        CSRC / source)  # fmt: skip
