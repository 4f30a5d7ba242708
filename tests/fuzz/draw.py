"""Random calls: one function for each family draws a name, shapes and options that fit, and how exact the result is.

A drawn `Case` names its arrays by shape; `calls` makes them. Sums of n terms of at most about 1 are compared within
`length` = n, as in the other tests.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu")
FROM_INPUT = ("softplus", "silu", "gelu")


@dataclass
class Case:
    """A call: `arrays` maps arguments to shapes, or to (shape, lowest, highest) for other numbers than -1 to 1."""

    function: str
    arrays: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    length: int = 1  # terms of the longest sum
    exact: bool = False  # results are numbers of the input: no rounding
    special: bool = False  # may be given NaN and infinities
    in_place: str = ""  # an argument that out may be
    prepare: Any = None  # (arguments in float64) -> further arguments from the twin, such as an output or indices


def sizes(rng, most):
    """A size that is small, at an edge of vectors and tiles, or anything up to `most`."""
    kind = rng.random()
    if kind < 0.55:
        return rng.randint(1, min(6, most))
    if kind < 0.8:
        return min(most, rng.choice((7, 8, 9, 15, 16, 17, 31, 32, 33)))
    return rng.randint(1, most)


def batch(rng):
    return rng.choice((0, 1, 1, 1, 2, 2, 3, 5))


def activation(rng):
    name = rng.choice((None, *ACTIVATIONS))
    return (name, rng.choice((0.0, 0.25, 1.0))) if name in ("leaky_relu", "elu") and rng.random() < 0.5 else name


def joined(layout, n, channels, pixels):
    return (n, channels, *pixels) if layout in ("NCHW", "NCW") else (n, *pixels, channels)


def one_or_all(rng, values):
    """An option as an int where it is the same on every axis, or as a tuple."""
    if len(values) == 1 or (len(set(values)) == 1 and rng.random() < 0.5):
        return values[0]
    return tuple(values)


def convolution_sizes(rng, dims, *, names=True):
    """(channels in, out, groups, kernel, stride, dilation, resolved padding, padding option, input sizes, layout)."""
    groups = rng.choice((1, 1, 1, 1, 2, 3, 4))
    c, k = sizes(rng, 24), sizes(rng, 24)
    if rng.random() < 0.2:  # depthwise
        groups, c = sizes(rng, 20), 1
        k = rng.choice((1, 1, 2))
    kernel = [rng.choice((1, 2, 3, 3, 3, 4, 5, 7)) for _ in range(dims)]
    if rng.random() < 0.3:
        kernel = [3] * dims
    plain = rng.random() < 0.4
    stride = [1 if plain else rng.choice((1, 1, 2, 3, 5)) for _ in range(dims)]
    dilation = [1 if plain else rng.choice((1, 1, 1, 2, 3)) for _ in range(dims)]
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    pixels = [sizes(rng, 40 if dims == 1 else 22) for _ in range(dims)]
    if rng.random() < 0.01:  # larger than blocks, and enough work for threads
        groups, c, k = 1, rng.choice((40, 64, 65, 100)), rng.choice((33, 64, 96, 130))
        pixels, stride = [rng.randint(14, 30) for _ in range(dims)], [min(step, 2) for step in stride]
    option = (
        rng.choice(("valid", "same", "full", 0, 0, 1, 1, 2, "axes", "sides"))
        if names
        else rng.choice((0, 1, "axes", "sides"))
    )
    if option == "full":
        pads = [(s - 1, s - 1) for s in span]
    elif option == "same":
        totals = [max((-(-n // t) - 1) * t + s - n, 0) for n, t, s in zip(pixels, stride, span, strict=True)]
        pads = [(t // 2, t - t // 2) for t in totals]
    elif option in ("axes", "sides") and dims == 1:
        pads = [(rng.randint(0, 3), rng.randint(0, 3))]
        option = pads[0]
    elif option == "axes":
        pads = [(p, p) for p in (rng.randint(0, 3), rng.randint(0, 3))]
        option = tuple(p for p, _ in pads)
    elif option == "sides":
        pads = [(rng.randint(0, 4), rng.randint(0, 4)) for _ in range(2)]
        option = tuple(pads)
    else:
        pads = [(0, 0) if option == "valid" else (option, option)] * dims
    layout = rng.choice((("NCW", "NWC", "NCHW", "NHWC"), ("NCHW", "NCHW", "NHWC"))[dims - 1])
    layout = {"NCHW": "NCW", "NHWC": "NWC"}[layout] if dims == 1 and layout in ("NCHW", "NHWC") else layout
    return groups * c, groups * k, groups, kernel, stride, dilation, span, pads, option, pixels, layout


def convolution(rng):
    dims = rng.choice((1, 2, 2, 2))
    c, k, groups, kernel, stride, dilation, span, pads, padding, pixels, layout = convolution_sizes(rng, dims)
    # Large enough for the kernel: "same" depends on the size, and only ever makes room.
    if padding != "same":
        pixels = [max(n, s - sum(p)) for n, s, p in zip(pixels, span, pads, strict=True)]
    out = [(n + sum(p) - s) // t + 1 for n, p, s, t in zip(pixels, pads, span, stride, strict=True)]
    n = batch(rng)
    x, y, weight = joined(layout, n, c, pixels), joined(layout, n, k, out), (k, c // groups, *kernel)
    algorithm = rng.choice(("auto", "auto", "direct"))
    if dims == 2 and kernel == [3, 3] and set(stride + dilation) == {1} and rng.random() < 0.6:
        algorithm = "winograd"
    options = dict(
        stride=one_or_all(rng, stride), padding=padding, dilation=one_or_all(rng, dilation), groups=groups,
        layout=layout, algorithm=algorithm,
    )  # fmt: skip
    prefix = f"conv{dims}d"
    window, pixels_out = c // groups * int(np.prod(kernel)), max(n, 1) * int(np.prod(out))
    factor = 6 if algorithm != "direct" else 1  # Winograd's rounding
    what = rng.choice(("", "", "", "_grad_input", "_grad_weight", "_backward", "_grad_bias", "prepack"))
    if what == "prepack" and dims == 2:
        given = {"x": x, "weight": weight} | ({"bias": (k,)} if rng.random() < 0.5 else {})
        return Case("prepack_conv2d", given, options | {"activation": activation(rng)}, factor * window)
    if what in ("", "prepack"):
        given = {"x": x, "weight": weight} | ({"bias": (k,)} if rng.random() < 0.5 else {})
        special = algorithm == "direct" and rng.random() < 0.15
        return Case(prefix, given, options | {"activation": activation(rng)}, factor * window, special=special)
    if what == "_grad_input":
        length = factor * k // groups * int(np.prod(kernel))
        return Case(prefix + what, {"grad_output": y, "weight": weight}, options | {"input_shape": x}, length)
    if what == "_grad_weight":
        kernel_size = one_or_all(rng, kernel)
        return Case(
            prefix + what, {"grad_output": y, "x": x}, options | {"kernel_size": kernel_size}, factor * pixels_out
        )
    if what == "_grad_bias":
        return Case(prefix + what, {"grad_output": y}, {"layout": layout}, pixels_out)
    wanted = {name: rng.random() < 0.8 for name in ("input_grad", "weight_grad", "bias")}
    length = factor * (pixels_out + k * int(np.prod(kernel)))
    return Case(prefix + what, {"grad_output": y, "x": x, "weight": weight}, options | wanted, length)


def transposed(rng):
    dims = rng.choice((1, 2, 2))
    c, k, groups, kernel, stride, dilation, span, pads, padding, pixels, layout = convolution_sizes(
        rng, dims, names=False
    )
    extra = [rng.randrange(max(s, d)) if rng.random() < 0.4 else 0 for s, d in zip(stride, dilation, strict=True)]
    # Large enough that something is left of the result.
    pixels = [
        max(n, -(-(sum(p) - s - e + 1) // t) + 1)
        for n, p, s, e, t in zip(pixels, pads, span, extra, stride, strict=True)
    ]
    out = [
        (n - 1) * t + s + e - sum(p) for n, t, s, e, p in zip(pixels, stride, span, extra, pads, strict=True)
    ]  # fmt: skip
    n = batch(rng)
    x, y, weight = joined(layout, n, c, pixels), joined(layout, n, k, out), (c, k // groups, *kernel)
    options = dict(
        stride=one_or_all(rng, stride), padding=padding, dilation=one_or_all(rng, dilation), groups=groups,
        output_padding=one_or_all(rng, extra), layout=layout,
    )  # fmt: skip
    taps = int(np.prod(kernel))
    name = f"conv_transpose{dims}d"
    if rng.random() < 0.5:
        given = {"x": x, "weight": weight} | ({"bias": (k,)} if rng.random() < 0.5 else {})
        return Case(name, given, options | {"activation": activation(rng)}, 6 * c * taps)
    length = 6 * (max(n, 1) * int(np.prod(out)) + k * taps)
    return Case(f"{name}_backward", {"grad_output": y, "x": x, "weight": weight}, options, length)


def signal(rng):
    mode = rng.choice(("full", "same", "valid"))
    kernel = [rng.randint(1, 6), rng.randint(1, 6)]
    pixels = [max(sizes(rng, 24), k if mode == "valid" else 1) for k in kernel]
    grow = {"full": 1, "same": 0, "valid": -1}[mode]
    out = [n + grow * (k - 1) for n, k in zip(pixels, kernel, strict=True)]
    leading = [rng.randint(0, 3) for _ in range(rng.choice((0, 0, 1, 2)))]
    name = rng.choice(("convolve2d", "correlate2d"))
    x, y = (*leading, *pixels), (*leading, *out)
    if rng.random() < 0.5:
        return Case(name, {"x": x, "kernel": tuple(kernel)}, {"mode": mode}, 36)
    length = 36 + int(np.prod(y))
    return Case(f"{name}_backward", {"grad_output": y, "x": x, "kernel": tuple(kernel)}, {"mode": mode}, length)


def local(rng):
    c, k, n = rng.randint(1, 9), sizes(rng, 20), batch(rng)
    kernel, stride = [rng.randint(1, 3), rng.randint(1, 4)], [rng.randint(1, 3), rng.randint(1, 2)]
    pixels = [max(rng.randint(1, 9), s) for s in kernel]
    out = [(p - s) // t + 1 for p, s, t in zip(pixels, kernel, stride, strict=True)]
    layout = rng.choice(("NCHW", "NHWC"))
    x, y, weight = joined(layout, n, c, pixels), joined(layout, n, k, out), (*out, k, c, *kernel)
    options = dict(stride=one_or_all(rng, stride), layout=layout)
    length = c * int(np.prod(kernel)) + max(n, 1) + k * int(np.prod(kernel))
    if rng.random() < 0.5:
        given = {"x": x, "weight": weight} | ({"bias": weight[:3]} if rng.random() < 0.5 else {})
        return Case("locally_connected2d", given, options | {"activation": activation(rng)}, length)
    wanted = {name: rng.random() < 0.8 for name in ("input_grad", "weight_grad", "bias")}
    return Case("locally_connected2d_backward", {"grad_output": y, "x": x, "weight": weight}, options | wanted, length)
