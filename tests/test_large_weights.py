"""Direct convolutions whose weights are too large for a cache: packed once for all threads and blocks."""

import numpy as np
import pytest

import convgrad
from convgrad import functional, reference


def operands(rng, dtype, x_shape, w_shape):
    x = rng.standard_normal(x_shape).astype(dtype)
    weight = (rng.standard_normal(w_shape) / np.sqrt(np.prod(w_shape[1:]))).astype(dtype)
    return x, weight, rng.standard_normal(w_shape[0]).astype(dtype)


CASES = {
    "3x3": ((1, 192, 34, 33), (200, 192, 3, 3), {}),
    "3x3, a batch": ((3, 192, 20, 20), (200, 192, 3, 3), dict(padding=1)),
    "1x1, channels last": ((2, 30, 30, 576), (580, 576, 1, 1), dict(layout="NHWC")),
    "strided": ((2, 160, 48, 50), (230, 160, 3, 3), dict(stride=2, padding=1)),
    "5x5, two groups": ((1, 200, 38, 38), (144, 100, 5, 5), dict(groups=2)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_shared_weights_give_what_the_twin_gives(case, dtype, rng, check_close):
    x_shape, w_shape, options = CASES[case]
    x, weight, bias = operands(rng, dtype, x_shape, w_shape)
    options = options | {"algorithm": "direct"}
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    expected = reference.conv2d(*wide, activation="relu", **options)
    results = []
    for n_threads in (1, 3):
        with convgrad.threads(n_threads):
            y = functional.conv2d(x, weight, bias, activation="relu", **options)
            check_close(y, expected, int(np.prod(w_shape[1:])), case)
            packed = functional.prepack_conv2d(weight, bias, input_shape=x.shape, activation="relu", **options)
            results += [y.tobytes(), packed(x).tobytes()]
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_most_of_these_cases_share(dtype):
    """Which do depends on how wide vectors are: output channels or pixels may fill them better."""
    accounts = [
        functional.explain_conv2d(x, weight, dtype=dtype, algorithm="direct", **options)
        for x, weight, options in CASES.values()
    ]
    assert sum(account["shared_bytes"] > 0 for account in accounts) >= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_by_the_input_share_weights_too(dtype, rng, check_close):
    grad_output, weight, _ = operands(rng, dtype, (2, 200, 24, 24), (200, 192, 3, 3))
    options = dict(padding=1, algorithm="direct")
    shape = (2, 192, 24, 24)
    expected = reference.conv2d_grad_input(grad_output.astype(np.float64), weight.astype(np.float64), shape, **options)
    result = functional.conv2d_grad_input(grad_output, weight, shape, **options)
    check_close(result, expected, 200 * 9)
    with convgrad.threads(3):
        assert functional.conv2d_grad_input(grad_output, weight, shape, **options).tobytes() == result.tobytes()
