"""Training: fit, evaluate and predict on small problems; repeatability, interruption, progress and errors."""

import io
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from convgrad import training
from convgrad.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sequential
from convgrad.optimizers import SGD, Adam


def stripes(n, seed=0):
    """Noisy 6x6 images of horizontal (0) or vertical (1) stripes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows = np.arange(6) % 2
    images = np.where(labels[:, None, None] == 0, rows[:, None], rows[None, :]) + 0.3 * rng.standard_normal((n, 6, 6))
    return images[:, None].astype(np.float32), labels


def make_model(seed=0, p=0.2):
    rng = np.random.default_rng(seed)
    return Sequential(
        [
            Conv2D(1, 4, 3, activation="relu", rng=rng),
            MaxPool2D(2),
            Flatten(),
            Dropout(p, rng=rng),
            Dense(16, 2, rng=rng),
        ]
    )


def weights(model):
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


def fit(model, x, y, **options):
    return training.fit(model, x, y, **({"progress": False, "epochs": 2} | options))


class TestFit:
    @pytest.mark.usefixtures("backend")
    def test_learns_and_reports_every_epoch(self):
        x, y = stripes(120)
        held_out = stripes(60, seed=1)
        model = make_model()
        options = dict(epochs=8, optimizer=Adam(learning_rate=0.01), batch_size=16, seed=0)
        history = fit(model, x, y, validation_data=held_out, **options)
        result = training.evaluate(model, *held_out)
        assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
        assert {len(figures) for figures in history.values()} == {8}
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        assert history["val_accuracy"][-1] >= 0.95
        assert history.interrupted is False
        assert result.accuracy == history["val_accuracy"][-1]
        assert result.loss == pytest.approx(history["val_loss"][-1], rel=1e-6)
        assert min(history["seconds"]) > 0

    def test_seed_repeats_bit_for_bit_with_shuffling_and_dropout(self):
        x, y = stripes(50)
        runs = []
        for dropout_seed, seed in ((1, 7), (2, 7), (1, 8)):
            model = make_model()
            model[3].reseed(dropout_seed)
            history = fit(model, x, y, seed=seed)
            runs.append((weights(model), history["loss"]))
        np.testing.assert_array_equal(runs[0][0], runs[1][0])
        assert runs[0][1] == runs[1][1]
        assert not np.array_equal(runs[0][0], runs[2][0])

    def test_one_step_is_forward_loss_backward_step(self):
        x, y = stripes(8)
        ours, by_hand = make_model(p=0.0), make_model(p=0.0)
        optimizer = SGD(0.5)
        history = fit(ours, x, y, epochs=1, batch_size=8, shuffle=False, optimizer=SGD(0.5))
        logits = by_hand(x)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert history["loss"][0] == pytest.approx(-np.log(probabilities[np.arange(8), y]).mean(), rel=1e-5)
        probabilities[np.arange(8), y] -= 1
        by_hand.backward(probabilities / np.float32(8))
        optimizer.step(by_hand.parameters())
        np.testing.assert_allclose(weights(ours), weights(by_hand), atol=1e-6)

    def test_means_are_weighted_by_batch_size_and_every_sample_is_seen_once(self):
        seen = []

        class Spy(Layer):
            def forward(self, x):
                seen.append(x.copy())
                return x

        def loss(prediction, target):
            return float(target.mean()), np.zeros_like(prediction)

        x, y = np.arange(10.0)[:, None], np.arange(10.0)
        history = fit(Sequential([Spy()]), x, y, loss=loss, epochs=3, batch_size=4, seed=1)
        assert history["loss"] == pytest.approx([4.5] * 3)
        assert "accuracy" not in history
        epochs = np.concatenate(seen).reshape(3, 10)
        assert [len(part) for part in seen] == [4, 4, 2] * 3
        for order in epochs:
            assert sorted(order) == list(range(10))
        assert not np.array_equal(epochs[0], epochs[1])
        seen.clear()
        fit(Sequential([Spy()]), x, y, loss=loss, epochs=1, shuffle=False)
        np.testing.assert_array_equal(np.concatenate(seen), x)

    def test_least_squares_fits_a_line(self):
        x = np.random.default_rng(0).standard_normal((200, 3))
        y = x @ np.array([[1.0], [-2.0], [0.5]]) + 3
        model = Sequential([Dense(3, 1, dtype="float64", rng=0)])
        history = fit(model, x, y, loss="least_squares", optimizer=SGD(0.1), epochs=30, seed=0)
        np.testing.assert_allclose(model[0].weight.data, [[1, -2, 0.5]], atol=1e-3)
        np.testing.assert_allclose(model[0].bias.data, [3], atol=1e-3)
        assert list(history) == ["loss", "seconds"]
        assert training.evaluate(model, x, y, loss="least_squares").accuracy is None

    def test_sigmoid_cross_entropy_counts_right_sides(self):
        x = np.random.default_rng(0).standard_normal((200, 2))
        y = (x @ np.array([[2.0], [-1.0]]) > 0).astype(np.float64)
        model = Sequential([Dense(2, 1, dtype="float64", rng=0)])
        history = fit(model, x, y, loss="sigmoid_cross_entropy", optimizer=Adam(0.05), epochs=30, seed=0)
        assert history["accuracy"][-1] > 0.95

    def test_one_hot_labels_give_the_same_run(self):
        x, y = stripes(40)
        first, second = make_model(), make_model()
        one, other = fit(first, x, y, seed=0), fit(second, x, np.eye(2, dtype=np.float32)[y], seed=0)
        assert one["accuracy"] == other["accuracy"]
        np.testing.assert_allclose(weights(first), weights(second), atol=1e-5)

    def test_second_fit_goes_on_with_the_optimizers_state(self):
        x, y = stripes(32)
        split, whole = make_model(p=0.0), make_model(p=0.0)
        optimizer = Adam()
        for _ in range(2):
            fit(split, x, y, epochs=1, shuffle=False, optimizer=optimizer)
        fit(whole, x, y, epochs=2, shuffle=False, optimizer=Adam())
        np.testing.assert_array_equal(weights(split), weights(whole))

    def test_modes_are_set_and_restored_and_arguments_unchanged(self):
        modes = []

        class Spy(ReLU):
            def forward(self, x):
                modes.append(self.training)
                return super().forward(x)

        x, y = stripes(8)
        x_before, y_before = x.copy(), y.copy()
        model = Sequential([Spy(), *make_model()])
        model.eval()
        model[-1].train()
        fit(model, x, y, epochs=1, validation_data=(x, y))
        assert modes == [True, False]
        assert [layer.training for layer in model] == [False] * 5 + [True]
        np.testing.assert_array_equal(x, x_before)
        np.testing.assert_array_equal(y, y_before)


class TestInterruption:
    def interrupting_loss(self, at):
        from convgrad import functional

        count = 0

        def loss(prediction, target):
            nonlocal count
            count += 1
            if count == at:
                raise KeyboardInterrupt
            return functional.softmax_cross_entropy(prediction, target)

        return loss

    @pytest.mark.parametrize("at, n_finished", [(1, 0), (4, 1), (9, 4)])
    def test_ctrl_c_returns_the_finished_epochs(self, at, n_finished, capsys):
        x, y = stripes(30)
        model = make_model().eval()
        history = fit(model, x, y, loss=self.interrupting_loss(at), epochs=5, batch_size=16, progress=True)
        assert history.interrupted
        # two steps an epoch
        assert {key: len(figures) for key, figures in history.items()} == {"loss": n_finished, "seconds": n_finished}
        assert f"interrupted in epoch {n_finished + 1} of 5" in capsys.readouterr().out
        assert model.training is False

    def test_ctrl_c_in_validation_drops_that_epoch_from_all_lists(self):
        x, y = stripes(16)
        history = fit(
            make_model(), x, y, loss=self.interrupting_loss(4), epochs=5, batch_size=16, validation_data=(x, y)
        )
        assert {key: len(figures) for key, figures in history.items()} == {"loss": 1, "val_loss": 1, "seconds": 1}

    def test_ctrl_c_between_two_lists_leaves_them_equally_long(self, monkeypatch):
        class Interrupting(list):
            def append(self, value):
                if len(self) == 1:
                    raise KeyboardInterrupt
                super().append(value)

        class Prepared(training.History):
            def __init__(self, keys):
                super().__init__(keys)
                self["seconds"] = Interrupting()

        monkeypatch.setattr(training, "History", Prepared)
        x, y = stripes(16)
        history = fit(make_model(), x, y, epochs=5)
        assert history.interrupted
        assert {key: len(figures) for key, figures in history.items()} == {"loss": 1, "accuracy": 1, "seconds": 1}


class TestProgress:
    LINE = r"epoch 1/1  loss \d\.\d{4}  accuracy \d\.\d{4}  \d+\.\d\d s\n"

    def test_one_plain_line_an_epoch(self, capsys):
        x, y = stripes(16)
        fit(make_model(), x, y, epochs=12, validation_data=(x, y), progress=True)
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        assert len(lines) == 12
        assert lines[0].startswith("epoch  1/12  loss ")
        assert "  val_loss " in lines[0]
        assert "  val_accuracy " in lines[0]
        assert captured.err == ""

    def test_without_tqdm_the_same_lines(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm", None)
        x, y = stripes(16)
        fit(make_model(), x, y, epochs=1, progress=True)
        assert re.fullmatch(self.LINE, capsys.readouterr().out)

    def test_a_bar_that_reaches_the_last_step_on_a_terminal(self, monkeypatch):
        tqdm = pytest.importorskip("tqdm")
        bars = []

        class Recorder(tqdm.tqdm):
            def __init__(self, *args, **options):
                assert options.pop("disable") is None
                super().__init__(*args, disable=False, file=io.StringIO(), **options)
                bars.append(self)

        monkeypatch.setattr(tqdm, "tqdm", Recorder)
        x, y = stripes(40)
        fit(make_model(), x, y, epochs=2, batch_size=16, progress=True)
        assert [(bar.n, bar.total, bar.desc) for bar in bars] == [(3, 3, "epoch 1/2"), (3, 3, "epoch 2/2")]

    def test_false_is_silent(self, capsys):
        x, y = stripes(16)
        fit(make_model(), x, y, progress=False)
        assert capsys.readouterr() == ("", "")


class TestEvaluateAndPredict:
    def test_batch_size_changes_nothing(self):
        x, y = stripes(37)
        model = make_model()
        outputs = [training.predict(model, x, batch_size=size) for size in (1, 10, 37, 100)]
        for output in outputs[1:]:
            np.testing.assert_allclose(output, outputs[0], rtol=0, atol=1e-6)
        results = [training.evaluate(model, x, y, batch_size=size) for size in (1, 10, 100)]
        for result in results[1:]:
            assert result.accuracy == pytest.approx(results[0].accuracy)
            assert result.loss == pytest.approx(results[0].loss, rel=1e-5)
        assert results[0].accuracy == pytest.approx(np.mean(outputs[0].argmax(axis=1) == y))

    def test_dropout_is_off_and_the_mode_comes_back(self):
        x, _ = stripes(20)
        model = make_model(p=0.9)
        np.testing.assert_array_equal(training.predict(model, x), training.predict(model, x))
        assert all(layer.training for layer in model.layers())

    def test_no_samples(self):
        assert training.predict(make_model(), np.empty((0, 1, 6, 6), np.float32)).shape == (0, 2)

    def test_result_is_fresh(self):
        x = np.ones((3, 2))
        output = training.predict(Sequential([Dropout(0.5)]), x)
        assert not np.may_share_memory(output, x)
        np.testing.assert_array_equal(output, x)


class TestErrors:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_non_finite_loss_names_epoch_and_step(self, value):
        x, y = stripes(40)
        model = make_model()
        calls = []

        def loss(prediction, target):
            calls.append(1)
            return (value if len(calls) == 5 else 1.0), np.zeros_like(prediction)

        with pytest.raises(FloatingPointError, match=rf"fit: the loss is {value} in epoch 2, step 2; .*\(0.25\)"):
            fit(model, x, y, loss=loss, optimizer=SGD(0.25), batch_size=16, epochs=3)

    def test_diverging_run_stops(self):
        x = np.random.default_rng(0).standard_normal((64, 3))
        model = Sequential([Dense(3, 1, dtype="float64", rng=0)])
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"fit: the loss is (inf|nan) in epoch"):
            fit(model, x, x[:, :1], loss="least_squares", optimizer=SGD(1e6), epochs=200)

    def test_layer_and_shapes_are_named(self):
        x, y = stripes(8)
        model = Sequential([Flatten(), Dense(35, 2)])
        with pytest.raises(ValueError, match=r"layer 1, Dense\(35, 2\), given x \(8, 36\): linear: "):
            fit(model, x, y)

    @pytest.mark.parametrize(
        "change, error, message",
        [
            (dict(model=object()), TypeError, "model must be a Layer, such as Sequential"),
            (dict(x=[1, 2]), TypeError, "x must be a NumPy array, got list"),
            (dict(y=np.zeros(7, int)), ValueError, r"x has 8 samples and y 7; shapes \(8, 1, 6, 6\) and \(7,\)"),
            (dict(x=np.zeros((0, 1, 6, 6), "f4"), y=np.zeros(0, int)), ValueError, "x has no samples"),
            (dict(epochs=0), ValueError, "epochs must be at least 1, got 0"),
            (dict(batch_size=2.5), TypeError, "batch_size must be an integer, got 2.5"),
            (
                dict(loss="hinge"),
                ValueError,
                "loss must be a function or one of 'softmax_cross_entropy', .*got 'hinge'",
            ),
            (dict(optimizer="adam"), TypeError, "optimizer must be an Optimizer, such as Adam"),
            (dict(seed="x"), TypeError, "seed must be a numpy.random.Generator, an integer seed or None; got 'x'"),
            (dict(validation_data=np.zeros(3)), ValueError, r"validation_data must be a pair \(x, y\), got ndarray"),
            (dict(validation_data=(np.zeros((2, 1)), np.zeros(3))), ValueError, "validation x has 2 samples and"),
        ],
    )
    def test_options(self, change, error, message):
        x, y = stripes(8)
        arguments = dict(model=make_model(), x=x, y=y) | change
        with pytest.raises(error, match=f"fit: {message}"):
            fit(**arguments)

    def test_evaluate_and_predict(self):
        x, y = stripes(4)
        with pytest.raises(ValueError, match="evaluate: x has 4 samples and y 3"):
            training.evaluate(make_model(), x, y[:3])
        with pytest.raises(ValueError, match="evaluate: loss must be"):
            training.evaluate(make_model(), x, y, loss=None)
        with pytest.raises(ValueError, match="predict: batch_size must be at least 1, got 0"):
            training.predict(make_model(), x, batch_size=0)
        with pytest.raises(TypeError, match="predict: x must be a NumPy array, got NoneType"):
            training.predict(make_model(), None)


def test_importing_the_library_brings_no_optional_package():
    code = "import sys, convgrad.__main__, convgrad.training, convgrad.checkpoints, convgrad.plots, convgrad.demo\n"
    code += "print(sorted({name.split('.')[0] for name in sys.modules} & set(sys.argv[1:])))"
    optional = ["matplotlib", "safetensors", "tqdm", "torch", "scipy", "sklearn"]
    result = subprocess.run([sys.executable, "-c", code, *optional], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
