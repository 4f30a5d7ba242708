"""Dropout and alpha dropout.

The mask is drawn by a NumPy Generator, one float32 an element; the kernels apply it.
"""

from __future__ import annotations

import numpy as np

from .. import elementwise_calls as calls
from ..typing import Array, BoolArray, Float, Rng
from .activation import kernels


def dropout(
    x: Array[Float],
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    out: Array[Float] | tuple[Array[Float] | None, BoolArray | None] | None = None,
) -> tuple[Array[Float], BoolArray]:
    """Zero each element with probability p and multiply the others by 1 / (1 - p), so that the mean is kept.

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    p : float in [0, 1], the probability of dropping; with 1 all of y is 0
    training : bool; False makes y a copy of x and keeps every element
    rng : numpy.random.Generator, int seed, or None for fresh entropy from the system
    out : None, ndarray for y (may be x), or a tuple (y, mask) with None where no array is given

    Returns
    -------
    y : ndarray, shape and dtype of x
    mask : ndarray of bool, shape of x; True where the element is kept

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; p outside [0, 1]; rng of another type

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), JMLR 15, 1929-1958, scaled while training.
    """
    return calls.drop(kernels(), "dropout", calls.dropout_constants, x, p, training, rng, out)


def dropout_backward(
    grad_output: Array[Float], mask: BoolArray | Array[np.uint8], p: float, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `dropout` by x: grad_output / (1 - p) where the mask is set, else 0.

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    mask : ndarray of bool or uint8, shape of grad_output, as `dropout` returned it
    p : float in [0, 1], as `dropout` was given it; after training=False the gradient is grad_output itself: pass p = 0
    out : None or ndarray of grad_output's shape and dtype; may be grad_output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays of another dtype, or that do not fit each other; p outside [0, 1]
    """
    return calls.drop_backward(kernels(), "dropout_backward", calls.dropout_constants, grad_output, mask, p, out)


def alpha_dropout(
    x: Array[Float],
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Rng = None,
    out: Array[Float] | tuple[Array[Float] | None, BoolArray | None] | None = None,
) -> tuple[Array[Float], BoolArray]:
    """Dropout for self-normalising networks: dropped elements become -lambda alpha, the limit of SELU, and the result
    is scaled.

    y = a x + b where kept, -a lambda alpha + b where dropped; a = (q + (lambda alpha)^2 q (1 - q))^(-1/2) with q = 1 -
    p and b = a (1 - q) lambda alpha keep mean 0 and variance 1

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    p : float in [0, 1], the probability of dropping; with 1 all of y is 0
    training : bool; False makes y a copy of x and keeps every element
    rng : numpy.random.Generator, int seed, or None for fresh entropy from the system
    out : None, ndarray for y (may be x), or a tuple (y, mask) with None where no array is given

    Returns
    -------
    y : ndarray, shape and dtype of x
    mask : ndarray of bool, shape of x; True where the element is kept

    Raises
    ------
    TypeError, ValueError : x is not an array of float32 or float64; p outside [0, 1]; rng of another type

    Source: Klambauer, Unterthiner, Mayr, Hochreiter (2017), arXiv 1706.02515, section 3.
    """
    return calls.drop(kernels(), "alpha_dropout", calls.alpha_dropout_constants, x, p, training, rng, out)


def alpha_dropout_backward(
    grad_output: Array[Float], mask: BoolArray | Array[np.uint8], p: float, *, out: Array[Float] | None = None
) -> Array[Float]:
    """Gradient of `alpha_dropout` by x: a grad_output where the mask is set, else 0.

    Parameters
    ----------
    grad_output : ndarray of any shape, float32 or float64
    mask : ndarray of bool or uint8, shape of grad_output, as `alpha_dropout` returned it
    p : float in [0, 1], as `alpha_dropout` was given it; after training=False pass p = 0
    out : None or ndarray of grad_output's shape and dtype; may be grad_output

    Returns
    -------
    grad_input : ndarray, shape and dtype of grad_output

    Raises
    ------
    TypeError, ValueError : arrays of another dtype, or that do not fit each other; p outside [0, 1]
    """
    return calls.drop_backward(
        kernels(), "alpha_dropout_backward", calls.alpha_dropout_constants, grad_output, mask, p, out
    )
