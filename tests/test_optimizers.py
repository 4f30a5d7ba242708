"""Optimizers against PyTorch's, against a step worked out by hand, and their errors."""

import gc

import numpy as np
import pytest

from convgrad.layers import Parameter
from convgrad.optimizers import SGD, Adam

CASES = [
    ("SGD", SGD, dict(learning_rate=0.1), dict(lr=0.1)),
    ("SGD", SGD, dict(learning_rate=0.1, momentum=0.9), dict(lr=0.1, momentum=0.9)),
    (
        "SGD",
        SGD,
        dict(learning_rate=0.05, momentum=0.8, nesterov=True),
        dict(lr=0.05, momentum=0.8, nesterov=True),
    ),
    ("Adam", Adam, dict(), dict()),
    ("Adam", Adam, dict(learning_rate=0.02, betas=(0.8, 0.99), eps=1e-3), dict(lr=0.02, betas=(0.8, 0.99), eps=1e-3)),
]


def parameters(rng, dtype):
    return [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in [(3, 4), (5,), (2, 1, 3, 3)]]


@pytest.mark.parametrize("name, ours, options, torch_options", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_twenty_steps_equal_pytorchs(name, ours, options, torch_options, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    own = parameters(rng, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(parameter.data)) for parameter in own]
    optimizer, peer = ours(**options), getattr(torch.optim, name)(theirs, **torch_options)
    for _ in range(20):
        for parameter, other in zip(own, theirs, strict=True):
            parameter.grad = rng.standard_normal(parameter.shape).astype(dtype)
            other.grad = torch.tensor(parameter.grad)
        optimizer.step(own)
        peer.step()
    tolerance = 2e-6 if dtype == np.float32 else 1e-14
    for parameter, other in zip(own, theirs, strict=True):
        assert parameter.data.dtype == dtype
        np.testing.assert_allclose(parameter.data, other.detach().numpy(), rtol=0, atol=tolerance)


def test_first_adam_step_is_the_learning_rate_against_the_gradients_sign():
    # t = 1: m' = g and v' = g^2, so the step is learning_rate * sign(g) up to eps
    parameter = Parameter(np.zeros(3))
    parameter.grad = np.array([2.0, -0.5, 1e-3])
    Adam(learning_rate=0.1).step([parameter])
    np.testing.assert_allclose(parameter.data, [-0.1, 0.1, -0.1], rtol=2e-5)


def test_gradient_is_left_alone_and_data_changes_in_place():
    for optimizer in (SGD(0.1, momentum=0.9, nesterov=True), SGD(0.1), Adam()):
        parameter = Parameter(np.ones((2, 3), np.float32))
        data, parameter.grad = parameter.data, np.full((2, 3), 0.5, np.float32)
        for _ in range(3):
            optimizer.step([parameter])
        assert parameter.data is data
        assert (data < 1).all()
        assert (parameter.grad == 0.5).all()


def test_each_parameter_has_a_state_of_its_own_that_dies_with_it():
    optimizer = Adam(learning_rate=1.0)
    first = Parameter(np.zeros(1))
    first.grad = np.ones(1)
    optimizer.step([first])
    second = Parameter(np.zeros(1))
    second.grad = np.ones(1)
    optimizer.step([second])
    assert second.data == pytest.approx(first.data)
    assert len(optimizer._states) == 2
    del second
    gc.collect()
    assert len(optimizer._states) == 1


def test_learning_rate_may_change_between_steps():
    parameter = Parameter(np.zeros(1))
    parameter.grad = np.ones(1)
    optimizer = SGD(1.0)
    optimizer.step([parameter])
    optimizer.learning_rate = 0.25
    optimizer.step([parameter])
    assert parameter.data[0] == -1.25


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam()])
def test_missing_gradient_updates_nothing(optimizer):
    ready, bare = Parameter(np.zeros(1)), Parameter(np.zeros((2, 3)))
    ready.grad = np.ones(1)
    message = rf"{type(optimizer).__name__}.step: parameter 1 of shape \(2, 3\) has no gradient; call backward first"
    with pytest.raises(ValueError, match=message):
        optimizer.step([ready, bare])
    assert ready.data == 0


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: SGD(-0.1), ValueError, "SGD: learning_rate must be finite and at least 0, got -0.1"),
        (lambda: Adam(float("nan")), ValueError, "Adam: learning_rate must be finite and at least 0, got nan"),
        (lambda: SGD("fast"), TypeError, "SGD: learning_rate must be a number, got 'fast'"),
        (lambda: SGD(momentum=1.0), ValueError, "SGD: momentum must be at least 0 and below 1, got 1.0"),
        (lambda: SGD(nesterov=True), ValueError, "SGD: nesterov=True needs momentum above 0"),
        (lambda: Adam(betas=0.9), ValueError, "Adam: betas must be two numbers, got 0.9"),
        (lambda: Adam(betas=(0.9, 1.0)), ValueError, r"Adam: betas\[1\] must be at least 0 and below 1, got 1.0"),
        (lambda: Adam(eps=0), ValueError, "Adam: eps must be above 0"),
    ],
)
def test_option_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
