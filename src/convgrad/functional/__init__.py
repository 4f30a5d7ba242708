"""The functions of the library: each checks its arguments, allocates the result and calls the backend in force."""

from .conv import conv2d, conv2d_backward, conv2d_grad_bias, conv2d_grad_input, conv2d_grad_weight
from .conv_1d import (
    conv1d,
    conv1d_backward,
    conv1d_grad_bias,
    conv1d_grad_input,
    conv1d_grad_weight,
    conv_transpose1d,
    conv_transpose1d_backward,
)
from .conv_transpose import conv_transpose2d, conv_transpose2d_backward
from .prepack import explain_conv2d, prepack_conv2d
from .convolve import convolve2d, convolve2d_backward, correlate2d, correlate2d_backward

__all__ = [name for name, value in list(globals().items()) if callable(value) and not name.startswith("_")]
