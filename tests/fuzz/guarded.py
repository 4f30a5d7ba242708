"""Memory between pages that may not be touched, and arrays of any strides placed flush against them."""

import ctypes
import math
import mmap
import os

import numpy as np

PAGE = mmap.PAGESIZE
PROT_NONE = 0
MARGIN = 256  # bytes beside an array that must stay as they are where no guard is


class Arena:
    """`n_bytes` of memory with a forbidden page on both sides: reading or writing past an end kills the process."""

    def __init__(self, n_bytes):
        self.n_bytes = -(-n_bytes // PAGE) * PAGE
        whole = mmap.mmap(-1, self.n_bytes + 2 * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(whole))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (address, address + PAGE + self.n_bytes):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), PROT_NONE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.memory = memoryview(whole)[PAGE : PAGE + self.n_bytes]

    def array(self, shape, dtype, strides, *, at_end, shift=0, keep=False):
        """An array with strides in elements, any of them 0 or negative, its first or last byte next to a guard.

        `shift` moves it so many bytes away from there. It and a margin on both sides are full of NaN, or with `keep` of
        what was there before.
        """
        dtype = np.dtype(dtype)
        reach = [stride * (size - 1) for stride, size in zip(strides, shape, strict=True)] if 0 not in shape else [0]
        lowest, highest = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
        extent = (highest - lowest + 1) * dtype.itemsize
        if extent + shift > self.n_bytes:
            raise ValueError(f"an arena of {self.n_bytes} bytes has no room for shape {shape}, strides {strides}")
        first = self.n_bytes - extent - shift if at_end else shift
        if keep:
            self.margins = []
        else:
            around = np.frombuffer(self.memory, np.uint8)[max(first - MARGIN, 0) : first + extent + MARGIN]
            around[:] = 0xFF  # NaN in every float format
            start = min(first, MARGIN)
            self.margins = [around[:start], around[start + extent :]]
        offset = first - lowest * dtype.itemsize
        if 0 in shape:
            offset = self.n_bytes if at_end else 0
        return np.ndarray(shape, dtype, self.memory, offset, [stride * dtype.itemsize for stride in strides])


class Arenas:
    """One arena for each array of a call, used again for the next."""

    def __init__(self, rng, n_bytes=1 << 25):
        self.rng = rng
        self.n_bytes = n_bytes
        self.all = []
        self.used = 0

    def start(self):
        self.used = 0

    def margins_are_kept(self):
        """True where nothing was written beside an array since `start`."""
        return all((margin == 0xFF).all() for arena in self.all[: self.used] for margin in arena.margins)

    def array(self, shape, dtype, strides):
        if self.used == len(self.all):
            self.all.append(Arena(self.n_bytes))
        needed = 2 * PAGE + 8 * math.prod(shape)
        if needed > self.all[self.used].n_bytes:
            self.all[self.used] = Arena(needed)
        arena = self.all[self.used]
        self.used += 1
        shift = self.rng.randrange(np.dtype(dtype).itemsize) if self.rng.random() < 0.04 else 0  # unaligned
        if sum(abs(stride) * size for stride, size in zip(strides, shape, strict=True)) * 8 > arena.n_bytes // 2:
            strides = c_strides(shape)
        return arena.array(shape, dtype, strides, at_end=self.rng.random() < 0.6, shift=shift)

    def over(self, shape, dtype, number):
        """A C-contiguous array in the memory of the array that was made as the `number`-th: they may overlap."""
        shift = self.rng.randrange(200) * np.dtype(dtype).itemsize
        at_end = self.rng.random() < 0.6
        if 8 * math.prod(shape) + 2 * PAGE > self.all[number].n_bytes:
            return self.array(shape, dtype, c_strides(shape))
        return self.all[number].array(shape, dtype, c_strides(shape), at_end=at_end, shift=shift, keep=True)


def c_strides(shape):
    """Strides in elements of a C-contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return strides


def any_strides(rng, shape, *, overlap):
    """Strides in elements: mostly C order; else axes permuted, spread, reversed, and with `overlap` broadcast or
    sliding."""
    kind = rng.random()
    if kind < 0.45 or not shape:
        return c_strides(shape)
    if overlap and kind < 0.55:
        return [rng.choice((0, 1, 1, 2, -1)) for _ in shape]
    order = list(range(len(shape)))
    if kind < 0.75:
        rng.shuffle(order)
    strides, step = [0] * len(shape), 1
    for axis in order:
        step *= rng.choice((1, 1, 1, 2, 3)) if kind > 0.6 else 1
        strides[axis] = step * (-1 if rng.random() < 0.25 else 1)
        if overlap and rng.random() < 0.06:
            strides[axis] = 0
            continue
        step *= max(shape[axis], 1)
    return strides
