"""Convolutions that the forward and gradient tests share, and PyTorch's float64 answers to them."""

import functools
from dataclasses import dataclass

import numpy as np

LAYOUTS = ("NCHW", "NHWC")
DTYPES = (np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """x (N, C, H, W) * weight (K, C / groups, R, S) with options; the defaults are those of conv2d."""

    x: tuple
    out_channels: int
    kernel: tuple
    stride: tuple = (1, 1)
    padding: tuple = ((0, 0), (0, 0))
    dilation: tuple = (1, 1)
    groups: int = 1

    def __str__(self):
        text = "x".join(map(str, self.x)) + f"-k{self.out_channels}-{self.kernel[0]}x{self.kernel[1]}"
        for name in ("stride", "padding", "dilation", "groups"):
            if getattr(self, name) != Case.__dataclass_fields__[name].default:
                text += f"-{name}{getattr(self, name)}".replace(" ", "")
        return text

    @property
    def options(self):
        return dict(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    @property
    def weight_shape(self):
        return (self.out_channels, self.x[1] // self.groups, *self.kernel)

    @property
    def length(self):
        """Terms of the longest sum of forward or any gradient."""
        taps = self.kernel[0] * self.kernel[1]
        return max(self.weight_shape[1] * taps, self.out_channels * taps, self.x[0] * self.x[2] * self.x[3])


CASES = [
    Case((1, 1, 5, 5), 1, (1, 1)),
    Case((2, 3, 8, 9), 4, (3, 3)),
    Case((3, 8, 14, 15), 16, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 17, 9, 33), 15, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 16, 7, 7), 33, (3, 3), padding=((1, 1), (1, 1))),
    Case((2, 32, 8, 17), 31, (1, 1)),
    Case((2, 9, 8, 16), 32, (1, 1), stride=(2, 2)),
    Case((1, 3, 21, 23), 8, (7, 7), stride=(2, 2), padding=((3, 3), (3, 3))),
    Case((2, 1, 28, 28), 6, (5, 5), padding=((2, 2), (2, 2))),
    Case((2, 6, 14, 14), 16, (5, 5)),
    Case((1, 2, 12, 31), 7, (2, 2), stride=(2, 2)),
    Case((1, 2, 12, 31), 7, (2, 2), stride=(3, 3)),  # the kernel is smaller than the stride: pixels never read
    Case((1, 5, 13, 13), 3, (1, 1), stride=(3, 2)),
    Case((2, 4, 15, 16), 5, (6, 6), stride=(3, 3), padding=((2, 2), (2, 2))),
    Case((2, 4, 9, 35), 3, (4, 4), padding=((1, 2), (3, 0))),
    Case((2, 4, 9, 9), 9, (3, 3), stride=(2, 1), padding=((0, 2), (1, 0))),
    Case((1, 3, 6, 40), 2, (1, 7), padding=((0, 0), (3, 3))),
    Case((1, 3, 40, 6), 2, (7, 1), padding=((3, 3), (0, 0))),
    Case((1, 7, 5, 20), 9, (1, 5), stride=(1, 2), padding=((0, 0), (2, 1))),
    Case((1, 7, 20, 5), 9, (5, 1), stride=(2, 1), padding=((4, 0), (0, 0))),
    Case((1, 8, 16, 18), 8, (3, 3), dilation=(2, 2), padding=((2, 2), (2, 2))),
    Case((1, 3, 20, 17), 5, (3, 2), dilation=(3, 1)),
    Case((1, 3, 20, 17), 5, (2, 3), dilation=(1, 3), stride=(2, 3), padding=((1, 0), (2, 3))),
    Case((2, 4, 17, 17), 6, (3, 3), dilation=(2, 3), stride=(2, 2), padding=((2, 2), (3, 3))),
    Case((2, 4, 9, 9), 6, (3, 3), groups=2, padding=((1, 1), (1, 1))),
    Case((2, 32, 7, 8), 48, (3, 3), groups=2, padding=((1, 1), (1, 1))),
    Case((1, 9, 8, 8), 15, (3, 3), groups=3, stride=(2, 2)),
    Case((1, 6, 10, 11), 12, (1, 1), groups=3),
    Case((2, 8, 9, 33), 8, (3, 3), groups=8, padding=((1, 1), (1, 1))),
    Case((2, 17, 7, 7), 17, (3, 3), groups=17, padding=((1, 1), (1, 1))),
    Case((1, 5, 15, 15), 5, (5, 5), groups=5, stride=(2, 2), padding=((2, 2), (2, 2))),
    Case((1, 4, 12, 13), 12, (3, 3), groups=4, padding=((1, 1), (1, 1))),  # depthwise, three outputs a channel
    Case((1, 4, 12, 13), 8, (3, 3), groups=4, stride=(2, 1), dilation=(1, 2), padding=((0, 1), (2, 2))),
    Case((2, 3, 5, 6), 4, (5, 6)),  # the kernel covers the whole input: one output pixel
    Case((2, 3, 3, 3), 4, (5, 5), padding=((2, 2), (2, 2))),  # larger than the input, not than the padded one
    Case((1, 2, 1, 1), 3, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 2, 4, 4), 3, (2, 2), padding=((5, 5), (5, 5))),  # windows that see nothing but padding
    Case((3, 1, 1, 50), 1, (1, 3)),
    Case((3, 1, 50, 1), 1, (3, 1)),
    Case((5, 31, 4, 4), 1, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 64, 6, 6), 70, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 130, 4, 5), 34, (3, 3), padding=((1, 1), (1, 1))),
    Case((1, 20, 30, 65), 20, (3, 3), padding=((1, 1), (1, 1))),
]


def arrays(case, dtype):
    """x, weight and bias of the case: uniform in [-1, 1], the same for every test."""
    rng = np.random.default_rng(7)
    shapes = (case.x, case.weight_shape, (case.out_channels,))
    return [rng.uniform(-1, 1, shape).astype(np.float32).astype(dtype) for shape in shapes]


def gradient(case, dtype):
    """A grad_output for the case, NCHW."""
    shape = torch_answer(case)["y"].shape
    return np.random.default_rng(8).uniform(-1, 1, shape).astype(np.float32).astype(dtype)


def laid_out(array, layout):
    """`array` (N, C, H, W) as a C-contiguous array in `layout`."""
    return array if layout == "NCHW" else np.ascontiguousarray(array.transpose(0, 2, 3, 1))


@functools.cache
def torch_answer(case):
    """PyTorch's forward result (with bias) and gradients for `arrays` and `gradient`, float64, NCHW."""
    import torch
    from torch.nn import functional

    x, weight, bias = (torch.tensor(array, requires_grad=True) for array in arrays(case, np.float64))
    (top, bottom), (left, right) = case.padding
    y = functional.conv2d(
        functional.pad(x, (left, right, top, bottom)), weight, bias, case.stride, 0, case.dilation, case.groups
    )
    shape = tuple(y.shape)
    grad = np.random.default_rng(8).uniform(-1, 1, shape).astype(np.float32).astype(np.float64)
    y.backward(torch.tensor(grad))
    return {
        "y": y.detach().numpy(),
        "grad_input": x.grad.numpy(),
        "grad_weight": weight.grad.numpy(),
        "grad_bias": bias.grad.numpy(),
    }
