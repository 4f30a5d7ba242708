"""Pooling against PyTorch, NCHW against its plain layout and NHWC against its channels_last: `peers.py pool`.

Passes: max pooling with indices, its gradient; average pooling, its gradient. "subsample" is average pooling with a
learned factor and shift by channel, for which PyTorch takes several operations; its gradient pass has all three
gradients. The second column is the time of a plain copy of the larger of the two images over the time of ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from report import Suite

import convgrad

ops = torch.ops.aten
PASSES = ("max", "max backward", "average", "average backward")


@dataclass(frozen=True, slots=True)
class Case:
    """One pooling layer; kernel None is a global pool."""

    family: str
    shape: tuple[int, int, int, int]  # N, C, H, W
    kernel: int | None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    @property
    def name(self):
        """Short unique label."""
        n, c, h, w = self.shape
        size = f"{n},{c},{h}" if h == w else f"{n},{c},{h}x{w}"
        if self.kernel is None:
            return f"{self.family} {size}"
        more = f" d{self.dilation}" if self.dilation > 1 else ""
        return f"{self.family} {size} {self.kernel}x{self.kernel} s{self.stride} p{self.padding}{more}" + (
            " ceil" if self.ceil_mode else ""
        )

    @property
    def options(self):
        """Keyword arguments of the pools."""
        options = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        return {**options, "dilation": self.dilation} if self.dilation > 1 else options


CASES = (
    *(
        Case("2x2/2", shape, 2, 2)
        for shape in (
            (64, 6, 28, 28),  # LeNet-5
            (64, 16, 10, 10),
            (64, 32, 32, 32),
            (32, 64, 56, 56),
            (4, 64, 224, 224),  # VGG
            (8, 256, 56, 56),
            (8, 512, 14, 14),
            (1, 128, 280, 280),  # U-Net
        )
    ),
    *(
        Case("3x3/2", shape, 3, 2, padding)
        for shape, padding in (
            ((8, 64, 112, 112), 1),  # ResNet
            ((32, 96, 55, 55), 0),  # AlexNet
            ((32, 256, 13, 13), 0),
            ((8, 192, 71, 71), 0),  # Inception v3
            ((8, 768, 17, 17), 0),
            ((1, 64, 112, 112), 1),
        )
    ),
    *(
        Case("3x3/1", shape, 3, 1, 1)
        for shape in ((8, 192, 35, 35), (8, 768, 17, 17), (8, 480, 14, 14), (8, 832, 7, 7), (8, 192, 28, 28))
    ),
    *(Case("global", shape, None) for shape in ((8, 2048, 7, 7), (64, 512, 7, 7), (8, 1280, 8, 8), (8, 64, 56, 56))),
    Case("others", (16, 64, 48, 48), 3, 3),
    Case("others", (16, 64, 64, 64), 4, 4),
    Case("others", (8, 64, 57, 57), 3, 2, 0, 1, True),
    Case("others", (8, 64, 56, 56), 3, 1, 1, 2),
    Case("others", (8, 64, 60, 60), 5, 3, 2),
    Case("others", (8, 512, 14, 14), 5, 1, 2),
    Case("subsample", (64, 6, 28, 28), 2, 2),
    Case("subsample", (64, 32, 32, 32), 2, 2),
)


def global_calls(layout, x, tx):
    """Pools over whole planes."""
    axes = (2, 3)
    y, indices = convgrad.global_max_pool2d(x, return_indices=True, layout=layout)
    grad, grad_t = y, channels_first(y, layout)
    _, indices_t = ops.adaptive_max_pool2d(tx, (1, 1))
    return {
        "max": (
            lambda: convgrad.global_max_pool2d(x, return_indices=True, layout=layout),
            lambda: ops.adaptive_max_pool2d(tx, (1, 1)),
        ),
        "max backward": (
            lambda: convgrad.global_max_pool2d_backward(grad, indices, x.shape, layout=layout),
            lambda: ops.adaptive_max_pool2d_backward(grad_t, tx, indices_t),
        ),
        "average": (lambda: convgrad.global_avg_pool2d(x, layout=layout), lambda: tx.mean(axes, keepdim=True)),
        "average backward": (
            lambda: convgrad.global_avg_pool2d_backward(grad, x.shape, layout=layout),
            lambda: ops._adaptive_avg_pool2d_backward(grad_t, tx),
        ),
    }


def window_calls(case, layout, x, tx):
    """Pools over windows; PyTorch has no dilated average."""
    kernel, options = case.kernel, {**case.options, "layout": layout}
    sizes = [kernel, kernel], [case.stride] * 2, [case.padding] * 2
    y, indices = convgrad.max_pool2d(x, kernel, return_indices=True, **options)
    max_sizes = (*sizes, [case.dilation] * 2, case.ceil_mode)
    rng = np.random.default_rng(1)
    grad = rng.standard_normal(y.shape, dtype=np.float32)
    grad_t = channels_first(grad, layout)
    _, indices_t = ops.max_pool2d_with_indices(tx, *max_sizes)
    calls = {
        "max": (
            lambda: convgrad.max_pool2d(x, kernel, return_indices=True, **options),
            lambda: ops.max_pool2d_with_indices(tx, *max_sizes),
        ),
        "max backward": (
            lambda: convgrad.max_pool2d_backward(grad, indices, x.shape, kernel, **options),
            lambda: ops.max_pool2d_with_indices_backward(grad_t, tx, *max_sizes, indices_t),
        ),
    }
    if case.dilation == 1:
        average_sizes = (*sizes, case.ceil_mode, True)
        calls["average"] = (
            lambda: convgrad.avg_pool2d(x, kernel, **options),
            lambda: ops.avg_pool2d(tx, *average_sizes),
        )
        calls["average backward"] = (
            lambda: convgrad.avg_pool2d_backward(grad, x.shape, kernel, **options),
            lambda: ops.avg_pool2d_backward(grad_t, tx, *average_sizes, None),
        )
    return calls


def subsample_calls(case, layout, x, tx):
    """Averages with a learned factor and shift by channel."""
    kernel, options = case.kernel, {**case.options, "layout": layout}
    sizes = [kernel, kernel], [case.stride] * 2, [case.padding] * 2, False, True
    rng = np.random.default_rng(1)
    weight, bias = (rng.standard_normal(case.shape[1], dtype=np.float32) for _ in range(2))
    factor, shift = (torch.from_numpy(v).reshape(1, -1, 1, 1) for v in (weight, bias))
    grad = rng.standard_normal(convgrad.subsample2d(x, weight, bias, kernel, **options).shape, dtype=np.float32)
    grad_t, mean = channels_first(grad, layout), ops.avg_pool2d(tx, *sizes)

    def backward():
        by_x = ops.avg_pool2d_backward(grad_t * factor, tx, *sizes, None)
        return by_x, (grad_t * mean).sum((0, 2, 3)), grad_t.sum((0, 2, 3))

    return {
        "average": (
            lambda: convgrad.subsample2d(x, weight, bias, kernel, **options),
            lambda: ops.avg_pool2d(tx, *sizes) * factor + shift,
        ),
        "average backward": (
            lambda: convgrad.subsample2d_backward(grad, x, weight, kernel, **options),
            backward,
        ),
    }


def channels_first(array, layout):
    """The array as a tensor of axes (N, C, H, W); NHWC memory is what PyTorch calls channels_last."""
    tensor = torch.from_numpy(array)
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def check(name, layout, ours, theirs):
    """Raise where the two disagree; indices count differently and are left out."""
    mine, peer = ours(), theirs()
    results = (mine, peer) if not isinstance(mine, tuple) else (mine[0], peer[0])
    a, b = channels_first(results[0], layout), results[1]
    error = (a - b).abs().max().item() / b.abs().max().item()
    if not error < 1e-5:
        raise AssertionError(f"{name}: the two differ by {error:.1e} of the largest value")


def run(options):
    """(case, family, pass, gigabytes, calls) of every case chosen."""
    for case in CASES:
        for layout in ("NCHW", "NHWC"):
            name = f"{case.name} {layout}"
            if options.only not in name:
                continue
            n, c, h, w = case.shape
            x = np.random.default_rng(0).standard_normal(case.shape if layout == "NCHW" else (n, h, w, c), np.float32)
            tx = channels_first(x, layout)
            if case.family == "global":
                calls = global_calls(layout, x, tx)
            elif case.family == "subsample":
                calls = subsample_calls(case, layout, x, tx)
            else:
                calls = window_calls(case, layout, x, tx)
            room = torch.empty_like(tx)
            for kind in options.passes:
                if kind not in calls:
                    continue
                check(f"{name} {kind}", layout, *calls[kind])
                functions = [*calls[kind], lambda tx=tx, room=room: room.copy_(tx)]
                amount = 4 * (x.size + np.prod(convgrad_output(case))) / 1e9
                yield name, f"{case.family} {layout}", kind, amount, functions[: 2 if options.no_second else 3]


def convgrad_output(case):
    """(N, C, OH, OW) of a case."""
    if case.kernel is None:
        return (*case.shape[:2], 1, 1)
    shape = np.empty((1, 1, *case.shape[2:]), np.float32)
    options = {**case.options}
    return (*case.shape[:2], *convgrad.max_pool2d(shape, case.kernel, **options).shape[2:])


SUITE = Suite(
    name="pool",
    run=run,
    passes=PASSES,
    columns=("PyTorch", "copy"),
    unit="GB/s",
    data="float32",
    summarised=1,
)
