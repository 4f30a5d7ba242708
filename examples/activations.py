"""Activation functions and their derivatives, from the library's own forward and backward passes."""

import numpy as np

import convgrad
from common import options, save
from convgrad import plots

FROM_INPUT = ("softplus", "silu", "gelu")
NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", *FROM_INPUT)


def value_and_derivative(name, z):
    """f(z) and f'(z): the derivative is what `NAME_backward` makes of a gradient of ones."""
    output = getattr(convgrad, name)(z)
    kept = z if name in FROM_INPUT else output
    return output, getattr(convgrad, f"{name}_backward")(np.ones_like(z), kept)


def main(arguments=None):
    chosen = options(__doc__).parse_args(arguments)
    z = np.linspace(-4, 4, 801)
    page = plots.new_figure("activations", (9, 7))
    steepest = {}
    for axes, name in zip(np.ravel(page.subplots(3, 3)), NAMES, strict=True):
        value, derivative = value_and_derivative(name, z)
        steepest[name] = float(derivative.max())
        axes.plot(z, value, label=name)
        axes.plot(z, derivative, linestyle="--", label="derivative")
        axes.set_ylim(-2, 4)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    print("steepest slopes:", ", ".join(f"{name} {slope:.2f}" for name, slope in steepest.items()))
    save(page, chosen.output, "activations.png")
    return steepest


if __name__ == "__main__":
    main()
