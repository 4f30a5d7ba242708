"""Reads what the timing scripts wrote under `asv_bench/results`.

Every file becomes `Comparison`s: one peer, many rows. A ratio is always the peer's time over ours, so above 1 convgrad
is faster.
"""

import json
import math
import statistics
import subprocess
from dataclasses import dataclass, field


class Unusable(Exception):
    """Something that stops the build; its text is the one line that the user sees."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing timed on both sides; times in seconds."""

    family: str
    case: str
    threads: int
    ratio: float
    lowest: float | None
    highest: float | None
    ours: float
    peer: float

    @property
    def label(self):
        """The case in words, without its number of threads."""
        return self.case if self.family.split()[0] in self.case else f"{self.family}: {self.case}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file's rows against one peer."""

    key: str
    title: str
    peer: str
    command: str
    source: str
    host: dict
    rounds: int
    commit: str | None
    mean: float
    rows: list = field(repr=False)

    @property
    def worst(self):
        """The row with the lowest ratio."""
        return min(self.rows, key=lambda row: row.ratio)

    @property
    def best(self):
        """The row with the highest ratio."""
        return max(self.rows, key=lambda row: row.ratio)

    @property
    def slower(self):
        """How many rows have the peer ahead."""
        return sum(row.ratio < 1 for row in self.rows)

    def families(self):
        """{family: rows}, in the order of the file."""
        groups = {}
        for row in self.rows:
            groups.setdefault(row.family, []).append(row)
        return groups


# What the front page shows, in this order; the first three are the headlines.
TITLES = {
    "conv": "Convolution",
    "twin": "Convolution",
    "ort": "Layers for inference",
    "inference": "Convolution with packed weights",
    "onnx": "Whole ONNX models",
    "pool": "Pooling",
    "elementwise": "Activations",
    "rows": "Softmax, losses, norms",
    "linear": "Dense layers",
    "optimizers": "Optimizer steps",
    "train": "Training steps",
    "calls": "Small calls",
    "autograd": "Gradients by autograd",
}
HEADLINES = ("conv", "twin", "ort")


def mean_of(rows):
    """Geometric mean of the ratios."""
    return math.exp(statistics.fmean(math.log(row.ratio) for row in rows))


def read_all(folder, commit_of):
    """The comparisons of a results folder, in the order of TITLES.

    Raises Unusable, naming the file, where one of them is not what the scripts write. `commit_of(path)` tells the
    commit of a file that does not name its own.
    """
    if not folder.is_dir():
        raise Unusable(f"no results folder {folder}; run `python asv_bench/peers.py conv` first")
    found = []
    for path in sorted(folder.glob("peers-*.json")) + sorted(folder.glob("twin.json")):
        content = load(path)
        key = path.stem.removeprefix("peers-")
        try:
            found += list(comparisons(key, content, path.name, commit_of(path)))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise Unusable(
                f"{path} is not what `{command_of(key)}` writes ({type(error).__name__}: {error}); run that again or "
                "remove the file"
            ) from None
    order = list(TITLES)
    return sorted(found, key=lambda c: order.index(c.key) if c.key in order else len(order))


def load(path):
    """The JSON in a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Unusable(f"{path} is not JSON ({error}); write it again or remove it") from None


def command_of(key):
    """The command that writes a file of results."""
    return "python asv_bench/twin.py" if key == "twin" else f"python asv_bench/peers.py {key}"


def comparisons(key, content, source, commit):
    """The comparisons of one file."""
    host = content["host"]
    common = {
        "title": TITLES.get(key, key.capitalize()),
        "command": command_of(key),
        "source": source,
        "host": host,
        "rounds": int(content["rounds"]),
        "commit": host.get("commit", commit),
    }
    if key == "twin":
        yield make("twin", "the NumPy twin", twin_rows(content["rows"]), common)
    elif "names" in content:
        for name in content["names"][1:]:
            yield make(key, f"{name} {host[name]}", model_rows(content["rows"], name), common)
    else:
        titles = list(content.get("summaries") or [content.get("peer", "PyTorch")])
        for column, title in enumerate(titles):
            rows = [paired_row(row, column) for row in content["rows"] if len(row["ratios"]) > column]
            if not rows:
                continue
            mean = content["summaries"][title]["geometric_mean"] if "summaries" in content else None
            version = host.get(title.split()[0].lower().replace("pytorch", "torch"), "").split("+")[0]
            name, *more = title.split(" ", 1)
            yield make(key, " ".join(filter(None, (name, version, *more))), rows, common, mean)


def make(key, peer, rows, common, mean=None):
    """A comparison, once every ratio is a positive number."""
    if not rows:
        raise ValueError("it has no rows")
    if not all(0 < row.ratio < math.inf for row in rows):
        raise ValueError("a ratio is not a positive number")
    return Comparison(key=key, peer=peer, rows=rows, mean=float(mean or mean_of(rows)), **common)


def paired_row(row, column):
    """A row of report.py or suites.py."""
    low, high = row["spread"][column]
    case = f"{row['case']} {row['pass']}" if "pass" in row else row["case"]
    times = row["seconds"]
    return Row(row["family"], case, row["threads"], row["ratios"][column], low, high, times[0], times[column + 1])


def twin_rows(rows):
    """Rows of twin.py: three passes to a case, one thread."""
    made = []
    for row in rows:
        for name in ("forward", "grad_input", "grad_weight"):
            if name in row:
                one = row[name]
                figures = (one["ratio"], one["lowest"], one["highest"], one["ours"], one["theirs"])
                made.append(Row(name, f"{row['case']} {name}", 1, *figures))
    return made


def model_rows(rows, name):
    """Rows of peers_onnx.py for one peer."""
    return [
        Row(
            row["model"],
            f"{row['model']}, batch {row['batch']}",
            row["threads"],
            row["ratios"][name],
            None,
            None,
            row["seconds"]["convgrad"],
            row["seconds"][name],
        )
        for row in rows
    ]


def git(folder, *arguments):
    """What git prints about a folder, or None where it does not answer."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def last_commit(path):
    """The short hash of the commit that last changed a file."""
    return git(path.parent, "log", "-1", "--format=%h", "--", path.name)
