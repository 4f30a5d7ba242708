"""A training step is PyTorch's to rounding, and once warm it takes nothing from the system."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad import backends, functional, layers, optimizers
from convgrad._native import memory

NETWORKS = Path(__file__).parents[1] / "asv_bench" / "networks.py"


def networks():
    """The networks of the benchmark `asv_bench/peers.py train`."""
    spec = importlib.util.spec_from_file_location("networks", NETWORKS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(model, optimizer, batches, n_steps):
    """Losses of `n_steps` steps."""
    losses = []
    parameters = model.parameters()
    for step in range(n_steps):
        x, labels = batches[step % len(batches)]
        loss, grad = functional.softmax_cross_entropy(model.forward(x), labels)
        model.backward(grad, input_grad=False)
        optimizer.step(parameters)
        losses.append(loss)
    return losses


@pytest.mark.parametrize(
    "name, make, peer",
    [
        ("lenet", lambda: optimizers.SGD(0.02, momentum=0.9), ("SGD", dict(lr=0.02, momentum=0.9))),
        ("lenet", lambda: optimizers.Adam(1e-3), ("Adam", dict(lr=1e-3))),
        ("four_convolutions", lambda: optimizers.SGD(0.002, momentum=0.9), ("SGD", dict(lr=0.002, momentum=0.9))),
    ],
)
def test_the_losses_of_fifty_steps_are_pytorchs(name, make, peer, request):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(1)
    bench = networks()
    model, batches = getattr(bench, name)(), bench.batches(8, batch_size=8)
    other = bench.in_torch(model)
    peer_optimizer = getattr(torch.optim, peer[0])(other.parameters(), **peer[1])
    theirs = []
    for step in range(50):
        x, labels = map(torch.from_numpy, batches[step % len(batches)])
        peer_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(other(x), labels)
        loss.backward()
        peer_optimizer.step()
        theirs.append(loss.item())
    ours = train(model, make(), batches, 50)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    assert ours[-1] < ours[0] - 0.02  # it learns: the agreement is not that of two constants


def test_the_numpy_backend_trains_alike():
    model = layers.Sequential([layers.Dense(20, 16, activation="relu", rng=0), layers.Dense(16, 4, rng=1)])
    rng = np.random.default_rng(0)
    batches = [(rng.random((12, 20), dtype=np.float32), rng.integers(0, 4, 12)) for _ in range(3)]
    start = model.state_dict()
    losses = {}
    for name in ("native", "numpy"):
        model.load_state_dict(start)
        with backends.backend(name):
            losses[name] = train(model, optimizers.AdamW(1e-2, clip_norm=1.0), batches, 30)
    np.testing.assert_allclose(losses["native"], losses["numpy"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", ["lenet", "four_convolutions"])
def test_a_warm_training_loop_takes_no_memory_from_the_system(name, n_threads):
    resource = pytest.importorskip("resource")
    pytest.importorskip("torch")
    bench = networks()
    model, batches = getattr(bench, name)(), bench.batches(2, batch_size=8)
    optimizer = optimizers.Adam(1e-3)
    with convgrad.threads(n_threads):
        train(model, optimizer, batches, 6)
        blocks, faults = [], []
        for _ in range(4):
            before = memory.cache_info()["system_blocks"], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            train(model, optimizer, batches, 4)
            after = memory.cache_info()["system_blocks"], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            blocks.append(after[0] - before[0])
            faults.append(after[1] - before[1])
    assert blocks == [0, 0, 0, 0]
    # The system may take pages back at any time, and the garbage collector may run: not in every one of the rounds.
    assert min(faults) == 0, faults
