"""Write src/convgrad/data/digits.npz, the digits that ship inside the wheel, from scikit-learn's copy.

Run from the repository's root: ``python tools/make_digits.py`` (needs scikit-learn). The file holds two arrays without
pickle: `images` (1797, 8, 8) uint8 in 0..16 and `labels` (1797,) uint8. Members carry a fixed date, so that the same
data always gives the same bytes on the same zlib. ``--check`` compares instead of writing: exit code 1 on a difference.
"""

import argparse
import io
import pathlib
import sys
import zipfile

import numpy as np

TARGET = pathlib.Path(__file__).resolve().parents[1] / "src" / "convgrad" / "data" / "digits.npz"
FIXED_DATE = (1998, 7, 1, 0, 0, 0)


def read_source():
    """Return images (1797, 8, 8) and labels (1797,), both uint8, as scikit-learn holds them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    if not (np.array_equal(images, bunch.images) and images.max() == 16 and images.shape == (1797, 8, 8)):
        raise SystemExit("make_digits: scikit-learn's digits are not the 1797 integer 8x8 images in 0..16 expected")
    return images, labels


def write(path, **arrays):
    """Write `arrays` to `path` in the npz format, deflated, with a fixed date on every member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the stored file with scikit-learn's data")
    arguments = parser.parse_args()
    images, labels = read_source()
    if arguments.check:
        with np.load(TARGET, allow_pickle=False) as stored:
            same = np.array_equal(stored["images"], images) and np.array_equal(stored["labels"], labels)
        print(f"{TARGET.name}: {'same as' if same else 'differs from'} scikit-learn's copy")
        return 0 if same else 1
    write(TARGET, images=images, labels=labels)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
