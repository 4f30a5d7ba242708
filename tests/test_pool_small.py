"""The gradient of max pooling on planes of few pixels, around every size at which another kernel takes over."""

import numpy as np
import pytest

from convgrad import functional, reference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel, stride, padding", [(2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 3, 0), (3, 2, 0), (2, 3, 0),
                                                     ((3, 2), (2, 1), (1, 0)), ((2, 4), (2, 3), 0)])  # fmt: skip
def test_equals_the_twin(kernel, stride, padding, dtype, rng):
    for W in (*range(4, 20), 24, 28, 31, 32, 33, 34, 47, 48, 49):
        for H, planes in ((4, 9), (W, 40), (2 * W, 16), (7, 33)):
            x = rng.integers(-3, 4, (1, planes, H, W)).astype(dtype)  # many equal numbers
            options = dict(stride=stride, padding=padding)
            y, indices = functional.max_pool2d(x, kernel, return_indices=True, **options)
            grad = rng.standard_normal(y.shape).astype(dtype)
            result, expected = (
                module.max_pool2d_backward(grad, indices, x.shape, kernel, **options)
                for module in (functional, reference)
            )
            tolerance = 16 * np.finfo(dtype).eps  # sums of up to four
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, err_msg=str((H, W, planes)))


@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 3), (3, 2)])
def test_a_sample_has_the_same_bits_in_any_batch(kernel, stride, rng):
    x = rng.integers(-3, 4, (8, 3, 14, 14)).astype(np.float32)
    y, indices = functional.max_pool2d(x, kernel, stride=stride, return_indices=True)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    grad[grad < -1] = -0.0
    whole = functional.max_pool2d_backward(grad, indices, x.shape, kernel, stride=stride)
    for n in range(len(x)):
        one = slice(n, n + 1)
        alone = functional.max_pool2d_backward(grad[one], indices[one], x[one].shape, kernel, stride=stride)
        assert alone.tobytes() == whole[one].tobytes()
