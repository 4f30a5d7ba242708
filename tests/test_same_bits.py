"""Results are the same bits with any number of threads, from any thread, and for a sample in any batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conv_cases import LAYOUTS, laid_out
from winograd_cases import PRECISIONS

import convgrad
from convgrad import functional
from convgrad._native import runtime
from convgrad.precision import precision


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(dtype)


X, W, Y = (3, 24, 22, 25), (40, 24, 3, 3), (3, 40, 22, 25)  # padding 1; each call is large enough for threads
LINE = (6, 24, 700)
SAME = dict(padding=1)

CALLS = {
    "conv2d direct": lambda: functional.conv2d(
        draw(*X), draw(*W), draw(40), activation="relu", algorithm="direct", **SAME
    ),
    "conv2d winograd": lambda: functional.conv2d(draw(*X), draw(*W), draw(40), activation="relu", **SAME),
    "conv2d float64": lambda: functional.conv2d(draw(*X, dtype=np.float64), draw(*W, dtype=np.float64), **SAME),
    "conv2d NHWC": lambda: functional.conv2d(draw(3, 22, 25, 24), draw(*W), layout="NHWC", algorithm="direct", **SAME),
    "conv2d 1x1": lambda: functional.conv2d(draw(*X), draw(300, 24, 1, 1)),
    "conv2d strided": lambda: functional.conv2d(draw(*X), draw(64, 24, 5, 5), stride=2, dilation=(1, 2)),
    "conv2d groups": lambda: functional.conv2d(draw(*X), draw(48, 6, 3, 3), groups=4, **SAME),
    "conv2d winograd groups": lambda: functional.conv2d(draw(3, 48, 22, 25), draw(96, 16, 3, 3), groups=3, **SAME),
    "conv2d_grad_weight winograd groups": lambda: functional.conv2d_grad_weight(
        draw(9, 96, 22, 25), draw(9, 48, 22, 25), 3, groups=3, **SAME
    ),
    "conv2d depthwise": lambda: functional.conv2d(draw(4, 48, 40, 40), draw(48, 1, 3, 3), groups=48, **SAME),
    "conv2d one channel": lambda: functional.conv2d(draw(4, 1, 60, 60), draw(8, 1, 5, 5)),
    "conv2d_grad_input": lambda: functional.conv2d_grad_input(draw(*Y), draw(*W), X, algorithm="direct", **SAME),
    "conv2d_grad_input winograd": lambda: functional.conv2d_grad_input(draw(*Y), draw(*W), X, **SAME),
    "conv2d_grad_input strided": lambda: functional.conv2d_grad_input(
        draw(3, 40, 11, 13), draw(*W), X, stride=2, **SAME
    ),
    "conv2d_grad_weight": lambda: functional.conv2d_grad_weight(draw(*Y), draw(*X), 3, algorithm="direct", **SAME),
    "conv2d_grad_weight winograd": lambda: functional.conv2d_grad_weight(draw(*Y), draw(*X), 3, **SAME),
    "conv2d_grad_input depthwise": lambda: functional.conv2d_grad_input(
        draw(4, 48, 20, 20), draw(48, 1, 3, 3), (4, 48, 40, 40), groups=48, stride=2, **SAME
    ),
    "conv2d whole planes": lambda: functional.conv2d(draw(20, 24, 7, 6), draw(200, 24, 7, 6)),
    "conv2d_grad_weight winograd, blocks for some threads": lambda: functional.conv2d_grad_weight(
        draw(2, 96, 36, 36), draw(2, 32, 36, 36), 3, **SAME
    ),
    "conv2d_grad_weight winograd, ranges of each thread's own": lambda: functional.conv2d_grad_weight(
        draw(5, 24, 36, 36), draw(5, 20, 36, 36), 3, **SAME
    ),
    "conv2d_grad_weight winograd, blocks for few threads": lambda: functional.conv2d_grad_weight(
        draw(1, 70, 50, 50), draw(1, 130, 50, 50), 3, **SAME
    ),
    "conv2d_grad_weight whole planes": lambda: functional.conv2d_grad_weight(
        draw(20, 200, 1, 1), draw(20, 24, 7, 6), (7, 6)
    ),
    "conv2d_grad_weight depthwise": lambda: functional.conv2d_grad_weight(
        draw(4, 48, 40, 40), draw(4, 48, 40, 40), 3, groups=48, **SAME
    ),
    "conv2d_grad_weight few channels": lambda: functional.conv2d_grad_weight(draw(8, 6, 56, 56), draw(8, 1, 60, 60), 5),
    "conv2d_grad_weight ranges of rows": lambda: functional.conv2d_grad_weight(
        draw(1, 40, 90, 90), draw(1, 2, 92, 92), 3
    ),
    "conv2d_grad_bias": lambda: functional.conv2d_grad_bias(draw(8, 16, 70, 70)),
    "conv2d_backward": lambda: functional.conv2d_backward(draw(*Y), draw(*X), draw(*W), **SAME),
    "conv_transpose2d": lambda: functional.conv_transpose2d(draw(*Y), draw(*W), stride=2, **SAME),
    "conv_transpose2d_backward": lambda: functional.conv_transpose2d_backward(draw(*X), draw(*Y), draw(*W), **SAME),
    "conv1d": lambda: functional.conv1d(draw(*LINE), draw(40, 24, 5), padding=2),
    "conv1d_grad_input": lambda: functional.conv1d_grad_input(draw(6, 40, 700), draw(40, 24, 5), LINE, padding=2),
    "conv1d_grad_weight": lambda: functional.conv1d_grad_weight(draw(6, 40, 700), draw(*LINE), 5, padding=2),
    "conv1d_grad_bias": lambda: functional.conv1d_grad_bias(draw(8, 16, 4900)),
    "conv1d_backward": lambda: functional.conv1d_backward(draw(6, 40, 700), draw(*LINE), draw(40, 24, 5), padding=2),
    "conv_transpose1d": lambda: functional.conv_transpose1d(draw(6, 40, 700), draw(40, 24, 5), stride=2),
    "conv_transpose1d_backward": lambda: functional.conv_transpose1d_backward(
        draw(*LINE), draw(6, 40, 700), draw(40, 24, 5), padding=2
    ),
    "convolve2d": lambda: functional.convolve2d(draw(5, 70, 80), draw(9, 8)),
    "convolve2d_backward": lambda: functional.convolve2d_backward(draw(5, 78, 87), draw(5, 70, 80), draw(9, 8)),
    "correlate2d": lambda: functional.correlate2d(draw(5, 70, 80), draw(9, 8)),
    "correlate2d_backward": lambda: functional.correlate2d_backward(draw(5, 78, 87), draw(5, 70, 80), draw(9, 8)),
    "prepack_conv2d": lambda: functional.prepack_conv2d(draw(*W), input_shape=X, **SAME)(draw(*X)),
    "locally_connected2d": lambda: functional.locally_connected2d(draw(9, 4, 20, 21), draw(18, 19, 8, 4, 3, 3)),
    "locally_connected2d_backward": lambda: functional.locally_connected2d_backward(
        draw(9, 8, 18, 19), draw(9, 4, 20, 21), draw(18, 19, 8, 4, 3, 3)
    ),
    "max_pool2d": lambda: functional.max_pool2d(draw(4, 32, 80, 81), 3, stride=2, padding=1, return_indices=True),
    "max_pool2d_backward": lambda: functional.max_pool2d_backward(
        draw(4, 32, 40, 41), np.full((4, 32, 40, 41), 4, np.uint8), (4, 32, 80, 82), 3, stride=2, padding=1
    ),
    "avg_pool2d": lambda: functional.avg_pool2d(draw(4, 32, 80, 81), 3, stride=2, padding=1),
    "avg_pool2d_backward": lambda: functional.avg_pool2d_backward(
        draw(4, 32, 40, 41), (4, 32, 80, 82), 3, stride=2, padding=1
    ),
    "subsample2d": lambda: functional.subsample2d(draw(4, 32, 80, 80), draw(32), draw(32), 2),
    "subsample2d_backward": lambda: functional.subsample2d_backward(
        draw(4, 32, 40, 40), draw(4, 32, 80, 80), draw(32), 2
    ),
    "global_avg_pool2d": lambda: functional.global_avg_pool2d(draw(4, 32, 80, 81)),
    "global_max_pool2d": lambda: functional.global_max_pool2d(draw(4, 32, 80, 81), return_indices=True),
    "tanh": lambda: functional.tanh(draw(500_001)),
    "gelu_backward": lambda: functional.gelu_backward(draw(500_001), draw(500_001)),
    "activation_backward_bias": lambda: functional.activation_backward_bias(
        "tanh", draw(8, 16, 70, 71), draw(8, 16, 70, 71)
    ),
    "activation_backward_bias NHWC": lambda: functional.activation_backward_bias(
        "tanh", draw(8, 70, 71, 16), draw(8, 70, 71, 16), layout="NHWC"
    ),
    "alpha_dropout": lambda: functional.alpha_dropout(draw(500_001), 0.3, rng=3),
    "softmax": lambda: functional.softmax(draw(5001, 101)),
    "log_softmax": lambda: functional.log_softmax(draw(101, 5001), axis=0),
    "softmax_cross_entropy": lambda: functional.softmax_cross_entropy(draw(5001, 101), np.arange(5001) % 101),
    "least_squares": lambda: functional.least_squares(draw(5001, 101), draw(101, 5001).reshape(5001, 101)),
    "sigmoid_cross_entropy": lambda: functional.sigmoid_cross_entropy(draw(5001, 101), abs(draw(5001, 101))),
    "batch_norm": lambda: functional.batch_norm(draw(8, 16, 70, 71), draw(16), draw(16), training=True),
    "batch_norm_backward": lambda: functional.batch_norm_backward(
        draw(8, 16, 70, 71), draw(8, 16, 71, 70).reshape(8, 16, 70, 71), draw(16), draw(16), draw(16)
    ),
    "layer_norm": lambda: functional.layer_norm(draw(5001, 101), draw(101), draw(101)),
    "layer_norm_backward": lambda: functional.layer_norm_backward(
        draw(5001, 101), draw(5001, 101), draw(101), draw(5001), draw(5001)
    ),
}


def results_of(label):
    results = CALLS[label]()
    return [result for result in (results if isinstance(results, tuple) else (results,)) if result is not None]


def check_same(label, expected):
    for result, right in zip(results_of(label), expected, strict=True):
        np.testing.assert_array_equal(result, right, err_msg=label)


@pytest.mark.parametrize("label", CALLS)
def test_one_thread_equals_many(label):
    with convgrad.threads(1):
        expected = results_of(label)
    for n in (2, 3, 5):
        with convgrad.threads(n):
            check_same(label, expected)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_eight_threads_at_once_compute_what_one_does(n_threads):
    with convgrad.threads(1):
        expected = {label: results_of(label) for label in CALLS}
    labels = list(CALLS)
    barrier = threading.Barrier(8)

    def work(i):
        barrier.wait(30)
        for label in (labels[i * 7 :] + labels[: i * 7])[:20]:
            check_same(label, expected[label])

    before = runtime.get_threads()
    convgrad.set_num_threads(n_threads)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        convgrad.set_num_threads(before)


BATCHES = [  # C, K, H, W, kernel, further options: most planes are so small that several samples share a block
    (16, 16, 5, 5, 3, dict(padding=1)),
    (16, 33, 1, 1, 3, dict(padding=1)),
    (64, 64, 4, 4, 3, dict(padding=1)),
    (80, 48, 7, 7, 3, dict(padding=1)),
    (17, 31, 9, 6, 3, dict(padding=((0, 3), (2, 1)))),
    (130, 256, 3, 4, 3, dict(padding=1)),
    (256, 256, 7, 7, 3, dict(padding=1)),
    (40, 24, 22, 26, 3, dict(padding=2)),
    (3, 8, 6, 6, 3, {}),
    (1, 6, 8, 8, 5, dict(padding=2)),
    (64, 128, 7, 7, 1, {}),
    (200, 40, 2, 2, 1, {}),
    (24, 40, 9, 9, 3, dict(stride=2, padding=1)),
    (8, 12, 11, 7, (2, 5), dict(stride=(2, 3), dilation=(2, 1), groups=4)),
    (32, 32, 6, 6, 3, dict(padding=1, groups=32)),
    (160, 16, 8, 8, 3, dict(padding=1)),
    (16, 33, 5, 5, 5, {}),
    (16, 40, 4, 7, (4, 7), {}),
    (24, 24, 9, 12, 3, dict(stride=2, padding=1, groups=24)),
    (48, 96, 9, 13, 3, dict(padding=1, groups=3)),
    (96, 20, 1, 1, 1, {}),
    (64, 70, 8, 9, (1, 7), dict(padding=(0, 3))),
    (40, 33, 6, 6, 5, dict(padding=2)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "algorithm, case",
    [
        *(("direct", case) for case in BATCHES),
        *(("auto", case) for case in BATCHES[-2:]),
        *(("winograd", case) for case in BATCHES if case[4] == 3 and set(case[5]) <= {"padding", "groups"}),
    ],
    ids=str,
)
def test_a_sample_has_the_same_bits_in_any_batch(algorithm, case, layout, rng):
    C, K, H, W, kernel, options = case
    R, S = np.broadcast_to(kernel, 2)
    x = laid_out(rng.standard_normal((13, C, H, W), dtype=np.float32), layout)
    weight = rng.standard_normal((K, C // options.get("groups", 1), R, S), dtype=np.float32)
    bias = rng.standard_normal(K, dtype=np.float32)
    options = dict(options, layout=layout, algorithm=algorithm)
    for name in PRECISIONS if algorithm == "winograd" else PRECISIONS[:1]:
        with precision(name):
            y = functional.conv2d(x, weight, bias, activation="relu", **options)
            grad = rng.standard_normal(y.shape, dtype=np.float32)
            grad_x = functional.conv2d_grad_input(grad, weight, x.shape, **options)
            for first, last in ((0, 1), (12, 13), (3, 5), (4, 11)):
                part = slice(first, last)
                np.testing.assert_array_equal(
                    functional.conv2d(x[part], weight, bias, activation="relu", **options), y[part]
                )
                np.testing.assert_array_equal(
                    functional.conv2d_grad_input(grad[part], weight, x[part].shape, **options), grad_x[part]
                )
