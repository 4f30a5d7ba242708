"""Discrete convolution: why the kernel is flipped, with and without zero padding, on a real digit.

What networks call convolution is a cross-correlation with W, that is a convolution with k = W flipped on both axes.
"""

import numpy as np

import convgrad
from common import options, save
from convgrad import datasets, plots

EDGES = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], np.float32)  # Sobel: bright above dark


def main(arguments=None):
    chosen = options(__doc__).parse_args(arguments)
    images, labels = datasets.load_digits()
    image = images[np.flatnonzero(labels == 3)[0], 0]
    network = convgrad.conv2d(image[None, None], EDGES[None, None])[0, 0]
    correlated = convgrad.correlate2d(image, EDGES, mode="valid")
    convolved = convgrad.convolve2d(image, EDGES[::-1, ::-1].copy(), mode="valid")
    print(f"conv2d = correlate2d: {np.allclose(network, correlated, atol=1e-6)}")
    print(f"       = convolve2d with the flipped kernel: {np.allclose(network, convolved, atol=1e-6)}")
    shapes = {mode: convgrad.convolve2d(image, EDGES, mode=mode).shape for mode in ("valid", "same", "full")}
    print(f"an 8x8 image and a 3x3 kernel give {shapes}")

    page = plots.new_figure("convolution", (9, 3))
    shown = [
        ("image", image),
        ("edges, valid", network),
        ("edges, full", convgrad.correlate2d(image, EDGES, mode="full")),
    ]
    for part, (title, picture) in zip(page.subfigures(1, 3), shown, strict=True):
        plots.sample_grid(picture[None], title=f"{title} {picture.shape[0]}x{picture.shape[1]}", figure=part)
    save(page, chosen.output, "convolution.png")
    return shapes


if __name__ == "__main__":
    main()
