"""Poolings that the tests share, and slow answers to them straight from the definition."""

from dataclasses import dataclass

import numpy as np

LAYOUTS = ("NCHW", "NHWC")
DTYPES = (np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """A pooling of x (N, C, H, W); the defaults are those of the functions, padding is resolved to four numbers."""

    x: tuple
    kernel: tuple
    stride: tuple | None = None
    padding: tuple = ((0, 0), (0, 0))
    dilation: tuple = (1, 1)
    ceil_mode: bool = False

    def __str__(self):
        text = "x".join(map(str, self.x)) + f"-{self.kernel[0]}x{self.kernel[1]}"
        for name in ("stride", "padding", "dilation", "ceil_mode"):
            if getattr(self, name) != Case.__dataclass_fields__[name].default:
                text += f"-{name}{getattr(self, name)}".replace(" ", "")
        return text

    @property
    def options(self):
        return dict(stride=self.stride, padding=self.padding, dilation=self.dilation, ceil_mode=self.ceil_mode)

    @property
    def steps(self):
        return self.stride or self.kernel

    @property
    def out_sizes(self):
        sizes = []
        for axis in range(2):
            size, (before, after) = self.x[2 + axis], self.padding[axis]
            spare = size + before + after - self.dilation[axis] * (self.kernel[axis] - 1) - 1
            starts = range(0, spare + (self.steps[axis] if self.ceil_mode else 1), self.steps[axis])
            sizes.append(len([start for start in starts if start < size + before]))
        return tuple(sizes)

    def axis_cells(self, axis, position):
        """[(tap, pixel)] inside the image, and how many taps lie inside the padded image, for one window of an axis."""
        size, (before, after) = self.x[2 + axis], self.padding[axis]
        start = position * self.steps[axis] - before
        pixels = [(tap, start + tap * self.dilation[axis]) for tap in range(self.kernel[axis])]
        inside = [(tap, pixel) for tap, pixel in pixels if 0 <= pixel < size]
        return inside, len([pixel for _, pixel in pixels if pixel < size + after])

    def windows(self):
        """Yield (i, j, [(r, h)], [(s, w)], cells in the padded image) for every window."""
        for i in range(self.out_sizes[0]):
            rows, n_rows = self.axis_cells(0, i)
            for j in range(self.out_sizes[1]):
                columns, n_columns = self.axis_cells(1, j)
                yield i, j, rows, columns, n_rows * n_columns

    def data(self, rng, dtype, layout):
        """A batch with many equal numbers, as laid out."""
        return as_layout(np.round(rng.standard_normal(self.x) * 4).astype(dtype), layout)

    def largest(self, x):
        """(y, indices, plane indices) of x (N, C, H, W)."""
        shape = self.x[:2] + self.out_sizes
        y, indices, plane = np.full(shape, -np.inf, x.dtype), np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
        for i, j, rows, columns, _ in self.windows():
            cells = [(r * self.kernel[1] + s, h * self.x[3] + w) for r, h in rows for s, w in columns]
            if not cells:
                continue
            places, pixels = np.array(cells).T
            values = x.reshape(*self.x[:2], -1)[:, :, pixels]
            first = np.where(np.isnan(values).any(-1), np.isnan(values).argmax(-1), values.argmax(-1))
            y[:, :, i, j] = np.take_along_axis(values, first[..., None], -1)[..., 0]
            indices[:, :, i, j], plane[:, :, i, j] = places[first], pixels[first]
        return y, indices, plane

    def matrix(self, count_include_pad):
        """The averaging of one plane as a matrix (OH * OW, H * W)."""
        averaging = np.zeros((*self.out_sizes, *self.x[2:]))
        for i, j, rows, columns, in_padded in self.windows():
            count = in_padded if count_include_pad else len(rows) * len(columns)
            for _, h in rows:
                for _, w in columns:
                    averaging[i, j, h, w] = 1 / max(count, 1)
        return averaging.reshape(self.out_sizes[0] * self.out_sizes[1], -1)


def as_layout(x, layout):
    """A contiguous array in `layout` of x (N, C, H, W)."""
    return np.ascontiguousarray(x if layout == "NCHW" else x.transpose(0, 2, 3, 1))


def from_layout(x, layout):
    """x (N, C, H, W) of an array in `layout`."""
    return x if layout == "NCHW" else x.transpose(0, 3, 1, 2)


CASES = [
    Case((2, 3, 8, 8), (2, 2)),
    Case((3, 16, 28, 28), (2, 2)),
    Case((2, 17, 9, 11), (2, 2), ceil_mode=True),
    Case((1, 2, 7, 65), (2, 2)),
    Case((2, 5, 13, 17), (3, 3), (2, 2), ((1, 1), (1, 1))),
    Case((2, 5, 14, 14), (3, 3), (1, 1), ((1, 1), (1, 1))),
    Case((1, 4, 15, 33), (3, 3), (2, 2), ceil_mode=True),
    Case((2, 33, 6, 7), (3, 2), (1, 2), ((2, 0), (0, 1))),
    Case((1, 1, 1, 1), (1, 1)),
    Case((4, 7, 5, 5), (5, 5)),
    Case((2, 9, 7, 7), (7, 7)),
    Case((2, 2, 21, 22), (3, 3)),
    Case((2, 2, 24, 26), (4, 4)),
    Case((1, 3, 23, 31), (5, 3), (3, 5)),
    Case((1, 3, 16, 40), (2, 3), (3, 4)),
    Case((2, 3, 12, 13), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    Case((1, 6, 19, 20), (2, 3), (2, 3), ((3, 1), (2, 4)), (3, 2), True),
    Case((1, 4, 11, 12), (3, 2), (1, 2), ((1, 1), (1, 0)), (1, 3)),
    Case((1, 2, 20, 21), (17, 17), (1, 1)),
    Case((1, 2, 18, 19), (17, 17), (3, 2), ((8, 9), (0, 16)), ceil_mode=True),
    Case((2, 2, 6, 9), (1, 1), (2, 3)),
    Case((1, 2, 3, 3), (2, 2), (1, 1), ((4, 4), (4, 4)), (5, 5)),  # some windows hold nothing but padding
    Case((1, 20, 2, 9), (2, 2), (2, 1), ((2, 2), (3, 0)), (3, 4), True),
    Case((40, 3, 5, 6), (3, 3), (2, 2), ((0, 1), (1, 0))),
    Case((1, 1, 3, 2600), (2, 3), (1, 2), ((0, 0), (1, 1))),
    Case((1, 3, 4, 900), (3, 3), (2, 3), ((1, 1), (1, 1))),
    Case((1, 1, 2, 3), (9, 200), (1, 1), ((8, 0), (199, 3)), ceil_mode=True),
]

TORCH_CASES = [
    # x, kernel, stride, padding, dilation, ceil_mode: within PyTorch's limit, padding at most half of the kernel
    ((2, 3, 28, 28), 2, 2, 0, 1, False),
    ((2, 16, 13, 15), 3, 2, 1, 1, False),
    ((2, 4, 13, 14), 3, 2, 1, 1, True),
    ((1, 17, 9, 33), (2, 3), (1, 2), (1, 1), 1, True),
    ((1, 3, 20, 21), 3, 1, 1, 2, False),
    ((1, 3, 25, 24), (3, 2), (2, 3), (1, 1), (2, 3), True),
    ((1, 2, 40, 37), 17, 4, 8, 1, True),
]
