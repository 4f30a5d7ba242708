"""Builds of commits for `gate.py`: compiled once for each state of the sources that are compiled, kept in a cache.

A build is the commit's own `src/convgrad` with the modules that its own `setup.py` compiles. What is cached is the
compiled modules alone, under a digest of csrc, src/convgrad/_native and setup.py of the commit, of the compiler, the
interpreter and the switches of the build: a commit that changes Python files only costs nothing.
"""

import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

COMPILED = ("csrc", "src/convgrad/_native", "setup.py")
KEPT = 80  # builds in the cache, some 6 MB each; the oldest go first


class Refused(Exception):
    """What was asked for cannot be done; the message is one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: full hash, the abbreviation it is shown by, its date (ISO 8601) and its subject."""

    hash: str
    short: str
    date: str
    subject: str


def git(repo, *arguments, check=True):
    """Standard output of a git command in `repo`, as text; None where it fails and `check` is False."""
    done = _git(repo, *arguments)
    if done.returncode:
        if check:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise Refused(f"git {arguments[0]} failed in {repo}: {lines[-1]}")
        return None
    return done.stdout.decode(errors="replace").strip()


def _git(repo, *arguments):
    try:
        return subprocess.run(["git", "-c", "safe.directory=*", "-C", str(repo), *arguments], capture_output=True)
    except FileNotFoundError:
        raise Refused("git is not installed, or not on PATH") from None


def resolve(repo, revision):
    """The Commit that `revision` names in `repo`; Refused where it names none."""
    found = git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False)
    if not found:
        shallow = " (the clone is shallow: git fetch --unshallow)" if is_shallow(repo) else ""
        raise Refused(f"{revision!r} names no commit here{shallow}")
    return Commit(found, *git(repo, "show", "-s", "--format=%h%x00%cI%x00%s", found).split("\0"))


def is_shallow(repo):
    """True for a clone without its whole history."""
    return git(repo, "rev-parse", "--is-shallow-repository", check=False) == "true"


def compiler():
    """Path and version of the C compiler that setuptools will call; Refused where there is none."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    path = shutil.which(command)
    if path is None:
        raise Refused(f"no C compiler: {command!r} is not installed, or not on PATH; install GCC or clang, or set CC")
    done = subprocess.run([path, "--version"], capture_output=True, text=True)
    return f"{path} {(done.stdout.splitlines() or [''])[0]}"


def digest(repo, commit):
    """The cache's name for the compiled modules of `commit`."""
    parts = [git(repo, "rev-parse", f"{commit.hash}:{path}", check=False) or "" for path in COMPILED]
    if not parts[-1]:
        raise Refused(f"{commit.short} ({commit.subject}) has no setup.py: it cannot be built")
    switches = [f"{name}={os.environ.get(name, '')}" for name in ("CFLAGS", "LDFLAGS", "CONVGRAD_OPENMP")]
    tools = [compiler(), sys.version, *(f"{name} {_version(name)}" for name in ("Cython", "setuptools", "numpy"))]
    return hashlib.sha256("\n".join([*parts, *switches, *tools]).encode()).hexdigest()[:16]


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Refused(f"{name} is not installed here, which builds need: pip install -e '.[bench]'") from None


def cache_folder(repo):
    """Where builds are kept: what CONVGRAD_GATE_CACHE names, or .asv/gate of the repository, which git ignores."""
    return Path(os.environ.get("CONVGRAD_GATE_CACHE") or Path(repo) / ".asv" / "gate")


def compiled_modules(repo, commit, say=print):
    """Folder of the cached extension modules of `commit`, compiled now where the cache has none.

    Raises
    ------
    Refused : no compiler, no Cython, or the commit does not build; the cache is as it was
    """
    cache = cache_folder(repo)
    kept = cache / digest(repo, commit)
    if kept.is_dir():
        os.utime(kept)
        return kept
    say(f"building {commit.short}  {commit.subject}")
    with tempfile.TemporaryDirectory(prefix="convgrad-gate-") as folder:
        _extract(repo, commit, folder)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        built = sorted((Path(folder) / "src" / "convgrad" / "_native").glob(f"*{_suffix()}"))
        if done.returncode or not built:
            raise Refused(f"{commit.short} ({commit.subject}) does not build: {first_error(done.stderr + done.stdout)}")
        cache.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
        try:
            for path in built:
                shutil.copy(path, half)
            half.replace(kept)
        except OSError:  # another gate was first with the same build
            if not kept.is_dir():
                raise
        finally:
            shutil.rmtree(half, ignore_errors=True)
    _forget_oldest(cache)
    return kept


def unpack(repo, commit, folder, say=print):
    """Put an importable copy of the package as `commit` has it into `folder`; files are copies, never links.

    The loader hands out one library for one file, so two sides of a comparison must not share files.
    """
    if git(repo, "cat-file", "-e", f"{commit.hash}:src/convgrad/__init__.py", check=False) is None:
        raise Refused(f"{commit.short} ({commit.subject}) has no src/convgrad/__init__.py: nothing to import")
    modules = compiled_modules(repo, commit, say)
    _extract(repo, commit, folder, "src/convgrad")
    package = Path(folder) / "src" / "convgrad"
    for path in modules.iterdir():
        shutil.copy(path, package / "_native")
    return package


def first_error(output):
    """The line of a build's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b|[A-Za-z]Error:", line)]
    return (errors or lines[-1:] or ["no message"])[0][:300]


def _suffix():
    return sysconfig.get_config_var("EXT_SUFFIX") or ".so"


def _extract(repo, commit, folder, *paths):
    done = _git(repo, "archive", "--format=tar", commit.hash, *paths)
    if done.returncode:
        raise Refused(f"{commit.short} ({commit.subject}) has no {' or '.join(paths)}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _forget_oldest(cache):
    kept = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
