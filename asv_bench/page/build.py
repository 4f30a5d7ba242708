"""Builds the site into a folder beside the target and moves it there when everything is written."""

import datetime
import json
import os
import shutil
import tempfile
from pathlib import Path

from . import curves
from .cases import cases_page
from .front import anchor_of, front_page, no_curves_page
from .results import Unusable, git, last_commit, read_all
from .steps import read_gate

STATIC = Path(__file__).parent / "static"
MARK = "dashboard.json"  # tells a site of ours, which may be replaced, from a folder that may not


def build(root, results, target):
    """Build the site of the results folder into `target`; returns its number of files and bytes.

    Raises Unusable with one line for the user; `target` is then as it was before.
    """
    results, target = results.resolve(), target.resolve()
    if target.exists() and not (target.is_dir() and ((target / MARK).is_file() or not any(target.iterdir()))):
        raise Unusable(f"{target} holds something other than a dashboard; name a new or an empty folder")
    comparisons = read_all(results, last_commit)
    if not comparisons:
        raise Unusable(f"no results in {results}; run `python asv_bench/peers.py conv` first")
    gate = read_gate(results / "gate-history.json")
    work = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        site = work / "site"
        write(root, results, site, comparisons, gate)
        size = [path.stat().st_size for path in site.rglob("*") if path.is_file()]
        if target.exists():
            os.replace(target, work / "before")
        try:
            os.replace(site, target)
        except OSError:
            if (work / "before").exists():
                os.replace(work / "before", target)
            raise
    except OSError as error:
        raise Unusable(f"cannot write {error.filename or target}: {error.strerror}") from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return len(size), sum(size)


def write(root, results, site, comparisons, gate):
    """Every file of the site."""
    shutil.copytree(STATIC, site)
    commits = curves.publish(root, results / "asv", site / "history") if curves.recorded(results / "asv") else 0
    if not commits:
        (site / "history").mkdir()
        (site / "history" / "index.html").write_text(no_curves_page(), encoding="utf-8")
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git(root, "rev-parse", "--short", "HEAD"),
    }
    (site / "index.html").write_text(front_page(comparisons, gate, commits, facts), encoding="utf-8")
    (site / "cases.html").write_text(cases_page(comparisons), encoding="utf-8")
    summary = [
        {
            "of": anchor_of(c),
            "peer": c.peer,
            "geometric_mean": c.mean,
            "worst": {"case": c.worst.label, "threads": c.worst.threads, "ratio": c.worst.ratio},
            "best": {"case": c.best.label, "threads": c.best.threads, "ratio": c.best.ratio},
            "cases": len(c.rows),
            "slower": c.slower,
            "commit": c.commit,
            "command": c.command,
        }
        for c in comparisons
    ]
    (site / MARK).write_text(json.dumps({**facts, "comparisons": summary}, indent=1) + "\n", encoding="utf-8")
    os.chmod(site, 0o755)
