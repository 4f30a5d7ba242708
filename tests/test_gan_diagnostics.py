"""Divergences against closed forms and numerical integration; every failure planted, every healthy run quiet."""

import math

import numpy as np
import pytest

from convgrad import gan
from convgrad.layers import Dense, Sequential
from convgrad.optimizers import SGD, Adam

LN2 = math.log(2)


def normal(x, mean, sd):
    return np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))


class Mixture:
    """Equally heavy round Gaussians in d dimensions, with their density."""

    def __init__(self, centres, sd):
        self.centres, self.sd = np.atleast_2d(np.asarray(centres, np.float64)), sd

    def sample(self, n, rng):
        chosen = self.centres[rng.integers(len(self.centres), size=n)]
        return chosen + self.sd * rng.standard_normal(chosen.shape)

    def density(self, x):
        offsets = x[..., None, :] - self.centres
        return normal(offsets, 0, self.sd).prod(axis=-1).mean(axis=-1)


def ring(n_modes, sd=0.15, radius=2.0):
    angles = 2 * np.pi * np.arange(n_modes) / 8
    return Mixture(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), sd)


PAIRS = {
    "1-D": (Mixture([[-1.5], [1.5]], 0.6), Mixture([[-1.0], [0.5], [2.0]], 0.8)),
    "2-D": (Mixture([[0, 0], [2, 1]], 0.7), Mixture([[1, 0], [1, 2]], 0.9)),
}


def integrate(p, q):
    """JS(p || q) by the rectangle rule on a fine grid, and the grid's densities and cell size."""
    step = 0.02
    line = np.arange(-7, 8, step)
    x = line[:, None] if p.centres.shape[1] == 1 else np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
    a, b, cell = p.density(x), q.density(x), step ** p.centres.shape[1]
    assert a.sum() * cell == pytest.approx(1, abs=1e-6)
    middle = (a + b) / 2
    kl = [np.sum(s * np.log(np.where(s > 0, s / middle, 1))) * cell for s in (a, b)]
    return sum(kl) / 2, a, b, cell


class TestDivergences:
    def test_kl_of_two_normals(self):
        x = np.arange(-12, 12, 0.01)
        p, q = normal(x, 0.5, 1.0), normal(x, -0.3, 1.7)
        expected = math.log(1.7) + (1 + 0.8**2) / (2 * 1.7**2) - 0.5
        assert gan.kl_divergence(p, q) == pytest.approx(expected, abs=1e-9)
        assert gan.kl_divergence(p, q, dx=0.01) == pytest.approx(expected, abs=1e-9)
        assert gan.kl_divergence(q, p) != pytest.approx(expected, abs=0.1)

    def test_histograms(self):
        p, q = np.array([2, 2, 0]), np.array([1, 1, 2])
        assert gan.kl_divergence(p, q) == pytest.approx(LN2)
        assert gan.kl_divergence(q, p) == math.inf
        assert gan.kl_divergence(p, p) == 0
        assert gan.js_divergence(p, q) == gan.js_divergence(q, p)
        assert gan.js_divergence(p, q) == pytest.approx((math.log(4 / 3) + (math.log(2 / 3) + LN2) / 2) / 2)
        assert gan.js_divergence([1, 0], [0, 5]) == pytest.approx(LN2)
        assert gan.js_divergence(p, p) == 0
        p2, q2 = np.outer(p, [1, 3]), np.outer(q, [1, 3])
        assert gan.kl_divergence(p2, q2) == pytest.approx(LN2)

    def test_agrees_with_scipy(self, rng):
        stats = pytest.importorskip("scipy.stats")
        distance = pytest.importorskip("scipy.spatial.distance")
        p, q = rng.random(50), rng.random(50)
        assert gan.kl_divergence(p, q) == pytest.approx(stats.entropy(p, q))
        assert gan.js_divergence(p, q) == pytest.approx(distance.jensenshannon(p, q) ** 2)

    @pytest.mark.parametrize("name", PAIRS)
    def test_mixtures_on_a_grid(self, name):
        expected, a, b, cell = integrate(*PAIRS[name])
        assert gan.js_divergence(a, b) == pytest.approx(expected, abs=1e-9)
        assert gan.js_divergence(a, b, dx=cell) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("name", PAIRS)
    def test_estimate_from_the_optimal_discriminator(self, name, rng):
        """Tolerance: four standard errors of 40,000 samples, about 0.01 nats."""
        real, generated = PAIRS[name]
        expected = integrate(real, generated)[0]
        d = [
            gan.optimal_discriminator(real.density(x), generated.density(x))
            for x in (real.sample(40_000, rng), generated.sample(40_000, rng))
        ]
        assert gan.js_estimate(*d) == pytest.approx(expected, abs=0.01)
        assert 0.05 < expected < 0.5

    @pytest.mark.parametrize("name", PAIRS)
    def test_estimate_from_a_trained_discriminator(self, name, rng):
        """The generator is p_g itself and stands still; D learns from samples. Tolerance: 0.03 nats, 2,000 samples."""
        real, generated = PAIRS[name]
        n_axes = real.centres.shape[1]
        still = Sequential([Dense(n_axes, n_axes, bias=False, rng=0)])
        still[0].weight.data[...] = np.eye(n_axes)
        network = gan.GAN(
            still,
            mlp(n_axes, 32, 1, 1, ("leaky_relu", 0.2)),
            lambda n, draw: generated.sample(n, draw),
            generator_optimizer=SGD(0),
            discriminator_optimizer=Adam(5e-3),
            seed=0,
        )
        x = real.sample(8000, rng).astype(np.float32)
        held_out = real.sample(2000, rng).astype(np.float32)
        options = dict(batch_size=256, evaluate_every=600, n_evaluate=2000, held_out=held_out, progress=False)
        history = network.fit(x, n_iterations=600, **options)
        assert history["js"][-1] == pytest.approx(integrate(real, generated)[0], abs=0.03)
        assert history["value"][-1] == pytest.approx(2 * history["js"][-1] - 2 * LN2)

    def test_optimum(self):
        half = np.full(10, 0.5)
        assert gan.js_estimate(half, half) == pytest.approx(0, abs=1e-15)
        assert gan.js_estimate(np.ones(3), np.zeros(4)) == pytest.approx(LN2)
        assert gan.js_estimate([0.1], [0.9]) == 0
        assert math.isfinite(gan.js_estimate([0.0], [1.0]))
        np.testing.assert_array_equal(gan.optimal_discriminator([1, 3, 0], [1, 1, 0]), [0.5, 0.75, 0.5])

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda: gan.kl_divergence([1, 2], [1, 2, 3]), r"p and q must have the same shape, got \(2,\) and \(3,\)"),
            (lambda: gan.js_divergence([1, -1], [1, 1]), "js_divergence: p must be finite and at least 0"),
            (lambda: gan.kl_divergence([1, 1], [0, 0]), "q is 0 everywhere"),
            (lambda: gan.kl_divergence([1, np.nan], [1, 1]), "p must be finite"),
            (lambda: gan.kl_divergence([1, 1], [1, 1], dx=[1, 1, 1]), "operands|broadcast"),
            (lambda: gan.kl_divergence([1, 1], [1, 1], dx=0), "dx must be above 0"),
            (lambda: gan.js_estimate([1.5], [0.5]), r"d_real must hold probabilities in \[0, 1\]"),
            (lambda: gan.js_estimate([0.5], []), "d_generated must hold probabilities"),
        ],
    )
    def test_errors(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()


class TestOscillation:
    n = np.arange(2000)

    def test_cycles_are_near_one(self, rng):
        assert gan.oscillation(np.sin(self.n / 30)) > 0.95
        assert gan.oscillation(np.sin(self.n / 30) + 0.001 * self.n + 0.3 * rng.standard_normal(2000)) > 0.5
        assert gan.oscillation(np.sign(np.sin(self.n / 50))) > 0.9

    def test_noise_trends_and_steps_are_not(self, rng):
        for seed in range(20):
            noise = np.random.default_rng(seed).standard_normal(2000)
            assert gan.oscillation(noise) < 0.4
            assert gan.oscillation(noise[:200]) < 0.5
        assert gan.oscillation(self.n**2.0) < 0.1
        assert gan.oscillation(np.exp(-self.n / 200)) < 0.1
        assert gan.oscillation(np.tanh((self.n - 700) / 50)) < 0.3
        assert gan.oscillation(np.full(2000, 1.5)) == 0
        assert gan.oscillation(np.sin(np.arange(150))) == 0  # too short to say
        assert gan.oscillation(np.sin(self.n / 2000 * 2 * np.pi)) < 0.5  # came round once

    def test_only_the_last_two_thousand_count(self):
        assert gan.oscillation([*np.sin(self.n / 30), *np.zeros(2000)]) == 0


def mlp(n_in, n_hidden, n_out, seed, activation="relu"):
    rng = np.random.default_rng(seed)
    return Sequential(
        [
            Dense(n_in, n_hidden, activation=activation, rng=rng),
            Dense(n_hidden, n_hidden, activation=activation, rng=rng),
            Dense(n_hidden, n_out, rng=rng),
        ]
    )


def affine(weight, bias):
    layer = Dense(len(weight[0]), len(weight), rng=0)
    layer.weight.data[...], layer.bias.data[...] = weight, bias
    return Sequential([layer])


def trained(generator, discriminator, noise, x, n_iterations, rates, **options):
    """A GAN after `n_iterations`; rates are those of Adam for generator and discriminator."""
    generator_optimizer, discriminator_optimizer = (Adam(rate, betas=(0.5, 0.999)) for rate in rates)
    options = dict(generator_optimizer=generator_optimizer, discriminator_optimizer=discriminator_optimizer) | options
    network = gan.GAN(generator, discriminator, noise, seed=0, **options)
    every = n_iterations // 10
    network.fit(x.astype(np.float32), n_iterations=n_iterations, batch_size=128, evaluate_every=every, progress=False)
    return network


def healthy_1d(rng):
    x = Mixture([[-1.5], [1.5]], 0.6).sample(4000, rng)
    return trained(mlp(4, 32, 1, 1), mlp(1, 32, 1, 2, ("leaky_relu", 0.2)), 4, x, 1200, (1e-3, 2e-3))


def healthy_2d(rng):
    x = ring(8).sample(8000, rng)
    return trained(mlp(8, 64, 2, 1), mlp(2, 64, 1, 2, ("leaky_relu", 0.2)), 8, x, 2500, (5e-4, 1e-3))


def healthy_minimax(rng):
    x = 0.5 + rng.standard_normal((4000, 2))
    discriminator = mlp(2, 32, 1, 2, ("leaky_relu", 0.2))
    return trained(affine([[1, 0], [0, 1]], [0, 0]), discriminator, 2, x, 800, (1e-3, 2e-3), loss="minimax")


def circling(rng):
    """The Dirac-GAN of Mescheder et al. (2018), arXiv 1801.04406, with a second axis that both sides share: linear
    networks, plain gradient steps, a generator that is moved to and fro for ever."""
    x = rng.standard_normal((2000, 2)) * [0.01, 1]
    discriminator = Sequential([Dense(2, 1, bias=False, rng=0)])
    discriminator[0].weight.data[...] = 0
    options = dict(generator_optimizer=SGD(0.05), discriminator_optimizer=SGD(0.05), loss="minimax")
    return trained(affine([[0.01, 0], [0, 1]], [1, 0]), discriminator, 2, x, 800, (0, 0), **options)


def disjoint(rng, loss):
    """Two parallel lines in the plane, the generator on one of them standing still."""
    x = rng.standard_normal((2000, 2)) * [1, 0] + [0, 1]
    discriminator = mlp(2, 32, 1, 2, ("leaky_relu", 0.2))
    return trained(affine([[1.0], [0]], [0, 0]), discriminator, 1, x, 400, (0, 5e-3), loss=loss)


def collapsed(rng):
    """One of eight modes, perfectly."""
    generator, discriminator = affine([[0.15, 0], [0, 0.15]], [2, 0]), mlp(2, 64, 1, 2, ("leaky_relu", 0.2))
    return trained(generator, discriminator, 2, ring(8).sample(8000, rng), 400, (0, 1e-3))


def dead(rng):
    """A generator whose hidden units are all off: no gradient at all reaches its first layer's weights."""
    generator = Sequential([Dense(2, 8, activation="relu", rng=0), Dense(8, 2, bias=False, rng=1)])
    generator[0].bias.data[...] = -100
    x = rng.standard_normal((2000, 2)) * 0.1
    return trained(generator, mlp(2, 16, 1, 2), 2, x, 300, (1e-3, 1e-4))


CASES = {
    "healthy, 1-D mixture": (healthy_1d, []),
    "healthy, ring of eight": (healthy_2d, []),
    "healthy, minimax": (healthy_minimax, []),
    "Dirac-GAN": (circling, ["oscillation"]),
    "disjoint, non-saturating": (lambda rng: disjoint(rng, "non_saturating"), ["perfect discriminator"]),
    "disjoint, minimax": (lambda rng: disjoint(rng, "minimax"), ["perfect discriminator", "vanishing gradient"]),
    "one mode of eight": (collapsed, ["mode collapse"]),
}


class TestDiagnose:
    @pytest.mark.parametrize("name", CASES)
    def test_planted_failures_fire_and_nothing_else_does(self, name, rng):
        make, expected = CASES[name]
        diagnosis = make(rng).diagnose()
        print(f"{name}\n{diagnosis}")
        assert [finding.name for finding in diagnosis] == list(gan.FAILURES)
        assert diagnosis.failures == expected, str(diagnosis)

    def test_a_dead_generator_has_no_gradient(self, rng):
        assert "vanishing gradient" in dead(rng).diagnose().failures

    def test_a_classifier_sees_lost_classes_that_neighbours_do_not(self, rng):
        """Two of eight classes lie in one narrow place each; the generator makes only the six wide ones' first two."""
        centres = ring(8).centres
        network = gan.GAN(
            affine([[1.0, 0], [0, 1]], [0, 0]),
            mlp(2, 8, 1, 0),
            lambda n, draw: ring(3).sample(n, draw),
            classifier=lambda x: np.argmin(((x[:, None] - centres) ** 2).sum(axis=-1), axis=1),
            generator_optimizer=SGD(0),
            seed=0,
        )
        x = ring(8).sample(4000, rng).astype(np.float32)
        history = network.fit(x, n_iterations=1, progress=False)
        assert history["entropy"][-1] == pytest.approx(3 / 8, abs=0.01)
        assert "mode collapse" in network.diagnose().failures

    def test_measures_at_the_optimum(self, rng):
        """p_g = p_r and a discriminator that does not know: D = ½ everywhere."""
        discriminator = affine([[0.0, 0]], [0])
        network = gan.GAN(affine([[1.0, 0], [0, 1]], [0, 0]), discriminator, 2, seed=0)
        real, other = (rng.standard_normal((1000, 2)).astype(np.float32) for _ in range(2))
        measures = gan.measure(network, real, other, rng)
        assert measures["value"] == pytest.approx(-2 * LN2)
        assert (measures["js"], measures["distance"]) == (pytest.approx(0, abs=1e-12), 0)
        assert measures["accuracy"] == 0
        assert measures["coverage"] == pytest.approx(1, abs=0.1)
        assert measures["gradient_ratio"] == 0  # a constant D has no gradient for anybody
        discriminator[0].weight.data[...] = 1e-3
        measures = gan.measure(network, real, other, rng)
        assert measures["gradient_ratio"] == pytest.approx(1, abs=0.01)
        assert measures["accuracy"] == pytest.approx(0.5, abs=0.05)
        assert set(measures) == {"value", "js", "distance", "accuracy", "gradient_ratio", "coverage"}

    def test_words(self, rng):
        text = str(collapsed(rng).diagnose())
        assert "MODE COLLAPSE (coverage 0." in text
        assert "repeats itself" in text
        assert "Try: More discriminator steps k" in text
        assert "no oscillation (autocorrelation" in text
        assert str(gan.diagnose({})) == "nothing to judge yet: the history holds too few evaluations"

    def test_every_threshold_is_used(self):
        """A history just beyond each threshold fires, just inside it does not."""
        base = {
            "generator_loss": [1.0] * 300,
            "discriminator_loss": [1.0] * 300,
            "gradient_norm": [1.0] * 300,
            "iteration": [300],
            "js": [0.1],
            "accuracy": [0.7],
            "gradient_ratio": [1.0],
            "coverage": [0.9],
            "entropy": [0.9],
        }
        assert gan.diagnose(base).failures == []
        limits = gan.THRESHOLDS
        for key, failure in (
            ("gradient_ratio", "vanishing gradient"),
            ("coverage", "mode collapse"),
            ("entropy", "mode collapse"),
        ):
            assert gan.diagnose(base | {key: [limits[key] * 0.99]}).failures == [failure]
            assert gan.diagnose(base | {key: [limits[key] * 1.01]}).failures == []
        assert gan.diagnose(base | {"accuracy": [limits["accuracy"]]}).failures == ["perfect discriminator"]
        assert gan.diagnose(base | {"accuracy": [limits["accuracy"] - 0.001]}).failures == []
        for factor, failures in ((0.9, ["vanishing gradient"]), (1.1, [])):
            norms = [1.0] * 200 + [limits["gradient_fall"] * factor] * 100
            assert gan.diagnose(base | {"gradient_norm": norms}).failures == failures
        cycle = list(np.sin(np.arange(300) / 10))
        assert gan.diagnose(base | {"generator_loss": cycle, "discriminator_loss": cycle}).failures == ["oscillation"]
        assert gan.diagnose(base | {"generator_loss": cycle}).failures == []
        bad_moment = [0.7, 0.7, 1.0, 0.7, 1.0]
        assert gan.diagnose(base | {"accuracy": bad_moment}).failures == []
