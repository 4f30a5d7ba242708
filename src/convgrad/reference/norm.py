"""Batch and layer normalisation, with their gradients."""

from __future__ import annotations

from .. import norm_calls as calls
from ..typing import Array, Float, Layout, PartialTriple, Triple
from . import norm_kernels as kernels


def batch_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    running_mean: Array[Float] | None = None,
    running_var: Array[Float] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: Layout = "NCHW",
    out: Array[Float] | tuple[Array[Float] | None, ...] | None = None,
) -> tuple[Array[Float], Array[Float], Array[Float], Array[Float] | None, Array[Float] | None]:
    """Twin of `convgrad.batch_norm`."""
    return calls.batch_norm(
        kernels, "batch_norm", x, weight, bias, running_mean, running_var, training, momentum, eps, layout, out
    )


def batch_norm_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float] | None,
    saved_mean: Array[Float],
    saved_inv_std: Array[Float],
    *,
    training: bool = True,
    layout: Layout = "NCHW",
    out: PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Twin of `convgrad.batch_norm_backward`."""
    return calls.batch_norm_backward(
        kernels, "batch_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, training, layout, out
    )


def layer_norm(
    x: Array[Float],
    weight: Array[Float] | None,
    bias: Array[Float] | None,
    *,
    eps: float = 1e-5,
    out: Array[Float] | PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Twin of `convgrad.layer_norm`."""
    return calls.layer_norm(kernels, "layer_norm", x, weight, bias, eps, out)


def layer_norm_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float] | None,
    saved_mean: Array[Float],
    saved_inv_std: Array[Float],
    *,
    out: PartialTriple[Float] | None = None,
) -> Triple[Float]:
    """Twin of `convgrad.layer_norm_backward`."""
    return calls.layer_norm_backward(
        kernels, "layer_norm_backward", grad_output, x, weight, saved_mean, saved_inv_std, out
    )
