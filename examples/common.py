"""What the examples share: their options, the digits, a place for pictures."""

import argparse
from pathlib import Path

from convgrad import datasets


def options(description, **numbers):
    """Parse --output and --quick, and one integer option for each of `numbers` (its default)."""
    parser = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("convgrad-examples"), help="directory for the picture")
    parser.add_argument("--quick", action="store_true", help="a first look: much less training")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default {default}")
    return parser


def digits(seed=0):
    """The embedded digits, (images, labels) to train on and (images, labels) held out."""
    images, labels = datasets.load_digits()
    train, held_out = datasets.stratified_split(labels, 0.2, seed)
    return (images[train], labels[train]), (images[held_out], labels[held_out])


def save(figure, output, name):
    """Write a picture and say where."""
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / name, dpi=90)
    print(f"written: {output / name}")
