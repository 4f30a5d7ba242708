"""Coefficients of the polynomials in csrc/math.inc.h: minimax in relative error, by Remez exchange.

Needs mpmath. Prints, for each polynomial, the largest relative error and the coefficients from the highest power down;
with the argument `tables`, csrc/normal_table.inc.h instead.
"""

import sys
from itertools import pairwise

import mpmath as mp

mp.mp.dps = 60


def remez(f, weight, low, high, degree, rounds=8, grid_size=1200):
    """Coefficients, lowest power first, and the maximum of |(f - p) weight| on [low, high]."""
    low, high, n = mp.mpf(low), mp.mpf(high), degree + 2

    def chebyshev(count):
        return [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]

    points, grid = chebyshev(n), chebyshev(grid_size)
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    for _ in range(rounds):
        matrix, right = mp.matrix(n, n), mp.matrix(n, 1)
        for i, x in enumerate(points):
            for j in range(degree + 1):
                matrix[i, j] = x**j
            matrix[i, degree + 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = mp.lu_solve(matrix, right)
        coefficients = [solution[j] for j in range(degree + 1)]
        error = [(y - mp.polyval(coefficients[::-1], x)) * w for x, y, w in zip(grid, values, weights, strict=True)]
        # The extremum of each run of one sign is the next set of points.
        starts = [0] + [i for i in range(1, grid_size) if (error[i] > 0) != (error[i - 1] > 0)] + [grid_size]
        extrema = [max(range(a, b), key=lambda i: abs(error[i])) for a, b in pairwise(starts)]
        if len(extrema) < n:
            break
        while len(extrema) > n:
            extrema = extrema[1:] if abs(error[extrema[0]]) < abs(error[extrema[-1]]) else extrema[:-1]
        points = [grid[i] for i in extrema]
    return coefficients, max(map(abs, error))


def exp_q(r):
    """(e^r - 1 - r) / r^2."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > mp.mpf(10) ** -15 else mp.mpf(1) / 2 + r / 6


def log_p(f):
    """(log(1 + f) - f) / f^2."""
    return (mp.log1p(f) - f) / f**2 if abs(f) > mp.mpf(10) ** -15 else mp.mpf(-1) / 2 + f / 3


def log_weight(f):
    """f^2 over what the product is part of: log(1 + f), or log(2 (1 + f)) for f < 0."""
    return f * f / (mp.log1p(f) if f > 0 else mp.log(2 + 2 * f)) if f else mp.mpf(10) ** -30


def tail_q(k):
    """Q of P(X > t) = e^(-t^2/2) Q, as a function of u = t / (t + k) - 1/2."""

    def q(u):
        w = u + mp.mpf(1) / 2
        t = k * w / (1 - w)
        return mp.erfc(t / mp.sqrt(2)) * mp.exp(t * t / 2) / 2

    return q


def normal_tail(t):
    """P(X > t) of a standard normal X."""
    return mp.erfc(t / mp.sqrt(2)) / 2


def density(t):
    """The standard normal density."""
    return mp.exp(-t * t / 2) / mp.sqrt(2 * mp.pi)


def table(name, f, comment, relative_to):
    """Lines of C: in each of 32 intervals around i / 4 the polynomial of degree 6 in t - i / 4, by power."""
    rows = []
    for i in range(31):
        centre = mp.mpf(i) / 4
        low = -mp.mpf("0.125") if i else mp.mpf(10) ** -6
        weight = lambda u, centre=centre: 1 / max(abs(f(centre + u)), relative_to)
        g = lambda u, centre=centre: f(centre + u)
        if not i and f(mp.mpf(0)) == 0:  # nothing but powers from the first: exact near 0
            row = [mp.mpf(0), *remez(lambda u: f(u) / u, lambda u: abs(u / f(u)), low, "0.125", 5, 6, 300)[0]]
        else:
            row = remez(g, weight, low, "0.125", 6, 6, 300)[0]
        rows.append(row)
    rows.append([mp.mpf(0)] * 7)
    lines = [f"/* {comment} */", f"static const float {name}[7][32] = {{"]
    for power in range(7):
        cells = [f"{mp.nstr(row[power], 10)}f" if row[power] else "0" for row in rows]
        lines += ["{" + ", ".join(cells) + ("}," if power < 6 else "}")]
    return [*lines, "};"]


def print_tables():
    """csrc/normal_table.inc.h, to be put in shape by clang-format."""
    print("/* Polynomials of degree 6 on 32 intervals around i / 4, from tools/make_polynomials.py: [power][i]. */")
    least = mp.mpf(10) ** -3  # relative to this where the function is smaller
    value = table("gelu_table", lambda t: t * normal_tail(t), "t P(X > t)", least)
    slope = table("gelu_slope_table", lambda t: normal_tail(t) - t * density(t), "P(X > t) - t phi(t)", mp.mpf("0.1"))
    print("\n".join(value + slope))


def show(name, result):
    """Print one polynomial."""
    coefficients, error = result
    print(f"{name}: relative error 2^{mp.nstr(mp.log(error, 2), 4)}")
    print("   ", ", ".join(mp.nstr(c, 20) for c in coefficients[::-1]))


def main():
    """Print all polynomials, float32's and float64's."""
    tiny = mp.mpf(10) ** -30  # where the weight would be 0
    reach = mp.log(2) / 2 * mp.mpf("1.002")
    for dtype, exp_degree, log_degree, k, t_max, tail_degree, tail_rounds in (
        ("float32", 4, 8, 4, 15, 10, 4),
        ("float64", 9, 19, 5, 40, 22, 4),
    ):
        show(f"{dtype} exp_q", remez(exp_q, lambda r: r * r / mp.exp(r) + tiny, -reach, reach, exp_degree))
        show(f"{dtype} log_p", remez(log_p, log_weight, "-0.25", "0.5", log_degree))
        q, high = tail_q(mp.mpf(k)), mp.mpf(t_max) / (t_max + k) - mp.mpf(1) / 2
        show(f"{dtype} tail_q", remez(q, lambda u, q=q: 1 / q(u), -0.5, high, tail_degree, tail_rounds, 500))


if __name__ == "__main__":
    print_tables() if sys.argv[1:] == ["tables"] else main()
