"""Check what the sdist and the wheel in a directory hold: `python .ci/check_dist.py DIST`."""

import sys
import tarfile
import zipfile
from pathlib import Path

MAX_WHEEL_BYTES = 1_500_000
SOURCES_ONLY = (".c", ".h", ".pyx", ".pxd", ".o")


def fail(message):
    sys.exit(f"check_dist: {message}")


def check_wheel(path):
    """The wheel holds modules, data and licences, nothing to compile, and nothing beside the package."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        requires = [
            line.removeprefix("Requires-Dist: ")
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
    if size > MAX_WHEEL_BYTES:
        fail(f"{path.name} has {size} bytes, more than {MAX_WHEEL_BYTES}")
    junk = [name for name in names if name.endswith(SOURCES_ONLY) or "__pycache__" in name]
    junk += [name for name in names if name.split("/")[0] != "convgrad" and ".dist-info/" not in name]
    if junk:
        fail(f"{path.name} holds files that do not belong there: {junk}")
    wanted = ["convgrad/py.typed", "convgrad/data/digits.npz", "convgrad/data/LICENSE-digits.txt"]
    wanted += [file.relative_to("src").as_posix() for file in Path("src").rglob("*.pyi")]
    missing = [name for name in wanted if name not in names]
    modules = {Path(name).name.split(".")[0] for name in names if name.endswith((".so", ".pyd"))}
    missing += sorted({file.stem for file in Path("src/convgrad/_native").glob("*.pyx")} - modules)
    missing += [] if any(name.endswith("licenses/LICENSE") for name in names) else ["LICENSE"]
    if missing:
        fail(f"{path.name} lacks {missing}")
    if len(requires) != 1 or not requires[0].startswith("numpy"):
        fail(f"{path.name} must depend on NumPy alone, not on {requires}")
    print(f"{path.name}: {size} bytes, {len(modules)} extension modules, requires {requires[0]}")


def check_sdist(path):
    """The sdist holds every source that the tree has, and nothing that was built."""
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    built = [name for name in names if name.endswith((".so", ".pyd", ".o", ".pyc"))]
    built += [name for name in names if name.startswith("src/") and name.endswith(".c")]
    if built:
        fail(f"{path.name} holds built files: {built}")
    tree = [file for folder in ("src", "csrc", "tests") for file in Path(folder).rglob("*") if file.is_file()]
    wanted = {
        file.as_posix() for file in tree if file.suffix in (".c", ".h", ".pyx", ".pxd", ".py", ".pyi", ".npz", ".typed")
    }
    wanted |= {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "setup.py"}
    if wanted - names:
        fail(f"{path.name} lacks {sorted(wanted - names)}")
    print(f"{path.name}: {path.stat().st_size} bytes, {len(names)} entries")


if __name__ == "__main__":
    dist = Path(sys.argv[1])
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
