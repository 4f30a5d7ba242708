"""Shapes of convolutions: options brought to one form, output sizes, and a message for whatever does not fit.

A `ConvShape` is all that a kernel needs to know about a call besides the arrays. The builders are cached: they bring
the options to exact ints, tuples and strings, then look the result up, so a repeated call costs about a microsecond.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

from .checks import choice, integer
from .options import AXIS_NAMES, check_axes, exact_padding, is_exact_pair, per_axis, plain_layout, resolve_padding
from .pool_shapes import LocalShape, PoolShape

__all__ = [
    "ALGORITHMS",
    "ConvShape",
    "LocalShape",
    "PoolShape",
    "conv_shape",
    "conv_shape_for_kernel",
    "conv_transpose_shape",
    "convolve_shape",
    "grad_layout",
]

ALGORITHMS = ("auto", "direct", "winograd")

# Kernels compute offsets in bytes without looking for overflow.
_LARGEST_BYTES = 2**62


@dataclass(frozen=True, slots=True)
class ConvShape:
    """One convolution: every size and option, resolved to ints.

    A transposed convolution is described by the convolution whose grad_input it is: `in_channels`, `height` and `width`
    are those of its result, `out_channels`, `out_height` and `out_width` those of its argument. Its `out_height` may be
    smaller than the padded input would allow (output_padding above the stride); kernels take it from here.

    A one-dimensional convolution has height = out_height = kernel[0] = 1; only the three `..._shape` fields then have
    one axis less.
    """

    batch: int
    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple  # (R, S)
    stride: tuple  # (rows, columns)
    padding: tuple  # ((top, bottom), (left, right))
    dilation: tuple  # (rows, columns)
    groups: int
    layout: str  # "NCHW" or "NHWC"
    algorithm: str  # one of ALGORITHMS
    out_height: int
    out_width: int
    input_shape: tuple  # as laid out in the caller's array
    output_shape: tuple  # as laid out in the caller's array
    weight_shape: tuple  # (K, C // groups, R, S) in both layouts
    plans: dict = field(default_factory=dict, compare=False, repr=False)  # what the native kernels worked out for it


def conv_shape(function, source, dims, input_shape, weight_shape, stride, padding, dilation, groups, layout, algorithm):
    """Return the `ConvShape` of a convolution of `input_shape` by `weight_shape`.

    Parameters
    ----------
    function : str, the public function named in messages
    source : str, what messages call the input: "x" or "input_shape"
    dims : 1 or 2, the number of spatial axes
    input_shape, weight_shape : tuples of ints with dims + 2 entries
    """
    # What is exact already goes into the key as it is: the cached builder checks it, once.
    if type(stride) is not int and not is_exact_pair(stride):
        stride = per_axis(function, "stride", dims, stride, 1)
    if not (type(padding) is int or type(padding) is str or is_exact_pair(padding)):
        padding = exact_padding(function, dims, padding)
    if type(dilation) is not int and not is_exact_pair(dilation):
        dilation = per_axis(function, "dilation", dims, dilation, 1)
    if type(groups) is not int:
        groups = integer(function, "groups", groups, 1)
    if type(layout) is not str:
        layout = plain_layout(function, dims, layout)
    if type(algorithm) is not str:
        algorithm = choice(function, "algorithm", algorithm, ALGORITHMS)
    return _conv_shape(
        function, source, dims, input_shape, weight_shape, stride, padding, dilation, groups, layout, algorithm
    )


def conv_shape_for_kernel(
    function, dims, input_shape, out_shape, kernel_size, stride, padding, dilation, groups, layout, algorithm
):
    """Return the `ConvShape` of a convolution of x by a weight not given: its size is `kernel_size`.

    The number of output channels is that of grad_output, whose shape is `out_shape`.
    """
    kernel_size = per_axis(function, "kernel_size", dims, kernel_size, 1)
    layout = plain_layout(function, dims, layout)
    groups = integer(function, "groups", groups, 1)
    check_axes(function, "x", dims, layout, input_shape)
    check_axes(function, "grad_output", dims, layout, out_shape)
    channel_axis = 1 if layout == "NCHW" else -1
    in_channels, out_channels = input_shape[channel_axis], out_shape[channel_axis]
    _check_groups(function, "x", in_channels, input_shape, groups)
    _check_groups(function, "grad_output", out_channels, out_shape, groups)
    weight_shape = (out_channels, in_channels // groups, *kernel_size)
    return conv_shape(
        function, "x", dims, input_shape, weight_shape, stride, padding, dilation, groups, layout, algorithm
    )


def conv_transpose_shape(
    function, dims, input_shape, weight_shape, stride, padding, output_padding, dilation, groups, layout, algorithm
):
    """Return the `ConvShape` of the convolution whose grad_input is the transposed convolution asked for.

    Result size per axis: (size - 1) * stride - padding + dilation * (kernel - 1) + 1 + output_padding.
    """
    return _conv_transpose_shape(
        function,
        dims,
        input_shape,
        weight_shape,
        per_axis(function, "stride", dims, stride, 1),
        exact_padding(function, dims, padding, names=()),
        per_axis(function, "output_padding", dims, output_padding, 0),
        per_axis(function, "dilation", dims, dilation, 1),
        integer(function, "groups", groups, 1),
        plain_layout(function, dims, layout),
        choice(function, "algorithm", algorithm, ALGORITHMS),
    )


def grad_layout(function, dims, layout, grad_shape):
    """Return "NCHW" or "NHWC" for `layout` after checking that grad_output has the axes it names."""
    layout = plain_layout(function, dims, layout)
    check_axes(function, "grad_output", dims, layout, grad_shape)
    return layout


@lru_cache(maxsize=1024)
def convolve_shape(function, input_shape, kernel_shape, mode, flipped):
    """Return the `ConvShape` of `convolve2d` (`flipped`) or `correlate2d`: one channel, leading axes as the batch."""
    if len(input_shape) < 2:
        raise ValueError(f"{function}: x must have at least 2 axes (..., H, W), got shape {input_shape}")
    if len(kernel_shape) != 2:
        raise ValueError(f"{function}: kernel must have 2 axes (R, S), got shape {kernel_shape}")
    sizes = input_shape[-2:]
    if 0 in sizes or 0 in kernel_shape:
        raise ValueError(f"{function}: only leading axes of x may be empty; got x {input_shape}, kernel {kernel_shape}")
    if mode == "valid" and (kernel_shape[0] > sizes[0] or kernel_shape[1] > sizes[1]):
        raise ValueError(
            f"{function}: mode='valid' needs a kernel no larger than x on either axis; got x {input_shape}, "
            f"kernel {kernel_shape}; use mode 'same' or 'full', or swap the arguments"
        )
    padding = []
    for size in kernel_shape:
        # "same" is the centre of the "full" result; flipping an even kernel moves its centre by one.
        before = {"full": size - 1, "same": size // 2 if flipped else (size - 1) // 2, "valid": 0}[mode]
        after = {"full": size - 1, "same": size - 1 - before, "valid": 0}[mode]
        padding.append((before, after))
    return _conv_shape(
        function,
        "x",
        2,
        (math.prod(input_shape[:-2]), 1, *sizes),
        (1, 1, *kernel_shape),
        1,
        tuple(padding),
        1,
        1,
        "NCHW",
        "auto",
    )


@lru_cache(maxsize=4096)
def _conv_shape(
    function, source, dims, input_shape, weight_shape, stride, padding, dilation, groups, layout, algorithm
):
    layout = plain_layout(function, dims, layout)
    choice(function, "algorithm", algorithm, ALGORITHMS)
    stride = per_axis(function, "stride", dims, stride, 1)
    dilation = per_axis(function, "dilation", dims, dilation, 1)
    integer(function, "groups", groups, 1)
    check_axes(function, source, dims, layout, input_shape)
    _check_weight(function, dims, weight_shape, "(K, C/groups, R, S)" if dims == 2 else "(K, C/groups, S)")
    batch, in_channels, sizes = _split(layout, input_shape)
    out_channels, kernel = weight_shape[0], weight_shape[2:]

    _check_groups(function, source, in_channels, input_shape, groups)
    if out_channels % groups:
        raise ValueError(
            f"{function}: groups={groups} does not divide the {out_channels} output channels of weight {weight_shape}"
        )
    if weight_shape[1] * groups != in_channels:
        per_group = f" / groups={groups} = {in_channels // groups}" if groups > 1 else ""
        raise ValueError(
            f"{function}: weight expects {weight_shape[1]} input channels{' per group' if groups > 1 else ''} but "
            f"{source} has {in_channels}{per_group}; {source} {input_shape}, weight {weight_shape}"
        )

    padding = resolve_padding(function, dims, padding, sizes, kernel, stride, dilation)
    out_sizes = []
    for axis in range(dims):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        padded = sizes[axis] + sum(padding[axis])
        if span > padded:
            dilated = f" ({kernel[axis]} with dilation {dilation[axis]})" if dilation[axis] > 1 else ""
            raise ValueError(
                f"{function}: kernel spans {span} {AXIS_NAMES[dims][axis]}{dilated} but padded input has {padded}; "
                f"raise padding{' or lower dilation' if dilated else ' or use a smaller kernel'}"
            )
        out_sizes.append((padded - span) // stride[axis] + 1)
    _check_algorithm(function, algorithm, kernel, stride, dilation)
    return _finish(
        function,
        dims,
        batch,
        in_channels,
        sizes,
        out_channels,
        out_sizes,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        layout,
        algorithm,
    )


@lru_cache(maxsize=4096)
def _conv_transpose_shape(
    function, dims, input_shape, weight_shape, stride, padding, output_padding, dilation, groups, layout, algorithm
):
    check_axes(function, "x", dims, layout, input_shape)
    _check_weight(function, dims, weight_shape, "(C, K/groups, R, S)" if dims == 2 else "(C, K/groups, S)")
    batch, channels, sizes = _split(layout, input_shape)
    kernel = weight_shape[2:]
    if weight_shape[0] != channels:
        raise ValueError(
            f"{function}: weight expects {weight_shape[0]} input channels but x has {channels}; x {input_shape}, "
            f"weight {weight_shape}"
        )
    _check_groups(function, "x", channels, input_shape, groups)
    padding = resolve_padding(function, dims, padding, sizes, kernel, stride, dilation)
    result_sizes = []
    for axis in range(dims):
        if output_padding[axis] >= max(stride[axis], dilation[axis]):
            raise ValueError(
                f"{function}: output_padding must be smaller than stride or dilation; got output_padding "
                f"{output_padding}, stride {stride}, dilation {dilation}"
            )
        span = dilation[axis] * (kernel[axis] - 1) + 1
        unpadded = (sizes[axis] - 1) * stride[axis] + span + output_padding[axis]
        if unpadded <= sum(padding[axis]):
            raise ValueError(
                f"{function}: padding {padding[axis]} leaves none of the {unpadded} {AXIS_NAMES[dims][axis]} of the "
                f"result; lower padding"
            )
        result_sizes.append(unpadded - sum(padding[axis]))
    _check_algorithm(function, algorithm, kernel, stride, dilation)
    return _finish(
        function,
        dims,
        batch,
        weight_shape[1] * groups,
        result_sizes,
        channels,
        sizes,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        layout,
        algorithm,
    )


def _finish(
    function,
    dims,
    batch,
    in_channels,
    sizes,
    out_channels,
    out_sizes,
    kernel,
    stride,
    padding,
    dilation,
    groups,
    layout,
    algorithm,
):
    padded_sizes = [size + sum(pads) for size, pads in zip(sizes, padding, strict=True)]
    weight_shape = (out_channels, in_channels // groups, *kernel)
    for shape in (
        weight_shape,
        _join(layout, max(batch, 1), in_channels, padded_sizes),
        _join(layout, max(batch, 1), out_channels, out_sizes),
    ):
        if math.prod(shape) * 8 > _LARGEST_BYTES:
            raise MemoryError(f"{function}: an array of shape {shape} would be needed, more than memory can address")
    input_shape = _join(layout, batch, in_channels, sizes)
    output_shape = _join(layout, batch, out_channels, out_sizes)
    if dims == 1:
        sizes, out_sizes, kernel = (1, *sizes), (1, *out_sizes), (1, *kernel)
        stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
    return ConvShape(
        batch=batch,
        in_channels=in_channels,
        height=sizes[0],
        width=sizes[1],
        out_channels=out_channels,
        kernel=tuple(kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        algorithm=algorithm,
        out_height=out_sizes[0],
        out_width=out_sizes[1],
        input_shape=input_shape,
        output_shape=output_shape,
        weight_shape=weight_shape,
    )


def _check_algorithm(function, algorithm, kernel, stride, dilation):
    """Refuse an algorithm that cannot compute this convolution."""
    if algorithm != "winograd":
        return
    got = []
    if kernel != (3, 3):
        got.append(f"kernel {kernel}")
    if set(stride) != {1}:
        got.append(f"stride {stride}")
    if set(dilation) != {1}:
        got.append(f"dilation {dilation}")
    if got:
        needed = "a 3x3 kernel, stride 1, dilation 1"
        raise ValueError(f"{function}: algorithm='winograd' needs {needed}; got {', '.join(got)}; use 'auto'")


def _split(layout, shape):
    """Return (batch, channels, spatial sizes)."""
    if layout == "NCHW":
        return shape[0], shape[1], shape[2:]
    return shape[0], shape[-1], shape[1:-1]


def _join(layout, batch, channels, sizes):
    return (batch, channels, *sizes) if layout == "NCHW" else (batch, *sizes, channels)


def _check_weight(function, dims, shape, letters):
    if len(shape) != dims + 2:
        raise ValueError(f"{function}: weight must have {dims + 2} axes {letters}, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{function}: no axis of weight may be empty; got weight {shape}")


def _check_groups(function, name, channels, shape, groups):
    if channels % groups:
        raise ValueError(f"{function}: groups={groups} does not divide the {channels} channels of {name} {shape}")
