"""`asv_bench/dashboard.py`: what it writes, and one clear line where it cannot. The pages in a browser: see
test_dashboard_pages.py."""

import html.parser
import json
import os
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import dashboard_fixture as fixture
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "asv_bench" / "dashboard.py"


def run(*arguments, **options):
    """The finished script."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def build(made, target):
    """Build the dashboard of (repository, results)."""
    return run("build", "--root", made[0], "--results", made[1], "--out", target)


@pytest.fixture
def made(tmp_path):
    """A small project without results of asv, so that a build is quick: (repository, results)."""
    results = tmp_path / "results"
    results.mkdir()
    fixture.peers(results)
    return tmp_path, results


def refused(done, *words):
    """The script ended with one line that has all the words, and wrote nothing to standard output."""
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("dashboard.py: ")
    assert [word for word in words if str(word) not in lines[0]] == []


class Reader(html.parser.HTMLParser):
    """Collects the words, the elements and the addresses of a page, and checks that elements nest."""

    VOID = ("meta", "link", "input")

    def __init__(self, page):
        super().__init__()
        self.words, self.tags, self.addresses, self.ids, self._open = [], [], [], [], []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.note(tag, attributes)

    def note(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("href", "src"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(path):
    """A page's Reader."""
    return Reader(path.read_text(encoding="utf-8"))


def test_pages(made, tmp_path):
    """Elements nest, identifiers are unique, addresses are relative and lead somewhere, text is escaped."""
    site = tmp_path / "site"
    done = build(made, site)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("index.html", "cases.html", "history/index.html"):
        page = read(site / name)
        assert len(page.ids) == len(set(page.ids))
        for address in page.addresses:
            file, _, fragment = address.partition("#")
            target = (site / name).parent / file if file else site / name
            assert target.is_file(), address
            if fragment and not fragment.startswith("of="):
                assert fragment in read(target).ids, address
    words = "".join(read(site / "index.html").words)
    assert "a <CPU> & more" in words
    assert "python asv_bench/peers.py conv" in words
    assert "python asv_bench/peers.py ort" in words  # not measured yet, which the page says
    assert "0123abc" in words


def test_figures(made, tmp_path):
    """The summary has the means of the files, and the worst and the best of the rows."""
    site = tmp_path / "site"
    build(made, site)
    found = {entry["of"]: entry for entry in json.loads((site / "dashboard.json").read_text())["comparisons"]}
    assert list(found) == ["conv-pytorch", "conv-pytorch-channels-last", "twin-numpy-twin"]
    conv = found["conv-pytorch"]
    assert (conv["geometric_mean"], conv["cases"]) == (1.5, 150)
    assert conv["worst"] == {"case": "unet 0,8,8,9 3x3 s1 p1 forward", "threads": 1, "ratio": 0.5}
    assert conv["best"]["ratio"] == 0.5 * 1.03**149
    assert conv["slower"] == sum(0.5 * 1.03**n < 1 for n in range(150)) == 24
    assert found["twin-numpy-twin"]["geometric_mean"] == pytest.approx(3)
    rows = read(site / "cases.html").tags.count("tr") - 1
    assert rows == 301


OWN = ROOT / "asv_bench" / "results"


@pytest.mark.skipif(not OWN.is_dir(), reason="the source distribution has no results")
def test_own_results(tmp_path):
    """The project's own results build."""
    results = tmp_path / "results"
    results.mkdir()
    for path in OWN.glob("*.json"):
        (results / path.name).write_bytes(path.read_bytes())
    done = run("build", "--results", results, "--out", tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "site" / "dashboard.json").read_text())["comparisons"]
    assert {"conv-pytorch", "pool-pytorch", "twin-numpy-twin", "train-pytorch"} <= {entry["of"] for entry in found}


SIDES = {"seconds": [1e-3, 2e-3], "ratios": [2.0], "spread": [[1.9, 2.1]], "disturbed": 0}
HOST = {"cpu": "a CPU", "isa": "avx2", "torch": "2.13.0+cpu", "onnxruntime": "1.32.0", "autograd": "1.8.0"}
KINDS = {
    "train": ({"rows": [{"family": "training step", "case": "LeNet-5", "threads": 1, **SIDES}]}, "PyTorch 2.13.0"),
    "autograd": (
        {"peer": "autograd", "rows": [{"family": "gradients", "case": "x (8,)", "threads": 1, **SIDES}]},
        "autograd 1.8.0",
    ),
    "ort": (
        {
            "summaries": {"onnxruntime": {"geometric_mean": 2.0}},
            "rows": [{"family": "pools", "case": "MaxPool", "pass": "inference", "threads": 2, "amount": 1.0, **SIDES}],
        },
        "onnxruntime 1.32.0",
    ),
    "onnx": (
        {
            "names": ["convgrad", "onnxruntime"],
            "rows": [
                {
                    "model": "resnet50",
                    "batch": 8,
                    "threads": 1,
                    "seconds": {"convgrad": 1e-3, "onnxruntime": 2e-3},
                    "ratios": {"onnxruntime": 2.0},
                }
            ],
        },
        "onnxruntime 1.32.0",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_files(tmp_path, kind):
    """Each suite of peers.py has its own form; an older file, without a commit, is dated by git, here by nothing."""
    results = tmp_path / "results"
    results.mkdir()
    content, peer = KINDS[kind]
    (results / f"peers-{kind}.json").write_text(json.dumps({"host": HOST, "rounds": 3, **content}))
    done = build((tmp_path, results), tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads((tmp_path / "site" / "dashboard.json").read_text())["comparisons"]
    assert (found["peer"], found["cases"], found["slower"]) == (peer, 1, 0)
    assert found["geometric_mean"] == pytest.approx(2)
    assert found["command"] == f"python asv_bench/peers.py {kind}"
    assert found["commit"] is None


def test_reads_what_the_suites_write(tmp_path, monkeypatch):
    """The report of a suite, made by the code that makes it after a run, with the commit it ran on."""
    monkeypatch.syspath_prepend(str(ROOT / "asv_bench"))
    import report
    from page import results

    suite = report.Suite(
        "ort", None, ("inference",), ("onnxruntime",), "GB/s", "float32", summarised=1, package="pytest"
    )
    (row,) = KINDS["ort"][0]["rows"]
    made = report.make_report(suite, types.SimpleNamespace(rounds=3), [row, {**row, "family": "more", "ratios": [8.0]}])
    assert made["host"]["cores"] == os.cpu_count()
    (found,) = results.comparisons("ort", json.loads(json.dumps(made)), "peers-ort.json", None)
    assert found.mean == pytest.approx(4)
    assert [line for line in report.summary_lines(suite, made) if "`python asv_bench/peers.py ort`" in line]
    assert all(line.count("|") == 8 for line in report.table_lines(suite, made))


def test_reads_what_the_gate_writes(tmp_path, monkeypatch):
    """A history written by gate.py's own code, with timings that are made up."""
    monkeypatch.syspath_prepend(str(ROOT / "asv_bench"))
    gate_history = pytest.importorskip("gate_history")
    import gate_cases
    import gate_compare
    from page import steps

    hashes = fixture.commits(tmp_path / "repository")
    chosen = gate_cases.chosen("relu", False)[:3]

    def compare(repo, base, head, options):
        slow, old, other = (case.name for case in chosen)
        rows = [gate_compare.Row(slow, ratio=1.08, rounds=21, slower=head.hash == hashes[2])]
        rows += [gate_compare.Row(old, skipped="not there yet"), gate_compare.Row(other, ratio=0.99, rounds=21)]
        return [row for row in rows if row.case in [case.name for case in options.cases]]

    path = tmp_path / "gate-history.json"
    write = lambda path, content: path.write_text(json.dumps(content))
    options = gate_compare.Options(chosen, say=lambda *words: None)
    assert gate_history.history(tmp_path / "repository", 4, options, write, path, compare) == 0
    gate = steps.read_gate(path)
    assert (gate.limit, gate.command, len(gate.steps)) == (0.05, "python asv_bench/gate.py --history 4", 3)
    assert [len(step.cases) for step in gate.steps] == [2, 2, 2]
    assert gate.steps[0].skipped == [f"{chosen[1].name}: not there yet"]
    (found,) = [regression for step in gate.steps for regression in step.regressions]
    assert (found.case, found.ratio, found.commit) == (chosen[0].name, 1.08, hashes[2])
    assert [case.name for case in gate.steps[1].cases if case.slower] == [chosen[0].name]


@pytest.mark.parametrize("planted", [True, False])
def test_regressions(made, tmp_path, planted):
    """A confirmed slowdown is listed with its commit and the command; without one the page says so."""
    hashes = fixture.commits(tmp_path / "repository")
    fixture.gate(made[1], hashes, planted)
    site = tmp_path / "site"
    build(made, site)
    words = "".join(read(site / "index.html").words)
    assert ("3 steps between commits, 6 paired ratios: 1 confirmed as slower." in words) == planted
    assert ("no case became slower" in words) != planted
    short = hashes[2][:7]
    again = f"python asv_bench/gate.py {short}~1 --head {short} --cases '{fixture.PLANTED}'"
    assert (again in words) == planted
    assert "python asv_bench/gate.py --history 4" in words
    assert ("+8.0 %" in words) == planted
    assert "pool: add <max> & average" in words
    assert "gelu: not there yet" in words


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("peers-conv.json", "{", ("is not JSON",)),
        ("peers-conv.json", "[]", ("is not what `python asv_bench/peers.py conv` writes",)),
        ("twin.json", '{"host": {}, "rounds": 3, "rows": []}', ("`python asv_bench/twin.py`", "no rows")),
        (
            "gate-history.json",
            '{"steps": [{}]}',
            ("is not what `python asv_bench/gate.py --history N` writes", "regressions"),
        ),
        (
            "gate-history.json",
            '{"machine": "m", "date": "d", "steps": [{"base": "a", "head": "b", "subject": "s", "cases": {"c": '
            '{"ratio": NaN, "rounds": 1}}, "regressions": []}]}',
            ("gate.py --history N` writes", "nan is not a positive number"),
        ),
    ],
)
def test_corrupt_results(made, tmp_path, name, content, words):
    """A file that is not what the scripts write is named, and an earlier site stays as it was."""
    site = tmp_path / "site"
    build(made, site)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    (made[1] / name).write_text(content)
    refused(build(made, site), made[1] / name, *words)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


def test_corrupt_asv_results(tmp_path):
    """asv's own words, in one line."""
    made = fixture.project(tmp_path)
    (made[1] / "asv" / "benchmarks.json").unlink()
    refused(build(made, tmp_path / "site"), "asv publish cannot use", made[1] / "asv")
    assert not (tmp_path / "site").exists()


def test_results_without_a_repository(made, tmp_path):
    """Curves need the order of the commits."""
    fixture.asv_results(made[1], ["0" * 40])
    (tmp_path / "asv.conf.json").write_bytes((ROOT / "asv.conf.json").read_bytes())
    refused(build(made, tmp_path / "site"), tmp_path, "is not a git repository with commits")
    assert not (tmp_path / "site").exists()


def test_asv_missing(made, tmp_path):
    """Results of asv are there but asv is not."""
    fixture.asv_results(made[1], ["0" * 40])
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'asv' else find(name, *rest)\n"
    )
    done = run(
        *("build", "--root", made[0], "--results", made[1], "--out", tmp_path / "site"),
        env={**os.environ, "PYTHONPATH": str(hidden)},
    )
    refused(done, "asv is not installed", "pip install '.[dashboard]'")


def test_no_results(tmp_path):
    """No folder, or an empty one."""
    refused(build((tmp_path, tmp_path / "nowhere"), tmp_path / "site"), "no results folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(build((tmp_path, tmp_path / "empty"), tmp_path / "site"), "no results in", "peers.py conv")


def test_out_is_something_else(made, tmp_path):
    """A folder of other things is never replaced; a file neither."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    refused(build(made, other), other, "holds something other than a dashboard")
    assert (other / "thesis.txt").read_text() == "years of work"
    refused(build(made, other / "thesis.txt"), "holds something other than a dashboard")
    refused(build(made, other / "thesis.txt" / "site"), "cannot write")


def test_built_again(made, tmp_path):
    """A new build replaces the old one whole, also in an empty folder, and leaves nothing beside it."""
    site = tmp_path / "site"
    site.mkdir()
    assert build(made, site).returncode == 0
    (site / "stale.html").write_text("old")
    assert build(made, site).returncode == 0
    assert not (site / "stale.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


def test_serve(made, tmp_path):
    """Builds what is not there, serves it on this machine only, and says where."""
    options = ("--root", made[0], "--results", made[1], "--out", tmp_path / "site", "--port", 0)
    server = subprocess.Popen(
        [sys.executable, str(SCRIPT), "serve", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "files" in server.stdout.readline()
        address = server.stdout.readline().split(" on ")[1].split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=120) as answer:
            assert b"How fast is convgrad" in answer.read()
        port = address.rsplit(":", 1)[1].strip("/")
        refused(run("serve", "--out", tmp_path / "site", "--port", port), f"cannot listen on port {port}", "--port")
    finally:
        server.terminate()
        server.communicate(timeout=60)
    refused(run("serve", "--out", tmp_path / "site", "--port", 70000), "cannot listen on port 70000")
