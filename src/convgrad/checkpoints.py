"""Checkpoints: state dicts, and whole runs, in safetensors files (the `checkpoints` extra).

`save` and `load` are for a model's weights; `save_run` and `load_run` for everything from which training resumes bit
for bit: models, optimizers, random generators and notes (a history, say).

The format holds a JSON header and raw little-endian arrays: nothing in it is executed, and PyTorch, JAX and others read
it (https://github.com/huggingface/safetensors). Names and layouts are PyTorch's.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .layers import architecture
from .typing import AnyArray

if TYPE_CHECKING:
    from .layers import Layer
    from .optimizers import Optimizer

__all__ = ["load", "load_run", "save", "save_run"]

_RUN = "convgrad.run"

_DTYPES = [
    "float16",
    "float32",
    "float64",
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
]


def save(
    model: Layer | dict[str, AnyArray], path: str | os.PathLike[str], *, metadata: dict[str, str] | None = None
) -> None:
    """Write the model's parameters to a safetensors file.

    The file is written beside its place, flushed to disk and then renamed, so that an interrupted save leaves the old
    file whole.

    Parameters
    ----------
    model : Layer, or a dict of arrays as from `model.state_dict()`
    path : str or path-like
    metadata : dict of str to str, stored in the header

    Raises
    ------
    ImportError : safetensors is not installed
    TypeError : an entry is not an array of numbers, or metadata holds something other than strings
    OSError : the file cannot be written
    """
    to_bytes = _safetensors("save").save
    path = os.path.realpath(os.fspath(path))  # through a symbolic link to the file it names
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if not isinstance(state, dict):
        raise TypeError(f"checkpoints.save: model must be a Layer or a dict of arrays, got {type(model).__name__}")
    arrays = _writable("save", state)
    if metadata is not None and not all(isinstance(item, str) for pair in metadata.items() for item in pair):
        raise TypeError(f"checkpoints.save: metadata must map strings to strings, got {metadata!r}")
    _write_aside(path, to_bytes(arrays, metadata=metadata))


def save_run(
    path: str | os.PathLike[str],
    *,
    models: Mapping[str, Layer],
    optimizers: Mapping[str, Optimizer],
    generators: Mapping[str, np.random.Generator],
    notes: Mapping[str, Any],
    arrays: Mapping[str, AnyArray] | None = None,
) -> None:
    """Write all that a training run needs to go on bit for bit, in the same safe way as `save`.

    Parameters
    ----------
    path : str or path-like
    models : mapping from name to Layer: parameters, buffers, and the generators of layers that draw random numbers
    optimizers : mapping from the name of the model that each trains to the Optimizer
    generators : mapping from name to numpy.random.Generator
    notes : mapping of anything that JSON holds: counts, a history
    arrays : mapping from name to array, whatever else must be kept; or None

    Raises
    ------
    ImportError, OSError, TypeError : as for `save`
    """
    to_bytes = _safetensors("save_run").save
    state: dict[str, AnyArray] = {f"/arrays.{name}": array for name, array in (arrays or {}).items()}
    for name, model in models.items():
        state |= {f"{name}.{key}": value for key, value in model.state_dict().items()}
    for name, optimizer in optimizers.items():
        kept = optimizer.state_dict(models[name].parameters())
        state |= {f"{name}/optimizer.{key}": value for key, value in kept.items()}
    run = {
        "version": 1,
        "architecture": {name: architecture(model) for name, model in models.items()},
        "optimizers": {name: type(optimizer).__name__ for name, optimizer in optimizers.items()},
        "generators": {name: _plain(rng.bit_generator.state) for name, rng in _all(models, generators).items()},
        "notes": dict(notes),
    }
    content = to_bytes(_writable("save_run", state), metadata={_RUN: json.dumps(run)})
    _write_aside(os.path.realpath(os.fspath(path)), content)


def load_run(
    path: str | os.PathLike[str],
    *,
    models: Mapping[str, Layer],
    optimizers: Mapping[str, Optimizer],
    generators: Mapping[str, np.random.Generator],
    accept: Callable[[dict[str, Any], dict[str, AnyArray]], object] | None = None,
) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Put everything that `save_run` wrote back in place; nothing changes unless all of it fits.

    Parameters
    ----------
    path : str or path-like
    models, optimizers, generators : as for `save_run`, of the same architecture, kinds and names
    accept : function of (notes, arrays) that raises an exception where these do not fit, or None

    Returns
    -------
    notes, arrays : dict, as given to `save_run`

    Raises
    ------
    ImportError, OSError : as for `load`
    ValueError : not a file of `save_run`, or damaged; of another architecture (the first layer that differs is named
        with what the file has and what the model has), optimizer or kind of generator
    """
    name = os.fspath(path)
    state, header = _read("load_run", name)
    try:
        run = json.loads(header[_RUN])
        parts = [run[part] for part in ("architecture", "optimizers", "generators", "notes")]
        layers, kinds, states, notes = (part if isinstance(part, dict) else {}[part] for part in parts)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"checkpoints.load_run: {name!r} was not written by save_run") from error
    place = f"checkpoints.load_run: {name!r} does not fit"
    if set(layers) != set(models):
        raise ValueError(f"{place}: it holds the models {', '.join(layers)}, wanted are {', '.join(models)}")
    for key, model in models.items():
        if difference := _difference(layers[key], architecture(model)):
            raise ValueError(f"{place}: {key} is of another architecture: {difference}")
    own_kinds = {key: type(optimizer).__name__ for key, optimizer in optimizers.items()}
    if kinds != own_kinds:
        raise ValueError(f"{place}: its optimizers are {kinds}, wanted are {own_kinds}")
    all_generators, arrays = _all(models, generators), _part(state, "/arrays.")
    for key, rng in all_generators.items():
        _check_generator(f"{place}: random generator {key}", rng, states.get(key))
    try:
        if accept is not None:
            accept(notes, arrays)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{place}: its notes say something else ({error})") from error
    before = {key: model.state_dict() for key, model in models.items()}
    optimizers_before = {key: optimizers[key].state_dict(models[key].parameters()) for key in optimizers}
    try:
        for key, model in models.items():
            model.load_state_dict(_part(state, f"{key}."))
        for key, optimizer in optimizers.items():
            optimizer.load_state_dict(models[key].parameters(), _part(state, f"{key}/optimizer."))
    except ValueError as error:
        for key, model in models.items():
            model.load_state_dict(before[key])
        for key, optimizer in optimizers.items():
            optimizer.load_state_dict(models[key].parameters(), optimizers_before[key])
        raise ValueError(f"{place}: {error}") from error
    for key, rng in all_generators.items():
        rng.bit_generator.state = states[key]
    return notes, arrays


def _check_generator(what: str, rng: np.random.Generator, state: Any) -> None:
    """Refuse a state that is not one of this kind of generator."""
    own = rng.bit_generator.state["bit_generator"]
    found = state.get("bit_generator") if isinstance(state, dict) else None
    if found != own:
        raise ValueError(f"{what} is {found or 'missing'}, wanted is {own}")
    try:
        type(rng.bit_generator)().state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what} has a damaged state ({error})") from error


def _part(state: dict[str, AnyArray], prefix: str) -> dict[str, AnyArray]:
    return {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}


def _all(models: Mapping[str, Layer], generators: Mapping[str, np.random.Generator]) -> dict[str, np.random.Generator]:
    """The generators given and those of the models' layers, by name."""
    found = dict(generators)
    for key, model in models.items():
        for position, layer in enumerate(model.layers()):
            rng = getattr(layer, "rng", None)
            if isinstance(rng, np.random.Generator):
                found[f"{key}.{position}"] = rng
    return found


def _difference(theirs: Any, ours: list[str]) -> str:
    """The first layer in which two architectures differ, or nothing."""
    if not isinstance(theirs, list):
        return "the file does not say which"
    for position, (there, here) in enumerate(zip(theirs, ours, strict=False)):
        if there != here:
            return f"innermost layer {position} is {there} in the file and {here} here"
    return f"{len(theirs)} layers in the file and {len(ours)} here" if len(theirs) != len(ours) else ""


def _plain(value: Any) -> Any:
    """A bit generator's state with lists in place of arrays, as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _writable(function: str, state: Mapping[str, Any]) -> dict[str, AnyArray]:
    """The arrays in C order and native byte order, which is how the format stores them."""
    arrays = {}
    for name, value in state.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.newbyteorder("=").name not in _DTYPES:
            raise TypeError(
                f"checkpoints.{function}: entry {name!r} is {array.dtype}; names must be strings and arrays one of "
                f"{', '.join(_DTYPES)}"
            )
        arrays[name] = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    return arrays


def load(path: str | os.PathLike[str], model: Layer | None = None) -> dict[str, AnyArray]:
    """Read a safetensors file, and put it into `model` where one is given.

    Parameters
    ----------
    path : str or path-like
    model : Layer or None; its parameters must match the file's entries exactly

    Returns
    -------
    state : dict from name to ndarray, the entries of the file

    Raises
    ------
    ImportError : safetensors is not installed
    ValueError : the file is not a safetensors file or is damaged; or its entries do not fit `model` (missing,
        unexpected, misshapen or wrongly typed, all named in one message; the model is then unchanged)
    OSError : the file cannot be read
    """
    name = os.fspath(path)
    state, _ = _read("load", name)
    if model is not None:
        try:
            model.load_state_dict(state)
        except ValueError as error:
            raise ValueError(f"checkpoints.load: {name!r} does not fit the model: {error}") from error
    return state


def _read(function: str, name: str) -> tuple[dict[str, AnyArray], dict[str, str]]:
    """The entries and the metadata of a safetensors file."""
    from_bytes, error_type = _safetensors(function).load, _safetensors_error()
    with open(name, "rb") as stream:
        content = stream.read()
    try:
        state = from_bytes(content)
        length = int.from_bytes(content[:8], "little")
        return state, json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (error_type, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoints.{function}: {name!r} is not a readable safetensors file ({error})") from error


def _safetensors(function: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f"checkpoints.{function}: needs safetensors; install it with `pip install convgrad[checkpoints]`"
        ) from error
    return safetensors.numpy


def _safetensors_error() -> type[Exception]:
    import safetensors

    return safetensors.SafetensorError


def _write_aside(path: str, content: bytes) -> None:
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
