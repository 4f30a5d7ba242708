"""Optimizers: from gradients to better parameters.

An optimizer is not tied to a model: `step(parameters)` takes the `Parameter` objects whose `grad` a backward pass has
just filled, updates their `data` in place, and keeps what it must remember (momentum, moments) for each of them.

Equations and options are PyTorch's, with these differences: `lr` is called learning_rate; clipping is an option of the
optimizer and leaves the gradients as they are; `amsgrad`, `maximize` and `foreach` do not exist. One native call
updates all parameters, reading and writing each array once. It takes denormal numbers as zero, to which the means of
gradients that stay zero fade: with them a step takes two to five times as long. (On x86-64 and AArch64, and unless an
`eps` below 1e-11, in float64 1e-137, makes squares of that size count.)
"""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._native import dense as native_kernels
from .backends import is_native
from .optimizer_state import read_states, written_states
from .reference import optimizer_kernels as numpy_kernels
from .reference.optimizer_kernels import ADAM, MOMENTUM, RMSPROP, RMSPROP_FULL
from .reference.optimizer_kernels import SGD as PLAIN
from .typing import AnyArray

if TYPE_CHECKING:
    from .layers import Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

_N_ARRAYS = {PLAIN: 0, MOMENTUM: 1, ADAM: 2, RMSPROP: 1, RMSPROP_FULL: 3}


class Optimizer:
    """Base class: clipping and weight decay, checks, and one state per parameter.

    A subclass defines `_rule()`, the equation (see `reference.optimizer_kernels`), and `_constants(t)`, its constants
    in the t-th step of a parameter.

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    weight_decay : float, at least 0; weight_decay * data is added to the gradient
    clip_value : None or float above 0; elements of the gradients are clamped to [-clip_value, clip_value], as PyTorch's
        `clip_grad_value_` does
    clip_norm : None or float above 0; the gradients, after `clip_value`, are multiplied by
        min(1, clip_norm / (norm + 1e-6)), norm being that of all of them together, as PyTorch's `clip_grad_norm_` does
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.learning_rate = _number(self, "learning_rate", learning_rate, 0, None)
        self.weight_decay = _number(self, "weight_decay", weight_decay, 0, None)
        self.clip_value: float | None = None
        self.clip_norm: float | None = None
        self.set_clipping(value=clip_value, norm=clip_norm)
        self._states: weakref.WeakKeyDictionary[Parameter, list[Any]] = weakref.WeakKeyDictionary()
        # rule, parameters and states of the last step, while all of these live
        self._last: dict[str, tuple[int | None, list[weakref.ref[Parameter]], list[list[Any]]]] = {}

    def step(self, parameters: Iterable[Parameter]) -> None:
        """Update every parameter from its gradient.

        Parameters
        ----------
        parameters : iterable of Parameter, as from `model.parameters()`

        Raises
        ------
        ValueError : a parameter has no gradient, or one of another shape, is read-only or is listed twice
        TypeError : a parameter or its gradient is not an array of float32 or float64, both of one dtype
        FloatingPointError : with `clip_norm`, the norm of the gradients is NaN or infinite

        Nothing is updated where an error is raised.
        """
        parameters = list(parameters)
        rule = self._rule()
        states = self._states_of(parameters, rule)
        high = math.inf if self.clip_value is None else self.clip_value
        limit = math.inf if self.clip_norm is None else self.clip_norm
        kernels: Any = native_kernels if is_native() else numpy_kernels
        outcome = kernels.step(parameters, states, rule, self._constants, -high, high, limit, self._decay())
        if outcome >= 0:
            self._refuse(outcome, parameters[outcome])
        if outcome == -2:
            raise FloatingPointError(
                f"{type(self).__name__}.step: clip_norm={limit} needs a finite norm of the gradients, but one of them "
                "holds NaN, infinity or values too large to square"
            )

    def set_clipping(self, *, value: float | None = None, norm: float | None = None) -> None:
        """Set `clip_value` and `clip_norm`; None leaves the one in force."""
        self.clip_value = self.clip_value if value is None else _positive(self, "clip_value", value)
        self.clip_norm = self.clip_norm if norm is None else _positive(self, "clip_norm", norm)

    def state_dict(self, parameters: Iterable[Parameter]) -> dict[str, AnyArray]:
        """Copies of what is remembered for these parameters, and the learning rate, by name."""
        states = [self._states.get(parameter, [0]) for parameter in parameters]
        return {"learning_rate": np.array(self.learning_rate), **written_states(states)}

    def load_state_dict(self, parameters: Iterable[Parameter], state: Mapping[str, AnyArray]) -> None:
        """Take up what `state_dict` returned, for parameters of the same shapes in the same order.

        ValueError names every entry that is missing, not known or of another shape or dtype; nothing changes then.
        """
        parameters, given = list(parameters), dict(state)
        rate = given.pop("learning_rate", np.array(self.learning_rate))
        if np.shape(rate) or not 0 <= rate < np.inf:
            raise ValueError(f"{type(self).__name__}.load_state_dict: learning_rate is {rate!r}, expected a number")
        states = read_states(f"{type(self).__name__}.load_state_dict", parameters, given, _N_ARRAYS[self._rule()])
        self.learning_rate = float(rate)
        self._last.clear()
        for position, parameter in enumerate(parameters):
            self._states.pop(parameter, None)
            if position in states:
                self._states[parameter] = states[position]

    def _rule(self) -> int:
        raise NotImplementedError

    def _constants(self, t: int) -> tuple[float, ...]:
        raise NotImplementedError

    def _decay(self) -> float:
        return self.weight_decay

    def _states_of(self, parameters: list[Parameter], rule: int) -> list[list[Any]]:
        """For each parameter a list [steps taken, at least as many arrays as the rule has], made where it is new."""
        known_rule, known, states = self._last.get("step", (None, [], []))
        same = known_rule == rule and len(known) == len(parameters)
        if same and all(map(operator.is_, map(operator.call, known), parameters)):
            return states
        self._last.clear()
        states = []
        for position, parameter in enumerate(parameters):
            data: Any = getattr(parameter, "data", None)
            if not isinstance(data, np.ndarray):
                self._refuse(position, parameter)
            state = self._states.setdefault(parameter, [0])
            while len(state) <= _N_ARRAYS[rule]:
                state.append(np.zeros(data.shape, data.dtype))
            states.append(state)
        if len(set(map(id, parameters))) < len(parameters):
            raise ValueError(f"{type(self).__name__}.step: a parameter is listed twice; list each once")
        memory = self._last  # a plain dict, so that what lives with the parameters does not keep the optimizer
        memory["step"] = (rule, [weakref.ref(p, lambda _: memory.clear()) for p in parameters], states)
        return states

    def _refuse(self, position: int, parameter: Parameter) -> None:
        """Raise the error that says why a parameter cannot be updated."""
        where = f"{type(self).__name__}.step: parameter {position}"
        data, grad = getattr(parameter, "data", None), getattr(parameter, "grad", None)
        if not isinstance(data, np.ndarray):
            raise TypeError(f"{where} must be a Parameter with an array, got {type(parameter).__name__}")
        if grad is None:
            raise ValueError(f"{where} of shape {data.shape} has no gradient; call backward first")
        if not isinstance(grad, np.ndarray) or data.dtype != grad.dtype or data.dtype not in (np.float32, np.float64):
            got = grad.dtype if isinstance(grad, np.ndarray) else type(grad).__name__
            raise TypeError(
                f"{where} is {data.dtype} and its gradient {got}; both must be float32 or both float64, in this "
                "machine's byte order"
            )
        if grad.shape != data.shape:
            raise ValueError(f"{where} has shape {data.shape} but its gradient {grad.shape}; pass one of its shape")
        if not data.flags.writeable:
            raise ValueError(f"{where} of shape {data.shape} is read-only; pass a writeable array")
        raise ValueError(
            f"{where} has shape {data.shape} and dtype {data.dtype}, unlike in earlier steps; create a new Parameter "
            "for an array of another form"
        )

    def _described(self, **options: Any) -> str:
        """The description: `options`, then whatever else is not at its default."""
        options |= {
            "weight_decay": self.weight_decay or None,
            "clip_value": self.clip_value,
            "clip_norm": self.clip_norm,
        }
        listed = ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)
        return f"{type(self).__name__}(learning_rate={self.learning_rate}{', ' if listed else ''}{listed})"


class SGD(Optimizer):
    """Stochastic gradient descent: v <- momentum * v + (1 - dampening) * grad, data <- data - learning_rate * v.

    With `nesterov` the step is grad + momentum * v, taken after v's update; v starts as the first gradient.

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    momentum : float in [0, 1)
    dampening : float in [0, 1]
    nesterov : bool, needs momentum above 0 and dampening 0
    weight_decay, clip_value, clip_norm : as for `Optimizer`

    Source: Sutskever, Martens, Dahl, Hinton (2013), "On the importance of initialization and momentum in deep
    learning", in the form that PyTorch computes (the learning rate outside v).
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.momentum = _number(self, "momentum", momentum, 0, 1)
        self.dampening = _number(self, "dampening", dampening, 0, None)
        if self.dampening > 1:
            raise ValueError(f"SGD: dampening must be at least 0 and at most 1, got {dampening!r}")
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov=True needs momentum above 0, got momentum=0.0")
        if self.nesterov and self.dampening:
            raise ValueError(f"SGD: nesterov=True needs dampening 0, got dampening={self.dampening}")

    def _rule(self) -> int:
        return MOMENTUM if self.momentum else PLAIN

    def _constants(self, t: int) -> tuple[float, ...]:
        rate = self.learning_rate
        if not self.momentum:
            return (rate,)
        share = 1.0 if t == 1 else 1 - self.dampening
        if self.nesterov:
            return self.momentum, share, rate, rate * self.momentum
        return self.momentum, share, 0.0, rate

    def __repr__(self) -> str:
        return self._described(momentum=self.momentum, nesterov=self.nesterov, dampening=self.dampening or None)


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2; with the bias corrections m' = m / (1 - beta1^t) and
    v' = v / (1 - beta2^t): data <- data - learning_rate * m' / (sqrt(v') + eps).

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    betas : (float, float), each in [0, 1)
    eps : float above 0
    weight_decay, clip_value, clip_norm : as for `Optimizer`

    Source: Kingma and Ba (2014), arXiv 1412.6980, Algorithm 1.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        function = type(self).__name__
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"{function}: betas must be two numbers, got {betas!r}") from None
        self.betas = (_number(self, "betas[0]", beta1, 0, 1), _number(self, "betas[1]", beta2, 0, 1))
        self.eps = _positive(self, "eps", eps)

    def _rule(self) -> int:
        return ADAM

    def _constants(self, t: int) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        step, root = self.learning_rate / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t)
        return 1 - beta1, beta2, 1 - beta2, self._keep(), step, root, self.eps

    def _keep(self) -> float:
        """What is left of data before the step."""
        return 1.0

    def __repr__(self) -> str:
        return self._described(betas=self.betas, eps=self.eps)


class AdamW(Adam):
    """`Adam` with the weight decay apart from the gradient: data <- (1 - learning_rate * weight_decay) data first.

    Parameters
    ----------
    learning_rate, betas, eps, clip_value, clip_norm : as for `Adam`
    weight_decay : float, at least 0

    Source: Loshchilov and Hutter (2017), arXiv 1711.05101, Algorithm 2.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip_value=clip_value,
            clip_norm=clip_norm,
        )

    def _decay(self) -> float:
        return 0.0

    def _keep(self) -> float:
        return 1 - self.learning_rate * self.weight_decay


class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of a running mean of its square.

    s <- alpha s + (1 - alpha) g^2; q = g / (sqrt(s) + eps); data <- data - learning_rate q. With `centered`, s less the
    square of the gradient's running mean stands under the root; with momentum, b <- momentum b + q takes q's place.

    Parameters
    ----------
    learning_rate : float, at least 0; may be changed between steps
    alpha : float in [0, 1)
    eps : float above 0
    momentum : float in [0, 1)
    centered : bool
    weight_decay, clip_value, clip_norm : as for `Optimizer`

    Source: Tieleman and Hinton (2012), lecture 6.5 of "Neural networks for machine learning"; centered: Graves (2013),
    arXiv 1308.0850, eq. 38 to 45, in the form that PyTorch computes.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, clip_value=clip_value, clip_norm=clip_norm)
        self.alpha = _number(self, "alpha", alpha, 0, 1)
        self.eps = _positive(self, "eps", eps)
        self.momentum = _number(self, "momentum", momentum, 0, 1)
        self.centered = bool(centered)

    def _rule(self) -> int:
        return RMSPROP_FULL if self.momentum or self.centered else RMSPROP

    def _constants(self, t: int) -> tuple[float, ...]:
        constants = (self.alpha, 1 - self.alpha, self.learning_rate, self.eps)
        return (*constants, float(self.centered), self.momentum) if self._rule() == RMSPROP_FULL else constants

    def __repr__(self) -> str:
        return self._described(
            alpha=self.alpha, eps=self.eps, momentum=self.momentum or None, centered=self.centered or None
        )


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


def _positive(optimizer: Optimizer, name: str, value: float) -> float:
    """Return `value` as a finite float above 0."""
    number = _number(optimizer, name, value, 0, None)
    if number == 0:
        raise ValueError(f"{type(optimizer).__name__}: {name} must be above 0, got 0.0")
    return number
