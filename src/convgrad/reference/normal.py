"""The complementary error function in NumPy, to about 1e-15 of its value.

Source: Cody (1969), "Rational Chebyshev approximations for the error function", Mathematics of Computation 23, 631-637.
"""

import numpy as np

# Coefficients from the highest power down: erf(y) / y in y^2 to 0.46875; erfc(y) exp(y^2) in y to 4, then in 1 / y^2.
_LOW = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_HIGH = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def erfc(x):
    """1 - erf(x) of a float64 array."""
    y = np.abs(x)
    z = 1 / np.square(np.maximum(y, 4.0))
    squared = np.floor(y * 16) / 16  # exp(-y^2) from two factors: y^2 itself would be rounded
    decay = np.exp(-squared * squared) * np.exp(-(y - squared) * (y + squared))
    middle = decay * _ratio(_MIDDLE, np.minimum(y, 4.0))
    high = decay * (1 / np.sqrt(np.pi) - z * _ratio(_HIGH, z)) / np.maximum(y, 4.0)
    tail = np.where(y <= 4, middle, high)
    tail = np.where(y > 30, 0.0, tail)
    near_zero = 1 - x * _ratio(_LOW, np.square(np.minimum(y, 0.5)))
    return np.where(y <= 0.46875, near_zero, np.where(x < 0, 2 - tail, tail))


def _ratio(coefficients, x):
    return np.polyval(coefficients[0], x) / np.polyval(coefficients[1], x)
