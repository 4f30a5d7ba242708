"""Layers: functionals that own their weights and remember what their derivative needs.

>>> from convgrad import layers
>>> model = layers.Sequential([layers.Conv2D(1, 8, 3, activation="relu"), layers.Flatten(), layers.Dense(288, 10)])
"""

from .activations import ELU, GELU, SELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .base import Buffer, Layer, Parameter
from .convolution import Conv2D
from .convolution_transpose import Conv2DTranspose
from .dense import Dense
from .dropout import AlphaDropout, Dropout
from .inspection import Summary, activation_statistics, architecture, describe_non_finite, summary
from .local import LocallyConnected2D
from .norm import BatchNorm, LayerNorm
from .pooling import AvgPool2D, Flatten, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D, Reshape, Subsample2D
from .sequential import Sequential

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AlphaDropout",
    "AvgPool2D",
    "BatchNorm",
    "Buffer",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LocallyConnected2D",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "Reshape",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Subsample2D",
    "Summary",
    "Tanh",
    "activation_statistics",
    "architecture",
    "describe_non_finite",
    "summary",
]
