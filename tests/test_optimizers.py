"""Optimizers against PyTorch's, against a step worked out by hand, and their errors."""

import gc

import numpy as np
import pytest

from convgrad import backends
from convgrad.layers import Parameter
from convgrad.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

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
    *(
        (name, ours, options, {"lr": options["learning_rate"], **{k: v for k, v in options.items() if k[0] != "l"}})
        for name, ours, options in [
            ("SGD", SGD, dict(learning_rate=0.1, weight_decay=0.1)),
            ("SGD", SGD, dict(learning_rate=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1)),
            ("SGD", SGD, dict(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
            ("Adam", Adam, dict(learning_rate=0.02, weight_decay=0.1)),
            ("AdamW", AdamW, dict(learning_rate=0.02)),
            ("AdamW", AdamW, dict(learning_rate=0.02, betas=(0.8, 0.99), weight_decay=0.3)),
            ("RMSprop", RMSprop, dict(learning_rate=0.01)),
            ("RMSprop", RMSprop, dict(learning_rate=0.01, alpha=0.9, eps=1e-3, weight_decay=0.1)),
            ("RMSprop", RMSprop, dict(learning_rate=0.01, momentum=0.9)),
            ("RMSprop", RMSprop, dict(learning_rate=0.01, centered=True)),
            ("RMSprop", RMSprop, dict(learning_rate=0.01, momentum=0.5, centered=True)),
        ]
    ),
]
MAKERS = [
    lambda **options: SGD(0.1, **options),
    lambda **options: SGD(0.1, momentum=0.9, nesterov=True, **options),
    lambda **options: Adam(**options),
    lambda **options: AdamW(**options),
    lambda **options: RMSprop(**options),
    lambda **options: RMSprop(momentum=0.5, centered=True, **options),
]


def parameters(rng, dtype):
    # below, at and above a vector; more than one block; nothing; a number
    shapes = [(3, 4), (5,), (2, 1, 3, 3), (16,), (17,), (1,), (0, 3), (), (16384 + 3,)]
    return [Parameter(np.asarray(rng.standard_normal(shape), dtype)) for shape in shapes]


@pytest.mark.parametrize("name, ours, options, torch_options", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_twenty_steps_equal_pytorchs(name, ours, options, torch_options, dtype, backend):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    own = parameters(rng, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(parameter.data)) for parameter in own]
    optimizer, peer = ours(**options), getattr(torch.optim, name)(theirs, **torch_options)
    for _ in range(20):
        for parameter, other in zip(own, theirs, strict=True):
            parameter.grad = np.asarray(rng.standard_normal(parameter.shape), dtype)
            other.grad = torch.tensor(parameter.grad)
        optimizer.step(own)
        peer.step()
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
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
    for make in MAKERS:
        optimizer = make()
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MAKERS)
def test_clipping_is_pytorchs_and_leaves_the_gradients(make, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    for value, norm in ((0.5, None), (None, 2.0), (0.5, 2.0), (1e9, 1e9)):
        own, other = parameters(np.random.default_rng(1), dtype), parameters(np.random.default_rng(1), dtype)
        clipping, plain = make(clip_value=value, clip_norm=norm), make()
        for _ in range(3):
            for parameter, peer in zip(own, other, strict=True):
                parameter.grad = np.asarray(rng.standard_normal(parameter.shape), dtype)
                peer.grad = parameter.grad.copy()
            grads = [parameter.grad.copy() for parameter in own]
            clipping.step(own)
            tensors = [torch.from_numpy(np.atleast_1d(peer.data)) for peer in other]
            for tensor, peer in zip(tensors, other, strict=True):
                tensor.grad = torch.from_numpy(np.atleast_1d(peer.grad))
            if value is not None:
                torch.nn.utils.clip_grad_value_(tensors, value)
            if norm is not None:
                torch.nn.utils.clip_grad_norm_(tensors, norm)
            for tensor, peer in zip(tensors, other, strict=True):
                peer.grad = tensor.grad.numpy().reshape(peer.shape)
            plain.step(other)
            for parameter, peer, grad in zip(own, other, grads, strict=True):
                np.testing.assert_array_equal(parameter.grad, grad)
                # the division by a square root near zero, at the first steps, enlarges rounding
                tolerance = 2e-5 if dtype == np.float32 else 1e-12
                np.testing.assert_allclose(parameter.data, peer.data, rtol=0, atol=tolerance)


def test_arrays_of_any_strides_and_both_dtypes_in_one_step(backend, rng):
    for make in MAKERS:
        for clip_norm in (None, 0.1):
            base = [rng.standard_normal((6, 8)).astype(dtype) for dtype in (np.float32, np.float64) for _ in range(2)]
            strided = [
                Parameter(base[0].T),
                Parameter(base[1][::2, ::-1]),
                Parameter(base[2][:, 1]),
                Parameter(base[3]),
            ]
            plain = [Parameter(parameter.data.copy()) for parameter in strided]
            for one, other in zip(strided, plain, strict=True):
                one.grad = np.asfortranarray(rng.standard_normal(one.shape).astype(one.dtype))
                other.grad = one.grad.copy(order="C")
            first, second = make(clip_norm=clip_norm), make(clip_norm=clip_norm)
            for _ in range(2):
                first.step(strided)
                second.step(plain)
            for one, other in zip(strided, plain, strict=True):
                np.testing.assert_allclose(one.data, other.data, rtol=0, atol=1e-14)


def test_a_plain_step_propagates_nan_and_infinity(backend):
    parameter = Parameter(np.zeros(5, np.float32))
    parameter.grad = np.array([np.nan, np.inf, -np.inf, 1, 0], np.float32)
    SGD(0.5).step([parameter])
    np.testing.assert_array_equal(parameter.data, [np.nan, -np.inf, np.inf, -0.5, 0])
    parameter.data[...] = 0
    SGD(0.5, clip_value=2.0).step([parameter])
    np.testing.assert_array_equal(parameter.data, [np.nan, -1, 1, -0.5, 0])


def test_steps_in_another_order_or_of_a_part_keep_each_state():
    rng = np.random.default_rng(2)
    own = [Parameter(rng.standard_normal(4)) for _ in range(3)]
    other = [Parameter(parameter.data.copy()) for parameter in own]
    mixed, plain = Adam(0.1), Adam(0.1)
    for order in ([0, 1, 2], [2, 0, 1], [1], [0, 2], [0, 1, 2]):
        for index in order:
            own[index].grad = rng.standard_normal(4)
            other[index].grad = own[index].grad
            plain.step([other[index]])
        mixed.step(own[index] for index in order)
    for one, two in zip(own, other, strict=True):
        np.testing.assert_array_equal(one.data, two.data)


def test_momentum_may_be_switched_on_and_off_between_steps(backend):
    parameter = Parameter(np.zeros(2))
    parameter.grad = np.ones(2)
    optimizer = SGD(1.0)
    optimizer.step([parameter])
    optimizer.momentum = 0.5
    optimizer.step([parameter])
    optimizer.momentum = 0.0
    optimizer.step([parameter])
    np.testing.assert_array_equal(parameter.data, [-3, -3])


def test_many_threads_give_the_bits_of_one():
    import convgrad

    results = []
    for n_threads in (1, 3):
        rng = np.random.default_rng(3)
        own = [Parameter(rng.standard_normal(shape).astype(np.float32)) for shape in [(300, 500), (7,), (90_001,)]]
        optimizer = Adam(clip_norm=1.0)
        with convgrad.threads(n_threads):
            for _ in range(3):
                for parameter in own:
                    parameter.grad = rng.standard_normal(parameter.shape).astype(np.float32)
                optimizer.step(own)
        results.append([parameter.data for parameter in own])
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def refusals():
    def given(data, grad):
        parameter = Parameter(data)
        parameter.grad = grad
        return parameter

    ones = np.ones((2, 3), np.float32)
    fixed = ones.copy()
    fixed.flags.writeable = False
    yield [given(ones.copy(), ones[:1])], ValueError, r"parameter 0 has shape \(2, 3\) but its gradient \(1, 3\)"
    yield [given(ones.copy(), ones.astype(float))], TypeError, "is float32 and its gradient float64; both must be"
    yield [given(ones.astype(int), ones.astype(int))], TypeError, "is int64 and its gradient int64; both must be"
    yield [given(ones.copy(), [1.0])], TypeError, "is float32 and its gradient list; both must be float32 or both"
    yield [given(ones.astype(">f4"), ones.astype(">f4"))], TypeError, "machine's byte order"
    yield [given(fixed, ones)], ValueError, r"parameter 0 of shape \(2, 3\) is read-only; pass a writeable array"
    yield [given([1.0], ones)], TypeError, "parameter 0 must be a Parameter with an array, got Parameter"
    yield [ones], TypeError, "parameter 0 is|parameter 0 must be"


@pytest.mark.parametrize("bad, error, message", list(refusals()))
def test_what_does_not_fit_is_refused_and_nothing_updated(bad, error, message, backend):
    for make in MAKERS:
        ready = Parameter(np.zeros(1))
        ready.grad = np.ones(1)
        optimizer = make(clip_norm=1.0)
        with pytest.raises(error, match=message.replace("parameter 0", "parameter 1")):
            optimizer.step([ready, *bad])
        assert ready.data == 0
        assert optimizer._states[ready][0] == 0


def test_a_parameter_listed_twice_and_one_that_changed_its_form_are_refused(backend):
    parameter = Parameter(np.zeros(3))
    parameter.grad = np.ones(3)
    optimizer = Adam()
    with pytest.raises(ValueError, match="Adam.step: a parameter is listed twice; list each once"):
        optimizer.step([parameter, parameter])
    optimizer.step([parameter])
    parameter.data = parameter.grad = np.ones(30)
    with pytest.raises(ValueError, match=r"shape \(30,\) and dtype float64, unlike in earlier steps"):
        optimizer.step([parameter])


def test_a_norm_that_is_not_finite_is_refused_and_nothing_updated(backend):
    for bad in (np.nan, np.inf):
        parameter = Parameter(np.zeros(3))
        parameter.grad = np.array([1, bad, 1.0])
        optimizer = Adam(clip_norm=1.0)
        with pytest.raises(FloatingPointError, match=r"Adam.step: clip_norm=1.0 needs a finite norm"):
            optimizer.step([parameter])
        assert (parameter.data == 0).all()
        parameter.grad[1] = 1
        optimizer.step([parameter])
        assert (parameter.data != 0).all()


def test_the_numpy_backend_runs_no_kernel_and_a_step_is_one_call_for_all_parameters():
    from convgrad._native import runtime

    own = parameters(np.random.default_rng(0), np.float32)
    for parameter in own:
        parameter.grad = parameter.data
    for name, expected in (("native", {"gradient_norm": 1, "optimizer_step": 1}), ("numpy", {})):
        before = runtime.kernel_calls()
        with backends.backend(name):
            Adam(clip_norm=1.0).step(own)
        after = runtime.kernel_calls()
        ran = {
            kernel: after[kernel, "float32"] - count for (kernel, dtype), count in before.items() if dtype[-2:] == "32"
        }
        assert {kernel: count for kernel, count in ran.items() if count} == expected


def test_a_dead_optimizer_and_its_parameters_leave_nothing(rng):
    import weakref

    parameter, optimizer = Parameter(rng.standard_normal(3)), Adam()
    parameter.grad = parameter.data
    optimizer.step([parameter])
    watch = weakref.ref(optimizer)
    del optimizer
    assert watch() is None
    optimizer = Adam()
    optimizer.step([parameter])
    del parameter
    gc.collect()
    assert not optimizer._last
    assert not optimizer._states


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: SGD(0.5), "SGD(learning_rate=0.5, momentum=0.0, nesterov=False)"),
        (lambda: Adam(clip_norm=2), "Adam(learning_rate=0.001, betas=(0.9, 0.999), eps=1e-08, clip_norm=2.0)"),
        (lambda: AdamW(), "AdamW(learning_rate=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"),
        (lambda: RMSprop(centered=True), "RMSprop(learning_rate=0.01, alpha=0.99, eps=1e-08, centered=True)"),
    ],
)
def test_descriptions(make, text):
    assert repr(make()) == text
    assert isinstance(make(), Optimizer)


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
        (lambda: AdamW(weight_decay=-1), ValueError, "AdamW: weight_decay must be finite and at least 0, got -1"),
        (lambda: RMSprop(alpha=1), ValueError, "RMSprop: alpha must be at least 0 and below 1, got 1"),
        (lambda: SGD(clip_norm=0), ValueError, "SGD: clip_norm must be above 0, got 0.0"),
        (lambda: SGD(clip_value="a"), TypeError, "SGD: clip_value must be a number, got 'a'"),
        (lambda: SGD(momentum=0.5, dampening=2), ValueError, "SGD: dampening must be at least 0 and at most 1, got 2"),
        (
            lambda: SGD(momentum=0.5, dampening=0.5, nesterov=True),
            ValueError,
            "SGD: nesterov=True needs dampening 0, got dampening=0.5",
        ),
    ],
)
def test_option_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
