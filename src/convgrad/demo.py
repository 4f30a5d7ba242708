"""The demonstration that ``python -m convgrad demo`` runs: a small network learns to read real handwritten digits.

Four fifths of the embedded digits train it, one fifth of every class is held out. Afterwards the time of a training
step is measured on the native backend and on the NumPy twin, in turns.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from . import checkpoints, functional, plots, training
from .backends import backend
from .datasets import load_digits, stratified_split
from .initializers import he_normal
from .layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, Sequential
from .optimizers import Adam
from .threads import get_num_threads, threads

__all__ = ["build_model", "run", "time_step"]

EPOCHS, QUICK_EPOCHS = 40, 3
ROUNDS, QUICK_ROUNDS = 30, 5
BATCH_SIZE = 32
HELD_OUT = 0.2

# How many threads NumPy's BLAS uses is read from these when it is loaded (OpenBLAS, MKL, Accelerate, others) ...
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
# ... and these, where somebody has set them, make it slower than it is: the comparison should not profit from that.
_BLAS_BRAKES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def build_model(seed=0):
    """The demo's network for 8x8 images in ten classes; `seed` fixes its start weights."""
    rng = np.random.default_rng(seed)
    return Sequential(
        [
            Conv2D(1, 16, 3, padding="same", activation="relu", initializer=he_normal, rng=rng),
            Conv2D(16, 32, 3, padding="same", activation="relu", initializer=he_normal, rng=rng),
            MaxPool2D(2),
            Conv2D(32, 64, 3, padding="same", activation="relu", initializer=he_normal, rng=rng),
            MaxPool2D(2),
            Flatten(),
            Dropout(0.3, rng=rng),
            Dense(64 * 2 * 2, 10, rng=rng),
        ]
    )


def run(*, seed=0, epochs=None, output="convgrad-demo", n_threads=1, quick=False):
    """Train, measure, and write checkpoint and picture; prints what it does.

    Parameters
    ----------
    seed : int, fixes split, start weights, order and dropout: the same seed gives the same bits
    epochs : int or None for the usual number (fewer with `quick`)
    output : str or path-like, directory for digits.safetensors and digits.png, made where it is not there
    n_threads : int; one is right for images this small: sharing out so little work gains nothing on a quiet machine and
        costs a lot on a busy one
    quick : bool, few epochs and a short measurement, for a first look

    Returns
    -------
    results : dict with "accuracy" (on the held-out digits), "ratio" (NumPy's time by ours), "history" and "files" (the
        paths written). Ctrl-C ends the training; what follows is then done with the weights reached
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    epochs = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    with threads(n_threads):
        return _run(seed, epochs, output, QUICK_ROUNDS if quick else ROUNDS)


def _run(seed, epochs, output, n_rounds):
    images, labels = load_digits()
    train, held_out = stratified_split(labels, HELD_OUT, seed)
    model = build_model(seed)
    n_values = sum(parameter.size for parameter in model.parameters())
    print(f"{len(train)} digits to train on, {len(held_out)} held out; a network of {n_values} weights:\n{model}\n")

    start = time.perf_counter()
    history = training.fit(
        model,
        images[train],
        labels[train],
        optimizer=Adam(learning_rate=1e-3),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        validation_data=(images[held_out], labels[held_out]),
        seed=seed,
    )
    seconds = time.perf_counter() - start
    predictions = training.predict(model, images[held_out]).argmax(axis=1)
    accuracy = float(np.mean(predictions == labels[held_out]))
    n_right = int(np.sum(predictions == labels[held_out]))
    print(f"\nheld-out accuracy {accuracy:.2%} ({n_right} of {len(held_out)}) after {seconds:.1f} s of training")

    native, twin, ratio = _time_step_apart(get_num_threads(), n_rounds)
    print(
        f"one training step of {BATCH_SIZE} digits: {native * 1e3:.2f} ms, with the NumPy backend {twin * 1e3:.2f} ms: "
        f"{ratio:.1f} times as fast (medians of {n_rounds} rounds in turns, {_threads_text()} each)"
    )
    files = _write(model, history, labels[held_out], predictions, output)
    return {"accuracy": accuracy, "ratio": ratio, "history": history, "files": files}


def time_step(model, x, y, n_rounds):
    """Time one training step on the native backend and on the NumPy twin, in turns, on copies of `model`.

    Returns
    -------
    native, twin : float, median seconds of a step
    ratio : float, median over the rounds of twin / native
    """
    seconds = {"native": [], "numpy": []}
    steps = {name: _step_of_a_copy(model, x, y) for name in seconds}
    n_warm_up = 2
    for i in range(n_warm_up + n_rounds):
        for name, step in steps.items():
            with backend(name):
                start = time.perf_counter()
                step()
                elapsed = time.perf_counter() - start
            if i >= n_warm_up:
                seconds[name].append(elapsed)
    ratios = [twin / native for native, twin in zip(seconds["native"], seconds["numpy"], strict=True)]
    return statistics.median(seconds["native"]), statistics.median(seconds["numpy"]), statistics.median(ratios)


def _time_step_apart(n_threads, n_rounds):
    """Return what `time_step` measures in a fresh process, where BLAS can be held to `n_threads` threads as well."""
    environment = {name: value for name, value in os.environ.items() if name not in _BLAS_BRAKES}
    environment |= dict.fromkeys(_BLAS_THREADS, str(n_threads))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    code = f"from convgrad import demo; demo._print_times({n_threads}, {n_rounds})"
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        raise RuntimeError(f"demo: the process that measures failed:\n{child.stderr}")
    return json.loads(child.stdout)


def _print_times(n_threads, n_rounds):
    images, labels = load_digits()
    with threads(n_threads):
        print(json.dumps(time_step(build_model(), images[:BATCH_SIZE], labels[:BATCH_SIZE], n_rounds)))


def _step_of_a_copy(model, x, y):
    copy = build_model().load_state_dict(model.state_dict())
    optimizer, parameters = Adam(), copy.parameters()

    def step():
        _, grad = functional.softmax_cross_entropy(copy.forward(x), y)
        copy.backward(grad, input_grad=False)
        optimizer.step(parameters)

    return step


def _threads_text():
    n = get_num_threads()
    return "one thread" if n == 1 else f"{n} threads"


def _write(model, history, labels, predictions, output):
    """Write checkpoint and picture where their packages are installed, else say what is missing; return the paths."""
    files = []
    try:
        checkpoints.save(model, output / "digits.safetensors", metadata={"format": "np"})
        files.append(output / "digits.safetensors")
        print(f"checkpoint: {files[-1]}")
    except ImportError as error:
        print(f"no checkpoint: {error}")
    try:
        _picture(model, history, labels, predictions).savefig(output / "digits.png", dpi=120)
        files.append(output / "digits.png")
        print(f"learning curve, filters, confusion matrix: {files[-1]}")
    except ImportError as error:
        print(f"no picture: {error}")
    return files


def _picture(model, history, labels, predictions):
    page = plots.new_figure("demo", (13, 9))
    top, bottom = page.subfigures(2, 1, height_ratios=(0.8, 1))
    left, right = bottom.subfigures(1, 2)
    if history["loss"]:
        plots.learning_curve(history, figure=top)
    plots.filters(model[0].weight.data, figure=left)
    plots.confusion_matrix(labels, predictions, n_classes=10, figure=right)
    return page
