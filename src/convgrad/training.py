"""Training: `fit`, `evaluate`, `predict`.

The loop is the usual one: shuffle, cut into batches, and for each batch forward, loss, backward, optimizer step. The
losses are those of `convgrad.functional`; their gradient by the prediction starts the backward pass.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from . import functional
from .checks import generator, integer
from .layers import Layer
from .optimizers import Adam, Optimizer
from .typing import AnyArray, FloatArray, Int, LossFunction, LossName

__all__ = ["Evaluation", "History", "evaluate", "fit", "predict"]


class History(dict[str, list[float]]):
    """What `fit` returns: a dict of lists with one entry per finished epoch.

    Keys: "loss", and "accuracy" where the loss classifies (softmax_cross_entropy, sigmoid_cross_entropy); "val_loss"
    and "val_accuracy" likewise with validation data; "seconds", validation included. Training figures are means over
    the epoch's batches, taken while the weights change (and with dropout active).

    Attributes
    ----------
    interrupted : bool, True where Ctrl-C ended the run; the epoch it struck is not in the lists
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        super().__init__((key, []) for key in keys)
        self.interrupted = False

    def _trim(self) -> None:
        """Drop the epoch of which Ctrl-C let only some figures be appended."""
        n_epochs = min(map(len, self.values()), default=0)
        for figures in self.values():
            del figures[n_epochs:]


class Evaluation(NamedTuple):
    """Mean loss and share of right answers; accuracy is None where the loss does not classify."""

    loss: float
    accuracy: float | None


def fit(
    model: Layer,
    x: FloatArray,
    y: AnyArray,
    *,
    loss: LossName | LossFunction = "softmax_cross_entropy",
    optimizer: Optimizer | None = None,
    epochs: Int,
    batch_size: Int = 32,
    validation_data: tuple[FloatArray, AnyArray] | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on the samples x and targets y.

    Parameters
    ----------
    model : Layer; its parameters are updated in place, its mode is restored at the end
    x : ndarray (N, ...), of the dtype of the model's parameters
    y : ndarray (N, ...), targets as the loss takes them: class numbers, one-hot rows, values
    loss : "softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy", or a function
        (prediction, target) -> (mean loss, gradient by prediction)
    optimizer : Optimizer, default `Adam()`; it keeps its state, so a second `fit` goes on where the first stopped
    epochs, batch_size : int, at least 1; the last batch of an epoch may be smaller
    validation_data : (x, y) or None, evaluated after every epoch
    shuffle : bool, take the samples in a new random order in every epoch
    seed : int or None. From an int come both the order of the samples and a new random generator for every layer with a
        `reseed` method (dropout): two runs from the same start weights and optimizer state agree bit for bit
    progress : bool, print one line per epoch, and on a terminal with tqdm installed show a bar within each epoch

    Returns
    -------
    History : one entry per finished epoch; Ctrl-C ends training and returns what there is, with `interrupted` set

    Raises
    ------
    FloatingPointError : the loss became NaN or infinite; names epoch and step
    ValueError, TypeError : sizes or options that do not fit; names the layer and the shapes
    """
    _check_model("fit", model)
    epochs = integer("fit", "epochs", epochs, 1)
    batch_size = integer("fit", "batch_size", batch_size, 1)
    x, y = _samples("fit", x, y)
    validation = None if validation_data is None else _pair_of_samples(validation_data)
    loss_function, accuracy_of = _loss("fit", loss)
    optimizer = Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"fit: optimizer must be an Optimizer, such as Adam(learning_rate=1e-3); got {optimizer!r}")
    order_rng = generator("fit", "seed", seed)
    if seed is not None:
        _reseed(model, order_rng)

    kinds = ["loss"] if accuracy_of is None else ["loss", "accuracy"]
    history = History([*kinds, *(f"val_{kind}" for kind in kinds if validation is not None), "seconds"])
    reporter = _Reporter(epochs, math.ceil(len(x) / batch_size), progress)
    with _mode(model, True):
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                order = order_rng.permutation(len(x)) if shuffle else np.arange(len(x))
                with reporter.epoch(epoch) as advance:
                    entry = _one_epoch(
                        model, x, y, order, batch_size, loss_function, accuracy_of, optimizer, epoch, advance
                    )
                if validation is not None:
                    with _mode(model, False):
                        result = _evaluate(model, *validation, loss_function, accuracy_of, max(batch_size, 256))
                    entry["val_loss"] = result.loss
                    if result.accuracy is not None:
                        entry["val_accuracy"] = result.accuracy
                entry["seconds"] = time.perf_counter() - start
                for key, value in entry.items():
                    history[key].append(value)
                reporter.line(epoch, entry)
        except KeyboardInterrupt:
            history.interrupted = True
            history._trim()
            reporter.say(f"interrupted in epoch {len(history['loss']) + 1} of {epochs}")
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
    x, y = _samples("evaluate", x, y)
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
    x = _batched("predict", "x", x)
    output: Any = None
    with _mode(model, False):
        for start in range(0, max(len(x), 1), batch_size):
            part = model.forward(x[start : start + batch_size])
            if output is None:
                output = np.empty((len(x), *part.shape[1:]), part.dtype)
            output[start : start + batch_size] = part
    return output


def _one_epoch(model, x, y, order, batch_size, loss_function, accuracy_of, optimizer, epoch, advance):
    """Train once over the samples in `order`; return the epoch's mean loss and accuracy as a dict."""
    parameters = model.parameters()
    loss_sum = n_right = 0.0
    for step, start in enumerate(range(0, len(order), batch_size), 1):
        chosen = order[start : start + batch_size]
        target = y[chosen]
        prediction = model.forward(x[chosen])
        value, grad = loss_function(prediction, target)
        value = float(value)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"fit: the loss is {value} in epoch {epoch}, step {step}; lower the learning rate "
                f"({optimizer.learning_rate}) or look for such values in x and y"
            )
        model.backward(grad, input_grad=False)
        optimizer.step(parameters)
        loss_sum += value * len(chosen)
        if accuracy_of is not None:
            n_right += accuracy_of(prediction, target) * len(chosen)
        advance()
    entry = {"loss": loss_sum / len(order)}
    if accuracy_of is not None:
        entry["accuracy"] = n_right / len(order)
    return entry


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


def _batched(function, name, array):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{function}: {name} must be a NumPy array, got {type(array).__name__}")
    if array.ndim < 1:
        raise ValueError(f"{function}: {name} must have samples along its first axis, got shape {array.shape}")
    return array


def _samples(function, x, y, names=("x", "y")):
    x, y = _batched(function, names[0], x), _batched(function, names[1], y)
    if len(x) != len(y):
        raise ValueError(
            f"{function}: {names[0]} has {len(x)} samples and {names[1]} {len(y)}; shapes {x.shape} and {y.shape}"
        )
    if not len(x):
        raise ValueError(f"{function}: {names[0]} has no samples; shape {x.shape}")
    return x, y


def _pair_of_samples(validation_data: Any) -> tuple[FloatArray, AnyArray]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise ValueError(f"fit: validation_data must be a pair (x, y), got {type(validation_data).__name__}")
    x, y = validation_data
    return _samples("fit", x, y, names=("validation x", "validation y"))


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
            layer.training = was_training


class _Reporter:
    """Progress: one printed line per epoch, and a tqdm bar inside the epoch where tqdm and a terminal are there."""

    def __init__(self, epochs, steps, enabled):
        self._epochs, self._steps, self._enabled = epochs, steps, enabled
        self._tqdm = None
        if enabled:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._tqdm = tqdm

    @contextlib.contextmanager
    def epoch(self, epoch):
        """Show a bar for one epoch; yields the function to call after each step."""
        if self._tqdm is None:
            yield lambda: None
            return
        label = f"epoch {epoch}/{self._epochs}"
        # disable=None: tqdm draws on terminals only, so that logs hold nothing but the lines
        with self._tqdm(total=self._steps, desc=label, unit="step", leave=False, disable=None) as bar:
            yield bar.update

    def line(self, epoch, entry):
        figures = [
            f"{key} {entry[key]:.4f}" for key in ("loss", "accuracy", "val_loss", "val_accuracy") if key in entry
        ]
        width = len(str(self._epochs))
        self.say(f"epoch {epoch:{width}d}/{self._epochs}  {'  '.join(figures)}  {entry['seconds']:.2f} s")

    def say(self, text):
        if self._enabled:
            print(text, flush=True)
