"""The house: what is installed, what importing brings in, which way the arrows run, and that the documents keep up."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import convgrad

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "convgrad"


def python(code, *options):
    """Output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- what is installed


def test_metadata():
    metadata = importlib.metadata.metadata("convgrad")
    assert metadata["Version"] == convgrad.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    required = [line for line in importlib.metadata.requires("convgrad") if "extra ==" not in line]
    assert required == ["numpy>=1.26"]
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"checkpoints", "plots", "progress", "test", "bench", "dev"} <= extras


def test_typing_marker_and_data_are_in_the_package():
    folder = Path(convgrad.__file__).parent
    assert (folder / "py.typed").is_file()
    assert "CC BY 4.0" in (folder / "data" / "LICENSE-digits.txt").read_text(encoding="utf-8")


def test_import_brings_numpy_alone():
    brought = python("import convgrad, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert "convgrad" in brought
    assert "numpy" in brought
    heavy = {
        "torch",
        "scipy",
        "sklearn",
        "matplotlib",
        "safetensors",
        "tqdm",
        "threadpoolctl",
        "pandas",
        "PIL",
        "onnx",
        "autograd",
    }
    assert not heavy & set(brought)


def test_import_costs_little_over_numpy(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))  # the first run compiles, as installing does
    # Processor time: what else this machine does meanwhile must not decide.
    code = "import time, numpy; t = time.process_time(); import convgrad; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(5)) < 0.060


def test_import_emits_no_warning():
    python("import convgrad", "-W", "error")


def test_public_names_are_listed_and_documented():
    assert len(set(convgrad.__all__)) == len(convgrad.__all__)
    for name in convgrad.__all__:
        value = getattr(convgrad, name)
        if callable(value):
            assert value.__doc__, name


# ---------------------------------------------------------------- which way the arrows run

# Modules of one level may import those of the levels above their line, never of their own or below.
LEVELS = [
    "_native typing",
    "checks",
    "activations backends call_checks options precision threads",
    "denormals pool_shapes",
    "dense_calls elementwise_calls shapes",
    "conv_calls local_calls norm_calls pool_calls row_calls",
    "config reference",
    "augmentation functional initializers progress schedules",
    "batches datasets layers",
    "optimizer_state",
    "optimizers",
    "checkpoints",
    "runs",
    "callbacks training",
    "plots",
    "demo gan integrations",
    "__main__",
]
RANKS = {name: rank for rank, names in enumerate(LEVELS) for name in names.split()}


def internal_imports(path):
    """Names of the package's own modules that the file at `path` imports, at its top or inside functions.

    What only type checkers import does not count.
    """
    folder = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("convgrad.")}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = folder[: len(folder) - node.level + 1]
                full = [*base, *(node.module or "").split(".")] if node.module else list(base)
            elif node.module == "convgrad" or (node.module or "").startswith("convgrad."):
                full = node.module.split(".")[1:]
            else:
                continue
            found |= {full[0]} if full else {alias.name for alias in node.names}
    return found


def test_python_modules_import_downwards_only():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if path == PACKAGE / "__init__.py":
            continue
        assert here in RANKS, f"{here} is new: put it in LEVELS"
        for name in internal_imports(path) - {here}:
            if name in RANKS and RANKS[name] >= RANKS[here]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_internal_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "functional").mkdir()
    path = tmp_path / "functional" / "pool.py"
    path.write_text(
        "from .. import layers\nfrom ..training import fit\nfrom .conv import x\nimport convgrad.gan\n"
        "if TYPE_CHECKING:\n    from .. import plots\nelse:\n    from .. import threads\n"
    )
    assert internal_imports(path) == {"layers", "training", "functional", "gan", "threads"}


@pytest.mark.parametrize("word", ["Python.h", "malloc", "calloc", "omp.h", "omp parallel", "pthread", "ffast-math"])
def test_kernels_know_nothing_of_python_memory_or_threads(word):
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".c", ".h")]
    assert sources
    code = {path: re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in sources}
    assert [path.name for path, text in code.items() if re.search(rf"\b{re.escape(word)}", text)] == []


# ---------------------------------------------------------------- documents


def readme_blocks():
    return re.findall(
        r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_readme_begins_with_the_demo_and_then_the_tests():
    (kind, demo), (kind_2, tests) = readme_blocks()[:2]
    assert kind == kind_2 == "sh"
    assert demo.rstrip().endswith("python -m convgrad demo")
    assert tests.rstrip().endswith("python -m pytest")
    for block in (demo, tests):  # each stands alone
        assert "python3 -m venv" in block
        assert "pip install" in block


def test_readme_extras_exist():
    known = set(importlib.metadata.metadata("convgrad").get_all("Provides-Extra"))
    asked = re.findall(r"\.\[([\w,]+)\]", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert asked
    assert {extra for group in asked for extra in group.split(",")} <= known


def test_readme_examples_run(tmp_path):
    examples = [text for kind, text in readme_blocks() if kind == "python"]
    assert len(examples) == 2
    for text in examples:
        script = tmp_path / "example.py"
        script.write_text(text.replace("epochs=10", "epochs=1"), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr


DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/notes.md",
    "docs/numerics.md",
    "docs/performance.md",
    "docs/integrations.md",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_notes_page_names_what_exists():
    page = (ROOT / "docs" / "notes.md").read_text(encoding="utf-8")
    tests = set(
        re.findall(r"^def (test_\w+)", (ROOT / "tests" / "test_notes.py").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"`(test_eq\w+)`", page)) == tests
    for file in re.findall(r"`(tests/\w+\.py)`", page):
        assert (ROOT / file).is_file(), file
    functions = set(re.findall(r"`([a-z]\w*)`", page)) - tests
    assert {"conv2d_grad_input", "softmax_cross_entropy"} <= functions
    assert [name for name in sorted(functions) if not hasattr(convgrad, name)] == []
    for module, name in re.findall(r"`(layers|optimizers)\.(\w+)", page):
        assert hasattr(getattr(convgrad, module), name), name


def test_benchmark_cases_are_distinct_and_known():
    code = "import cases, json; print(json.dumps({f: [c.name for c in cs] for f, cs in cases.FAMILIES.items()}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "asv_bench", capture_output=True, text=True, check=True, timeout=120
    )
    families = json.loads(done.stdout)
    names = [name for group in families.values() for name in group]
    assert len(names) == len(set(names))
    assert len(families["direct"]) == 14
    assert len(families["winograd"]) == 9
