"""Layers: functionals that own their weights and remember what their derivative needs.

>>> from convgrad import layers
>>> model = layers.Sequential([layers.Conv2D(1, 8, 3, activation="relu"), layers.Flatten(), layers.Dense(288, 10)])
"""

from .activations import ELU, GELU, SELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .base import Layer, Parameter
from .convolution import Conv2D
from .dense import Dense
from .dropout import Dropout
from .pooling import AvgPool2D, Flatten, MaxPool2D
from .sequential import Sequential

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AvgPool2D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
