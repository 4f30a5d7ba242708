"""NumPy kernels of the dense layer: one matrix product each. The protocol is described in `dense_calls`."""

import numpy as np

from .elementwise_kernels import activation

# What overflows or is not a number goes through as in the native kernels: without a warning.
_quiet = np.errstate(all="ignore")


@_quiet
def forward(x, weight, bias, activation_code, activation_parameter, out):
    """out = activation(x weight^T + bias)."""
    np.matmul(x, weight.T, out=out)
    if bias is not None:
        out += bias
    if activation_code:
        activation(activation_code, activation_parameter, out, out)


@_quiet
def backward(grad_output, x, weight, grad_x, grad_weight, grad_bias):
    """Those of the three results that are not None: grad_output weight, grad_output^T x, grad_output's sum of rows."""
    if grad_x is not None:
        np.matmul(grad_output, weight, out=grad_x)
    if grad_weight is not None:
        np.matmul(grad_output.T, x, out=grad_weight)
    if grad_bias is not None:
        grad_bias[...] = grad_output.sum(axis=0, dtype=np.float64)
