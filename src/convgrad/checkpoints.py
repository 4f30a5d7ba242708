"""Checkpoints: state dicts in safetensors files (the `checkpoints` extra).

The format holds a JSON header and raw little-endian arrays: nothing in it is executed, and PyTorch, JAX and others read
it (https://github.com/huggingface/safetensors). Names and layouts are PyTorch's.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from .typing import AnyArray

if TYPE_CHECKING:
    from .layers import Layer

__all__ = ["load", "save"]

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
    arrays = {}
    for name, value in state.items():
        # C order in native byte order: the format stores the buffer as it lies in memory
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.newbyteorder("=").name not in _DTYPES:
            raise TypeError(
                f"checkpoints.save: entry {name!r} is {array.dtype}; names must be strings and arrays one of "
                f"{', '.join(_DTYPES)}"
            )
        arrays[name] = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    if metadata is not None and not all(isinstance(item, str) for pair in metadata.items() for item in pair):
        raise TypeError(f"checkpoints.save: metadata must map strings to strings, got {metadata!r}")
    _write_aside(path, to_bytes(arrays, metadata=metadata))


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
    from_bytes, error_type = _safetensors("load").load, _safetensors_error()
    name = os.fspath(path)
    with open(name, "rb") as stream:
        content = stream.read()
    try:
        state = from_bytes(content)
    except (error_type, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoints.load: {name!r} is not a readable safetensors file ({error})") from error
    if model is not None:
        try:
            model.load_state_dict(state)
        except ValueError as error:
            raise ValueError(f"checkpoints.load: {name!r} does not fit the model: {error}") from error
    return state


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
