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
def grad_input(grad_output, weight, out):
    """out = grad_output weight."""
    np.matmul(grad_output, weight, out=out)


@_quiet
def grad_weight(grad_output, x, out):
    """out = grad_output^T x."""
    np.matmul(grad_output.T, x, out=out)


@_quiet
def grad_bias(grad_output, out):
    """out = the sum of grad_output over the rows."""
    out[...] = grad_output.sum(axis=0, dtype=np.float64)
