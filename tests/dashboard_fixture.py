"""A small project to build the dashboard of: a few commits in git, and results of asv, of the peers and of the gate."""

import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = ("conv: begin", "pool: add <max> & average", "conv: pack panels", "docs: a page")
PLANTED = "conv2d 3x3, 1 thread"
BENCHMARKS = {
    "conv.Conv2d.time_native": {"param_names": ["layer", "n_threads"], "params": [["'3x3'", "'1x1'"], ["1", "2"]]},
    "pool.MaxPool.time_native": {"param_names": [], "params": []},
    "pool.MaxPool.track_ratio": {"param_names": [], "params": [], "type": "track", "unit": "native / twin"},
}


def commits(folder):
    """Make a git repository with one commit for each subject; returns their hashes, the oldest first."""
    folder.mkdir(parents=True)
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    run = lambda *arguments: subprocess.run(
        [*git, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
    run("init", "-q", "-b", "main")
    hashes = []
    for number, subject in enumerate(SUBJECTS):
        (folder / "csrc").mkdir(exist_ok=True)
        (folder / "csrc" / "file").write_text(str(number))
        run("add", "csrc")
        run("commit", "-q", "-m", subject, "--date", f"2026-03-0{number + 1}T12:00:00")
        hashes.append(run("rev-parse", "HEAD"))
    shutil.copy(ROOT / "asv.conf.json", folder)
    return hashes


def asv_results(folder, hashes):
    """Results of two benchmarks at every commit, as asv 0.6 writes them."""
    machine = folder / "asv" / "bench"
    machine.mkdir(parents=True)
    words = {
        "arch": "x86_64",
        "cpu": "a CPU",
        "machine": "bench",
        "num_cpu": "2",
        "os": "Linux",
        "ram": "24",
        "version": 1,
    }
    (machine / "machine.json").write_text(json.dumps(words))
    described = {
        name: {
            "code": "", "min_run_count": 2, "name": name, "number": 0, "repeat": 0, "rounds": 2, "sample_time": 0.01,
            "timeout": 60, "type": "time", "unit": "seconds", "version": "1", "warmup_time": -1, **more,
        }
        for name, more in BENCHMARKS.items()
    }  # fmt: skip
    (folder / "asv" / "benchmarks.json").write_text(json.dumps({**described, "version": 2}))
    for number, digest in enumerate(hashes):
        content = {
            "commit_hash": digest,
            "env_name": "virtualenv-py3.11",
            "date": 1772366400000 + number * 86400000,
            "params": {k: v for k, v in words.items() if k != "version"} | {"python": "3.11", "numpy": ""},
            "python": "3.11",
            "requirements": {"numpy": ""},
            "env_vars": {},
            "result_columns": ["result", "params", "version", "started_at", "duration"],
            "results": {
                "conv.Conv2d.time_native": [
                    [1e-3 * (1 + number % 2), 2e-3, 5e-4, 1e-3],
                    BENCHMARKS["conv.Conv2d.time_native"]["params"],
                    "1",
                    0,
                    1,
                ],
                "pool.MaxPool.time_native": [[3e-4], [], "1", 0, 1],
                "pool.MaxPool.track_ratio": [[0.6 if number == 3 else 0.5], [], "1", 0, 1],
            },
            "durations": {},
            "version": 2,
        }
        (machine / f"{digest[:8]}-virtualenv-py3.11.json").write_text(json.dumps(content))


def peers(folder):
    """A suite of 150 rows in two columns, one of a family each, and the twin's."""
    rows = []
    for number in range(150):
        ratio = 0.5 * 1.03**number
        rows.append(
            {
                "case": f"{'direct' if number % 2 else 'unet'} {number},8,8,9 3x3 s1 p1",
                "family": "direct" if number % 2 else "unet",
                "pass": "forward",
                "threads": 1 + number % 2,
                "amount": 1.0,
                "seconds": [1e-3, 1e-3 * ratio, 2e-3],
                "ratios": [ratio, 2.0],
                "spread": [[ratio * 0.9, ratio * 1.1], [1.9, 2.1]],
                "disturbed": 0,
            }
        )
    host = {"cpu": "a <CPU> & more", "isa": "avx2", "torch": "2.13.0+cpu", "numpy": "2.4.6", "commit": "0123abc"}
    summaries = {"PyTorch": {"geometric_mean": 1.5}, "PyTorch channels_last": {"geometric_mean": 2.0}}
    conv = {"suite": "conv", "host": host, "rounds": 3, "summaries": summaries, "notes": [], "rows": rows}
    (folder / "peers-conv.json").write_text(json.dumps(conv))
    one = {"ours": 1e-3, "theirs": 3e-3, "ratio": 3.0, "lowest": 2.9, "highest": 3.1}
    twin = {"host": host, "rounds": 5, "rows": [{"case": "direct 8,8,8,9 1x1 s1 p0", "gflop": 1.0, "forward": one}]}
    (folder / "twin.json").write_text(json.dumps(twin))


def gate(folder, hashes, planted=True):
    """A gate history of each commit against the one before it; with `planted`, the third made a case 8 % slower."""
    steps = []
    for number in range(1, len(hashes)):
        slow = planted and number == 2
        found = {"case": PLANTED, "ratio": 1.08, "commit": hashes[number], "short": hashes[number][:7]}
        found |= {"subject": SUBJECTS[number], "commits": 1}
        steps.append(
            {
                "base": hashes[number - 1],
                "head": hashes[number],
                "subject": SUBJECTS[number],
                "date": "2026-03-03T12:00:00+00:00",
                "commits": 1,
                "cases": {
                    PLANTED: {"ratio": 1.08 if slow else 1.003, "rounds": 21},
                    "max_pool2d": {"ratio": 0.9 if number == 3 else 0.995, "rounds": 21},
                },
                "regressions": [found] if slow else [],
                "improvements": [],
                "skipped": [{"case": "gelu", "why": "not there yet"}] if number == 1 else [],
                "note": "",
            }
        )
    history = {
        "machine": "a CPU, 2 cores",
        "date": "2026-03-05T12:00:00+00:00",
        "command": "python asv_bench/gate.py --history 4",
        "limit": 0.05,
        "cases": [PLANTED, "max_pool2d"],
        "commits": [],
        "steps": steps,
    }
    (folder / "gate-history.json").write_text(json.dumps(history))


def project(folder):
    """All of it under a folder: returns (repository, results)."""
    repository, results = folder / "repository", folder / "results"
    hashes = commits(repository)
    results.mkdir()
    peers(results)
    asv_results(results, hashes)
    gate(results, hashes)
    return repository, results
