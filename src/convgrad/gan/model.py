"""The GAN: two networks, Algorithm 1, a history, checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import checkpoints
from ..checks import choice, generator, integer, shown
from ..layers import Layer, describe_non_finite
from ..optimizers import Adam, Optimizer
from ..progress import bar
from ..training import _check_model, _mode, _reseed
from ..typing import AnyArray, FloatArray, Int, Rng
from .diagnostics import Diagnosis, diagnose, gradient_norm, measure
from .history import PER_ITERATION, GANHistory
from .losses import LOSSES, discriminator_loss, generator_loss

__all__ = ["GAN"]

Noise = int | tuple[int, ...] | Callable[[int, np.random.Generator], AnyArray]


class GAN:
    """A generator and a discriminator that are trained against each other.

    min over G, max over D of V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))]

    Parameters
    ----------
    generator : Layer, from noise to samples
    discriminator : Layer, from samples to one output each, (N, 1) or (N,): a logit (no sigmoid at the end), or for
        "least_squares" the value itself
    noise : int or tuple of int, the shape of one z, drawn from the standard normal distribution; or a function
        (n, numpy.random.Generator) -> array of n of them
    loss : "non_saturating" (the generator ascends log D(G(z))), "minimax" (it descends log(1 - D(G(z))), as the notes
        write it) or "least_squares"
    n_discriminator_steps : int, k of Algorithm 1
    generator_optimizer, discriminator_optimizer : Optimizer, default Adam(2e-4, betas=(0.5, 0.999)) each
    label_smoothing : float in [0, 0.5): real samples have the target 1 - label_smoothing
    clip_value, clip_norm : float or None; a number becomes that option of both optimizers
    classifier : function from samples to class numbers, or None; with one, the classes of generated samples are watched
    seed : int or None, fixes noise, batches and the layers that draw random numbers

    Attributes
    ----------
    iteration : int, updates of the generator so far
    history : GANHistory

    Raises
    ------
    ValueError, TypeError : options out of range, networks that are no layers, the same layer in both

    Source: notes, eq. 22 and Algorithm 1; Goodfellow et al. (2014), arXiv 1406.2661. Adam's defaults: Radford, Metz,
    Chintala (2015), arXiv 1511.06434.
    """

    def __init__(
        self,
        generator: Layer,
        discriminator: Layer,
        noise: Noise,
        loss: str = "non_saturating",
        *,
        n_discriminator_steps: Int = 1,
        generator_optimizer: Optimizer | None = None,
        discriminator_optimizer: Optimizer | None = None,
        label_smoothing: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        classifier: Callable[[FloatArray], Any] | None = None,
        seed: int | None = None,
    ) -> None:
        for network in (generator, discriminator):
            _check_model("GAN", network)
        shared = {id(p) for p in generator.parameters()} & {id(p) for p in discriminator.parameters()}
        if shared:
            raise ValueError(f"GAN: generator and discriminator share {len(shared)} parameters; build them separately")
        self.generator, self.discriminator = generator, discriminator
        self.loss = choice("GAN", "loss", loss, LOSSES)
        self.noise = _noise(noise)
        self.n_discriminator_steps = integer("GAN", "n_discriminator_steps", n_discriminator_steps, 1)
        self.generator_optimizer = _optimizer("generator_optimizer", generator_optimizer)
        self.discriminator_optimizer = _optimizer("discriminator_optimizer", discriminator_optimizer)
        if self.generator_optimizer is self.discriminator_optimizer:
            raise ValueError("GAN: generator_optimizer and discriminator_optimizer must be two objects")
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"GAN: label_smoothing must be at least 0 and below 0.5, got {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.set_clipping(value=clip_value, norm=clip_norm)
        self.classifier = classifier
        self.seed = int(np.random.default_rng().integers(2**63)) if seed is None else integer("GAN", "seed", seed, 0)
        self._rng = np.random.default_rng(self.seed)
        for network in (generator, discriminator):
            _reseed(network, self._rng)
        self._dtype = next((parameter.dtype for parameter in generator.parameters()), np.dtype(np.float32))
        self.iteration = 0
        self.history = GANHistory()

    # ------------------------------------------------------------------------------------------------ using it

    def draw_noise(self, n: int, rng: np.random.Generator) -> FloatArray:
        """n samples of z, (n, ...), in the generator's dtype."""
        if not isinstance(self.noise, tuple):
            return np.asarray(self.noise(n, rng)).astype(self._dtype, copy=False)
        return rng.standard_normal((n, *self.noise)).astype(self._dtype)

    def sample(self, n: Int, *, rng: Rng = None, noise: FloatArray | None = None) -> FloatArray:
        """Generate samples, in evaluation mode.

        Parameters
        ----------
        n : int, how many
        rng : numpy.random.Generator, int seed or None for fresh entropy; the training's numbers are not touched
        noise : ndarray (n, ...) to use in place of drawn noise, or None

        Returns
        -------
        samples : ndarray (n, ...)
        """
        n = integer("GAN.sample", "n", n, 0)
        z = self.draw_noise(n, generator("GAN.sample", "rng", rng)) if noise is None else noise
        with _mode(self.generator, False):
            return self.generator.forward(z)

    def diagnose(self) -> Diagnosis:
        """Name the failures that the history shows; see `gan.diagnose`."""
        return diagnose(self.history)

    # ------------------------------------------------------------------------------------------------ training

    def fit(
        self,
        x: FloatArray,
        *,
        n_iterations: Int,
        batch_size: Int = 64,
        held_out: FloatArray | None = None,
        evaluate_every: Int = 100,
        n_evaluate: Int = 256,
        callbacks: Iterable[Callable[[GAN], object]] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> GANHistory:
        """Train by Algorithm 1: k discriminator steps, then one of the generator, `n_iterations` times.

        Parameters
        ----------
        x : ndarray (N, ...), real samples, memory-mapped if you like: only the batches are read
        n_iterations : int, how many more
        batch_size : int, the m of the algorithm; batches are drawn with replacement
        held_out : ndarray of real samples for the measures; None sets a tenth of x aside (the same for the same seed)
        evaluate_every : int, iterations between evaluations (the last iteration is always evaluated)
        n_evaluate : int, samples of each kind in an evaluation, at most as many as are held out
        callbacks : functions that get this GAN after each evaluation, with its new entries in `history`
        checkpoint : path or None; `save` goes there after each evaluation
        progress : bool, one line per evaluation, and with tqdm installed a bar on a terminal

        Returns
        -------
        history : GANHistory, of all runs so far; Ctrl-C ends training and returns it with `interrupted` set

        Raises
        ------
        FloatingPointError : a loss became NaN or infinite; names network, iteration and the first layer
        ValueError, TypeError : networks and samples that do not fit each other, with the shapes on both sides
        """
        n_iterations = integer("GAN.fit", "n_iterations", n_iterations, 1)
        batch_size = integer("GAN.fit", "batch_size", batch_size, 1)
        evaluate_every = integer("GAN.fit", "evaluate_every", evaluate_every, 1)
        train, real, reference = self._split(x, held_out, integer("GAN.fit", "n_evaluate", n_evaluate, 2))
        self._check_shapes(x[:1])
        self.history.interrupted = False
        last = self.iteration + n_iterations
        start = time.perf_counter()
        with (
            _mode(self.generator, True),
            _mode(self.discriminator, True),
            bar(n_iterations, progress, unit="it") as advance,
        ):
            try:
                while self.iteration < last:
                    self._iterate(x, train, batch_size)
                    advance()
                    if self.iteration % evaluate_every and self.iteration < last:
                        continue
                    self._evaluate(real, reference, time.perf_counter() - start, last, progress)
                    for callback in callbacks:
                        callback(self)
                    if checkpoint is not None:
                        self.save(checkpoint)
                    start = time.perf_counter()
            except KeyboardInterrupt:
                self.history.interrupted = True
                self.history.trim()
                if progress:
                    print(f"interrupted after iteration {self.iteration} of {last}", flush=True)
        return self.history

    def _iterate(self, x: FloatArray, train: AnyArray, batch_size: int) -> None:
        """One round of Algorithm 1."""
        losses = []
        for _ in range(self.n_discriminator_steps):
            batch = np.asarray(x[np.sort(train[self._rng.integers(len(train), size=batch_size)])])
            generated = self.generator.forward(self.draw_noise(batch_size, self._rng))
            losses.append(self._discriminator_step(batch, generated))
        value, norm = self._generator_step(batch_size)
        for key, entry in zip(PER_ITERATION, (value, float(np.mean(losses)), norm), strict=True):
            self.history[key].append(entry)
        self.iteration += 1

    def _discriminator_step(self, real: FloatArray, generated: FloatArray) -> float:
        """Ascend the stochastic gradient of eq. 23, real and generated samples in batches of their own."""
        network: Any = self.discriminator
        parameters = network.parameters()
        total = 0.0
        kept: list[FloatArray | None] = []
        for samples, target in ((real, 1 - self.label_smoothing), (generated, 0.0)):
            output = network.forward(samples)
            value, grad = discriminator_loss(self.loss, output, target)
            self._check_finite("discriminator", value, network, samples)
            network.backward(grad, input_grad=False)
            total += value
            if not kept:
                kept = [None if p.grad is None else p.grad.copy() for p in parameters]
        for parameter, first in zip(parameters, kept, strict=True):
            if parameter.grad is not None and first is not None:
                parameter.grad = parameter.grad + first
        self.discriminator_optimizer.step(parameters)
        return total

    def _generator_step(self, batch_size: int) -> tuple[float, float]:
        """Descend eq. 24, or its non-saturating or least-squares form; return the loss and the gradient's norm."""
        network: Any = self.generator
        parameters = network.parameters()
        z = self.draw_noise(batch_size, self._rng)
        output = self.discriminator.forward(network.forward(z))
        value, grad = generator_loss(self.loss, output)
        self._check_finite("generator", value, network, z)
        network.backward(self.discriminator.backward(grad), input_grad=False)
        norm = gradient_norm(parameters)
        self.generator_optimizer.step(parameters)
        return value, norm

    def _check_finite(self, which: str, value: float, network: Layer, samples: FloatArray) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"GAN.fit: the {which}'s loss is {value} in iteration {self.iteration + 1}, {which}: "
                f"{describe_non_finite(network, samples)}; lower the learning rates or clip gradients"
            )

    def _evaluate(self, real: FloatArray, reference: FloatArray, seconds: float, last: int, progress: bool) -> None:
        rng = np.random.default_rng([self.seed, 2, self.iteration])  # its own numbers: training does not notice
        measures = measure(self, real, reference, rng, self.classifier)
        for key, entry in {"iteration": self.iteration, **measures, "seconds": seconds}.items():
            self.history[key].append(entry)
        if progress:
            print(self.history.line(last), flush=True)

    def _split(self, x: FloatArray, held_out: FloatArray | None, n: int) -> tuple[AnyArray, FloatArray, FloatArray]:
        """Indices to train on, held-out samples and as many reference samples."""
        for name, array in (("x", x), ("held_out", held_out)):
            if array is not None and (not isinstance(array, np.ndarray) or array.ndim < 2 or len(array) < 4):
                found = f"{getattr(array, 'shape', type(array).__name__)}"
                raise ValueError(f"GAN.fit: {name} must be an array (N, ...) of at least 4 samples, got {found}")
        order = np.random.default_rng([self.seed, 1]).permutation(len(x))
        if held_out is None:
            n_held_out = max(2, len(x) // 10)
            real, train = x[np.sort(order[:n_held_out][:n])], order[n_held_out:]
        else:
            real, train = held_out[:n], order
        return train, np.asarray(real), np.asarray(x[np.sort(train[: len(real)])])

    def _check_shapes(self, x: FloatArray) -> None:
        """Say before training where the two networks and the samples do not fit."""
        z = self.draw_noise(1, np.random.default_rng(0))
        with _mode(self.generator, False), _mode(self.discriminator, False):
            try:
                samples = self.generator.forward(z)
            except (ValueError, TypeError) as error:
                raise type(error)(f"GAN.fit: generator, given noise {z.shape}: {error}") from error
            if samples.shape[1:] != x.shape[1:] or samples.dtype != x.dtype:
                raise ValueError(
                    f"GAN.fit: the generator's last layer makes samples of shape {samples.shape[1:]} {samples.dtype}, "
                    f"but x holds {x.shape[1:]} {x.dtype}"
                )
            try:
                output = self.discriminator.forward(samples)
            except (ValueError, TypeError) as error:
                raise type(error)(f"GAN.fit: discriminator, given samples {samples.shape}: {error}") from error
        if output.shape not in ((1, 1), (1,)):
            raise ValueError(
                f"GAN.fit: the discriminator's last layer must make one output per sample, (N, 1) or (N,); for one "
                f"sample it made {output.shape}"
            )

    # ------------------------------------------------------------------------------------------------ checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write both networks, both optimizers, all random states, the iteration and the history.

        The file is a safetensors file (the `checkpoints` extra), written aside and renamed. Training goes on from it
        bit for bit.
        """
        notes = {"iteration": self.iteration, "seed": self.seed, "history": dict(self.history)}
        checkpoints.save_run(path, **self._parts(), notes=notes)

    def load(self, path: str | os.PathLike[str]) -> GAN:
        """Read what `save` wrote into this GAN, which must have the same networks and optimizers; return it.

        Raises
        ------
        ImportError : safetensors is not installed
        ValueError : not a GAN's checkpoint, damaged, or of another architecture (the first layer that differs is named)
            or kind of optimizer; nothing has changed then
        OSError : the file cannot be read
        """
        history = GANHistory()

        def accept(notes: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
            history.update({key: [float(entry) for entry in notes["history"][key]] for key in history})
            if type(notes["seed"]) is not int or notes["seed"] < 0:
                raise ValueError(f"its seed is {shown(notes['seed'])}")
            if type(notes["iteration"]) is not int or notes["iteration"] != len(history["generator_loss"]):
                raise ValueError(f"iteration {shown(notes['iteration'])} does not fit its history")

        notes, _ = checkpoints.load_run(path, **self._parts(), accept=accept)
        self.iteration, self.seed, self.history = int(notes["iteration"]), int(notes["seed"]), history
        return self

    def _parts(self) -> dict[str, Any]:
        return {
            "models": {"generator": self.generator, "discriminator": self.discriminator},
            "optimizers": {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer},
            "generators": {"training": self._rng},
        }

    def __repr__(self) -> str:
        return f"GAN(loss={self.loss!r}, k={self.n_discriminator_steps}, iteration={self.iteration})"


def _noise(noise: Noise) -> Any:
    if callable(noise):
        return noise
    shape = noise if isinstance(noise, (tuple, list)) else (noise,)
    return tuple(integer("GAN", "noise", length, 1) for length in shape)


def _optimizer(name: str, optimizer: Optimizer | None) -> Optimizer:
    if optimizer is None:
        return Adam(2e-4, betas=(0.5, 0.999))
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"GAN: {name} must be an Optimizer, such as Adam(learning_rate=2e-4); got {optimizer!r}")
    return optimizer
