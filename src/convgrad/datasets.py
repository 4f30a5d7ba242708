"""Data to train on: the embedded handwritten digits, files in the IDX format of MNIST, and a stratified split.

An IDX file (LeCun, Cortes, Burges 1998, http://yann.lecun.com/exdb/mnist) is, big-endian throughout: two zero bytes,
one byte of type code, one byte with the number of axes, one unsigned 32-bit length per axis, the cells in C order.
"""

from __future__ import annotations

import gzip
import importlib.resources
import math
import os
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .checks import generator
from .typing import Array, Rng

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["load_digits", "load_idx", "stratified_split"]

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_MAX_AXES = 32  # what every supported NumPy can hold
_CHUNK_BYTES = 1 << 20
# What a compressed file may expand to: real data shrinks to a third or a tenth, a bomb to a thousandth.
LARGEST_UNPACKED = 64 << 20  # bytes, whatever the file's size
LARGEST_RATIO = 64


def load_digits() -> tuple[Array[np.float32], Array[np.int64]]:
    """The 1,797 handwritten digits of UCI's optical recognition test set, shipped with the package.

    Returns
    -------
    images : ndarray (1797, 1, 8, 8), float32 in [0, 1]: pixels 0..16 divided by 16
    labels : ndarray (1797,), int64 in 0..9

    Source: Alpaydin and Kaynak (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0;
    scikit-learn's copy. Licence and attribution are in data/LICENSE-digits.txt beside the file.
    """
    resource = importlib.resources.files(__package__) / "data" / "digits.npz"
    with resource.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    # the file holds pixel after pixel of all images, which packs better
    return images[:, None].astype(np.float32, order="C") / np.float32(16), labels.astype(np.int64)


def load_idx(path: str | os.PathLike[str], *, memory_map: bool = False) -> Array[np.number[Any]]:
    """Read an array from an IDX file (the format of MNIST), gzipped or not.

    Cells are read in bounded pieces, so that a header that claims more than the file holds costs no memory. A
    compressed file never expands beyond what its header claims, nor to more than 64 MB and 64 times its size.

    Parameters
    ----------
    path : str or path-like; gzip is recognised by content, not by name
    memory_map : bool, map the file instead of reading it, read-only; for uncompressed files with cells of one byte

    Returns
    -------
    array : ndarray of the shape in the header; uint8, int8, int16, int32, float32 or float64 in native byte order

    Raises
    ------
    ValueError : wrong magic or type code, damaged gzip stream, fewer or more cells than the header claims; a file that
        cannot be mapped; a compressed one that would expand too far
    OSError : the file cannot be opened

    Source: the format's description on the MNIST page, LeCun, Cortes, Burges (1998).
    """
    name = os.fspath(path)
    with open(name, "rb") as raw:
        is_gzip = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if memory_map:
            if is_gzip:
                raise ValueError(f"load_idx: {name!r} is compressed; unpack it first to map it into memory")
            return _map_idx(raw, name)
        if not is_gzip:
            return _read_idx(raw, name)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read_idx(stream, name, os.fstat(raw.fileno()).st_size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"load_idx: {name!r} has a damaged or truncated gzip stream ({error})") from error


def _read_header(stream: BinaryIO | gzip.GzipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and big-endian dtype."""
    magic = _read_at_most(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"load_idx: {name!r} is not an IDX file: it starts with {bytes(magic).hex(' ') or 'nothing'}, expected "
            "00 00, a type code and the number of axes"
        )
    code, n_axes = magic[2], magic[3]
    if code not in _IDX_DTYPES:
        known = ", ".join(f"0x{known:02x}" for known in _IDX_DTYPES)
        raise ValueError(f"load_idx: {name!r} has type code 0x{code:02x}; the format knows {known}")
    if not 1 <= n_axes <= _IDX_MAX_AXES:
        raise ValueError(f"load_idx: {name!r} claims {n_axes} axes; 1 to {_IDX_MAX_AXES} can be read")
    lengths = _read_at_most(stream, 4 * n_axes)
    if len(lengths) < 4 * n_axes:
        raise ValueError(f"load_idx: {name!r} ends inside its header, which claims {n_axes} axes")
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, 4 * n_axes, 4))
    return shape, np.dtype(_IDX_DTYPES[code])


def _map_idx(stream: BinaryIO, name: str) -> Array[np.number[Any]]:
    shape, dtype = _read_header(stream, name)
    if dtype.itemsize > 1:
        native = dtype.newbyteorder("=").name
        raise ValueError(f"load_idx: {name!r}: memory_map=True needs cells of one byte, got {native}; read it instead")
    offset = stream.tell()
    _check_length(name, shape, dtype, os.fstat(stream.fileno()).st_size - offset)
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(stream, dtype, "r", offset, shape)


def _check_length(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], n_bytes: int) -> None:
    """Refuse a file with `n_bytes` after its header where the header claims more or fewer."""
    expected_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < expected_bytes:
        raise ValueError(
            f"load_idx: {name!r} is truncated: its header claims shape {shape} of {dtype.newbyteorder('=').name}, "
            f"{expected_bytes} bytes, but only {n_bytes} follow"
        )
    if n_bytes > expected_bytes:
        raise ValueError(
            f"load_idx: {name!r} holds more than the {expected_bytes} bytes its header claims for shape {shape}"
        )


def _read_idx(stream: BinaryIO | gzip.GzipFile, name: str, packed_bytes: int | None = None) -> Array[np.number[Any]]:
    """Read header and cells; `packed_bytes` is the size of the file where it is compressed."""
    shape, dtype = _read_header(stream, name)
    expected_bytes = math.prod(shape) * dtype.itemsize
    if packed_bytes is not None and expected_bytes > max(LARGEST_UNPACKED, LARGEST_RATIO * packed_bytes):
        raise ValueError(
            f"load_idx: {name!r} claims {expected_bytes} bytes, more than {LARGEST_RATIO} times the {packed_bytes} of "
            "the compressed file; unpack it first if you trust it"
        )
    data = _read_at_most(stream, expected_bytes)
    _check_length(name, shape, dtype, len(data) + len(stream.read(1)))
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # a zero length beside lengths whose product overflows
        raise ValueError(f"load_idx: {name!r} claims shape {shape}, which NumPy cannot hold ({error})") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_at_most(stream: BinaryIO | gzip.GzipFile, n_bytes: int) -> bytearray:
    """Read `n_bytes`, or fewer where the stream ends, in pieces: memory grows with what is there, not with a claim."""
    data = bytearray()
    while len(data) < n_bytes:
        piece = stream.read(min(_CHUNK_BYTES, n_bytes - len(data)))
        if not piece:
            break
        data += piece
    return data


def stratified_split(
    labels: ArrayLike, fraction: float = 0.2, seed: Rng = None
) -> tuple[Array[np.int64], Array[np.int64]]:
    """Split indices in two so that every class keeps its share on both sides.

    Parameters
    ----------
    labels : array_like (N,), integers
    fraction : float strictly between 0 and 1, share of every class that is held out (rounded to whole samples)
    seed : int, numpy.random.Generator or None, the source of the random choice; an int makes it repeatable

    Returns
    -------
    train, held_out : ndarrays of int64, disjoint, together 0..N-1, each in random order

    Raises
    ------
    ValueError : labels is not one-dimensional, fraction is out of range, or one side would be empty
    TypeError : labels are not integers
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"stratified_split: labels must have one axis, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"stratified_split: labels must be integers, got {labels.dtype}")
    if not 0 < fraction < 1:
        raise ValueError(f"stratified_split: fraction must be between 0 and 1, both excluded; got {fraction!r}")
    rng = generator("stratified_split", "seed", seed)
    sides: tuple[list[Array[np.int64]], list[Array[np.int64]]] = ([], [])
    for value in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == value))
        n_held_out = round(fraction * len(members))
        sides[0].append(members[n_held_out:])
        sides[1].append(members[:n_held_out])
    train, held_out = (rng.permutation(np.concatenate(side or [np.empty(0, np.int64)])) for side in sides)
    if not len(train) or not len(held_out):
        raise ValueError(
            f"stratified_split: fraction={fraction} of {len(labels)} labels leaves one side empty; "
            f"got {len(train)} and {len(held_out)} samples"
        )
    return train, held_out
