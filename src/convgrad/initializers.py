"""Start values for weights.

Every function takes a shape whose first axis counts outputs and whose second counts inputs, as all weights here do:
(out_features, in_features) or (out_channels, in_channels / groups, rows, columns). With f the number of cells in a
kernel's window, fan_in = inputs * f is the number of terms summed in one output cell, and fan_out = outputs * f.

================  =======================================  =============================================
name              variance                                 meant for
================  =======================================  =============================================
he_*              gain^2 / fan_in, gain = sqrt(2)          relu and its kind
glorot_*          2 / (fan_in + fan_out)                   tanh, sigmoid, softmax
lecun_*           1 / fan_in                               selu (self-normalising networks), linear layers
================  =======================================  =============================================

``*_normal`` draws from a normal distribution, ``*_uniform`` from a uniform one with the same variance: on [-a, a] the
variance is a^2 / 3. `rng` is a numpy.random.Generator, an int seed or None (fresh entropy). Values are drawn in
float64 and rounded to `dtype`, so both dtypes start from the same numbers.
"""

from __future__ import annotations

import math

import numpy as np

from .checks import generator
from .typing import FloatArray, FloatDType, Rng, Shape

__all__ = [
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
]


def he_normal(
    shape: Shape, *, rng: Rng = None, gain: float = math.sqrt(2), dtype: FloatDType = np.float32
) -> FloatArray:
    """Normal with variance gain^2 / fan_in.

    Source: He, Zhang, Ren, Sun (2015), "Delving deep into rectifiers", arXiv 1502.01852, eq. 10.
    """
    return _normal("he_normal", shape, gain * gain / fans("he_normal", shape)[0], rng, dtype)


def he_uniform(
    shape: Shape, *, rng: Rng = None, gain: float = math.sqrt(2), dtype: FloatDType = np.float32
) -> FloatArray:
    """Uniform with variance gain^2 / fan_in.

    gain = sqrt(1 / 3) gives the bounds +-1 / sqrt(fan_in) from which PyTorch's layers start by default.

    Source: He, Zhang, Ren, Sun (2015), "Delving deep into rectifiers", arXiv 1502.01852, eq. 10.
    """
    return _uniform("he_uniform", shape, gain * gain / fans("he_uniform", shape)[0], rng, dtype)


def glorot_normal(shape: Shape, *, rng: Rng = None, dtype: FloatDType = np.float32) -> FloatArray:
    """Normal with variance 2 / (fan_in + fan_out).

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", eq. 12.
    """
    return _normal("glorot_normal", shape, 2 / sum(fans("glorot_normal", shape)), rng, dtype)


def glorot_uniform(shape: Shape, *, rng: Rng = None, dtype: FloatDType = np.float32) -> FloatArray:
    """Uniform on +-sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", eq. 16.
    """
    return _uniform("glorot_uniform", shape, 2 / sum(fans("glorot_uniform", shape)), rng, dtype)


def lecun_normal(shape: Shape, *, rng: Rng = None, dtype: FloatDType = np.float32) -> FloatArray:
    """Normal with variance 1 / fan_in.

    Source: LeCun, Bottou, Orr, Müller (1998), "Efficient BackProp", section 4.6, eq. 16.
    """
    return _normal("lecun_normal", shape, 1 / fans("lecun_normal", shape)[0], rng, dtype)


def lecun_uniform(shape: Shape, *, rng: Rng = None, dtype: FloatDType = np.float32) -> FloatArray:
    """Uniform on +-sqrt(3 / fan_in).

    Source: LeCun, Bottou, Orr, Müller (1998), "Efficient BackProp", section 4.6, eq. 16.
    """
    return _uniform("lecun_uniform", shape, 1 / fans("lecun_uniform", shape)[0], rng, dtype)


def zeros(shape: Shape, *, dtype: FloatDType = np.float32) -> FloatArray:
    """All zeros: the usual start of a bias."""
    return np.zeros(shape, _float_dtype("zeros", dtype))


def fans(function: str, shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight of `shape`; `function` names the caller in errors."""
    if not isinstance(shape, (tuple, list)) or len(shape) < 2 or any(length < 1 for length in shape):
        raise ValueError(f"{function}: shape must be (outputs, inputs, ...) with lengths of at least 1, got {shape!r}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _float_dtype(function: str, dtype: FloatDType) -> np.dtype[np.float32 | np.float64]:
    result = np.dtype(dtype)
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{function}: dtype must be float32 or float64, got {result}")
    return result


def _normal(function: str, shape: Shape, variance: float, rng: Rng, dtype: FloatDType) -> FloatArray:
    source, float_dtype = generator(function, "rng", rng), _float_dtype(function, dtype)
    return (source.standard_normal(shape) * math.sqrt(variance)).astype(float_dtype, copy=False)


def _uniform(function: str, shape: Shape, variance: float, rng: Rng, dtype: FloatDType) -> FloatArray:
    source, float_dtype = generator(function, "rng", rng), _float_dtype(function, dtype)
    bound = math.sqrt(3 * variance)
    return source.uniform(-bound, bound, shape).astype(float_dtype, copy=False)
