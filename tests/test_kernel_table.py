"""Every functional reaches its own entries of the kernel table, in each dtype; no two tables share an entry."""

import itertools

import numpy as np
import pytest

from convgrad import backends, functional
from convgrad._native import runtime

DTYPES = ("float32", "float64")
WINOGRAD = ("winograd_weights", "winograd_fused")
WINOGRAD_GRAD_WEIGHT = ("winograd_input", "winograd_grad_output", "winograd_grad_fused")


class Arrays:
    """Arrays of one dtype for the calls below: `a(2, 3)` is a new one of shape (2, 3) with values in (0, 1)."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(3)

    def __call__(self, *shape):
        return self.rng.uniform(0.1, 0.9, shape).astype(self.dtype)


# "functional" or "functional: case" -> the kernels that it runs (no others), the call
X, W, Y = (2, 4, 8, 9), (6, 4, 3, 3), (2, 6, 6, 7)
CALLS = {
    # convolution
    "conv2d": (("conv_correlate",), lambda f, a: f(a(*X), a(*W), a(6), activation="gelu")),
    "conv2d: winograd": (WINOGRAD, lambda f, a: f(a(*X), a(*W), a(6), activation="gelu", algorithm="winograd")),
    "conv2d: winograd, many channels": (
        ("winograd_input", "winograd_multiply"),
        lambda f, a: f(a(1, 260, 4, 4), a(300, 260, 3, 3), algorithm="winograd"),
    ),
    "conv2d: winograd, groups": (
        ("winograd_groups",), lambda f, a: f(a(*X), a(6, 2, 3, 3), a(6), groups=2, algorithm="winograd"),
    ),
    "conv2d: depthwise": (("conv_depthwise",), lambda f, a: f(a(*X), a(8, 1, 3, 3), a(8), groups=4)),
    "conv2d_grad_input": (("conv_correlate",), lambda f, a: f(a(*Y), a(*W), X)),
    "conv2d_grad_input: depthwise": (
        ("conv_depthwise",), lambda f, a: f(a(2, 4, 8, 9), a(4, 1, 3, 3), X, groups=4, padding=1),
    ),
    "conv2d_grad_input: depthwise, stride 2": (
        ("conv_depthwise_strided_grad",),
        lambda f, a: f(a(2, 4, 4, 5), a(4, 1, 3, 3), X, groups=4, padding=1, stride=2),
    ),
    "conv2d_grad_input: winograd": (WINOGRAD, lambda f, a: f(a(*Y), a(*W), X, algorithm="winograd")),
    "conv2d_grad_weight": (("conv_grad_weight",), lambda f, a: f(a(*Y), a(*X), 3)),
    "conv2d: depthwise, NHWC": (
        ("conv_depthwise_channels",),
        lambda f, a: f(a(2, 8, 9, 19), a(19, 1, 3, 2), a(19), groups=19, stride=2, padding=1, layout="NHWC"),
    ),
    "conv2d_grad_weight: depthwise, NHWC": (
        ("conv_depthwise_channels_grad",),
        lambda f, a: f(a(2, 8, 9, 19), a(2, 8, 9, 19), (7, 3), groups=19, padding=(3, 1), layout="NHWC"),
    ),
    "conv2d_grad_weight: depthwise": (
        ("conv_depthwise_grad",), lambda f, a: f(a(2, 8, 6, 7), a(*X), 3, groups=4),
    ),
    "conv2d_grad_weight: winograd": (
        WINOGRAD_GRAD_WEIGHT, lambda f, a: f(a(*Y), a(*X), 3, algorithm="winograd"),
    ),
    "conv2d_grad_weight: winograd, few channels": (
        ("winograd_grad_ranges", "winograd_grad_weight"),
        lambda f, a: f(a(2, 4, 200, 20), a(2, 5, 200, 20), 3, padding=1, algorithm="winograd"),
    ),
    "conv2d_grad_weight: winograd, many tiles": (
        ("winograd_input", "winograd_grad_output", "winograd_grad_products", "winograd_grad_weight"),
        lambda f, a: f(a(1, 4, 56, 60), a(1, 4, 58, 62), 3, algorithm="winograd"),
    ),
    "conv2d_grad_weight: winograd, groups": (
        ("winograd_grad_groups",), lambda f, a: f(a(*Y), a(*X), 3, groups=2, algorithm="winograd"),
    ),
    "conv2d_grad_bias": (("channel_sum",), lambda f, a: f(a(*Y))),
    "conv2d_backward": (
        ("conv_correlate", "conv_grad_weight", "channel_sum"), lambda f, a: f(a(*Y), a(*X), a(*W)),
    ),
    "conv2d_backward: winograd": (
        (*WINOGRAD, *WINOGRAD_GRAD_WEIGHT, "channel_sum"),
        lambda f, a: f(a(*Y), a(*X), a(*W), algorithm="winograd"),
    ),
    "conv_transpose2d": (("conv_correlate",), lambda f, a: f(a(*Y), a(*W), a(4), stride=2)),
    "conv_transpose2d_backward": (
        ("conv_correlate", "conv_grad_weight", "channel_sum"), lambda f, a: f(a(*X), a(*Y), a(*W)),
    ),
    "conv1d": (("conv_correlate",), lambda f, a: f(a(2, 4, 9), a(6, 4, 3), a(6))),
    "conv1d_grad_input": (("conv_correlate",), lambda f, a: f(a(2, 6, 7), a(6, 4, 3), (2, 4, 9))),
    "conv1d_grad_weight": (("conv_grad_weight",), lambda f, a: f(a(2, 6, 7), a(2, 4, 9), 3)),
    "conv1d_grad_bias": (("channel_sum",), lambda f, a: f(a(2, 6, 7))),
    "conv1d_backward": (
        ("conv_correlate", "conv_grad_weight", "channel_sum"), lambda f, a: f(a(2, 6, 7), a(2, 4, 9), a(6, 4, 3)),
    ),
    "conv_transpose1d": (("conv_correlate",), lambda f, a: f(a(2, 6, 7), a(6, 4, 3), a(4))),
    "conv_transpose1d_backward": (
        ("conv_correlate", "conv_grad_weight", "channel_sum"), lambda f, a: f(a(2, 4, 9), a(2, 6, 7), a(6, 4, 3)),
    ),
    "convolve2d": (("conv_correlate",), lambda f, a: f(a(2, 8, 9), a(3, 4))),
    "convolve2d_backward": (("conv_correlate", "conv_grad_weight"), lambda f, a: f(a(2, 10, 12), a(2, 8, 9), a(3, 4))),
    "correlate2d": (("conv_correlate",), lambda f, a: f(a(2, 8, 9), a(3, 4))),
    "correlate2d_backward": (("conv_correlate", "conv_grad_weight"), lambda f, a: f(a(2, 10, 12), a(2, 8, 9), a(3, 4))),
    "prepack_conv2d": (
        ("conv_pack", "conv_correlate"), lambda f, a: f(a(*W), a(6), input_shape=X)(a(*X)),
    ),
    "prepack_conv2d: winograd": (
        WINOGRAD, lambda f, a: f(a(*W), a(6), input_shape=X, algorithm="winograd")(a(*X)),
    ),
    "explain_conv2d": ((), lambda f, a: f(a(*X), a(*W))),  # plans and runs nothing
    "locally_connected2d": (("locally_connected2d",), lambda f, a: f(a(*X), a(6, 7, 6, 4, 3, 3), a(6, 7, 6))),
    "locally_connected2d_backward": (
        ("locally_connected2d_grad_input", "locally_connected2d_grad_weight"),
        lambda f, a: f(a(*Y), a(*X), a(6, 7, 6, 4, 3, 3)),
    ),
    # dense
    "linear": (("gemm",), lambda f, a: f(a(5, 7), a(6, 7), a(6), activation="relu")),
    "linear_backward": (
        ("linear_backward",), lambda f, a: f(a(5, 6), a(5, 7), a(6, 7)),
    ),
    # pooling
    "max_pool2d": (("max_pool2d",), lambda f, a: f(a(*X), 2)),
    "max_pool2d_backward": (
        ("max_pool2d_backward",), lambda f, a: f(a(2, 4, 4, 4), np.zeros((2, 4, 4, 4), np.uint8), X, 2),
    ),
    "max_pool2d_plane_indices": (
        ("max_pool2d_plane_indices",), lambda f, a: f(np.zeros((2, 4, 4, 4), np.uint8), X, 2),
    ),
    "avg_pool2d": (("avg_pool2d",), lambda f, a: f(a(*X), 2)),
    "avg_pool2d_backward": (("avg_pool2d_backward",), lambda f, a: f(a(2, 4, 4, 4), X, 2)),
    "subsample2d": (("subsample2d",), lambda f, a: f(a(*X), a(4), a(4), 2)),
    "subsample2d_backward": (
        ("subsample2d_backward", "channel_sum"), lambda f, a: f(a(2, 4, 4, 4), a(*X), a(4), 2),
    ),
    "global_avg_pool2d": (("global_avg_pool2d",), lambda f, a: f(a(*X))),
    "global_avg_pool2d_backward": (("global_avg_pool2d_backward",), lambda f, a: f(a(2, 4, 1, 1), X)),
    "global_max_pool2d": (("global_max_pool2d",), lambda f, a: f(a(*X))),
    "global_max_pool2d_backward": (
        ("global_max_pool2d_backward",), lambda f, a: f(a(2, 4, 1, 1), np.zeros((2, 4, 1, 1), np.int64), X),
    ),
    # activations
    **{
        name: (("activation",), lambda f, a: f(a(3, 5)))
        for name in ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu")
    },
    **{
        f"{name}_backward": (("activation_backward",), lambda f, a: f(a(3, 5), a(3, 5)))
        for name in ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "gelu")
    },
    "activation_backward_bias": (
        ("activation_backward_bias", "sum_partials"), lambda f, a: f("tanh", a(*Y), a(*Y)),
    ),
    "dropout": (("dropout",), lambda f, a: f(a(3, 5), rng=0)),
    "dropout_backward": (("dropout",), lambda f, a: f(a(3, 5), np.ones((3, 5), bool), 0.5)),
    "alpha_dropout": (("dropout",), lambda f, a: f(a(3, 5), rng=0)),
    "alpha_dropout_backward": (("dropout",), lambda f, a: f(a(3, 5), np.ones((3, 5), bool), 0.5)),
    # rows
    "softmax": (("softmax",), lambda f, a: f(a(3, 5))),
    "softmax_backward": (("softmax_backward",), lambda f, a: f(a(3, 5), a(3, 5))),
    "log_softmax": (("log_softmax",), lambda f, a: f(a(3, 5))),
    "log_softmax_backward": (("log_softmax_backward",), lambda f, a: f(a(3, 5), a(3, 5))),
    "softmax_cross_entropy": (("softmax_cross_entropy",), lambda f, a: f(a(3, 5), np.array([0, 4, 2]))),
    "least_squares": (("least_squares",), lambda f, a: f(a(3, 5), a(3, 5))),
    "sigmoid_cross_entropy": (("sigmoid_cross_entropy",), lambda f, a: f(a(3, 5), a(3, 5))),
    "batch_norm": (("batch_norm",), lambda f, a: f(a(*X), a(4), a(4), training=True)),
    "batch_norm_backward": (("batch_norm_backward",), lambda f, a: f(a(*X), a(*X), a(4), a(4), a(4))),
    "layer_norm": (("layer_norm",), lambda f, a: f(a(3, 5), a(5), a(5))),
    "layer_norm_backward": (
        ("layer_norm_backward", "sum_partials"), lambda f, a: f(a(3, 5), a(3, 5), a(5), a(3), a(3)),
    ),
}  # fmt: skip

# Works on integers alone: it has one entry, in the table of float32.
WITHOUT_DTYPE = {"max_pool2d_plane_indices"}

# Run by optimizers, not by functionals: tests/test_optimizers.py shows which step runs which.
OF_OPTIMIZERS = {"optimizer_step", "gradient_norm"}


def kernels_that_run(call):
    """{(kernel, dtype): how often} of the kernels that `call()` runs."""
    before = runtime.kernel_calls()
    call()
    after = runtime.kernel_calls()
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


def call_of(label, dtype):
    call = CALLS[label][1]
    return lambda: call(getattr(functional, label.split(":")[0]), Arrays(dtype))


def test_every_functional_has_a_row():
    assert {label.split(":")[0] for label in CALLS} == set(functional.__all__)


def test_every_kernel_has_a_row_that_reaches_it():
    reached = {kernel for entries, _ in CALLS.values() for kernel in entries}
    assert reached | OF_OPTIMIZERS == {kernel for kernel, _ in runtime.kernel_table()}
    assert not reached & OF_OPTIMIZERS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", CALLS)
def test_a_functional_runs_its_own_kernels_and_no_others(label, dtype):
    ran = kernels_that_run(call_of(label, dtype))
    table_dtype = "float32" if label in WITHOUT_DTYPE else dtype
    assert set(ran) == {(kernel, table_dtype) for kernel in CALLS[label][0]}


@pytest.mark.parametrize("label", CALLS)
def test_the_numpy_backend_runs_no_kernel(label):
    for dtype in DTYPES:
        with backends.backend("numpy"):
            assert kernels_that_run(call_of(label, dtype)) == {}


@pytest.mark.parametrize("isa", runtime.isas())
def test_a_table_has_every_kernel_for_both_dtypes(isa):
    table = runtime.kernel_table(isa)
    assert set(table) == set(itertools.product({kernel for kernel, _ in table}, DTYPES))
    assert set(table) == set(runtime.kernel_table("scalar")) == set(runtime.kernel_calls())
    assert all(table.values())


def test_no_entry_is_shared_between_instruction_sets_or_dtypes():
    entries = {(isa, *key): address for isa in runtime.isas() for key, address in runtime.kernel_table(isa).items()}
    assert len(entries) == len(runtime.isas()) * len(runtime.kernel_table("scalar"))
    owners = {}
    for owner, address in entries.items():
        owners.setdefault(address, []).append(owner)
    assert [shared for shared in owners.values() if len(shared) > 1] == []


def test_the_table_in_use_is_the_one_of_the_instruction_set_in_use():
    assert runtime.kernel_table() == runtime.kernel_table(runtime.isa())
    expected = {"scalar": 1, "sse2": 4, "neon": 4, "avx2": 8, "avx512": 16}[runtime.isa()]
    assert runtime.lanes("float32") == expected
    assert runtime.lanes("float64") == max(1, expected // 2)
    with pytest.raises(ValueError) as caught:
        runtime.kernel_table("avx9")
    assert str(caught.value) == (
        f"kernel_table: no instruction set 'avx9' here; available: {', '.join(runtime.isas())}"
    )
