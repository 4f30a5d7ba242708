"""Around the training loop: batches from anywhere, augmentation, schedules, callbacks, resuming, broken numbers."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from convgrad import augmentation, callbacks, checkpoints, datasets, schedules, training
from convgrad.batches import Batches
from convgrad.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    ReLU,
    Sequential,
    architecture,
    describe_non_finite,
    summary,
)
from convgrad.optimizers import SGD, Adam, AdamW, RMSprop


def samples(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 1, 5, 5)).astype(np.float32)
    return x, (x.sum(axis=(1, 2, 3)) > 0).astype(np.int64)


def make_model(seed=0):
    rng = np.random.default_rng(seed)
    layers = [Conv2D(1, 3, 3, rng=rng), BatchNorm(3), ReLU(), Flatten(), Dropout(0.3, rng=1), Dense(27, 2, rng=rng)]
    return Sequential(layers)


def weights(model):
    return np.concatenate([array.ravel() for array in model.state_dict().values()])


def fit(model, x, y=None, **options):
    return training.fit(model, x, y, **({"progress": False, "epochs": 3, "seed": 0} | options))


class TestBatches:
    def test_every_sample_once_in_a_new_order_each_pass(self):
        x, y = np.arange(10.0)[:, None], np.arange(10)
        batches = Batches(x, y, 4, rng=0)
        passes = [[target for _, target in batches] for _ in range(2)]
        assert [len(part) for part in passes[0]] == [4, 4, 2]
        assert len(batches) == 3
        assert sorted(np.concatenate(passes[0])) == list(range(10))
        assert not np.array_equal(np.concatenate(passes[0]), np.concatenate(passes[1]))
        in_order = Batches(x, y, 4, shuffle=False, augment=lambda x, rng: -x)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in in_order]), -x)

    def test_memory_mapped_files_give_the_same_run_and_come_in_pieces(self, tmp_path):
        x, y = samples()
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        batch, _ = next(iter(Batches(mapped, y, 8, rng=0)))
        assert type(batch) is np.ndarray
        assert not np.may_share_memory(batch, mapped)
        ours, other = make_model(), make_model()
        fit(ours, mapped, y), fit(other, x, y)
        np.testing.assert_array_equal(weights(ours), weights(other))

    def test_idx_files_are_mapped(self, tmp_path):
        cells = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
        (tmp_path / "images").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2]) + cells.tobytes())
        mapped = datasets.load_idx(tmp_path / "images", memory_map=True)
        assert isinstance(mapped, np.memmap)
        assert not mapped.flags.writeable
        np.testing.assert_array_equal(mapped, cells)
        (tmp_path / "wide").write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 1, 1, 2]))
        with pytest.raises(ValueError, match="memory_map=True needs cells of one byte, got int16"):
            datasets.load_idx(tmp_path / "wide", memory_map=True)
        (tmp_path / "short").write_bytes((tmp_path / "images").read_bytes()[:-1])
        with pytest.raises(ValueError, match="is truncated: its header claims shape"):
            datasets.load_idx(tmp_path / "short", memory_map=True)
        (tmp_path / "long").write_bytes((tmp_path / "images").read_bytes() + b"x")
        with pytest.raises(ValueError, match="holds more than the 24 bytes"):
            datasets.load_idx(tmp_path / "long", memory_map=True)

    def test_fit_takes_iterables_and_functions_that_make_iterators(self):
        x, y = samples()
        parts = [(x[start : start + 20], y[start : start + 20]) for start in (0, 20, 40)]
        held = []

        def generate():
            for part in parts:
                held.append(1)
                yield part

        models = [make_model() for _ in range(3)]
        fit(models[0], parts), fit(models[1], generate), fit(models[2], x, y, batch_size=20, shuffle=False)
        assert len(held) == 9
        np.testing.assert_array_equal(weights(models[0]), weights(models[1]))
        np.testing.assert_array_equal(weights(models[0]), weights(models[2]))
        fit(make_model(), iter(parts), epochs=1)

    @pytest.mark.parametrize(
        "source, options, error, message",
        [
            (iter([]), {}, ValueError, "an iterator is used up after one of 3 epochs; pass a function"),
            (lambda: iter([]), {}, ValueError, "x gave no batch"),
            ([1, 2], {}, ValueError, r"batch 1 must be a pair \(x, y\), got int"),
            (
                [(np.zeros((3, 1, 5, 5), "f4"), np.zeros(2, int))],
                {},
                ValueError,
                "batch 1's x has 3 samples and batch 1's",
            ),
            (3, {}, TypeError, "x must be a NumPy array, an iterable of batches"),
            ([], {"batch_size": 3}, ValueError, "batch_size is for arrays; x is list"),
            ([], {"shuffle": True}, ValueError, "shuffle is for arrays; x is list"),
        ],
    )
    def test_errors(self, source, options, error, message):
        with pytest.raises(error, match=f"fit: {message}"):
            fit(make_model(), source, **options)

    def test_batches_errors(self):
        with pytest.raises(ValueError, match="Batches: x has 3 samples and y 2"):
            Batches(np.zeros(3), np.zeros(2))
        with pytest.raises(TypeError, match="Batches: augment must be a function"):
            Batches(np.zeros(3), np.zeros(3), augment=2)


class TestAugmentation:
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_shift_moves_each_image_as_one(self, layout):
        images = np.zeros((200, 2, 5, 6) if layout == "NCHW" else (200, 5, 6, 2))
        view = images if layout == "NCHW" else images.transpose(0, 3, 1, 2)
        view[:, 0, 2, 3], view[:, 1, 2, 3] = 1, 2
        before = images.copy()
        moved = augmentation.shift((1, 2), layout=layout)(images, np.random.default_rng(0))
        np.testing.assert_array_equal(images, before)
        assert moved.shape == images.shape
        moved = moved if layout == "NCHW" else moved.transpose(0, 3, 1, 2)
        places = {tuple(place) for place in np.argwhere(moved[:, 0])[:, 1:]}
        assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3, 4, 5)}
        np.testing.assert_array_equal(moved[:, 1], 2 * moved[:, 0])

    def test_shift_fills(self):
        moved = augmentation.shift(1, fill=7)(np.zeros((50, 1, 3, 3), np.uint8), np.random.default_rng(0))
        assert set(np.unique(moved)) == {0, 7}
        assert moved.dtype == np.uint8

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    @pytest.mark.parametrize("axis", ["horizontal", "vertical"])
    def test_flip(self, axis, layout):
        rng = np.random.default_rng(0)
        images = rng.random((400, 2, 3, 4))
        side = {"NCHW": 2, "NHWC": 1}[layout] + (axis == "horizontal")
        flipped = augmentation.flip(axis, p=0.25, layout=layout)(images, rng)
        mirrored = np.flip(images, side)
        is_mirrored = np.array([np.array_equal(a, b) for a, b in zip(flipped, mirrored, strict=True)])
        is_same = np.array([np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)])
        assert (is_mirrored ^ is_same).all()
        assert 0.15 < is_mirrored.mean() < 0.35

    def test_crop_takes_every_place(self):
        images = np.arange(1, 13.0).reshape(1, 1, 3, 4).repeat(300, axis=0)
        cropped = augmentation.crop((2, 3))(images, np.random.default_rng(0))
        assert cropped.shape == (300, 1, 2, 3)
        assert set(cropped[:, 0, 0, 0]) == {1, 2, 5, 6}
        np.testing.assert_array_equal(cropped[:, 0, 1, 2] - cropped[:, 0, 0, 0], np.full(300, 6))
        assert augmentation.crop((5, 6), padding=1)(images, np.random.default_rng(0)).shape == (300, 1, 5, 6)

    def test_in_fit_it_follows_from_the_seed(self):
        x, y = samples()
        augment = augmentation.chain(augmentation.shift(1), augmentation.flip())
        runs = []
        for seed, option in ((0, augment), (0, augment), (1, augment), (0, None)):
            model = make_model()
            fit(model, x, y, seed=seed, augment=option)
            runs.append(weights(model))
        np.testing.assert_array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[0], runs[2])
        assert not np.array_equal(runs[0], runs[3])

    @pytest.mark.parametrize(
        "call, error, message",
        [
            (lambda: augmentation.shift(-1), ValueError, "augmentation.shift: pixels must be at least 0"),
            (lambda: augmentation.flip("both"), ValueError, "augmentation.flip: axis must be one of"),
            (lambda: augmentation.flip(p=2), ValueError, "augmentation.flip: p must be at least 0 and at most 1"),
            (lambda: augmentation.chain(3), TypeError, "augmentation.chain: 3 is not a function"),
            (
                lambda: augmentation.crop(9)(np.zeros((1, 1, 8, 8)), np.random.default_rng(0)),
                ValueError,
                r"augmentation.crop: windows of \(9, 9\) do not fit into images \(1, 1, 8, 8\)",
            ),
            (
                lambda: augmentation.flip()(np.zeros((8, 8)), np.random.default_rng(0)),
                ValueError,
                r"augmentation.flip: images must have four axes \(NCHW\), got \(8, 8\)",
            ),
        ],
    )
    def test_errors(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


class TestSchedules:
    def test_values(self):
        steps = schedules.steps(1.0, [2, 4], factor=0.5)
        assert [steps(epoch) for epoch in (0, 1.9, 2, 3.9, 4, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
        assert schedules.constant(0.3)(7) == 0.3
        assert schedules.exponential(2.0, 0.5)(3) == 0.25
        linear, cosine = schedules.linear(1.0, 10, end=0.2), schedules.cosine(1.0, 10, end=0.2)
        for schedule in (linear, cosine):
            assert [schedule(done) for done in (0, 5, 10, 20)] == pytest.approx([1, 0.6, 0.2, 0.2])
        assert cosine(1) > linear(1)
        cycle = schedules.one_cycle(1.0, 10, rise=0.4, start=0.1)
        assert [cycle(done) for done in (0, 2, 4, 7, 10)] == pytest.approx([0.1, 0.55, 1, 0.5, 0])
        warm = schedules.with_warmup(schedules.constant(2.0), 4)
        assert [warm(done) for done in (0, 1, 4, 5)] == [0, 0.5, 2, 2]

    def test_fit_asks_before_each_step_and_records(self):
        x, y = samples(40)
        asked = []

        def schedule(done):
            asked.append(done)
            return 0.1 / (1 + done)

        optimizer = SGD(5.0)
        history = fit(make_model(), x, y, optimizer=optimizer, batch_size=10, epochs=2, schedule=schedule)
        assert asked == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
        assert history["learning_rate"] == pytest.approx([0.1 / 1.75, 0.1 / 2.75])
        assert optimizer.learning_rate == history["learning_rate"][-1]

    @pytest.mark.parametrize(
        "call, error, message",
        [
            (lambda: schedules.constant(-1), ValueError, "schedules.constant: learning_rate must be at least 0"),
            (lambda: schedules.cosine(1, 0), ValueError, "schedules.cosine: epochs must be above 0, got 0"),
            (
                lambda: schedules.one_cycle(1, 5, rise=1),
                ValueError,
                "schedules.one_cycle: rise must be between 0 and 1",
            ),
            (lambda: schedules.with_warmup(0.1, 5), TypeError, "schedules.with_warmup: schedule must be a function"),
            (lambda: schedules.steps("fast", []), TypeError, "schedules.steps: learning_rate must be a real number"),
            (lambda: fit(make_model(), *samples(), schedule=0.1), TypeError, "fit: schedule must be callable, got 0.1"),
            (
                lambda: fit(make_model(), *samples(), schedule=lambda done: math.nan),
                ValueError,
                "fit: schedule must give finite rates of at least 0, got nan at 0.0 epochs",
            ),
        ],
    )
    def test_errors(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


def scripted_fit(monkeypatch, losses, callback, epochs=10, capsys=None):
    """Run `fit` with the validation losses given; return model, history and the weights after each epoch."""
    model, seen, script = make_model(), [], iter(losses)

    def evaluate(*arguments):
        seen.append(weights(model))
        return training.Evaluation(next(script), 0.5)

    monkeypatch.setattr(training, "_evaluate", evaluate)
    x, y = samples(20)
    history = fit(model, x, y, validation_data=(x, y), epochs=epochs, callbacks=callback, progress=capsys is not None)
    return model, history, seen


class TestCallbacks:
    def test_early_stopping_stops_and_goes_back(self, monkeypatch, capsys):
        stopping = callbacks.EarlyStopping(patience=2)
        model, history, seen = scripted_fit(monkeypatch, [3, 2, 1, 1.5, 1.2, 0.1], [stopping], capsys=capsys)
        assert history["val_loss"] == [3, 2, 1, 1.5, 1.2]
        np.testing.assert_array_equal(weights(model), seen[2])
        out = capsys.readouterr().out
        assert "stopped after epoch 5: val_loss has not improved since epoch 3" in out
        assert "back to the weights of epoch 3" in out

    def test_early_stopping_without_restoring_and_with_a_smallest_change(self, monkeypatch):
        stopping = callbacks.EarlyStopping(patience=2, min_change=0.5, restore_best=False)
        model, history, seen = scripted_fit(monkeypatch, [3, 2.9, 2.8, 1, 1], [stopping])
        assert len(history["val_loss"]) == 3
        np.testing.assert_array_equal(weights(model), seen[-1])

    def test_best_weights_come_back_where_epochs_run_out(self, monkeypatch):
        model, _, seen = scripted_fit(monkeypatch, [1, 2, 3], [callbacks.EarlyStopping(patience=9)], epochs=3)
        np.testing.assert_array_equal(weights(model), seen[0])

    def test_best_weights_survive_an_interruption(self, monkeypatch, tmp_path):
        pytest.importorskip("safetensors")

        def make():
            return [callbacks.EarlyStopping(patience=3), callbacks.Checkpoint(tmp_path / "run")]

        _, _, seen = scripted_fit(monkeypatch, [3, 1, 2], make(), epochs=3)
        model, x_and_y = make_model(seed=5), samples(20)
        monkeypatch.setattr(training, "_evaluate", lambda *arguments: training.Evaluation(2.5, 0.5))
        options = dict(validation_data=x_and_y, epochs=9, callbacks=make(), resume=tmp_path / "run")
        history = fit(model, *x_and_y, **options)
        assert history["val_loss"] == [3, 1, 2, 2.5, 2.5]
        np.testing.assert_array_equal(weights(model), seen[1])

    def test_accuracy_should_rise(self):
        x, y = samples()
        history = fit(make_model(), x, y, callbacks=[callbacks.EarlyStopping("accuracy", patience=1)], epochs=30)
        rises = np.diff(history["accuracy"]) > 0
        assert rises[:-1].all()
        assert len(rises) == 29 or not rises[-1]

    def test_reduce_on_plateau(self, monkeypatch, capsys):
        optimizers = []
        plateau = callbacks.ReduceOnPlateau(patience=2, factor=0.1, minimum=2e-5)
        watch = [plateau, lambda run: optimizers.append(run.optimizer.learning_rate)]
        scripted_fit(monkeypatch, [2, 1, 1, 1, 1, 1, 1, 1], watch, epochs=8, capsys=capsys)
        assert optimizers == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 2e-5, 2e-5, 2e-5])
        assert "learning rate 0.0001" in capsys.readouterr().out

    def test_any_function_can_stop(self):
        x, y = samples()
        history = fit(make_model(), x, y, callbacks=[lambda run: run.epoch == 2 and run.stop("enough")], epochs=9)
        assert len(history["loss"]) == 2

    @pytest.mark.parametrize(
        "call, error, message",
        [
            (
                lambda: fit(make_model(), *samples(), callbacks=[callbacks.EarlyStopping()]),
                ValueError,
                "EarlyStopping: monitor='val_loss' is not in the history, which has 'loss', .*needs validation_data",
            ),
            (
                lambda: fit(
                    make_model(),
                    *samples(),
                    callbacks=[callbacks.ReduceOnPlateau("loss")],
                    schedule=schedules.constant(1e-3),
                ),
                ValueError,
                "ReduceOnPlateau: fit was given a schedule",
            ),
            (
                lambda: callbacks.EarlyStopping(patience=0),
                ValueError,
                "EarlyStopping: patience must be at least 1, got 0",
            ),
            (
                lambda: callbacks.ReduceOnPlateau(factor=1),
                ValueError,
                "ReduceOnPlateau: factor must be between 0 and 1",
            ),
            (lambda: callbacks.EarlyStopping(min_change=math.nan), ValueError, "min_change must be finite"),
            (lambda: fit(make_model(), *samples(), callbacks=[3]), TypeError, "fit: callbacks must be callable, got 3"),
        ],
    )
    def test_errors(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


def len_of_nothing(run):
    """A callback without a state."""


RUN = """
    import sys, time
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from test_training_more import long_run
    long_run(sys.argv[2], lambda run: (print(run.epoch, flush=True), time.sleep(0.05)))
"""


def long_run(path, callback=lambda run: None):
    """Ten epochs with everything that has a state, saved after each."""
    model = make_model()
    x, y = samples()
    history = fit(
        model,
        x,
        y,
        optimizer=RMSprop(1e-3, momentum=0.5, centered=True),
        epochs=10,
        augment=augmentation.shift(1),
        schedule=schedules.cosine(1e-2, 10),
        validation_data=samples(20, seed=1),
        callbacks=[callback, callbacks.EarlyStopping(patience=9), callbacks.Checkpoint(path)],
        resume=path,
    )
    return model, history


class TestResuming:
    def test_interrupted_and_killed_runs_end_as_the_whole_one(self, tmp_path):
        pytest.importorskip("safetensors")
        whole, history = long_run(tmp_path / "whole")
        path = tmp_path / "killed"
        here = os.path.dirname(__file__)
        for kill in (signal.SIGKILL, signal.SIGINT):
            child = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(RUN), here, path], stdout=subprocess.PIPE, text=True
            )
            for _ in range(3):
                assert child.stdout.readline()
            child.send_signal(kill)
            child.communicate(timeout=60)
        resumed, again = long_run(path)
        np.testing.assert_array_equal(weights(resumed), weights(whole))
        for key in set(history) - {"seconds"}:
            assert again[key] == history[key], key
        assert len(again["seconds"]) == 10

    def test_a_finished_run_is_left_alone_and_more_epochs_go_on(self, tmp_path):
        pytest.importorskip("safetensors")
        x, y = samples()
        path = tmp_path / "run"
        models = [make_model() for _ in range(3)]
        fit(models[0], x, y, epochs=4, optimizer=Adam(1e-3))
        options = dict(callbacks=[callbacks.Checkpoint(path, every=2)], resume=path)
        fit(models[1], x, y, epochs=3, optimizer=Adam(1e-3), **options)
        history = fit(models[2], x, y, epochs=3, optimizer=Adam(1e-3), **options)
        assert len(history["loss"]) == 3
        np.testing.assert_array_equal(weights(models[2]), weights(models[1]))
        fit(models[2], x, y, epochs=4, optimizer=Adam(1e-3), **options)
        np.testing.assert_array_equal(weights(models[2]), weights(models[0]))

    def test_another_architecture_or_optimizer_is_refused_by_name(self, tmp_path):
        pytest.importorskip("safetensors")
        x, y = samples()
        path = tmp_path / "run"
        fit(make_model(), x, y, callbacks=[callbacks.Checkpoint(path)], epochs=1)
        other = Sequential([*list(make_model())[:-1], Dense(27, 3)])
        before = weights(other)
        with pytest.raises(
            ValueError,
            match=r"does not fit: model is of another architecture: innermost layer 5 is Dense\(27, 2\) in the file "
            r"and Dense\(27, 3\) here",
        ):
            fit(other, x, y, resume=path)
        np.testing.assert_array_equal(weights(other), before)
        shorter = Sequential(list(make_model())[:-1])
        with pytest.raises(ValueError, match="6 layers in the file and 5 here"):
            fit(shorter, x, y, resume=path)
        with pytest.raises(ValueError, match=r"its optimizers are {'model': 'Adam'}, wanted are {'model': 'SGD'}"):
            fit(make_model(), x, y, optimizer=SGD(), resume=path)
        with pytest.raises(ValueError, match="it was saved with other callbacks; pass the same in the same order"):
            fit(make_model(), x, y, callbacks=[callbacks.EarlyStopping("loss")], resume=path)

    def test_what_does_not_fit_inside_leaves_everything_as_it_was(self, tmp_path):
        pytest.importorskip("safetensors")
        model, optimizer = make_model(), Adam(1e-3)
        x, y = samples()
        fit(model, x, y, optimizer=optimizer, epochs=1)
        parts = dict(models={"model": model}, optimizers={"model": optimizer}, generators={})
        checkpoints.save_run(tmp_path / "run", notes={"a": 1}, **parts)
        state, header = checkpoints._read("test", tmp_path / "run")
        import safetensors.numpy

        del state["model/optimizer.3.1"]
        (tmp_path / "run").write_bytes(safetensors.numpy.save(state, metadata=header))
        before = weights(model), optimizer.state_dict(model.parameters())
        for parameter in model.parameters():
            parameter.data += 1
        changed = weights(model)
        with pytest.raises(ValueError, match=r"Adam.load_state_dict: 3.1 is missing, expected float32 \(3,\)"):
            checkpoints.load_run(tmp_path / "run", **parts)
        np.testing.assert_array_equal(weights(model), changed)
        after = optimizer.state_dict(model.parameters())
        assert set(after) == set(before[1])
        for name, array in after.items():
            np.testing.assert_array_equal(array, before[1][name])

    @pytest.mark.parametrize(
        "part, name, value, message",
        [
            ("notes", "epoch", 7, "epoch 7 does not fit its history"),
            ("notes", "history", [], "its notes say something else"),
            ("notes", "callbacks", None, "its notes say something else"),
            ("generators", "order", {"bit_generator": "PCG64", "state": {"inc": "x"}}, "order has a damaged state"),
            ("generators", "order", [], "order is missing, wanted is PCG64"),
            ("architecture", "model", 3, "the file does not say which"),
            ("architecture", "other", [], "it holds the models model, other, wanted are model"),
        ],
    )
    def test_a_hostile_header_is_refused_and_changes_nothing(self, tmp_path, part, name, value, message):
        numpy_format = pytest.importorskip("safetensors.numpy")
        x, y = samples()
        path = tmp_path / "run"
        model = make_model()
        fit(model, x, y, callbacks=[callbacks.Checkpoint(path)], epochs=1)
        state, header = checkpoints._read("test", path)
        run = json.loads(header[checkpoints._RUN])
        run[part][name] = value
        path.write_bytes(numpy_format.save(state, metadata={checkpoints._RUN: json.dumps(run)}))
        other = make_model(seed=3)
        before = weights(other)
        with pytest.raises(ValueError, match=message):
            fit(other, x, y, resume=path, callbacks=[callbacks.Checkpoint(path)])
        np.testing.assert_array_equal(weights(other), before)

    def test_figures_that_the_saved_run_did_not_take_are_nan(self, tmp_path):
        pytest.importorskip("safetensors")
        x, y = samples()
        fit(make_model(), x, y, callbacks=[callbacks.Checkpoint(tmp_path / "run")], epochs=2)
        schedule = schedules.constant(1e-3)
        history = fit(make_model(), x, y, resume=tmp_path / "run", callbacks=[len_of_nothing], schedule=schedule)
        assert math.isnan(history["learning_rate"][1])
        assert history["learning_rate"][2] == 1e-3

    def test_mersenne_twisters_state_holds_arrays(self, tmp_path):
        pytest.importorskip("safetensors")
        rng = np.random.Generator(np.random.MT19937(3))
        parts = dict(models={}, optimizers={}, generators={"a": rng})
        checkpoints.save_run(tmp_path / "run", notes={}, **parts)
        expected = rng.random(5)
        checkpoints.load_run(tmp_path / "run", **parts)
        np.testing.assert_array_equal(rng.random(5), expected)
        parts["generators"] = {"a": np.random.default_rng()}
        with pytest.raises(ValueError, match="random generator a is MT19937, wanted is PCG64"):
            checkpoints.load_run(tmp_path / "run", **parts)


class TestOptimizerStates:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: SGD(0.1),
            lambda: SGD(0.1, momentum=0.9, nesterov=True),
            lambda: Adam(1e-2),
            lambda: AdamW(1e-2, weight_decay=0.1),
            lambda: RMSprop(1e-2),
            lambda: RMSprop(1e-2, momentum=0.5, centered=True),
        ],
        ids=["SGD", "Nesterov", "Adam", "AdamW", "RMSprop", "RMSprop, full"],
    )
    def test_go_on_in_another_optimizer(self, make):
        def step(layer, optimizer, seed):
            for parameter in layer.parameters():
                parameter.grad = np.random.default_rng(seed).standard_normal(parameter.shape).astype("f4")
            optimizer.step(layer.parameters())

        whole, first = Dense(3, 2, rng=0), make()
        for seed in range(6):
            if seed == 3:
                state, middle = first.state_dict(whole.parameters()), whole.state_dict()
            step(whole, first, seed)
        layer, second = Dense(3, 2).load_state_dict(middle), make()
        second.learning_rate = 9
        step(layer, second, 77)  # has a state of its own, which must go
        layer.load_state_dict(middle)
        second.load_state_dict(layer.parameters(), state)
        for seed in range(3, 6):
            step(layer, second, seed)
        np.testing.assert_array_equal(weights(layer), weights(whole))

    def test_what_does_not_fit_is_named_and_changes_nothing(self):
        layer, optimizer = Dense(3, 2, rng=0), Adam(1e-2)
        for parameter in layer.parameters():
            parameter.grad = np.ones_like(parameter.data)
        optimizer.step(layer.parameters())
        state = optimizer.state_dict(layer.parameters())
        assert sorted(state) == ["0.0", "0.1", "0.steps", "1.0", "1.1", "1.steps", "learning_rate"]
        wrong = state | {"0.0": state["0.0"][:1], "2.0": state["1.0"]}
        with pytest.raises(
            ValueError,
            match=r"Adam.load_state_dict: 0.0 is float32 \(1, 3\), expected float32 \(2, 3\); 2.0 is not known",
        ):
            optimizer.load_state_dict(layer.parameters(), wrong)
        with pytest.raises(ValueError, match="Adam.load_state_dict: learning_rate is .*, expected a number"):
            optimizer.load_state_dict(layer.parameters(), state | {"learning_rate": np.array(-1.0)})
        with pytest.raises(ValueError, match=r"0.steps is float64 \(2,\), expected a count"):
            optimizer.load_state_dict(layer.parameters(), state | {"0.steps": np.zeros(2)})
        for name, array in optimizer.state_dict(layer.parameters()).items():
            np.testing.assert_array_equal(array, state[name])


class TestLookingInside:
    def test_summary(self):
        model = Sequential([Conv2D(1, 4, 3, rng=0), Sequential([ReLU(), Flatten()]), Dense(36, 2, rng=0)])
        rows = summary(model, (1, 5, 5))
        assert [(row.name, row.output_shape, row.n_parameters) for row in rows] == [
            ("0", (1, 4, 3, 3), 40),
            ("1.0", (1, 4, 3, 3), 0),
            ("1.1", (1, 36), 0),
            ("2", (1, 2), 74),
        ]
        assert (rows.n_parameters, rows.n_bytes) == (114, 456)
        text = str(rows)
        assert "Conv2D(1, 4, (3, 3))" in text
        assert "(N, 4, 3, 3)" in text
        assert text.endswith("114 parameters, 456 bytes")
        assert str(model.summary((1, 5, 5))) == text
        assert model.training

    def test_summary_changes_nothing_and_names_what_does_not_fit(self):
        model = make_model()
        model[4].eval()
        before, modes = weights(model), [layer.training for layer in model.layers()]
        assert summary(model, (1, 5, 5))[-1].output_shape == (1, 2)
        np.testing.assert_array_equal(weights(model), before)
        assert [layer.training for layer in model.layers()] == modes
        with pytest.raises(ValueError, match=r"layer 5, Dense\(27, 2\), given x \(1, 48\): linear: .*27"):
            summary(model, (1, 6, 6))
        assert [layer.training for layer in model.layers()] == modes
        assert summary(Sequential([Dense(3, 2, dtype="float64")]), (3,)).n_bytes == 64

    def test_architecture_ignores_dropout_rates_and_describes_custom_layers(self):
        class Custom(Layer):
            def __init__(self):
                self.body = Dense(3, 2)

        assert architecture(make_model())[4] == "Dropout"
        assert architecture(Sequential([Custom()])) == ["Dense(3, 2)"]

    def test_first_non_finite_layer_is_named(self):
        model = make_model()
        model[5].bias.data[1] = np.nan
        x, y = samples()
        with pytest.raises(
            FloatingPointError,
            match=r"fit: the loss is nan in epoch 1, step 1; .* Not finite first in the output of layer 5, "
            r"Dense\(27, 2\), whose bias is not finite: 32 NaN and 0 infinite of 64 values, shape \(32, 2\)",
        ):
            fit(model, x, y)
        model = make_model()
        model[0].weight.data *= 1e38
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"in the output of layer [01], "):
            fit(model, x, y)
        x[3, 0, 0, 0] = np.inf
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="first in the input: 0 NaN and 1 inf"):
            fit(make_model(), x, y, shuffle=False)

    def test_the_same_dropout_mask_is_looked_at(self):
        """The value that dropout let through once is let through again when the culprit is looked for."""

        class Breaks(Layer):
            def forward(self, x):
                return np.where(x[:, :1] == 0, np.float32(np.nan), x)

        for seed in range(4):
            model = Sequential([Flatten(), Dropout(0.5, rng=0), Breaks()])
            loss = lambda p, t: (float(p.sum()), np.zeros_like(p))
            with pytest.raises(FloatingPointError, match="first in the output of layer 2"):
                fit(model, np.ones((3, 4), np.float32), np.zeros(3), loss=loss, seed=seed, epochs=50)

    def test_a_loss_that_breaks_by_itself_is_said_so(self):
        text = describe_non_finite(Sequential([ReLU()]), np.ones((2, 2), np.float32))
        assert text == "in no layer's output: the loss itself is not finite for these predictions and targets"
        nested = Sequential([Sequential([Dense(2, 2, rng=0)])])
        nested[0][0].weight.data[...] = np.inf
        assert "layer 0.0, Dense(2, 2), whose weight is not finite" in describe_non_finite(
            nested, np.ones((1, 2), "f4")
        )
