"""The command line and its demonstration, and the plots it draws."""

import importlib.metadata
import re
import subprocess
import sys

import numpy as np
import pytest

import convgrad
from convgrad import __main__, checkpoints, datasets, demo, plots, training

EPOCH_LINE = r"epoch 1/1  loss \d\.\d{4}  accuracy 0\.\d{4}  val_loss \d\.\d{4}  val_accuracy 0\.\d{4}  \d+\.\d\d s"


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "convgrad", *arguments], capture_output=True, text=True, check=False)


def test_demo_learns_measures_and_writes(tmp_path, capsys):
    pytest.importorskip("safetensors")
    pytest.importorskip("matplotlib")
    assert (
        __main__.main(["demo", "--quick", "--seed", "1", "--threads", "1", "--output", str(tmp_path / "new" / "dir")])
        == 0
    )
    out = capsys.readouterr().out
    assert "1438 digits to train on, 359 held out" in out
    assert len(re.findall(r"^epoch \d/3  loss ", out, re.MULTILINE)) == 3
    accuracy = re.search(r"held-out accuracy (\d\d\.\d\d)% \((\d+) of 359\)", out)
    assert float(accuracy[1]) > 90
    assert int(accuracy[2]) == round(float(accuracy[1]) * 3.59)
    speed = re.search(
        r"([\d.]+) ms, with the NumPy backend ([\d.]+) ms: ([\d.]+) times as fast .*, one thread each", out
    )
    assert float(speed[3]) > 0
    assert sorted(path.name for path in (tmp_path / "new" / "dir").iterdir()) == ["digits.png", "digits.safetensors"]
    assert (tmp_path / "new" / "dir" / "digits.png").read_bytes().startswith(b"\x89PNG")

    # what was written is what was measured
    model = demo.build_model(seed=9)
    checkpoints.load(tmp_path / "new" / "dir" / "digits.safetensors", model)
    images, labels = datasets.load_digits()
    _, held_out = datasets.stratified_split(labels, 0.2, 1)
    n_right = int(np.sum(training.predict(model, images[held_out]).argmax(axis=1) == labels[held_out]))
    assert n_right == int(accuracy[2])


def test_demo_without_the_extras_says_which_are_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert __main__.main(["demo", "--quick", "--epochs", "1", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(f"^{EPOCH_LINE}$", out, re.MULTILINE)
    assert (
        "no checkpoint: checkpoints.save: needs safetensors; install it with `pip install convgrad[checkpoints]`" in out
    )
    assert "no picture: demo: needs matplotlib; install it with `pip install convgrad[plots]`" in out
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without_measuring(monkeypatch):
    """Skip the part of the demo that takes time and leaves no trace in the network."""
    monkeypatch.setattr(demo, "_time_step_apart", lambda n_threads, n_rounds: (1.0, 1.0, 1.0))


@pytest.mark.usefixtures("without_measuring")
def test_demo_repeats_bit_for_bit(tmp_path):
    histories = [demo.run(seed=seed, epochs=1, output=tmp_path)["history"] for seed in (3, 3, 4)]
    assert histories[0]["loss"] == histories[1]["loss"]
    assert histories[0]["val_loss"] == histories[1]["val_loss"]
    assert histories[0]["loss"] != histories[2]["loss"]


@pytest.mark.usefixtures("without_measuring")
def test_demo_reaches_98_percent_in_the_mean_of_three_seeds_and_a_minute_each(tmp_path):
    results = [demo.run(seed=seed, output=tmp_path) for seed in (0, 1, 2)]
    assert np.mean([result["accuracy"] for result in results]) >= 0.98
    assert max(sum(result["history"]["seconds"]) for result in results) < 60


def test_time_step_measures_both_backends_and_leaves_the_model_alone():
    images, labels = datasets.load_digits()
    model = demo.build_model(0)
    before = model.state_dict()
    native, twin, ratio = demo.time_step(model, images[:8], labels[:8], 3)
    assert min(native, twin, ratio) > 0
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_measuring_process_holds_blas_to_the_same_threads_and_its_failure_is_told(monkeypatch):
    def fail(command, env, **options):
        assert env["OPENBLAS_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "3"
        assert "OPENBLAS_CORETYPE" not in env
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="no memory")

    monkeypatch.setenv("OPENBLAS_CORETYPE", "PRESCOTT")
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(RuntimeError, match="demo: the process that measures failed:\nno memory"):
        demo._time_step_apart(3, 1)


def test_info():
    result = run("info")
    assert result.returncode == 0
    lines = dict(line.strip().split(": ", 1) for line in result.stdout.splitlines())
    assert lines["convgrad"] == convgrad.__version__
    assert lines["numpy"] == np.__version__
    assert lines["isa"] in ("scalar", "sse2", "avx2", "avx512", "neon")
    assert int(lines["threads"]) >= 1
    assert lines["backend"] == "native"
    for package in ("safetensors", "matplotlib", "tqdm"):
        try:
            assert lines[package] == importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            assert lines[package].startswith("not installed: pip install convgrad[")


def test_info_names_the_extra_of_a_missing_package(capsys, monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert __main__.main(["info"]) == 0
    out = capsys.readouterr().out
    for package, extra in (("safetensors", "checkpoints"), ("matplotlib", "plots"), ("tqdm", "progress")):
        assert f"{package}: not installed: pip install convgrad[{extra}]" in out


def test_help_names_both_commands_and_all_options():
    top, inner = run("--help"), run("demo", "--help")
    assert top.returncode == inner.returncode == 0
    assert "demo" in top.stdout
    assert "info" in top.stdout
    for option in ("--seed N", "--epochs N", "--output DIR", "--threads N", "--quick"):
        assert option in inner.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: COMMAND"),
        (["train"], "invalid choice: 'train'"),
        (["demo", "--epochs", "0"], "--epochs: epochs must be an integer of at least 1, got '0'"),
        (["demo", "--seed", "-1"], "--seed: seed must be an integer of at least 0, got '-1'"),
        (["demo", "--threads", "two"], "--threads: threads must be an integer of at least 1, got 'two'"),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_unwritable_output_is_exit_code_one_before_any_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert __main__.main(["demo", "--output", str(tmp_path / "file" / "inside")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("convgrad demo: ")
    assert captured.out == ""


@pytest.mark.usefixtures("without_measuring")
@pytest.mark.parametrize("where", ["training", "measuring"])
def test_ctrl_c_is_exit_code_130(tmp_path, capsys, monkeypatch, where):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    if where == "training":
        monkeypatch.setattr(training, "_one_epoch", interrupt)
    else:
        monkeypatch.setattr(demo, "_time_step_apart", interrupt)
    assert __main__.main(["demo", "--quick", "--epochs", "1", "--output", str(tmp_path)]) == 130
    assert "interrupted" in "".join(capsys.readouterr())


class TestPlots:
    @pytest.fixture(autouse=True)
    def _needs_matplotlib(self):
        pytest.importorskip("matplotlib")

    def test_learning_curve_draws_every_list(self):
        history = {"loss": [2, 1], "accuracy": [0.5, 0.7], "val_loss": [2.1, 1.2], "val_accuracy": [0.4, 0.6]}
        figure = plots.learning_curve(history)
        drawn = {
            (axes.get_ylabel(), line.get_label()): list(line.get_ydata()) for axes in figure.axes for line in axes.lines
        }
        assert drawn == {
            ("loss", "training"): [2, 1],
            ("loss", "held out"): [2.1, 1.2],
            ("accuracy", "training"): [0.5, 0.7],
            ("accuracy", "held out"): [0.4, 0.6],
        }
        assert len(plots.learning_curve({"loss": [1.0], "seconds": [3]}).axes) == 1

    @pytest.mark.parametrize("shape, picture_shape", [((5, 1, 3, 2), (7, 8)), ((2, 3, 3, 3), (7, 11))])
    def test_filters_are_tiled_in_order(self, shape, picture_shape):
        weight = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
        shown = plots.filters(weight).axes[0].images[0]
        picture = np.ma.filled(shown.get_array(), np.nan)
        assert picture.shape == picture_shape
        np.testing.assert_array_equal(picture[: shape[2], : shape[3]], weight[0, 0])
        second = weight.reshape(-1, *shape[2:])[1]
        np.testing.assert_array_equal(picture[: shape[2], shape[3] + 1 : 2 * shape[3] + 1], second)
        assert np.isnan(picture[:, shape[3]]).all()
        assert shown.get_clim() == (-weight.max(), weight.max())

    def test_confusion_matrix_counts(self):
        axes = plots.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], n_classes=4).axes[0]
        expected = np.zeros((4, 4))
        expected[[0, 0, 1, 2], [0, 1, 1, 2]] = 1
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        assert axes.get_title() == "3 of 4 right"
        assert len(axes.texts) == 4

    def test_pyplot_is_not_touched(self):
        code = "import sys; from convgrad import plots; plots.filters([[[[1.0]]]])\n"
        code += "print('matplotlib.pyplot' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "False"

    @pytest.mark.parametrize(
        "draw, error, message",
        [
            (lambda: plots.learning_curve({"loss": []}), ValueError, "learning_curve: the history holds no finished"),
            (lambda: plots.filters(np.zeros((3, 3))), ValueError, r"filters: weight must be \(K, C, R, S\).*\(3, 3\)"),
            (lambda: plots.confusion_matrix([0], [0, 1]), ValueError, r"same shape .* got \(1,\) and \(2,\)"),
            (lambda: plots.confusion_matrix([0.5], [1]), TypeError, "must be integers, got float64 and int64"),
            (lambda: plots.confusion_matrix([0], [5], n_classes=3), ValueError, r"must be in 0..2, got 0..5"),
            (lambda: plots.confusion_matrix([0], [-1]), ValueError, r"must be in 0..0, got -1..0"),
        ],
    )
    def test_errors(self, draw, error, message):
        with pytest.raises(error, match=message):
            draw()

    def test_without_matplotlib_the_error_names_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"plots.filters: needs matplotlib; .*`pip install convgrad\[plots\]`"):
            plots.filters(np.zeros((1, 1, 1, 1)))
