"""Batch and layer normalisation, with their gradients."""

from .. import norm_calls as calls
from . import norm_kernels as kernels


def batch_norm(
    x,
    weight,
    bias,
    running_mean=None,
    running_var=None,
    *,
    training=False,
    momentum=0.1,
    eps=1e-5,
    layout="NCHW",
    out=None,
):
    """Twin of `convgrad.batch_norm`."""
    return calls.batch_norm(
        kernels, "batch_norm", x, weight, bias, running_mean, running_var, training, momentum, eps, layout, out
    )


def batch_norm_backward(grad_output, x, weight, saved_mean, saved_inv_std, *, training=True, layout="NCHW", out=None):
    """Twin of `convgrad.batch_norm_backward`."""
    return calls.batch_norm_backward(
        kernels, "batch_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, training, layout, out
    )


def layer_norm(x, weight, bias, *, eps=1e-5, out=None):
    """Twin of `convgrad.layer_norm`."""
    return calls.layer_norm(kernels, "layer_norm", x, weight, bias, eps, out)


def layer_norm_backward(grad_output, x, weight, saved_mean, saved_inv_std, *, out=None):
    """Twin of `convgrad.layer_norm_backward`."""
    return calls.layer_norm_backward(
        kernels, "layer_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, out
    )
