"""Training: `fit`, `evaluate`, `predict`.

The loop is the usual one: shuffle, cut into batches, and for each batch forward, loss, backward, optimizer step. The
losses are those of `convgrad.functional`; their gradient by the prediction starts the backward pass. `schedules`,
`callbacks`, `augmentation` and `batches` have what goes around it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import functional, schedules
from .augmentation import Augmentation
from .batches import Batches, BatchSource, check_batched, check_samples, passes
from .checks import generator, integer
from .layers import Layer, describe_non_finite
from .optimizers import Adam, Optimizer
from .progress import bar
from .runs import History, Run
from .typing import AnyArray, FloatArray, Int, LossFunction, LossName

__all__ = ["Evaluation", "History", "Run", "evaluate", "fit", "predict"]

_RNG = np.random.Generator


class Evaluation(NamedTuple):
    """Mean loss and share of right answers; accuracy is None where the loss does not classify."""

    loss: float
    accuracy: float | None


def fit(
    model: Layer,
    x: FloatArray | BatchSource,
    y: AnyArray | None = None,
    *,
    loss: LossName | LossFunction = "softmax_cross_entropy",
    optimizer: Optimizer | None = None,
    epochs: Int,
    batch_size: Int | None = None,
    validation_data: tuple[FloatArray, AnyArray] | None = None,
    shuffle: bool | None = None,
    augment: Augmentation | None = None,
    schedule: schedules.Schedule | None = None,
    callbacks: Iterable[Callable[[Run], object]] = (),
    resume: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on the samples x and targets y.

    Parameters
    ----------
    model : Layer; its parameters are updated in place, its mode is restored at the end
    x : ndarray (N, ...), of the dtype of the model's parameters, memory-mapped if you like: only batches are read. Or
        batches themselves, with y left out: an iterable of pairs (x, y), or a function that makes one for each epoch
    y : ndarray (N, ...), targets as the loss takes them: class numbers, one-hot rows, values
    loss : "softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy", or a function
        (prediction, target) -> (mean loss, gradient by prediction)
    optimizer : Optimizer, default `Adam()`; it keeps its state, so a second `fit` goes on where the first stopped. It
        clips gradients by value or by norm where its options say so
    epochs : int, at least 1
    batch_size : int, at least 1, default 32, for arrays; the last batch of an epoch may be smaller
    validation_data : (x, y) or None, evaluated after every epoch
    shuffle : bool, default True, for arrays: take the samples in a new random order in every epoch
    augment : function (x, rng) -> x for each training batch, such as those of `convgrad.augmentation`, or None
    schedule : function from the epochs done (a float) to the learning rate of the next step, such as those of
        `convgrad.schedules`, or None to leave the optimizer's alone
    callbacks : functions of the `Run`, called in order after each epoch, such as those of `convgrad.callbacks`
    resume : path of a checkpoint that `callbacks.Checkpoint` writes, or None. Where the file is there, training goes on
        after the epoch at which it was saved, up to `epochs` in all; where it is not, it starts
    seed : int or None. From an int come both the order of the samples and a new random generator for every layer with a
        `reseed` method (dropout): two runs from the same start weights and optimizer state agree bit for bit
    progress : bool, print one line per epoch, and on a terminal with tqdm installed show a bar within each epoch

    Returns
    -------
    history : one entry per finished epoch; Ctrl-C ends training and returns what there is, with `interrupted` set

    Raises
    ------
    FloatingPointError : the loss became NaN or infinite; names epoch, step and the first layer with such a value
    ValueError, TypeError : sizes or options that do not fit; names the layer and the shapes
    """
    _check_model("fit", model)
    epochs = integer("fit", "epochs", epochs, 1)
    order_rng = generator("fit", "seed", seed)
    start_pass, n_steps = _source(x, y, batch_size, shuffle, order_rng, epochs)
    evaluation_size = max(256, integer("fit", "batch_size", 1 if batch_size is None else batch_size, 1))
    validation = None if validation_data is None else _pair_of_samples(validation_data)
    loss_function, accuracy_of = _loss("fit", loss)
    optimizer = Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"fit: optimizer must be an Optimizer, such as Adam(learning_rate=1e-3); got {optimizer!r}")
    callbacks = list(callbacks)
    for name, function in (("augment", augment), ("schedule", schedule), *(("callbacks", c) for c in callbacks)):
        if function is not None and not callable(function):
            raise TypeError(f"fit: {name} must be callable, got {function!r}")
    if seed is not None:
        _reseed(model, order_rng)

    kinds = ["loss"] if accuracy_of is None else ["loss", "accuracy"]
    keys = [*kinds, *(f"val_{kind}" for kind in kinds if validation is not None)]
    history = History([*keys, *(["learning_rate"] if schedule is not None else []), "seconds"])
    run = Run(model, optimizer, epochs, history, progress)
    run.schedule, run.callbacks, run.generators = schedule, callbacks, {"order": order_rng}
    augment_rng = order_rng
    if augment is not None:
        augment_rng = run.generators["augment"] = np.random.default_rng(order_rng.integers(2**63))
    if resume is not None and os.path.exists(resume):
        run.load(resume)
    step = _Step(model, loss_function, accuracy_of, optimizer, schedule)
    with _mode(model, True):
        try:
            while run.epoch < epochs and not run.stopped:
                start = time.perf_counter()
                augmented = start_pass() if augment is None else _augmented(start_pass(), augment, augment_rng)
                with bar(n_steps, progress, label=f"epoch {run.epoch + 1}/{epochs}") as advance:
                    entry = _one_epoch(step, augmented, run.epoch, n_steps, advance)
                if validation is not None:
                    with _mode(model, False):
                        result = _evaluate(model, *validation, loss_function, accuracy_of, evaluation_size)
                    entry |= {f"val_{kind}": figure for kind, figure in zip(kinds, result, strict=False)}
                if schedule is not None:
                    entry["learning_rate"] = optimizer.learning_rate
                entry["seconds"] = time.perf_counter() - start
                for key, value in entry.items():
                    history[key].append(value)
                run.epoch += 1
                run.line(entry["seconds"])
                for callback in callbacks:
                    callback(run)
        except KeyboardInterrupt:
            history.interrupted = True
            history.trim()
            run.say(f"interrupted in epoch {len(history['loss']) + 1} of {epochs}")
    for callback in callbacks:
        if hasattr(callback, "finish"):
            callback.finish(run)
    return history


def evaluate(
    model: Layer,
    x: FloatArray,
    y: AnyArray,
    *,
    loss: LossName | LossFunction = "softmax_cross_entropy",
    batch_size: Int = 256,
) -> Evaluation:
    """Mean loss and accuracy of `model` on x and y, in evaluation mode (the model's mode is restored).

    Parameters
    ----------
    model, x, y, loss : as for `fit`
    batch_size : int, at least 1: bounds the memory, not the result (beyond rounding)

    Returns
    -------
    Evaluation : (loss, accuracy)

    Raises
    ------
    ValueError, TypeError : as for `fit`
    """
    _check_model("evaluate", model)
    batch_size = integer("evaluate", "batch_size", batch_size, 1)
    x, y = check_samples("evaluate", x, y)
    loss_function, accuracy_of = _loss("evaluate", loss)
    with _mode(model, False):
        return _evaluate(model, x, y, loss_function, accuracy_of, batch_size)


def predict(model: Layer, x: FloatArray, *, batch_size: Int = 256) -> FloatArray:
    """Outputs of `model` for all samples, in evaluation mode (the model's mode is restored).

    Parameters
    ----------
    model : Layer
    x : ndarray (N, ...); N may be 0
    batch_size : int, at least 1: bounds the memory

    Returns
    -------
    output : ndarray (N, ...), fresh

    Raises
    ------
    ValueError, TypeError : x does not fit the model; names the layer and the shapes
    """
    _check_model("predict", model)
    batch_size = integer("predict", "batch_size", batch_size, 1)
    x = check_batched("predict", "x", x)
    output: Any = None
    with _mode(model, False):
        for start in range(0, max(len(x), 1), batch_size):
            part = model.forward(x[start : start + batch_size])
            if output is None:
                output = np.empty((len(x), *part.shape[1:]), part.dtype)
            output[start : start + batch_size] = part
    return output


def _augmented(batches, augment, rng):
    for x, target in batches:
        yield augment(x, rng), target


def _one_epoch(step, batches, epoch, n_steps, advance):
    """Train once over the batches, after `epoch` other times; return the means of the epoch's figures as a dict."""
    for position, (x, target) in enumerate(batches):
        step(x, target, epoch, position, n_steps)
        advance()
    return step.means()


class _Step:
    """Forward, loss, backward, update, and the sums of which an epoch's figures are the means."""

    def __init__(self, model, loss_function, accuracy_of, optimizer, schedule):
        self._model, self._loss, self._accuracy, self._optimizer = model, loss_function, accuracy_of, optimizer
        self._schedule = schedule
        self._parameters = model.parameters()
        self._random = [layer.rng for layer in model.layers() if isinstance(getattr(layer, "rng", None), _RNG)]
        self._sums = [0.0, 0.0, 0]

    def __call__(self, x, target, epoch, position, n_steps):
        """Train on one batch: the one at `position` of the epoch after `epoch` others."""
        if self._schedule is not None:
            done = epoch + (position / n_steps if n_steps else 0)
            self._optimizer.learning_rate = schedules.check("fit", self._schedule(done), done)
        states = [rng.bit_generator.state for rng in self._random]
        prediction = self._model.forward(x)
        value, grad = self._loss(prediction, target)
        value = float(value)
        if not math.isfinite(value):
            for rng, state in zip(self._random, states, strict=True):
                rng.bit_generator.state = state  # the same masks again
            raise FloatingPointError(
                f"fit: the loss is {value} in epoch {epoch + 1}, step {position + 1}; lower the learning rate "
                f"({self._optimizer.learning_rate}) or look for such values in x and y. Not finite "
                f"{describe_non_finite(self._model, x)}"
            )
        self._model.backward(grad, input_grad=False)
        self._optimizer.step(self._parameters)
        self._sums[0] += value * len(x)
        if self._accuracy is not None:
            self._sums[1] += self._accuracy(prediction, target) * len(x)
        self._sums[2] += len(x)

    def means(self):
        """The figures of the epoch, as a dict; the next one starts from nothing."""
        loss_sum, n_right, n = self._sums
        self._sums = [0.0, 0.0, 0]
        return {"loss": loss_sum / n} | ({} if self._accuracy is None else {"accuracy": n_right / n})


def _source(
    x: Any, y: Any, batch_size: Int | None, shuffle: bool | None, rng: np.random.Generator, epochs: int
) -> tuple[Callable[[], Iterator[tuple[AnyArray, AnyArray]]], int | None]:
    """Return a function that starts a pass over the training batches, and their number where it is known."""
    if y is not None or isinstance(x, np.ndarray):
        batches = Batches(
            *check_samples("fit", x, y),
            integer("fit", "batch_size", 32 if batch_size is None else batch_size, 1),
            shuffle=shuffle is not False,
            rng=rng,
        )
        return batches.__iter__, len(batches)
    for name, option in (("batch_size", batch_size), ("shuffle", shuffle)):
        if option is not None:
            raise ValueError(
                f"fit: {name} is for arrays; x is {type(x).__name__}, whose batches are taken as they come"
            )
    return passes("fit", x, epochs), len(x) if hasattr(x, "__len__") else None


def _evaluate(model, x, y, loss_function, accuracy_of, batch_size):
    loss_sum = n_right = 0.0
    for start in range(0, len(x), batch_size):
        target = y[start : start + batch_size]
        prediction = model.forward(x[start : start + batch_size])
        loss_sum += float(loss_function(prediction, target)[0]) * len(target)
        if accuracy_of is not None:
            n_right += accuracy_of(prediction, target) * len(target)
    return Evaluation(loss_sum / len(x), None if accuracy_of is None else n_right / len(x))


def _class_accuracy(logits, labels):
    """Share of rows whose largest logit is the label's (or the largest probability's)."""
    wanted = labels if labels.ndim < logits.ndim else labels.argmax(axis=-1)
    return float(np.mean(logits.argmax(axis=-1) == wanted))


def _yes_no_accuracy(logits, targets):
    """Share of logits on the right side of zero."""
    return float(np.mean((logits > 0) == (targets > 0.5)))


_LOSSES = {
    "softmax_cross_entropy": _class_accuracy,
    "least_squares": None,
    "sigmoid_cross_entropy": _yes_no_accuracy,
}


def _loss(function, loss):
    """Return (loss function, accuracy function or None) for the `loss` option."""
    if callable(loss):
        return loss, None
    if not isinstance(loss, str) or loss not in _LOSSES:
        raise ValueError(f"{function}: loss must be a function or one of {', '.join(map(repr, _LOSSES))}; got {loss!r}")
    return getattr(functional, loss), _LOSSES[loss]


def _check_model(function, model):
    if not isinstance(model, Layer):
        raise TypeError(f"{function}: model must be a Layer, such as Sequential([...]); got {type(model).__name__}")


def _pair_of_samples(validation_data: Any) -> tuple[FloatArray, AnyArray]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise ValueError(f"fit: validation_data must be a pair (x, y), got {type(validation_data).__name__}")
    x, y = validation_data
    return check_samples("fit", x, y, ("validation x", "validation y"))


def _reseed(model, rng):
    """Give every layer that draws random numbers a generator of its own, all of them following from `rng`."""
    for layer in model.layers():
        if hasattr(layer, "reseed"):
            layer.reseed(np.random.default_rng(rng.integers(2**63)))


@contextlib.contextmanager
def _mode(model, training):
    """Put the model into training or evaluation mode, and every layer back into its own afterwards."""
    before = [(layer, layer.training) for layer in model.layers()]
    model.train(training)
    try:
        yield
    finally:
        for layer, was_training in before:
            layer.switch(was_training)
