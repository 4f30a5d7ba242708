"""Optimizers: from gradients to better parameters.

An optimizer is not tied to a model: `step(parameters)` takes the `Parameter` objects whose `grad` a backward pass has
just filled, updates their `data` in place, and keeps what it must remember (momentum, moments) for each of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .layers import Parameter

__all__ = ["SGD", "Adam", "Optimizer"]


class Optimizer:
    """Base class: checks, and one state per parameter.

    A subclass defines `_start(parameter)`, the state of a parameter not seen before, and
    `_update(parameter, state)`, which changes `parameter.data` in place.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = _number(self, "learning_rate", learning_rate, 0, None)
        self._states: weakref.WeakKeyDictionary[Parameter, Any] = weakref.WeakKeyDictionary()

    def step(self, parameters: Iterable[Parameter]) -> None:
        """Update every parameter from its gradient.

        Parameters
        ----------
        parameters : iterable of Parameter, as from `model.parameters()`

        Raises
        ------
        ValueError : a parameter has no gradient; nothing is updated
        """
        parameters = list(parameters)
        for position, parameter in enumerate(parameters):
            if parameter.grad is None:
                raise ValueError(
                    f"{type(self).__name__}.step: parameter {position} of shape {parameter.shape} has no gradient; "
                    "call backward first"
                )
        for parameter in parameters:
            state = self._states.get(parameter)
            if state is None:
                state = self._states[parameter] = self._start(parameter)
            self._update(parameter, state)

    def _start(self, parameter: Parameter) -> Any:
        raise NotImplementedError

    def _update(self, parameter: Parameter, state: Any) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent: v <- momentum * v + grad, data <- data - learning_rate * v.

    With `nesterov` the step is grad + momentum * v, taken after v's update.

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    momentum : float in [0, 1)
    nesterov : bool, needs momentum above 0

    Source: Sutskever, Martens, Dahl, Hinton (2013), "On the importance of initialization and momentum in deep
    learning", in the form that PyTorch computes (the learning rate outside v).
    """

    def __init__(self, learning_rate: float = 0.01, *, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(learning_rate)
        self.momentum = _number(self, "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov=True needs momentum above 0, got momentum=0.0")

    def _start(self, parameter: Parameter) -> Any:
        velocity = np.zeros_like(parameter.data) if self.momentum else None
        return velocity, np.empty_like(parameter.data)

    def _update(self, parameter: Parameter, state: Any) -> None:
        velocity, scratch = state
        step: Any = parameter.grad
        if velocity is not None:
            velocity *= self.momentum
            velocity += parameter.grad
            step = velocity
            if self.nesterov:
                step = np.multiply(velocity, self.momentum, out=scratch)
                step += parameter.grad
        parameter.data -= np.multiply(step, self.learning_rate, out=scratch)

    def __repr__(self) -> str:
        return f"SGD(learning_rate={self.learning_rate}, momentum={self.momentum}, nesterov={self.nesterov})"


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2; with the bias corrections m' = m / (1 - beta1^t) and
    v' = v / (1 - beta2^t): data <- data - learning_rate * m' / (sqrt(v') + eps).

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    betas : (float, float), each in [0, 1)
    eps : float above 0

    Source: Kingma and Ba (2014), arXiv 1412.6980, Algorithm 1.
    """

    def __init__(
        self, learning_rate: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"Adam: betas must be two numbers, got {betas!r}") from None
        self.betas = (_number(self, "betas[0]", beta1, 0, 1), _number(self, "betas[1]", beta2, 0, 1))
        self.eps = _number(self, "eps", eps, 0, None)
        if self.eps == 0:
            raise ValueError("Adam: eps must be above 0, got 0.0")

    def _start(self, parameter: Parameter) -> Any:
        zeros, empty = np.zeros_like, np.empty_like
        return {"t": 0, "m": zeros(parameter.data), "v": zeros(parameter.data), "scratch": empty(parameter.data)}

    def _update(self, parameter: Parameter, state: Any) -> None:
        state["t"] += 1
        m, v, scratch = state["m"], state["v"], state["scratch"]
        gradient: Any = parameter.grad
        beta1, beta2 = self.betas
        m *= beta1
        m += np.multiply(gradient, 1 - beta1, out=scratch)
        v *= beta2
        np.multiply(gradient, gradient, out=scratch)
        v += np.multiply(scratch, 1 - beta2, out=scratch)
        np.divide(v, 1 - beta2 ** state["t"], out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += self.eps
        np.divide(m, scratch, out=scratch)
        parameter.data -= np.multiply(scratch, self.learning_rate / (1 - beta1 ** state["t"]), out=scratch)

    def __repr__(self) -> str:
        return f"Adam(learning_rate={self.learning_rate}, betas={self.betas}, eps={self.eps})"


def _number(optimizer: Optimizer, name: str, value: float, minimum: float, below: float | None) -> float:
    """Return `value` as a float in [minimum, below), below=None meaning any finite value."""
    function = type(optimizer).__name__
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {name} must be a number, got {value!r}") from None
    limit = np.inf if below is None else below
    if not minimum <= number < limit:
        bounds = f"finite and at least {minimum}" if below is None else f"at least {minimum} and below {below}"
        raise ValueError(f"{function}: {name} must be {bounds}, got {value!r}")
    return number
