"""The GAN: Algorithm 1 step by step, its losses, checkpoints that resume bit for bit, errors, quality numbers."""

import io
import math

import numpy as np
import pytest

from convgrad import gan
from convgrad.gan.losses import discriminator_loss, generator_loss, probability
from convgrad.layers import AlphaDropout, BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Reshape, Sequential
from convgrad.optimizers import SGD, Adam


def weights(network):
    return np.concatenate([array.ravel() for array in network.state_dict().values()])


def make_gan(seed=0, **options):
    """Small networks with everything that has a state: dropout, running statistics, moments."""
    rng = np.random.default_rng(5)
    generator = Sequential([Dense(3, 8, rng=rng), BatchNorm(8), AlphaDropout(0.1, rng=1), Dense(8, 2, rng=rng)])
    discriminator = Sequential(
        [Dense(2, 8, activation="relu", rng=rng), Dropout(0.2, rng=2), Sequential([Dense(8, 1, rng=rng)])]
    )
    return gan.GAN(generator, discriminator, 3, seed=seed, **options)


def samples(n=200, seed=3):
    return np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32)


def fit(network, x=None, **options):
    x = samples() if x is None else x
    return network.fit(x, **({"n_iterations": 4, "batch_size": 16, "evaluate_every": 2, "progress": False} | options))


class TestLosses:
    LOGITS = np.array([[-1.5], [0.25], [2.0]])

    def test_values_and_gradients_are_those_of_the_equations(self):
        d = 1 / (1 + np.exp(-self.LOGITS))
        for name, on_real, on_generated, for_generator in (
            ("non_saturating", -np.log(d).mean(), -np.log(1 - d).mean(), -np.log(d).mean()),
            ("minimax", -np.log(d).mean(), -np.log(1 - d).mean(), np.log(1 - d).mean()),
            (
                "least_squares",
                ((self.LOGITS - 1) ** 2).mean() / 2,
                (self.LOGITS**2).mean() / 2,
                ((self.LOGITS - 1) ** 2).mean() / 2,
            ),
        ):
            assert discriminator_loss(name, self.LOGITS, 1.0)[0] == pytest.approx(on_real)
            assert discriminator_loss(name, self.LOGITS, 0.0)[0] == pytest.approx(on_generated)
            assert generator_loss(name, self.LOGITS)[0] == pytest.approx(for_generator)
            for function, *target in ((discriminator_loss, 0.9), (generator_loss,)):
                grad = function(name, self.LOGITS, *target)[1]
                for i in range(3):
                    step = np.zeros((3, 1))
                    step[i] = 1e-6
                    above, below = (function(name, self.LOGITS + s, *target)[0] for s in (step, -step))
                    assert grad[i, 0] == pytest.approx((above - below) / 2e-6, abs=1e-8)

    def test_probability(self):
        np.testing.assert_allclose(probability("minimax", self.LOGITS), 1 / (1 + np.exp(-self.LOGITS.ravel())))
        np.testing.assert_array_equal(probability("least_squares", self.LOGITS), [0, 0.25, 1])

    def test_saturation(self):
        certain = np.full((4, 1), -20.0)
        assert np.abs(generator_loss("minimax", certain)[1]).max() < 1e-8
        assert np.abs(generator_loss("non_saturating", certain)[1]).min() == pytest.approx(0.25)


class TestAlgorithm:
    def test_one_iteration_by_hand(self):
        """k = 2 discriminator steps by eq. 23 and one generator step by eq. 24, linear networks, plain SGD."""
        rng = np.random.default_rng(0)
        x, held_out = rng.standard_normal((50, 2)), rng.standard_normal((10, 2))
        generator = Sequential([Dense(3, 2, dtype="float64", rng=1)])
        discriminator = Sequential([Dense(2, 1, dtype="float64", rng=2)])
        a, b = generator[0].weight.data.copy(), generator[0].bias.data.copy()
        w, c = discriminator[0].weight.data[0].copy(), discriminator[0].bias.data[0].copy()
        network = gan.GAN(
            generator,
            discriminator,
            3,
            loss="minimax",
            n_discriminator_steps=2,
            generator_optimizer=SGD(0.1),
            discriminator_optimizer=SGD(0.2),
            label_smoothing=0.1,
            seed=7,
        )
        history = fit(network, x, n_iterations=1, batch_size=8, held_out=held_out)
        order, draw = np.random.default_rng([7, 1]).permutation(50), np.random.default_rng(7)
        losses = []
        for _ in range(2):
            real = x[np.sort(order[draw.integers(50, size=8)])]
            generated = draw.standard_normal((8, 3)) @ a.T + b
            d_real, d_generated = (1 / (1 + np.exp(-(s @ w + c))) for s in (real, generated))
            losses.append(-(0.9 * np.log(d_real) + 0.1 * np.log(1 - d_real)).mean() - np.log(1 - d_generated).mean())
            by_real, by_generated = (d_real - 0.9) / 8, d_generated / 8
            w = w - 0.2 * (by_real @ real + by_generated @ generated)
            c = c - 0.2 * (by_real.sum() + by_generated.sum())
        z = draw.standard_normal((8, 3))
        d = 1 / (1 + np.exp(-((z @ a.T + b) @ w + c)))
        by_sample = np.outer(-d / 8, w)
        np.testing.assert_allclose(discriminator[0].weight.data[0], w, atol=1e-14)
        np.testing.assert_allclose(discriminator[0].bias.data, [c], atol=1e-14)
        np.testing.assert_allclose(generator[0].weight.data, a - 0.1 * by_sample.T @ z, atol=1e-14)
        np.testing.assert_allclose(generator[0].bias.data, b - 0.1 * by_sample.sum(axis=0), atol=1e-14)
        assert history["discriminator_loss"] == pytest.approx([np.mean(losses)])
        assert history["generator_loss"] == pytest.approx([np.log(1 - d).mean()])
        norm = math.sqrt((by_sample.T @ z).ravel() @ (by_sample.T @ z).ravel() + (by_sample.sum(axis=0) ** 2).sum())
        assert history["gradient_norm"] == pytest.approx([norm])

    def test_clipping_limits_the_step(self):
        steps = []
        for options in (dict(), dict(clip_norm=1e-3), dict(clip_value=1e-3)):
            network = make_gan(generator_optimizer=SGD(1.0), discriminator_optimizer=SGD(1.0), **options)
            before = network.generator[0].weight.data.copy()
            fit(network, n_iterations=1)
            steps.append(network.generator[0].weight.data - before)
        assert np.linalg.norm(steps[0]) > 2e-3
        assert np.linalg.norm(steps[1]) <= 1.01e-3
        assert 0 < np.abs(steps[2]).max() <= 1.01e-3

    def test_seed_repeats_bit_for_bit_and_evaluations_do_not_disturb(self):
        runs = []
        for seed, every in ((1, 2), (1, 3), (2, 2)):
            network = make_gan(seed)
            fit(network, n_iterations=6, evaluate_every=every)
            runs.append(weights(network.generator))
        np.testing.assert_array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[0], runs[2])

    def test_history_callbacks_and_modes(self):
        seen = []
        network = make_gan(classifier=lambda x: (x[:, 0] > 0).astype(int))
        network.generator.eval()
        history = fit(network, n_iterations=5, callbacks=[lambda g: seen.append((g.iteration, len(g.history["js"])))])
        assert seen == [(2, 1), (4, 2), (5, 3)]
        assert [len(history[key]) for key in ("generator_loss", "discriminator_loss", "gradient_norm")] == [5] * 3
        assert history["iteration"] == [2, 4, 5]
        assert len(history["entropy"]) == len(history["seconds"]) == 3
        assert network.generator.training is False
        assert network.discriminator.training is True

    def test_memory_mapped_samples_are_read_in_batches(self, tmp_path):
        np.save(tmp_path / "x.npy", samples())
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        ours, other = make_gan(), make_gan()
        fit(ours, mapped), fit(other)
        np.testing.assert_array_equal(weights(ours.generator), weights(other.generator))

    def test_noise_of_any_shape_or_from_a_function(self):
        generator = Sequential([Conv2D(2, 1, 3, padding=1, rng=0)])
        discriminator = Sequential([Flatten(), Dense(16, 1, rng=0)])
        fit(gan.GAN(generator, discriminator, (2, 4, 4), seed=0), np.zeros((40, 1, 4, 4), np.float32))
        network = make_gan()
        network.noise = lambda n, rng: rng.uniform(-1, 1, (n, 3))
        assert network.sample(5, rng=0).shape == (5, 2)
        np.testing.assert_array_equal(network.sample(5, rng=0), network.sample(5, rng=0))
        assert network.sample(2, noise=np.zeros((2, 3), np.float32)).shape == (2, 2)

    def test_progress_lines(self, capsys):
        fit(make_gan(), progress=True)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("iteration 2/4  D loss ")
        assert "  js 0." in lines[0]

    def test_bar_on_a_terminal(self, monkeypatch):
        tqdm = pytest.importorskip("tqdm")
        bars = []

        class Recorder(tqdm.tqdm):
            def __init__(self, *args, **options):
                assert options.pop("disable") is None
                super().__init__(*args, disable=False, file=io.StringIO(), **options)
                bars.append(self)

        monkeypatch.setattr(tqdm, "tqdm", Recorder)
        fit(make_gan(), progress=True)
        assert [(bar.n, bar.total) for bar in bars] == [(4, 4)]

    def test_ctrl_c_keeps_whole_iterations(self, capsys):
        def interrupt(network):
            raise KeyboardInterrupt

        network = make_gan()
        history = fit(network, callbacks=[interrupt], progress=True)
        assert history.interrupted
        assert network.iteration == len(history["generator_loss"]) == 2
        assert "interrupted after iteration 2 of 4" in capsys.readouterr().out
        assert not fit(network).interrupted


class TestCheckpoints:
    def options(self):
        return dict(
            n_discriminator_steps=2,
            generator_optimizer=Adam(1e-2),
            discriminator_optimizer=SGD(1e-2, momentum=0.9),
            clip_norm=1.0,
        )

    def test_resumes_bit_for_bit(self, tmp_path):
        pytest.importorskip("safetensors")
        whole = make_gan(**self.options())
        fit(whole, n_iterations=10)
        first = make_gan(**self.options())
        fit(first, n_iterations=6, checkpoint=tmp_path / "gan.safetensors")
        second = make_gan(seed=99, **self.options())
        for network in (second.generator, second.discriminator):
            for parameter in network.parameters():
                parameter.data[...] = 7
        assert second.load(tmp_path / "gan.safetensors") is second
        assert (second.iteration, second.seed) == (6, 0)
        fit(second, n_iterations=4)
        for network in ("generator", "discriminator"):
            np.testing.assert_array_equal(weights(getattr(second, network)), weights(getattr(whole, network)))
        for key in whole.history:
            if key != "seconds":
                assert second.history[key] == whole.history[key], key

    def test_another_architecture_is_refused_by_name_and_nothing_changes(self, tmp_path):
        pytest.importorskip("safetensors")
        make_gan().save(tmp_path / "gan")
        other = make_gan()
        other.discriminator = Sequential([Dense(2, 8, activation="tanh", rng=0), *list(other.discriminator)[1:]])
        before = weights(other.generator)
        with pytest.raises(
            ValueError,
            match=r"discriminator is of another architecture: innermost layer 0 is "
            r"Dense\(2, 8, activation='relu'\) in the file and Dense\(2, 8, activation='tanh'\) here",
        ):
            other.load(tmp_path / "gan")
        np.testing.assert_array_equal(weights(other.generator), before)
        with pytest.raises(ValueError, match=r"its optimizers are .*'Adam'.* wanted are .*'SGD'"):
            make_gan(generator_optimizer=SGD(0.1)).load(tmp_path / "gan")

    def test_other_files_are_refused(self, tmp_path):
        checkpoints = pytest.importorskip("convgrad.checkpoints")
        pytest.importorskip("safetensors")
        checkpoints.save({"a": np.zeros(2)}, tmp_path / "arrays")
        with pytest.raises(ValueError, match="was not written by save_run"):
            make_gan().load(tmp_path / "arrays")
        (tmp_path / "text").write_text("hello")
        with pytest.raises(ValueError, match="is not a readable safetensors file"):
            make_gan().load(tmp_path / "text")


class TestErrors:
    @pytest.mark.parametrize(
        "options, error, message",
        [
            (dict(loss="wasserstein"), ValueError, "loss must be one of 'non_saturating', 'minimax', 'least_squares'"),
            (dict(n_discriminator_steps=0), ValueError, "n_discriminator_steps must be at least 1, got 0"),
            (dict(label_smoothing=0.5), ValueError, "label_smoothing must be at least 0 and below 0.5, got 0.5"),
            (dict(generator_optimizer="adam"), TypeError, "generator_optimizer must be an Optimizer"),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=f"GAN: {message}"):
            make_gan(**options)

    def test_networks(self):
        network = Sequential([Dense(2, 2)])
        with pytest.raises(TypeError, match="GAN: model must be a Layer"):
            gan.GAN(network, lambda x: x, 2)
        with pytest.raises(ValueError, match="GAN: generator and discriminator share 2 parameters"):
            gan.GAN(network, network, 2)
        optimizer = Adam()
        with pytest.raises(ValueError, match="must be two objects"):
            make_gan(generator_optimizer=optimizer, discriminator_optimizer=optimizer)
        with pytest.raises(ValueError, match=r"Adam: clip_norm must be above 0, got 0.0"):
            make_gan(clip_norm=0)
        with pytest.raises(ValueError, match="GAN: noise must be at least 1, got 0"):
            gan.GAN(network, Sequential([Dense(2, 1)]), 0)

    @pytest.mark.parametrize(
        "generator, discriminator, error, message",
        [
            (
                [Dense(4, 2)],
                [Dense(2, 1)],
                ValueError,
                r"generator, given noise \(1, 3\): layer 0, Dense\(4, 2\), given x",
            ),
            (
                [Dense(3, 2), Reshape((2, 1))],
                [Dense(2, 1)],
                ValueError,
                r"last layer makes samples of shape \(2, 1\) float32, but x holds \(2,\) float32",
            ),
            (
                [Dense(3, 2)],
                [Dense(2, 4), Dense(5, 1)],
                ValueError,
                r"discriminator, given samples \(1, 2\): layer 1, Dense\(5, 1\), given x \(1, 4\)",
            ),
            ([Dense(3, 2)], [Dense(2, 2)], ValueError, r"must make one output per sample.*it made \(1, 2\)"),
            ([Dense(3, 2, dtype="float64")], [Dense(2, 1)], ValueError, r"\(2,\) float64, but x holds \(2,\) float32"),
        ],
    )
    def test_shapes_are_refused_before_training(self, generator, discriminator, error, message):
        network = gan.GAN(Sequential(generator), Sequential(discriminator), 3)
        before = weights(network.discriminator)
        with pytest.raises(error, match=f"GAN.fit: .*{message}"):
            fit(network)
        np.testing.assert_array_equal(weights(network.discriminator), before)

    @pytest.mark.parametrize("x", [np.zeros(9, np.float32), np.zeros((3, 2), np.float32), [[1.0, 2.0]] * 9])
    def test_samples(self, x):
        with pytest.raises(ValueError, match=r"GAN.fit: x must be an array \(N, ...\) of at least 4 samples"):
            fit(make_gan(), x)

    def test_non_finite_loss_names_network_and_layer(self):
        network = make_gan()
        network.discriminator[2][0].weight.data[0, 3] = np.inf
        with pytest.raises(
            FloatingPointError,
            match=r"the discriminator's loss is (inf|nan) in iteration 1, discriminator: "
            r"first in the output of layer 2.0, Dense\(8, 1\), whose weight is not finite",
        ):
            fit(network)
        x = samples()
        x[:] = np.nan
        with pytest.raises(FloatingPointError, match=r"discriminator: first in the input: 32 NaN and 0 infinite of 32"):
            fit(make_gan(), x)


class TestQuality:
    def test_frechet_distance_of_known_normals(self):
        rng = np.random.default_rng(0)
        a = rng.standard_normal((4000, 3))
        a -= a.mean(axis=0)
        assert gan.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
        assert gan.frechet_distance(a + [1, 2, 2], a) == pytest.approx(9, abs=1e-9)
        # commuting covariances: the sum of (s1 - s2)^2
        assert gan.frechet_distance(3 * a, a) == pytest.approx(4 * np.trace(np.cov(a, rowvar=False)), rel=1e-9)
        linalg = pytest.importorskip("scipy.linalg")
        b = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3))
        c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        offset = a.mean(axis=0) - b.mean(axis=0)
        expected = offset @ offset + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
        assert gan.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
        assert gan.frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
        with pytest.raises(ValueError, match=r"got \(4000, 3\), \(1, 3\)"):
            gan.frechet_distance(a, a[:1])

    def test_class_shares(self):
        np.testing.assert_array_equal(gan.class_shares([0, 2, 2, 2], 4), [0.25, 0, 0.75, 0])
        with pytest.raises(ValueError, match=r"classes must be in 0..1, got up to 2"):
            gan.class_shares([0, 2], 2)


def test_layers_without_generators_of_their_own_are_left_alone():
    class Plain(Layer):
        def forward(self, x):
            return x

        def backward(self, grad_output):
            return grad_output

    network = gan.GAN(Sequential([Dense(3, 2, rng=0), Plain()]), Sequential([Dense(2, 1, rng=0), Plain()]), 3, seed=0)
    assert fit(network)["iteration"] == [2, 4]
