"""The NumPy twin: every function of `convgrad.functional`, written to be read and to check the kernels against."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..functional import *  # noqa: F403  (a twin has the types of its original, overloads included)
else:
    from .activation import (
        activation_backward_bias,
        elu,
        elu_backward,
        gelu,
        gelu_backward,
        leaky_relu,
        leaky_relu_backward,
        relu,
        relu_backward,
        selu,
        selu_backward,
        sigmoid,
        sigmoid_backward,
        silu,
        silu_backward,
        softplus,
        softplus_backward,
        tanh,
        tanh_backward,
    )
    from .conv import conv2d, conv2d_backward, conv2d_grad_bias, conv2d_grad_input, conv2d_grad_weight
    from .conv_1d import (
        conv1d,
        conv1d_backward,
        conv1d_grad_bias,
        conv1d_grad_input,
        conv1d_grad_weight,
        conv_transpose1d,
        conv_transpose1d_backward,
    )
    from .conv_transpose import conv_transpose2d, conv_transpose2d_backward
    from .convolve import convolve2d, convolve2d_backward, correlate2d, correlate2d_backward
    from .dense import linear, linear_backward
    from .dropout import alpha_dropout, alpha_dropout_backward, dropout, dropout_backward
    from .global_pool import (
        global_avg_pool2d,
        global_avg_pool2d_backward,
        global_max_pool2d,
        global_max_pool2d_backward,
    )
    from .local import locally_connected2d, locally_connected2d_backward
    from .loss import (
        least_squares,
        log_softmax,
        log_softmax_backward,
        sigmoid_cross_entropy,
        softmax,
        softmax_backward,
        softmax_cross_entropy,
    )
    from .norm import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward
    from .pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward, max_pool2d_plane_indices
    from .subsample import subsample2d, subsample2d_backward

__all__ = [
    "activation_backward_bias",
    "alpha_dropout",
    "alpha_dropout_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "conv1d",
    "conv1d_backward",
    "conv1d_grad_bias",
    "conv1d_grad_input",
    "conv1d_grad_weight",
    "conv2d",
    "conv2d_backward",
    "conv2d_grad_bias",
    "conv2d_grad_input",
    "conv2d_grad_weight",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "convolve2d",
    "convolve2d_backward",
    "correlate2d",
    "correlate2d_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "least_squares",
    "linear",
    "linear_backward",
    "locally_connected2d",
    "locally_connected2d_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_plane_indices",
    "relu",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_cross_entropy",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "subsample2d",
    "subsample2d_backward",
    "tanh",
    "tanh_backward",
]
