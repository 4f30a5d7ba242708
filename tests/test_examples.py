"""Every example runs, quickly, and shows what it is there to show."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"

pytest.importorskip("matplotlib")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example's main with --quick; returns its result and checks its picture."""
    monkeypatch.syspath_prepend(FOLDER)

    def main(name, *arguments, quick=True):
        module = importlib.import_module(name)
        result = module.main(["--output", str(tmp_path), *(["--quick"] if quick else []), *map(str, arguments)])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in capsys.readouterr().out
        return result

    yield main
    for name in [name for name, module in sys.modules.items() if str(FOLDER) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_backpropagation_by_hand_is_that_of_the_layers(run):
    result = run("backpropagation")
    assert result["difference"] < 1e-5
    assert result["accuracy"] > 0.15


def test_convolution(run):
    assert run("convolution") == {"valid": (6, 6), "same": (8, 8), "full": (10, 10)}


def test_connectivity_needs_ever_fewer_weights(run):
    results = run("connectivity", "--epochs", 2)
    assert [n for n, _ in results.values()] == [18_720, 2_880, 80, 88]
    assert min(accuracy for _, accuracy in results.values()) > 0.3


def test_pooling(run):
    assert set(run("pooling")) == {"maximum", "average", "learned"}


def test_activations(run):
    steepest = run("activations")
    assert steepest["sigmoid"] == pytest.approx(0.25, abs=1e-6)
    assert steepest["selu"] == pytest.approx(1.0507 * 1.67326, abs=1e-3)


def test_clipping_saves_the_run(run):
    results = run("clipping")
    assert results["without"] is None
    assert results["with clip_norm=1"] > 0.2


def test_self_normalising_networks_keep_mean_and_variance_through_32_layers(run):
    runs = run("self_normalising")
    layers = runs["SELU, LeCun, alpha dropout"]
    assert len(layers) == 32
    assert max(abs(entry.mean) for entry in layers) <= 0.1
    assert min(entry.variance for entry in layers) >= 0.8
    assert max(entry.variance for entry in layers) <= 1.25
    for other in ("ReLU, He, dropout", "tanh, Glorot, dropout"):
        assert any(abs(entry.mean) > 0.1 or not 0.8 <= entry.variance <= 1.25 for entry in runs[other])


def test_the_estimate_follows_the_integral(run):
    estimates, truth = run("gan_mixture")
    assert np.abs(np.array(estimates) - truth).max() < 0.08
    assert truth[-1] < truth[0]


def test_each_planted_failure_is_named_and_no_other(run):
    assert run("gan_failures") == {
        "two linear players": ["oscillation"],
        "parallel lines": ["perfect discriminator"],
        "the same, minimax": ["perfect discriminator", "vanishing gradient"],
        "one mode of eight": ["mode collapse"],
    }


@pytest.fixture
def mnist(monkeypatch, tmp_path):
    """A directory with 120 made-up images in MNIST's format: each class a bar at a place of its own."""
    monkeypatch.syspath_prepend(FOLDER)
    files = importlib.import_module("mnist_files")
    labels = np.arange(120) % 10
    images = np.random.default_rng(0).integers(0, 40, (120, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label + 3 : 2 * label + 6] = 250
    files.write_idx(tmp_path / files.NAMES[0], images)
    files.write_idx(tmp_path / files.NAMES[1], labels)
    return tmp_path


def test_mnist_files_are_read_back(mnist):
    files = importlib.import_module("mnist_files")
    images, labels = files.load(mnist)
    assert images.shape == (120, 1, 28, 28)
    assert images.max() == np.float32(250 / 255)
    np.testing.assert_array_equal(labels, np.arange(120) % 10)


def test_lenet_reads_such_files(run, mnist, monkeypatch):
    datasets = importlib.import_module("convgrad.datasets")
    split = datasets.stratified_split
    monkeypatch.setattr(datasets, "stratified_split", lambda labels, fraction, seed: split(labels, 0.25, seed))
    (accuracy,) = run("lenet", "--data", mnist)
    assert 0 <= accuracy <= 1


def test_dcgan_goes_on_from_its_checkpoint(run, mnist):
    pytest.importorskip("safetensors")
    assert run("dcgan", "--data", mnist).iteration == 4
    assert run("dcgan", "--data", mnist, "--iterations", 6, quick=False).iteration == 6
