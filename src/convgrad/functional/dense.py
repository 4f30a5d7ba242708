"""The fully connected layer and its gradients."""

from __future__ import annotations

from typing import Literal, overload

from .. import dense_calls as calls
from .._native import dense as native_kernels
from ..backends import is_native
from ..reference import dense_kernels as numpy_kernels
from ..typing import Activation, Array, Float, PartialTriple, Triple


def kernels():
    """The dense kernels of the backend in force."""
    return native_kernels if is_native() else numpy_kernels


def linear(
    x: Array[Float],
    weight: Array[Float],
    bias: Array[Float] | None = None,
    *,
    activation: Activation | None = None,
    out: Array[Float] | None = None,
) -> Array[Float]:
    """Fully connected layer: y = f(x weight^T + bias).

    Parameters
    ----------
    x : ndarray (..., in_features) with any leading axes, float32 or float64
    weight : ndarray (out_features, in_features), dtype of x
    bias : None or ndarray (out_features,), dtype of x
    activation : None, the name f of an activation, or (name, parameter); see `convgrad.activations`
    out : None or ndarray of the result's shape and dtype, any strides

    Returns
    -------
    y : ndarray (..., out_features), dtype of x

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other; an unknown activation

    Results are the same bits only for the same number of rows and of threads.

    Source: notes, z(l+1) = W a(l) + b of the section on backpropagation.
    """
    return calls.linear(kernels(), "linear", x, weight, bias, activation, out)


@overload
def linear_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: Literal[True] = ...,
    weight_grad: Literal[True] = ...,
    bias: Literal[True] = ...,
    out: PartialTriple[Float] | None = ...,
) -> Triple[Float]: ...
@overload
def linear_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = ...,
    weight_grad: bool = ...,
    bias: bool = ...,
    out: PartialTriple[Float] | None = ...,
) -> PartialTriple[Float]: ...
def linear_backward(
    grad_output: Array[Float],
    x: Array[Float],
    weight: Array[Float],
    *,
    input_grad: bool = True,
    weight_grad: bool = True,
    bias: bool = True,
    out: PartialTriple[Float] | None = None,
) -> PartialTriple[Float]:
    """Gradients of `linear`, before its activation, by x, weight and bias.

    grad_x = grad_output weight, grad_weight = grad_output^T x, grad_bias = the sum of grad_output over the leading axes

    Parameters
    ----------
    grad_output : ndarray (..., out_features), float32 or float64
    x : ndarray (..., in_features), dtype of grad_output
    weight : ndarray (out_features, in_features), same dtype
    input_grad, weight_grad, bias : bool, which gradients to compute
    out : None or a tuple (grad_x, grad_weight, grad_bias) with None where no array is given

    Returns
    -------
    grad_x : ndarray, shape of x, or None where not asked for
    grad_weight : ndarray (out_features, in_features), or None
    grad_bias : ndarray (out_features,), or None; both zeros for an empty batch

    Raises
    ------
    TypeError, ValueError : arrays that are not float32 or float64 or do not fit each other

    Source: notes, eq. 8 (by x), 10 (by bias) and 13 (by weight).
    """
    return calls.linear_backward(
        kernels(), "linear_backward", grad_output, x, weight, input_grad, weight_grad, bias, out
    )
