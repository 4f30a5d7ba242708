"""Draw the pictures of the documentation: `python docs/pictures.py` (extras plots and checkpoints; two minutes).

Runs the examples and ``python -m convgrad gan`` and keeps what they draw, with few colours, in docs/pictures.
"""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = (
    "activations",
    "backpropagation",
    "clipping",
    "connectivity",
    "convolution",
    "gan_failures",
    "gan_mixture",
    "pooling",
    "self_normalising",
)


def main():
    sys.path.insert(0, str(ROOT / "examples"))
    from convgrad.gan import digits

    with tempfile.TemporaryDirectory() as folder:
        for name in EXAMPLES:
            print(f"== {name}")
            importlib.import_module(name).main(["--output", folder])
        digits.run(output=folder)
        for picture in sorted(Path(folder).glob("*.png")):
            shutil.copy(picture, ROOT / "docs" / "pictures" / picture.name.replace("-", "_"))


if __name__ == "__main__":
    main()
