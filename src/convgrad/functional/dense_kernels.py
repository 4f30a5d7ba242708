"""The dense kernels on the native backend: a matrix product is a 1x1 convolution whose pixels are the rows of x.

x (rows, in) is read as an NHWC image (1, 1, rows, in), weight (out, in) as (out, in, 1, 1); nothing is copied.
"""

from .._native import conv
from ..shapes import conv_shape


def forward(x, weight, bias, activation_code, activation_parameter, out):
    """out = activation(x weight^T + bias)."""
    shape = _shape(x.shape[0], weight.shape)
    conv.forward(
        shape, x[None, None], weight[:, :, None, None], bias, activation_code, activation_parameter, out[None, None]
    )


def grad_input(grad_output, weight, out):
    """out = grad_output weight."""
    shape = _shape(grad_output.shape[0], weight.shape)
    conv.grad_input(shape, grad_output[None, None], weight[:, :, None, None], None, 0, 0.0, out[None, None])


def grad_weight(grad_output, x, out):
    """out = grad_output^T x."""
    conv.grad_weight(_shape(x.shape[0], out.shape), grad_output[None, None], x[None, None], out[:, :, None, None])


def grad_bias(grad_output, out):
    """out = the sum of grad_output over the rows."""
    conv.grad_bias(grad_output[None, None], "NHWC", out)


def _shape(rows, weight_shape):
    out_features, in_features = weight_shape
    return conv_shape(
        "linear", "x", 2, (1, 1, rows, in_features), (out_features, in_features, 1, 1), 1, 0, 1, 1, "NHWC", "direct"
    )
