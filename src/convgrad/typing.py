"""Types for annotations: arrays, and the forms that options take.

All array arguments of a call share one dtype, float32 or float64, and so do its results: `Array[Float]` says so in the
signatures. `FloatArray` is an array of either.
"""

from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, TypeVar

import numpy as np

__all__ = [
    "Activation",
    "ActivationName",
    "Algorithm",
    "AnyArray",
    "Array",
    "BackendName",
    "BoolArray",
    "Conv1dOptions",
    "Conv2dOptions",
    "ConvTranspose1dOptions",
    "ConvTranspose2dOptions",
    "Explanation",
    "ExplicitPadding",
    "ExplicitPadding1d",
    "Float",
    "FloatArray",
    "FloatDType",
    "Initializer",
    "Int",
    "Layout",
    "Layout1d",
    "LossFunction",
    "LossName",
    "Mode",
    "Padding",
    "Padding1d",
    "Pair",
    "PartialTriple",
    "PlaneIndices",
    "PoolOptions",
    "PrecisionName",
    "Reduction",
    "Rng",
    "Shape",
    "Triple",
    "WindowIndices",
]

Float = TypeVar("Float", bound=np.float32 | np.float64)
_Scalar = TypeVar("_Scalar", bound=np.generic)

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[_Scalar]]
FloatArray: TypeAlias = Array[np.float32 | np.float64]
BoolArray: TypeAlias = Array[np.bool_]
AnyArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]
Triple: TypeAlias = tuple[Array[Float], Array[Float], Array[Float]]
PartialTriple: TypeAlias = tuple[Array[Float] | None, Array[Float] | None, Array[Float] | None]
WindowIndices: TypeAlias = Array[np.uint8 | np.int32]
PlaneIndices: TypeAlias = Array[np.int64]
FloatDType: TypeAlias = (
    Literal["float32", "float64"] | type[np.float32 | np.float64] | np.dtype[np.float32] | np.dtype[np.float64]
)

Int: TypeAlias = SupportsIndex
Pair: TypeAlias = Int | tuple[Int, Int]
Shape: TypeAlias = tuple[int, ...] | list[int]
# As text: NumPy loads its random module when it is first named, which takes longer than all of this package.
Rng: TypeAlias = "np.random.Generator | int | np.integer | None"

# "explicit": without the names, which transposed convolutions do not take.
ExplicitPadding: TypeAlias = Pair | tuple[tuple[Int, Int], tuple[Int, Int]]
ExplicitPadding1d: TypeAlias = Pair
Padding: TypeAlias = ExplicitPadding | Literal["valid", "same", "full"]
Padding1d: TypeAlias = ExplicitPadding1d | Literal["valid", "same", "full"]

Layout: TypeAlias = Literal["NCHW", "NHWC"]
Layout1d: TypeAlias = Literal["NCW", "NWC", "NCHW", "NHWC"]
Algorithm: TypeAlias = Literal["auto", "direct", "winograd"]
ActivationName: TypeAlias = Literal[
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu"
]
Activation: TypeAlias = ActivationName | tuple[Literal["leaky_relu", "elu"], float]
Mode: TypeAlias = Literal["full", "same", "valid"]
Reduction: TypeAlias = Literal["mean", "sum", "none"]
BackendName: TypeAlias = Literal["native", "numpy"]
PrecisionName: TypeAlias = Literal["fast", "strict"]

Initializer: TypeAlias = Callable[..., FloatArray]
LossName: TypeAlias = Literal["softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy"]
LossFunction: TypeAlias = Callable[[Any, Any], tuple[float | np.floating[Any], FloatArray]]


class Conv2dOptions(TypedDict, total=False):
    """Options that `conv2d` shares with its gradients."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: Int
    layout: Layout
    algorithm: Algorithm


class Conv1dOptions(TypedDict, total=False):
    """Options that `conv1d` shares with its gradients."""

    stride: Int
    padding: Padding1d
    dilation: Int
    groups: Int
    layout: Layout1d
    algorithm: Algorithm


class ConvTranspose2dOptions(TypedDict, total=False):
    """Options that `conv_transpose2d` shares with its gradients."""

    stride: Pair
    padding: ExplicitPadding
    output_padding: Pair
    dilation: Pair
    groups: Int
    layout: Layout
    algorithm: Algorithm


class ConvTranspose1dOptions(TypedDict, total=False):
    """Options that `conv_transpose1d` shares with its gradients."""

    stride: Int
    padding: ExplicitPadding1d
    output_padding: Int
    dilation: Int
    groups: Int
    layout: Layout1d
    algorithm: Algorithm


class PoolOptions(TypedDict, total=False):
    """Options that `max_pool2d` shares with its gradient."""

    stride: Pair | None
    padding: Padding
    dilation: Pair
    ceil_mode: bool
    layout: Layout


class Explanation(TypedDict):
    """What `explain_conv2d` returns."""

    backend: str
    isa: str
    precision: str
    algorithm: str
    reason: str
    blocking: str
    scratch_bytes: int
    shared_bytes: int
    threads: int
    flops: int
