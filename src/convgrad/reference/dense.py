"""The fully connected layer and its gradients."""

from .. import dense_calls as calls
from . import dense_kernels as kernels


def linear(x, weight, bias=None, *, activation=None, out=None):
    """Twin of `convgrad.linear`."""
    return calls.linear(kernels, "linear", x, weight, bias, activation, out)


def linear_backward(grad_output, x, weight, *, input_grad=True, weight_grad=True, bias=True, out=None):
    """Twin of `convgrad.linear_backward`."""
    return calls.linear_backward(kernels, "linear_backward", grad_output, x, weight, input_grad, weight_grad, bias, out)
