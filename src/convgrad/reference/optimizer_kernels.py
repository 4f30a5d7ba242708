"""The NumPy twin of the optimizers: one parameter after the other, the equations as they are written."""

import numpy as np

# enum cg_rule of csrc/arguments_dense.h
SGD, MOMENTUM, ADAM, RMSPROP, RMSPROP_FULL = range(5)


def step(parameters, states, rule, constants, low, high, max_norm, decay):
    """Update every parameter by `rule`; see `convgrad.optimizers` for the equations.

    Returns -1, or the position of the first parameter whose gradient or state does not fit, or -2 where `max_norm` is
    finite and the norm of the gradients is not; nothing has changed then.
    """
    for position, (parameter, state) in enumerate(zip(parameters, states, strict=True)):
        if not all(_fits(parameter.data, array) for array in (parameter.grad, *state[1:])):
            return position
    scale = 1.0
    gradients = [np.clip(parameter.grad, low, high) for parameter in parameters]
    if max_norm < np.inf:
        norm = np.sqrt(sum(np.square(g.astype(np.float64)).sum() for g in gradients))
        if not np.isfinite(norm):
            return -2
        scale = min(1.0, max_norm / (norm + 1e-6))
    for parameter, state, g in zip(parameters, states, gradients, strict=True):
        data = parameter.data
        state[0] += 1
        _update(rule, constants(state[0]), g * data.dtype.type(scale) + data.dtype.type(decay) * data, data, state)
    return -1


def _fits(data, other):
    return (
        isinstance(data, np.ndarray)
        and isinstance(other, np.ndarray)
        and data.dtype in (np.float32, np.float64)
        and data.dtype == other.dtype
        and data.shape == other.shape
        and data.flags.writeable
    )


def _update(rule, c, g, data, state):
    if rule == SGD:
        data -= c[0] * g
    elif rule == MOMENTUM:
        v = state[1]
        v[...] = c[0] * v + c[1] * g
        data -= c[2] * g + c[3] * v
    elif rule == ADAM:
        m, v = state[1:3]
        m += c[0] * (g - m)
        v[...] = c[1] * v + c[2] * g * g
        data[...] = c[3] * data - c[4] * m / (c[5] * np.sqrt(v) + c[6])
    else:
        s = state[1]
        s[...] = c[0] * s + c[1] * g * g
        if rule == RMSPROP:
            data -= c[2] * g / (np.sqrt(s) + c[3])
        else:
            a, b = state[2:4]
            a += c[1] * (g - a)
            b[...] = c[5] * b + g / (np.sqrt(np.maximum(s - c[4] * a * a, 0)) + c[3])
            data -= c[2] * b
