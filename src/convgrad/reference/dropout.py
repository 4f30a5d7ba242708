"""Dropout and alpha dropout."""

from .. import elementwise_calls as calls
from . import elementwise_kernels as kernels


def dropout(x, p=0.5, *, training=True, rng=None, out=None):
    """Twin of `convgrad.dropout`."""
    return calls.drop(kernels, "dropout", calls.dropout_constants, x, p, training, rng, out)


def dropout_backward(grad_output, mask, p, *, out=None):
    """Twin of `convgrad.dropout_backward`."""
    return calls.drop_backward(kernels, "dropout_backward", calls.dropout_constants, grad_output, mask, p, out)


def alpha_dropout(x, p=0.5, *, training=True, rng=None, out=None):
    """Twin of `convgrad.alpha_dropout`."""
    return calls.drop(kernels, "alpha_dropout", calls.alpha_dropout_constants, x, p, training, rng, out)


def alpha_dropout_backward(grad_output, mask, p, *, out=None):
    """Twin of `convgrad.alpha_dropout_backward`."""
    return calls.drop_backward(
        kernels, "alpha_dropout_backward", calls.alpha_dropout_constants, grad_output, mask, p, out
    )
