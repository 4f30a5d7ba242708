"""Shapes of poolings and of locally connected layers: options brought to one form, output sizes, messages.

The builders are cached: they bring the options to exact ints, tuples and strings, then look the result up, so a
repeated call costs about a microsecond.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .checks import pair
from .options import (
    AXIS_NAMES,
    LARGEST_OPTION,
    check_axes,
    exact_padding,
    is_exact_pair,
    per_axis,
    plain_layout,
    resolve_padding,
)

_AXES = AXIS_NAMES[2]


@dataclass(frozen=True, slots=True)
class PoolShape:
    """One pooling: every size and option, resolved to ints.

    Window (i, j) looks at the pixels (i * stride - top + r * dilation, j * stride - left + s * dilation) that exist.
    """

    batch: int
    channels: int
    height: int
    width: int
    kernel: tuple  # (R, S)
    stride: tuple  # (rows, columns)
    padding: tuple  # ((top, bottom), (left, right))
    dilation: tuple  # (rows, columns)
    layout: str  # "NCHW" or "NHWC"
    out_height: int
    out_width: int
    input_shape: tuple  # as laid out in the caller's array
    output_shape: tuple  # as laid out in the caller's array
    plans: dict = field(default_factory=dict, compare=False, repr=False)  # what the native kernels worked out for it

    @property
    def index_dtype(self):
        """dtype of positions inside a window: uint8 where it has at most 256 cells, else int32."""
        return np.dtype(np.uint8 if self.kernel[0] * self.kernel[1] <= 256 else np.int32)


@dataclass(frozen=True, slots=True)
class LocalShape:
    """One locally connected layer: every size, resolved to ints."""

    batch: int
    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple  # (R, S)
    stride: tuple  # (rows, columns)
    layout: str  # "NCHW" or "NHWC"
    out_height: int
    out_width: int
    input_shape: tuple  # as laid out in the caller's array
    output_shape: tuple  # as laid out in the caller's array
    weight_shape: tuple  # (OH, OW, K, C, R, S) in both layouts


def pool_shape(function, source, input_shape, kernel_size, stride, padding, dilation, ceil_mode, layout):
    """Return the `PoolShape` of a pooling of `input_shape`.

    Parameters
    ----------
    function : str, the public function named in messages
    source : str, what messages call the input: "x" or "input_shape"
    input_shape : tuple of four exact ints
    stride : as the public functions take it; None stands for kernel_size
    ceil_mode : True or False, already checked
    """
    # What is exact already goes into the key as it is: the cached builder checks it, once.
    if type(kernel_size) is not int and not is_exact_pair(kernel_size):
        kernel_size = per_axis(function, "kernel_size", 2, kernel_size, 1)
    if stride is not None and type(stride) is not int and not is_exact_pair(stride):
        stride = per_axis(function, "stride", 2, stride, 1)
    if not (type(padding) is int or type(padding) is str or is_exact_pair(padding)):
        padding = exact_padding(function, 2, padding)
    if type(dilation) is not int and not is_exact_pair(dilation):
        dilation = per_axis(function, "dilation", 2, dilation, 1)
    if type(layout) is not str:
        layout = plain_layout(function, 2, layout)
    return _pool_shape(function, source, input_shape, kernel_size, stride, padding, dilation, bool(ceil_mode), layout)


@lru_cache(maxsize=1024)
def global_pool_shape(function, source, input_shape, layout):
    """Return the `PoolShape` of a pooling whose one window is the whole plane; `layout` must be a str."""
    layout = plain_layout(function, 2, layout)
    check_axes(function, source, 2, layout, input_shape)
    sizes = input_shape[2:] if layout == "NCHW" else input_shape[1:3]
    return _finish(layout, input_shape, sizes, sizes, (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))


@lru_cache(maxsize=1024)
def _pool_shape(function, source, input_shape, kernel_size, stride, padding, dilation, ceil_mode, layout):
    layout = plain_layout(function, 2, layout)
    check_axes(function, source, 2, layout, input_shape)
    sizes = input_shape[2:] if layout == "NCHW" else input_shape[1:3]
    kernel = per_axis(function, "kernel_size", 2, kernel_size, 1)
    stride = kernel if stride is None else per_axis(function, "stride", 2, stride, 1)
    dilation = per_axis(function, "dilation", 2, dilation, 1)
    if kernel[0] * kernel[1] > LARGEST_OPTION:
        raise ValueError(
            f"{function}: a window may have at most {LARGEST_OPTION} cells; got kernel_size {kernel} with "
            f"{kernel[0] * kernel[1]}"
        )
    padding = resolve_padding(function, 2, padding, sizes, kernel, stride, dilation)
    out_sizes = []
    for axis in range(2):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        before, after = padding[axis]
        spans = f"window spans {span} {_AXES[axis]}{_dilated(kernel[axis], dilation[axis])}"
        if max(before, after) >= span:
            raise ValueError(
                f"{function}: {spans} and padding must be smaller; got padding {padding[axis]} on that axis; "
                "lower padding or use a larger window"
            )
        spare = sizes[axis] + before + after - span
        if spare + (stride[axis] - 1 if ceil_mode else 0) < 0:
            raise ValueError(
                f"{function}: {spans} but padded input has {sizes[axis] + before + after}; "
                "raise padding or use a smaller window"
            )
        out_size = (-(-spare // stride[axis]) if ceil_mode else spare // stride[axis]) + 1
        if (out_size - 1) * stride[axis] >= sizes[axis] + before:
            out_size -= 1  # the last window would hold nothing but padding
        out_sizes.append(out_size)
    return _finish(layout, input_shape, sizes, kernel, stride, padding, dilation, tuple(out_sizes))


def _finish(layout, input_shape, sizes, kernel, stride, padding, dilation, out_sizes):
    batch, channels = input_shape[0], input_shape[1 if layout == "NCHW" else 3]
    return PoolShape(
        batch=batch,
        channels=channels,
        height=sizes[0],
        width=sizes[1],
        kernel=tuple(kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=layout,
        out_height=out_sizes[0],
        out_width=out_sizes[1],
        input_shape=input_shape,
        output_shape=(batch, channels, *out_sizes) if layout == "NCHW" else (batch, *out_sizes, channels),
    )


def local_shape(function, input_shape, weight_shape, stride, layout):
    """Return the `LocalShape` of a locally connected layer on x of `input_shape` with weight of `weight_shape`."""
    return _local_shape(
        function, input_shape, weight_shape, pair(function, "stride", stride, 1), plain_layout(function, 2, layout)
    )


@lru_cache(maxsize=1024)
def _local_shape(function, input_shape, weight_shape, stride, layout):
    per_axis(function, "stride", 2, stride, 1)
    check_axes(function, "x", 2, layout, input_shape)
    if len(weight_shape) != 6:
        raise ValueError(f"{function}: weight must have 6 axes (OH, OW, K, C, R, S), got shape {weight_shape}")
    if 0 in weight_shape:
        raise ValueError(f"{function}: no axis of weight may be empty; got weight {weight_shape}")
    sizes = input_shape[2:] if layout == "NCHW" else input_shape[1:3]
    batch, channels = input_shape[0], input_shape[1 if layout == "NCHW" else 3]
    out_sizes, (out_channels, weight_channels), kernel = weight_shape[:2], weight_shape[2:4], weight_shape[4:]
    if weight_channels != channels:
        raise ValueError(
            f"{function}: weight expects {weight_channels} input channels but x has {channels}; x {input_shape}, "
            f"weight {weight_shape}"
        )
    for axis in range(2):
        if kernel[axis] > sizes[axis]:
            raise ValueError(
                f"{function}: kernel spans {kernel[axis]} {_AXES[axis]} but x has {sizes[axis]}; x {input_shape}, "
                f"weight {weight_shape}"
            )
    expected = tuple((sizes[axis] - kernel[axis]) // stride[axis] + 1 for axis in range(2))
    if out_sizes != expected:
        raise ValueError(
            f"{function}: weight is for {out_sizes} output pixels but a {kernel} kernel with stride {stride} has "
            f"{expected} on x {input_shape}; pass weight of shape {(*expected, *weight_shape[2:])}"
        )
    return LocalShape(
        batch=batch,
        in_channels=channels,
        height=sizes[0],
        width=sizes[1],
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        layout=layout,
        out_height=expected[0],
        out_width=expected[1],
        input_shape=input_shape,
        output_shape=(batch, out_channels, *expected) if layout == "NCHW" else (batch, *expected, out_channels),
        weight_shape=weight_shape,
    )


def _dilated(taps, dilation):
    return f" ({taps} with dilation {dilation})" if dilation > 1 else ""
