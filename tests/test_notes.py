"""The numbered equations of the notes, written out as the sums they are and compared with the public functions.

One test per equation, float64, both backends. docs/notes.md maps sections and equations to functions and to these
tests, and lists the places where the notes are wrong; the tests follow the corrected reading.
"""

import math

import numpy as np
import pytest

import convgrad

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, arXiv 1706.02515

# Both sides are float64 sums of at most a few hundred terms of size about 1.
RTOL, ATOL = 1e-12, 1e-12

# Values where an elementwise definition could go wrong: both signs, zero, large and small.
POINTS = np.array([-700.0, -20.0, -3.0, -1.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 1.0, 3.0, 20.0, 700.0])


pytestmark = pytest.mark.usefixtures("backend")


def same(actual, expected):
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=ATOL)


def sigmoid_at(z):
    return 1 / (1 + math.exp(-z))


# ---------------------------------------------------------------- backpropagation, dense layers


def test_eq01_least_squares(rng):
    prediction, target = rng.standard_normal((2, 5, 3))
    loss, _ = convgrad.least_squares(prediction, target, reduction="sum")
    same(np.asarray(loss), sum((prediction[n, j] - target[n, j]) ** 2 / 2 for n in range(5) for j in range(3)))


def test_eq03_error_of_the_last_layer(rng):
    z, target = rng.standard_normal((2, 5, 3))
    output = convgrad.sigmoid(z)
    _, grad_output = convgrad.least_squares(output, target, reduction="sum")
    delta = convgrad.sigmoid_backward(grad_output, output)
    for n in range(5):
        for j in range(3):
            y = sigmoid_at(z[n, j])
            assert delta[n, j] == pytest.approx((y - target[n, j]) * y * (1 - y), rel=RTOL)


def test_eq05_pre_activation(rng):
    a, w, b = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3)
    expected = [[sum(w[k, i] * a[n, i] for i in range(4)) + b[k] for k in range(3)] for n in range(5)]
    same(convgrad.linear(a, w, b), expected)


def test_eq08_error_of_a_hidden_layer(rng):
    z, delta_next, w_next = rng.standard_normal((5, 4)), rng.standard_normal((5, 3)), rng.standard_normal((3, 4))
    a = convgrad.sigmoid(z)
    grad_a = convgrad.linear_backward(delta_next, a, w_next)[0]
    delta = convgrad.sigmoid_backward(grad_a, a)
    expected = np.empty((5, 4))
    for n in range(5):
        for j in range(4):
            slope = sigmoid_at(z[n, j]) * (1 - sigmoid_at(z[n, j]))
            # No "+ b" here: erratum of eq. 6 and 7.
            expected[n, j] = sum(delta_next[n, k] * w_next[k, j] for k in range(3)) * slope
    same(delta, expected)


def test_eq10_gradient_of_a_dense_weight(rng):
    a, w, delta = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal((5, 3))
    grad_weight = convgrad.linear_backward(delta, a, w)[1]
    same(grad_weight, [[sum(delta[n, j] * a[n, k] for n in range(5)) for k in range(4)] for j in range(3)])


def test_eq13_gradient_of_a_dense_bias(rng):
    a, w, delta = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal((5, 3))
    grad_bias = convgrad.linear_backward(delta, a, w)[2]
    same(grad_bias, [sum(delta[n, j] for n in range(5)) for j in range(3)])


# ---------------------------------------------------------------- convolution
# f_j = sum_i x_i * k_ij without padding, k = W flipped on both axes: a cross-correlation of x with W, which is conv2d.

N, C, K, H, W, M, L = 2, 3, 4, 7, 6, 3, 2  # kernels of M rows and L columns
OH, OW = H - M + 1, W - L + 1


@pytest.fixture
def layer(rng):
    """(x, weight, gradient of the loss by the layer's output)."""
    shapes = (N, C, H, W), (K, C, M, L), (N, K, OH, OW)
    return [rng.standard_normal(shape) for shape in shapes]


def full_sum(grad, w):
    """(grad * w) with zero padding: at (p, q), the sum of grad[p - a, q - b] w[a, b] where grad exists."""
    out = np.zeros((grad.shape[0] + w.shape[0] - 1, grad.shape[1] + w.shape[1] - 1))
    for p, q in np.ndindex(out.shape):
        for a, b in np.ndindex(w.shape):
            if 0 <= p - a < grad.shape[0] and 0 <= q - b < grad.shape[1]:
                out[p, q] += grad[p - a, q - b] * w[a, b]
    return out


def test_eq15_gradient_by_the_input_channel(layer):
    x, weight, grad = layer
    expected = np.zeros_like(x)
    for n, i, j in np.ndindex(N, C, K):
        expected[n, i] += full_sum(grad[n, j], weight[j, i])
    same(convgrad.conv2d_grad_input(grad, weight, x.shape), expected)

    # The same with the convolution that the notes write: f = x * k "valid", its gradient a "full" convolution with W.
    one_x, one_w, one_grad = x[0, 0], weight[0, 0], grad[0, 0]
    same(convgrad.convolve2d(one_grad, one_w, "full"), full_sum(one_grad, one_w))
    grad_x, _ = convgrad.convolve2d_backward(one_grad, one_x, one_w[::-1, ::-1], "valid")
    same(grad_x, full_sum(one_grad, one_w))


def test_eq16_gradient_by_the_kernel(layer):
    x, weight, grad = (array[0, 0] for array in layer)
    expected = np.zeros((M, L))
    for a, b in np.ndindex(M, L):
        expected[a, b] = sum(x[i + a, j + b] * grad[i, j] for i in range(OH) for j in range(OW))
    same(convgrad.correlate2d(x, grad, "valid"), expected)
    same(convgrad.convolve2d(x, grad[::-1, ::-1], "valid"), expected)
    # The notes convolve the gradient with the flipped input; that is the gradient by k, the flipped weight.
    _, grad_k = convgrad.convolve2d_backward(grad, x, weight[::-1, ::-1], "valid")
    same(grad_k[::-1, ::-1], expected)


def test_eq17_forward_sum(layer):
    x, weight, _ = layer
    expected = np.zeros((N, K, OH, OW))
    for n, k, i, j in np.ndindex(expected.shape):
        terms = (x[n, c, i + a, j + b] * weight[k, c, a, b] for c in range(C) for a in range(M) for b in range(L))
        expected[n, k, i, j] = sum(terms)
    same(convgrad.conv2d(x, weight), expected)
    one = convgrad.conv2d(x[:1, :1], weight[:1, :1])[0, 0]
    same(convgrad.convolve2d(x[0, 0], weight[0, 0, ::-1, ::-1], "valid"), one)


def test_eq18_activation_of_the_summed_maps(layer):
    x, weight, _ = layer
    expected = np.zeros((N, K, OH, OW))
    for n, k, i, j in np.ndindex(expected.shape):
        per_channel = [np.sum(x[n, c, i : i + M, j : j + L] * weight[k, c]) for c in range(C)]
        expected[n, k, i, j] = sigmoid_at(sum(per_channel))
    same(convgrad.conv2d(x, weight, activation="sigmoid"), expected)


def test_eq19_gradient_by_the_shared_weight(layer):
    x, _, grad = layer
    expected = np.zeros((K, C, M, L))
    for k, c, a, b in np.ndindex(expected.shape):
        for n in range(N):  # shared parameters: sum over the batch too
            for i in range(H - M + 1):
                for j in range(W - L + 1):
                    expected[k, c, a, b] += grad[n, k, i, j] * x[n, c, i + a, j + b]
    same(convgrad.conv2d_grad_weight(grad, x, (M, L)), expected)


def test_eq20_error_before_the_activation(layer):
    pre_activation, grad = layer[2], np.cos(layer[2])
    output = convgrad.tanh(pre_activation)
    expected = np.empty_like(grad)
    for index in np.ndindex(grad.shape):
        expected[index] = grad[index] * (1 - math.tanh(pre_activation[index]) ** 2)
    same(convgrad.tanh_backward(grad, output), expected)


def test_eq21_gradient_by_the_previous_layer_with_its_borders(layer):
    x, weight, grad = layer
    # The border that the notes leave open: M-1 rows and L-1 columns of zeros on every side, then w flipped.
    padded = np.zeros((N, K, OH + 2 * (M - 1), OW + 2 * (L - 1)))
    padded[:, :, M - 1 : M - 1 + OH, L - 1 : L - 1 + OW] = grad
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(x.shape):
        for k, a, b in np.ndindex(K, M, L):
            expected[n, c, i, j] += padded[n, k, i - a + M - 1, j - b + L - 1] * weight[k, c, a, b]
    same(convgrad.conv2d_grad_input(grad, weight, x.shape), expected)
    flipped = np.ascontiguousarray(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
    same(convgrad.conv2d(padded, flipped), expected)
    same(convgrad.conv2d(grad, flipped, padding="full"), expected)


# ---------------------------------------------------------------- activations


def check_elementwise(function, backward, value, slope, **options):
    """Value and derivative at POINTS, against scalar formulas."""
    output = function(POINTS, **options)
    same(output, [value(z) for z in POINTS])
    grad = np.linspace(-2, 2, POINTS.size)
    same(backward(grad, output, **options), grad * [slope(z) for z in POINTS])


def test_eq25_sigmoid():
    check_elementwise(
        convgrad.sigmoid, convgrad.sigmoid_backward, sigmoid_at, lambda z: sigmoid_at(z) * (1 - sigmoid_at(z))
    )


def test_eq26_relu():
    check_elementwise(convgrad.relu, convgrad.relu_backward, lambda z: max(0.0, z), lambda z: 1.0 if z > 0 else 0.0)


def test_eq27_softmax(rng):
    z = rng.standard_normal((5, 7)) * 3
    p = convgrad.softmax(z)
    expected = np.empty_like(z)
    for n, j in np.ndindex(z.shape):
        expected[n, j] = math.exp(z[n, j]) / sum(math.exp(z[n, k]) for k in range(7))
    same(p, expected)
    # The definition overflows where the function must not: adding a constant to every z_k changes nothing.
    same(convgrad.softmax(np.round(z) + 1000), convgrad.softmax(np.round(z)))

    # dp_j / dz_k = p_j ([j = k] - p_k)
    grad = rng.standard_normal((5, 7))
    for n, k in np.ndindex(z.shape):
        expected[n, k] = sum(grad[n, j] * p[n, j] * ((j == k) - p[n, k]) for j in range(7))
    same(convgrad.softmax_backward(grad, p), expected)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_eq28_elu(alpha):
    check_elementwise(
        convgrad.elu,
        convgrad.elu_backward,
        lambda z: z if z >= 0 else alpha * math.expm1(z),
        lambda z: 1.0 if z >= 0 else alpha * math.exp(z),
        alpha=alpha,
    )


def test_eq29_selu():
    check_elementwise(
        convgrad.selu,
        convgrad.selu_backward,
        lambda z: LAMBDA * z if z > 0 else LAMBDA * ALPHA * math.expm1(z),
        lambda z: LAMBDA if z > 0 else LAMBDA * ALPHA * math.exp(z),
    )


# ---------------------------------------------------------------- softmax and cross-entropy


def test_eq31_cross_entropy(rng):
    f, labels = rng.standard_normal((5, 4)) * 3, np.array([0, 3, 1, 1, 2])
    losses, _ = convgrad.softmax_cross_entropy(f, labels, reduction="none")
    for i, y in enumerate(labels):
        p = math.exp(f[i, y]) / sum(math.exp(f[i, j]) for j in range(4))
        assert losses[i] == pytest.approx(-math.log(p), rel=RTOL)


@pytest.mark.parametrize(("reduction", "scale"), [("none", 1), ("sum", 1), ("mean", 1 / 5)])
def test_eq34_gradient_of_cross_entropy(rng, reduction, scale):
    f, labels = rng.standard_normal((5, 4)) * 3, np.array([0, 3, 1, 1, 2])
    _, grad = convgrad.softmax_cross_entropy(f, labels, reduction=reduction)
    expected = np.empty((5, 4))
    for i, k in np.ndindex(5, 4):
        p = math.exp(f[i, k]) / sum(math.exp(f[i, j]) for j in range(4))
        expected[i, k] = (p - (k == labels[i])) * scale
    same(grad, expected)
