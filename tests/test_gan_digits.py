"""``python -m convgrad gan``: it runs, writes what it says, and its digits are digits."""

import re

import numpy as np
import pytest

from convgrad import __main__, datasets, plots
from convgrad.gan import digits


def test_command_runs_diagnoses_and_writes(tmp_path, capsys):
    pytest.importorskip("safetensors")
    pytest.importorskip("matplotlib")
    output = tmp_path / "new"
    assert __main__.main(["gan", "--iterations", "40", "--seed", "1", "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^iteration +\d+/40  D loss \d", out, re.MULTILINE)) == 20
    assert re.search(r"^(no mode collapse|MODE COLLAPSE) \(coverage \d\S*, entropy \d", out, re.MULTILINE)
    assert re.search(r"classes present among 1000 generated digits: \d+ of 10 \(0: ", out)
    assert re.search(r"Fréchet distance to the held-out digits: generated [\d.]+, real training digits [\d.]+", out)
    assert sorted(path.name for path in output.iterdir()) == ["digits-gan.png", "digits-gan.safetensors"]
    assert (output / "digits-gan.png").read_bytes().startswith(b"\x89PNG")
    again = digits.build_gan(seed=7).load(output / "digits-gan.safetensors")
    assert again.iteration == 40
    assert len(again.history["js"]) == 20


def test_digits_are_recognised(tmp_path, capsys, monkeypatch):
    """A sixth of the usual training: most classes are there already, if not yet in all their variety."""
    monkeypatch.setattr(digits, "_write", lambda *arguments: [])
    results = digits.run(iterations=700, output=tmp_path)
    assert results["classes"] >= 6
    assert results["shares"].sum() == pytest.approx(1)
    assert results["frechet_real"] < results["frechet"] < 50 * results["frechet_real"]
    assert set(results["diagnosis"].failures) <= {"mode collapse"}
    assert "no perfect discriminator" in capsys.readouterr().out


def test_judge_holds_real_digits_for_real_and_noise_for_noise():
    images, labels = datasets.load_digits()
    images = images * 2 - 1
    train, held_out = datasets.stratified_split(labels, 0.2, 0)
    from convgrad import training

    classifier = digits.build_classifier()
    training.fit(classifier, images[train], labels[train], epochs=4, seed=0, progress=False)
    noise = np.random.default_rng(0).uniform(-1, 1, (359, 1, 8, 8)).astype(np.float32)
    real = digits.judge(classifier, images[train][:1000], images[train][1000:], images[held_out])
    assert real["classes"] == 10
    assert real["frechet"] < 3 * real["frechet_real"]
    bad = digits.judge(classifier, noise, images[train], images[held_out])
    assert bad["frechet"] > 10 * bad["frechet_real"]


class TestPlots:
    def figure(self, function, *arguments, **options):
        pytest.importorskip("matplotlib")
        return function(*arguments, **options)

    def test_sample_grid(self):
        images = np.arange(5 * 2 * 3.0).reshape(5, 1, 2, 3)
        figure = self.figure(plots.sample_grid, images, n_columns=2, title="five")
        (axes,) = figure.axes
        picture = axes.images[0].get_array()
        assert picture.shape == (3 * 3 - 1, 2 * 4 - 1)
        np.testing.assert_allclose(picture[3:5, 4:7], images[3, 0] / 29)
        assert axes.get_title() == "five"
        colours = self.figure(plots.sample_grid, np.zeros((2, 3, 4, 4)))
        assert colours.axes[0].images[0].get_array().shape == (4, 9, 3)
        for shape in ((0, 1, 2, 2), (2, 2, 4, 4), (3,)):
            with pytest.raises(ValueError, match="sample_grid: images must be"):
                plots.sample_grid(np.zeros(shape))

    def test_feature_maps(self):
        maps = np.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
        picture = self.figure(plots.feature_maps, maps).axes[0].images[0].get_array()
        np.testing.assert_array_equal(picture[3:5, 6:8], maps[1, 2])
        with pytest.raises(ValueError, match=r"feature_maps: maps must be \(N, K, H, W\)"):
            plots.feature_maps(np.zeros((2, 2, 2)))

    def test_gan_curves(self):
        history = {
            "generator_loss": [1.0] * 450,
            "discriminator_loss": [2.0] * 450,
            "iteration": [200, 400],
            "js": [0.3, 0.1],
            "accuracy": [0.9, 0.6],
            "coverage": [0.5, 0.7],
            "entropy": [],
            "gradient_ratio": [1.0, 0.8],
        }
        figure = self.figure(plots.gan_curves, history)
        losses, divergence, diagnostics = figure.axes
        assert [len(line.get_xdata()) for line in losses.lines] == [225, 225]
        assert list(divergence.lines[0].get_ydata()) == [0.3, 0.1]
        assert [line.get_label() for line in diagnostics.lines] == ["accuracy of D", "coverage", "gradient ratio / 2"]
        with pytest.raises(ValueError, match="gan_curves: the history holds no evaluation"):
            plots.gan_curves({"iteration": []})
