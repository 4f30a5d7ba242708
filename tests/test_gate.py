"""The performance gate, with nothing timed: statistics on made-up numbers, two builds in one process, bad input."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "asv_bench"))

import gate
import gate_build
import gate_cases
import gate_compare
import gate_count
import gate_history
import gate_proof
import gate_rounds
import gate_sides

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

LIMIT = 0.05


# ---------------------------------------------------------------- statistics


def noisy(factor, seed, n=48, spread=0.04):
    """Ratios around `factor`, a tenth of them wild, as where another process runs."""
    rng = np.random.default_rng(seed)
    ratios = factor * (1 + spread * rng.standard_normal(n))
    ratios[:: n // 5] *= rng.uniform(0.2, 5, ratios[:: n // 5].shape)
    return tuple(ratios.tolist())


def fake_timer(factors, calls=None, seed=0, skipped=()):
    """`time_cases` of `gate_compare.timed`: cases that are slower by the factors given; the rest are even."""
    seeds = itertools.count(seed)

    def time_cases(names, rounds, head_first):
        if calls is not None:
            calls.append((list(names), rounds, head_first))
        for name in names:
            outcome = gate_rounds.Timed(
                name, 1e-3, 1e-3 * factors.get(name, 1), noisy(factors.get(name, 1), next(seeds)), rounds
            )
            if name in skipped:
                outcome = gate_rounds.Timed(name, skipped="BASE has no such thing")
            yield {field: getattr(outcome, field) for field in outcome.__slots__}

    return time_cases


def options(n=4):
    return gate_compare.Options(list(gate_cases.GUARDED[:n]), LIMIT, say=lambda text: None)


def test_the_same_speed_is_never_accused():
    for seed in range(200):
        rows = gate_compare.timed(options(), fake_timer({}, seed=1000 * seed))
        assert not any(row.slower for row in rows)


def test_eight_percent_is_always_accused_and_alone():
    chosen = options()
    guilty = chosen.cases[2].name
    for seed in range(200):
        rows = gate_compare.timed(chosen, fake_timer({guilty: 1.08}, seed=1000 * seed))
        assert [row.case for row in rows if row.slower] == [guilty]


def test_a_suspect_is_timed_again_before_it_is_accused():
    calls, chosen = [], options()
    guilty = chosen.cases[1].name
    (row,) = [row for row in gate_compare.timed(chosen, fake_timer({guilty: 1.3}, calls)) if row.slower]
    names = [case.name for case in chosen.cases]
    assert calls == [(names, 48, False), ([guilty], 96, True), ([guilty], 96, False)]
    assert (row.attempts, row.rounds) == (3, 240)


@pytest.mark.parametrize("wrong", [1.5, 0.7])
def test_a_first_look_that_was_wrong_is_taken_back(wrong):
    first = iter([wrong, 1.01, 1.01])
    name = gate_cases.GUARDED[0].name

    def time_cases(names, rounds, head_first):
        factor = next(first)
        yield {"case": name, "base": 1.0, "head": 1.0, "ratios": [factor] * 9, "rounds": 9, "skipped": "", "failed": ""}

    (row,) = gate_compare.timed(options(1), time_cases)
    assert (row.slower, row.ratio, row.attempts) == (False, 1.01, 3)


def test_a_skipped_case_is_no_accusation_but_is_told():
    name = gate_cases.GUARDED[0].name
    chosen = options()
    rows = gate_compare.timed(chosen, fake_timer({}, skipped=(name,)))
    assert not any(row.accused for row in rows)
    assert f"{name}" in (line := gate_compare.table(rows, chosen)[1])
    assert line.endswith("skipped: BASE has no such thing")


def test_rounds_alternate_and_set_disturbed_ones_aside():
    order, fates = [], itertools.cycle([True, True, False, True])

    def take(call, repeats):
        order.append(call)
        return {"base": 1.0, "head": 2.0}[call], next(fates)

    placements, set_aside = gate_rounds.rounds(lambda: (("base", "head"), 5), 16, take)
    assert placements == [[(1.0, 2.0)] * 4] * 4
    assert set_aside in range(12, 17)  # the second of every two rounds was disturbed
    assert order[:4] == ["base", "head", "head", "base"]


def test_where_every_round_is_disturbed_all_count():
    placements, set_aside = gate_rounds.rounds(lambda: ((1, 2), 1), 8, lambda call, repeats: (call, False))
    assert (list(map(len, placements)), set_aside) == ([12, 12], 0)


def test_what_memory_is_worth_cancels_where_it_is_exchanged():
    better, worse = [(1.0, 1.08 / 1.1)] * 3 + [(1.0, 9.0)], [(1.0, 1.08 * 1.1)] * 4
    assert gate_rounds.pair_ratios([better, worse, worse, better]) == pytest.approx((1.08, 1.08))


def test_a_sample_repeats_and_notices_preemption():
    calls, ticks, switches = [], iter([10.0, 16.0]), iter([3, 4])
    seconds, calm = gate_rounds.sample(lambda: calls.append(1), 3, lambda: next(ticks), lambda: next(switches))
    assert (len(calls), seconds, calm) == (4, 2.0, False)  # one call before the clock starts


def test_more_instructions_fail_and_equal_ones_are_called_same(monkeypatch):
    chosen = options(2)
    names = [case.name for case in chosen.cases]
    rows = gate_compare.timed(chosen, fake_timer({}))
    monkeypatch.setattr(gate_count, "missing", lambda: "")
    counts = {"b": {names[0]: 1000, names[1]: 1000}, "h": {names[0]: 1000, names[1]: 1051}}
    monkeypatch.setattr(gate_count, "count", lambda folder, cases, notes: counts[folder])
    gate_compare.add_instructions(rows, {"base": "b", "head": "h"}, chosen)
    assert [row.more for row in rows] == [False, True]
    text = "\n".join(gate_compare.table(rows, chosen))
    assert "same" in text
    assert "+5.10 %  MORE" in text


def test_without_valgrind_a_note_says_so(monkeypatch):
    chosen = options(1)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    gate_compare.add_instructions([gate_compare.Row(chosen.cases[0].name)], {}, chosen)
    assert chosen.notes == ["instructions not counted: valgrind is not installed (Debian: apt-get install valgrind)"]


PROFILE = """\
desc: Trigger: Client Request: case 0
events: Ir
ob=(1) /lib/libpython.so
fl=(1) ???
fn=(1) call
10 5
cob=(2) /build/convgrad/_native/runtime.so
cfn=(2) kernel
calls=1 20
10 1000
ob=(2)
fn=(2)
20 700
+3 300
fn=(3) other
* 4
ob=(3) /build/convgrad/_native/conv.so
30 50
"""


def test_a_profile_counts_what_the_kernels_executed_themselves():
    assert gate_count.self_cost(PROFILE, Path("/build/convgrad/_native/runtime.")) == 1004


# ---------------------------------------------------------------- two builds in one process


@pytest.fixture(scope="module")
def two_copies(tmp_path_factory):
    """Two folders with a copy each of the package under test."""
    import convgrad

    folders = []
    for name in ("base", "head"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(Path(convgrad.__file__).parent, folder / "convgrad", ignore=shutil.ignore_patterns("*.pyx"))
        folders.append(folder)
    return folders


def test_the_two_sides_are_apart(two_copies):
    import convgrad

    base, head = gate_sides.load_both(*two_copies)
    assert len({id(side.module.functional.conv2d) for side in (base, head)}) == 2
    assert {Path(file).parts[-3:-1] for file in base.libraries()} == {("convgrad", "_native")}
    assert not base.libraries() & head.libraries()
    base.module.set_num_threads(1)
    head.module.set_num_threads(2)
    assert (base.module.get_num_threads(), head.module.get_num_threads()) == (1, 2)
    for side in (base, head):  # C state: each counts its own kernel calls
        with side.active():
            side.runtime = sys.modules["convgrad._native.runtime"]
    before = head.runtime.kernel_calls()
    base.module.relu(np.ones(5000, np.float32))
    assert head.runtime.kernel_calls() == before
    assert sys.modules["convgrad"] is convgrad


def test_one_build_twice_is_refused(two_copies):
    with pytest.raises(ImportError, match="libraries of their own"):
        gate_sides.load_both(two_copies[0], two_copies[0])


def test_every_guarded_case_runs_and_agrees_with_the_twin(two_copies, monkeypatch):
    base, head = gate_sides.load_both(*two_copies)

    def bind_once(bind, n_rounds):
        calls, _ = bind()
        assert all(map(callable, calls))
        return [[(1.0, 1.0)], [(1.0, 1.0)]], 0

    monkeypatch.setattr(gate_rounds, "rounds", bind_once)
    monkeypatch.setattr(gate_rounds, "repeats_for", lambda call: 1)
    for case in gate_cases.GUARDED:
        outcome = gate_rounds.time_case(case, base, head, 3)
        assert (outcome.skipped, outcome.failed, outcome.ratios) == ("", "", (1.0,)), case.name


def test_what_base_lacks_is_skipped_and_what_head_lacks_fails(two_copies):
    base, head = gate_sides.load_both(*two_copies)
    case = gate_cases.Guarded("new", ((3,),), lambda cg, x: lambda: cg.newly_made(x))
    head.module.newly_made = lambda x: x
    try:
        outcome = gate_rounds.time_case(case, base, head, 3)
        assert (outcome.skipped, outcome.failed) == ("BASE has no newly_made", "")
        outcome = gate_rounds.time_case(case, head, base, 3)
        assert outcome.failed == "BASE has no newly_made"  # the side passed as head here
    finally:
        del head.module.newly_made


def test_names_of_guarded_cases_are_unique_and_the_short_form_is_a_part():
    names = [case.name for case in gate_cases.GUARDED]
    assert len(set(names)) == len(names)
    assert 12 <= len(gate_cases.chosen(short=True)) < len(names)
    assert all(case.arrays()[0].ctypes.data % 64 == 0 for case in gate_cases.chosen("relu"))


# ---------------------------------------------------------------- repositories


@pytest.fixture
def repository(tmp_path):
    """A repository of four commits: none can be built."""
    folder = tmp_path / "repository"

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)

    (folder / "src" / "convgrad" / "_native").mkdir(parents=True)
    (folder / "csrc").mkdir()
    (folder / "src" / "convgrad" / "__init__.py").touch()
    (folder / "src" / "convgrad" / "_native" / "__init__.py").touch()
    (folder / "setup.py").write_text("raise SystemExit('x.c:1:2: error: no such luck')\n", encoding="utf-8")
    git("init", "-q")
    for i in range(4):
        (folder / "csrc" / "kernels.h").write_text(f"/* {i} */\n", encoding="utf-8")
        git("add", "-A")
        git("commit", "-qm", f"csrc: number {i}")
    return folder


def fails(capsys, *arguments):
    """The one line of a gate that could not find out."""
    assert gate.main(list(map(str, arguments))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_unknown_revisions(repository, capsys):
    assert fails(capsys, "nosuch", "--repo", repository) == "gate.py: 'nosuch' names no commit here"
    assert fails(capsys, "HEAD", "--head=--all", "--repo", repository) == "gate.py: '--all' names no commit here"


def test_a_base_that_does_not_build(repository, capsys):
    message = fails(capsys, "HEAD~1", "--repo", repository)
    assert message.endswith("(csrc: number 2) does not build: x.c:1:2: error: no such luck")
    assert not list((repository / ".asv").rglob("*"))  # nothing half-written


def test_no_compiler(repository, capsys, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    message = fails(capsys, "HEAD~1", "--repo", repository)
    assert message.startswith("gate.py: no C compiler: 'no-such-compiler' is not installed, or not on PATH;")


def test_a_commit_without_a_package(repository, capsys):
    subprocess.run(["git", "-C", repository, "rm", "-q", "src/convgrad/__init__.py"], check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", repository, *identity, "commit", "-qm", "src: gone"], check=True)
    assert "(src: gone) has no src/convgrad/__init__.py" in fails(capsys, "HEAD", "--repo", repository)


def test_no_such_case(repository, capsys):
    assert "no guarded case contains 'qqq'" in fails(capsys, "HEAD", "--cases", "qqq", "--repo", repository)


@pytest.mark.parametrize(
    "arguments",
    [[], ["HEAD", "--limit", "0"], ["HEAD", "--rounds", "1"], ["HEAD", "--threads", "0"], ["--history", "1"]]
    + [["HEAD", "--history", "5"]],
    ids=" ".join,
)
def test_bad_options(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        gate.main(arguments)
    assert stopped.value.code == 2
    assert "gate.py: error:" in capsys.readouterr().err


def test_builds_are_told_apart_by_what_is_compiled(repository):
    commits = [gate_build.resolve(repository, f"HEAD~{i}") for i in range(3)]
    names = {gate_build.digest(repository, commit) for commit in commits}
    assert len(names) == 3
    (repository / "README.md").write_text("words\n", encoding="utf-8")
    subprocess.run(["git", "-C", repository, "add", "-A"], check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", repository, *identity, "commit", "-qm", "docs: words"], check=True)
    assert gate_build.digest(repository, gate_build.resolve(repository, "HEAD")) in names


def test_exit_status_and_report(repository, capsys, monkeypatch, tmp_path):
    """A planted slowdown by way of the whole command, the builds and the clock replaced."""
    monkeypatch.setattr(gate_build, "unpack", lambda repo, commit, folder, say: folder / "src" / "convgrad")
    guilty = gate_cases.GUARDED[0].name
    monkeypatch.setattr(
        gate_compare, "run_worker", lambda sources, names, *rest: fake_timer({guilty: 1.08})(names, 48, False)
    )
    common = ["HEAD~1", "--repo", str(repository), "--instructions", "off"]
    assert gate.main([*common, "--json", str(tmp_path / "out" / "gate.json")]) == 1
    printed = capsys.readouterr().out
    assert f"slower: {guilty} by" in printed
    rows = json.loads((tmp_path / "out" / "gate.json").read_text(encoding="utf-8"))["rows"]
    assert [row["case"] for row in rows if row["slower"]] == [guilty]
    assert gate.main([*common, "--report-only"]) == 0
    assert gate.main([*common, "--cases", "max_pool2d"]) == 0


# ---------------------------------------------------------------- history


def test_commits_are_spread_over_the_whole_life():
    assert gate_history.spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert gate_history.spread([1, 2], 9) == [1, 2]
    assert gate_history.between("abcdef", "b", "e") == "cd"


def test_a_history_names_the_commit_that_made_it_slower(repository, tmp_path):
    """Of four commits the third is the slow one; the step from first to last is halved until that is known."""
    guilty = gate_cases.GUARDED[0].name
    pairs = []

    def compare(repo, base, head, options):
        pairs.append((base.subject[-1], head.subject[-1]))
        rows = []
        for case in options.cases:
            slow = case.name == guilty and base.subject[-1] < "2" <= head.subject[-1]
            rows.append(gate_compare.Row(case.name, ratio=1.2 if slow else 1.0, rounds=9, attempts=3, slower=slow))
        return rows

    path = tmp_path / "history.json"
    assert gate_history.history(repository, 2, options(), gate.write_json, path, compare) == 0
    content = json.loads(path.read_text(encoding="utf-8"))
    (step,) = content["steps"]
    (entry,) = step["regressions"]
    assert (entry["case"], entry["subject"], entry["commits"], entry["ratio"]) == (guilty, "csrc: number 2", 1, 1.2)
    assert step["commits"] == 3
    assert set(step["cases"]) == {case.name for case in options().cases}
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    n = len(pairs)
    gate_history.history(repository, 2, options(), gate.write_json, path, compare)
    assert len(pairs) == n  # what is measured is kept


def test_a_history_goes_on_where_a_commit_does_not_build(repository, tmp_path):
    path = tmp_path / "history.json"
    assert gate_history.history(repository, 2, options(), gate.write_json, path) == 0
    (step,) = json.loads(path.read_text(encoding="utf-8"))["steps"]
    assert "does not build: x.c:1:2: error: no such luck" in step["note"]
    assert not step["cases"]


def test_a_commit_that_does_not_build_is_nobodys_base(repository, tmp_path):
    """Of numbers 0 to 3 the second is broken: 0 .. 1 says so, then 0 .. 2 and 2 .. 3 are measured."""

    def compare(repo, base, head, options):
        for commit in (base, head):
            if commit.subject.endswith("1"):
                raise gate_build.Refused(f"{commit.short} ({commit.subject}) does not build: x")
        return [gate_compare.Row(case.name, ratio=1.0, rounds=9, attempts=1) for case in options.cases]

    path = tmp_path / "history.json"
    gate_history.history(repository, 9, options(), gate.write_json, path, compare)
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    subjects = {gate_build.resolve(repository, f"HEAD~{3 - i}").hash: i for i in range(4)}
    assert [(subjects[s["base"]], subjects[s["head"]]) for s in steps] == [(0, 1), (0, 2), (2, 3)]
    assert [s["note"] != "" for s in steps] == [True, False, False]
    assert [s["commits"] for s in steps] == [1, 2, 1]


def test_the_committed_history_is_as_described():
    if not gate_history.RESULTS.is_file():
        pytest.skip("no history is committed yet")
    content = json.loads(gate_history.RESULTS.read_text(encoding="utf-8"))
    assert {"machine", "date", "command", "limit", "cases", "commits", "steps"} <= set(content)
    for step in content["steps"]:
        assert {"base", "head", "subject", "date", "commits", "cases", "regressions", "skipped", "note"} <= set(step)
        assert set(step["cases"]) <= set(content["cases"])
        assert all(entry["case"] in content["cases"] for entry in step["regressions"])


def test_the_plant_has_its_place(tmp_path):
    text = (ROOT / gate_proof.SOURCE).read_text(encoding="utf-8")
    assert len(gate_proof.CALL.findall(text)) == 1
