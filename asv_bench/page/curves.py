"""asv's curves: what `asv publish` writes, behind the front of asv-tachyon, with nothing fetched from elsewhere."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .results import Unusable, git

# What asv writes for its own pages, which take their libraries from other hosts, and for feed readers.
OLD_FRONT = ("*.js", "*.css", "swallow.*", "error.html", "regressions.xml", "index.html")
STYLE = """
.cg-bar { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; padding: .75rem 1.25rem;
  font: 15px/1.5 system-ui, sans-serif; color: #1c1b19; background: #fbfaf7; border-bottom: 1px solid #dedacf; }
.cg-bar a { color: #0c645d; } .cg-bar p { margin: 0; color: #5a574f; max-width: 90ch; } .cg-wait { padding: 1.25rem; }
[data-theme=dark] .cg-bar { color: #ece9e2; background: #14161a; border-color: #2f343c; }
[data-theme=dark] .cg-bar a { color: #5fcfbf; } [data-theme=dark] .cg-bar p { color: #aca89e; }
"""
BAR = """<header class="cg-bar"><a href="../index.html">convgrad performance</a>
<p>Absolute times, recorded by asv. A shared machine shifts them by a third, so a percentage here proves nothing:
<a href="../index.html#regressions">regressions</a> are found by measuring adjacent commits in pairs.</p></header>"""
WAIT = """<p class="cg-wait">These curves need JavaScript and a web server, for instance
<code>python asv_bench/dashboard.py serve</code>.</p>"""


def recorded(folder):
    """How many result files asv has in its results folder."""
    return sum(path.name not in ("machine.json", "benchmarks.json") for path in folder.glob("*/*.json"))


def publish(root, results, target):
    """Write asv's pages for a results folder to `target` and return the number of commits measured.

    Raises Unusable where asv or asv-tachyon is missing or asv cannot use the results.
    """
    for module, package in (("asv", "asv"), ("asv_tachyon", "asv-tachyon")):
        if importlib.util.find_spec(module) is None:
            raise Unusable(f"{package} is not installed; the results in {results} need it: pip install '.[dashboard]'")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asv.conf.json"
        path.write_text(json.dumps(configuration(root, results, target)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "asv", "publish", "--no-pull", "--config", str(path)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        words = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()] or ["no message"]
        raise Unusable(f"asv publish cannot use {results}: {words[-1].strip(' ·')[:300]}")
    for pattern in OLD_FRONT:
        for path in target.glob(pattern):
            path.unlink()
    dress(target)
    return sidecars(root, results, target)


def configuration(root, results, target):
    """The project's asv.conf.json with absolute paths; the branch that is checked out where there is no main."""
    from asv.util import load_json

    path = root / "asv.conf.json"
    try:
        conf = load_json(str(path), 1, js_comments=True)
    except Exception as error:  # asv raises its own kinds for a missing and for a malformed file
        raise Unusable(f"cannot use {path}: {str(error).splitlines()[0]}") from None
    if git(root, "rev-parse", "--verify", "HEAD") is None:
        raise Unusable(f"{root} is not a git repository with commits, from which asv tells the order of its results")
    branches = [name for name in conf.get("branches", []) if git(root, "rev-parse", "--verify", "--quiet", name)]
    return {
        **conf,
        "version": 1,
        "repo": git(root, "rev-parse", "--show-toplevel"),
        "branches": branches or ["HEAD"],
        "benchmark_dir": str(root / "asv_bench" / "benchmarks"),
        "results_dir": str(results),
        "html_dir": str(target),
        "env_dir": str(target / "env"),
    }


def dress(target):
    """asv-tachyon's files, its page with our bar above and a word for those without JavaScript or a server."""
    import asv_tachyon

    front = Path(asv_tachyon.__file__).parent / "static"
    shutil.copytree(front, target, dirs_exist_ok=True)
    index = target / "index.html"
    words = index.read_text(encoding="utf-8")
    words = re.sub("<title>.*?</title>", "<title>History · convgrad performance</title>", words, flags=re.S)
    words = words.replace("</head>", f"<style>{STYLE}</style></head>", 1)
    words = words.replace('<div id="root"></div>', f'{BAR}<div id="root">{WAIT}</div>', 1)
    if BAR not in words or STYLE not in words:
        raise Unusable("the page of this asv-tachyon is not one this script knows; pip install 'asv-tachyon==0.5.8'")
    index.write_text(words, encoding="utf-8")
    # asv reads lower as better in all it measures; the front would take what `track_*` returns the other way round.
    data = json.loads((target / "index.json").read_text(encoding="utf-8"))
    for benchmark in data["benchmarks"].values():
        benchmark["less_is_better"] = True
    (target / "index.json").write_text(json.dumps(data), encoding="utf-8")


def sidecars(root, results, target):
    """Files that asv-tachyon asks for beside asv's, so that no request fails; returns the number of commits measured.

    They have the subjects of commits, and no regressions, which asv would read off absolute times. Samples of each
    benchmark are what asv's graphs do not hold.
    """
    hashes = {json.loads(path.read_text(encoding="utf-8"))["commit_hash"] for path in results.glob("*/*-*.json")}
    listed = git(root, "log", "--all", "--format=%H %s") or ""
    subjects = dict(line.split(" ", 1) for line in listed.splitlines() if " " in line)
    files = {
        "commits.json": {commit: subjects[commit] for commit in sorted(hashes) if commit in subjects},
        "profiles.json": {"paths": {}},
        "regressions-ignore.json": [],
        "regressions.json": {"regressions": []},
    }
    for path in (target / "graphs").rglob("*.json"):
        if "summary" not in path.relative_to(target).parts:
            files[Path("samples") / path.relative_to(target / "graphs")] = {}
    for name, content in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(hashes)
