"""Activation functions and their derivative passes."""

from __future__ import annotations

from .. import elementwise_calls as calls
from ..activations import CODES, finite_parameter
from ..typing import Activation, Array, Float, Layout
from . import elementwise_kernels as kernels

_SIGMOID = CODES["sigmoid"]
_TANH = CODES["tanh"]
_RELU = CODES["relu"]
_LEAKY_RELU = CODES["leaky_relu"]
_ELU = CODES["elu"]
_SELU = CODES["selu"]
_SOFTPLUS = CODES["softplus"]
_SILU = CODES["silu"]
_GELU = CODES["gelu"]


def sigmoid(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.sigmoid`."""
    return calls.value(kernels, "sigmoid", _SIGMOID, 0.0, x, out)


def sigmoid_backward(
    grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.sigmoid_backward`."""
    return calls.backward(kernels, "sigmoid_backward", _SIGMOID, 0.0, grad_output, output, out)


def tanh(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.tanh`."""
    return calls.value(kernels, "tanh", _TANH, 0.0, x, out)


def tanh_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.tanh_backward`."""
    return calls.backward(kernels, "tanh_backward", _TANH, 0.0, grad_output, output, out)


def relu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.relu`."""
    return calls.value(kernels, "relu", _RELU, 0.0, x, out)


def relu_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.relu_backward`."""
    return calls.backward(kernels, "relu_backward", _RELU, 0.0, grad_output, output, out)


def leaky_relu(x: Array[Float], slope: float = 0.01, *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.leaky_relu`."""
    return calls.value(kernels, "leaky_relu", _LEAKY_RELU, finite_parameter("leaky_relu", "slope", slope), x, out)


def leaky_relu_backward(
    grad_output: Array[Float], output: Array[Float], slope: float = 0.01, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.leaky_relu_backward`."""
    slope = calls.not_negative("leaky_relu_backward", "slope", finite_parameter("leaky_relu_backward", "slope", slope))
    return calls.backward(kernels, "leaky_relu_backward", _LEAKY_RELU, slope, grad_output, output, out)


def elu(x: Array[Float], alpha: float = 1.0, *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.elu`."""
    return calls.value(kernels, "elu", _ELU, finite_parameter("elu", "alpha", alpha), x, out)


def elu_backward(
    grad_output: Array[Float], output: Array[Float], alpha: float = 1.0, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.elu_backward`."""
    alpha = calls.not_negative("elu_backward", "alpha", finite_parameter("elu_backward", "alpha", alpha))
    return calls.backward(kernels, "elu_backward", _ELU, alpha, grad_output, output, out)


def selu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.selu`."""
    return calls.value(kernels, "selu", _SELU, 0.0, x, out)


def selu_backward(grad_output: Array[Float], output: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.selu_backward`."""
    return calls.backward(kernels, "selu_backward", _SELU, 0.0, grad_output, output, out)


def softplus(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.softplus`."""
    return calls.value(kernels, "softplus", _SOFTPLUS, 0.0, x, out)


def softplus_backward(
    grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None
) -> Array[Float]:
    """Twin of `convgrad.softplus_backward`."""
    return calls.backward(kernels, "softplus_backward", _SOFTPLUS, 0.0, grad_output, input, out)


def silu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.silu`."""
    return calls.value(kernels, "silu", _SILU, 0.0, x, out)


def silu_backward(grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.silu_backward`."""
    return calls.backward(kernels, "silu_backward", _SILU, 0.0, grad_output, input, out)


def gelu(x: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.gelu`."""
    return calls.value(kernels, "gelu", _GELU, 0.0, x, out)


def gelu_backward(grad_output: Array[Float], input: Array[Float], *, out: Array[Float] | None = None) -> Array[Float]:
    """Twin of `convgrad.gelu_backward`."""
    return calls.backward(kernels, "gelu_backward", _GELU, 0.0, grad_output, input, out)


def activation_backward_bias(
    name: Activation,
    grad_output: Array[Float],
    output_or_input: Array[Float],
    *,
    layout: Layout = "NCHW",
    out: tuple[Array[Float] | None, Array[Float] | None] | None = None,
) -> tuple[Array[Float], Array[Float]]:
    """Twin of `convgrad.activation_backward_bias`."""
    return calls.backward_bias(kernels, "activation_backward_bias", name, grad_output, output_or_input, layout, out)
