"""The layer shapes that every benchmark of convolution uses, frozen by family.

Shapes are layers of published networks, or the classes of call they stand for. They were fixed before anything was
tuned: add a family, never change a case, or figures of different commits no longer compare. `DIRECT` and `WINOGRAD` are
the two tables that algorithm choices were first measured on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One convolution layer: sizes, options and the label it is reported under."""

    family: str
    batch: int
    in_channels: int
    out_channels: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    transposed: bool = False

    @property
    def name(self):
        """Short unique label, e.g. "direct 8,64,64,56 3x3 s1 p1"."""
        parts = [f"{self.batch},{self.in_channels},{self.out_channels},{_by(self.size)}"]
        parts += [_by(self.kernel, square=True), f"s{_by(self.stride)}", f"p{_by(self.padding)}"]
        if self.groups > 1:
            parts.append("depthwise" if self.depthwise else f"g{self.groups}")
        if self.transposed:
            parts.append("transposed")
        return f"{self.family} {' '.join(parts)}"

    @property
    def depthwise(self):
        """True where each channel is convolved on its own."""
        return 1 < self.groups == self.in_channels

    @property
    def pointwise(self):
        """True for a 1x1 kernel of all channels: a matrix product at each pixel."""
        return self.kernel == (1, 1) and self.groups == 1

    @property
    def x_shape(self):
        """Shape of x in NCHW."""
        return (self.batch, self.in_channels, *self.size)

    @property
    def weight_shape(self):
        """Shape of the weight: (K, C/groups, R, S), or (C, K/groups, R, S) where transposed."""
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *self.kernel)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def output_shape(self):
        """Shape of the output in NCHW."""
        axes = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        if self.transposed:
            sizes = [(n - 1) * s - 2 * p + k for n, k, s, p in axes]
        else:
            sizes = [(n + 2 * p - k) // s + 1 for n, k, s, p in axes]
        return (self.batch, self.out_channels, *sizes)

    @property
    def options(self):
        """Keyword arguments of `conv2d` or `conv_transpose2d`."""
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}

    @property
    def flops(self):
        """Floating-point operations of one pass: two for each multiply and add, zero padding included."""
        pixels = self.size if self.transposed else self.output_shape[2:]
        taps = self.kernel[0] * self.kernel[1] * self.in_channels // self.groups
        return 2 * self.batch * self.out_channels * taps * pixels[0] * pixels[1]


def _by(pair, square=False):
    """A pair as text: one number where both are equal, unless `square` asks for both."""
    return f"{pair[0]}" if pair[0] == pair[1] and not square else f"{pair[0]}x{pair[1]}"


def _family(family, rows, **options):
    """Cases from rows (N, C, K, size, kernel, stride, padding); ints stand for square pairs."""

    def both(value):
        return value if isinstance(value, tuple) else (value, value)

    return tuple(Case(family, n, c, k, *map(both, rest), **options) for n, c, k, *rest in rows)


def _depthwise(family, rows):
    """Depthwise cases from rows (N, C, size, kernel, stride, padding)."""
    return tuple(
        Case(family, n, c, c, (size, size), (kernel, kernel), (stride, stride), (padding, padding), groups=c)
        for n, c, size, kernel, stride, padding in rows
    )


def _line(family, rows):
    """1-D cases as H = 1 from rows (N, C, K, length, taps, stride, padding, groups)."""
    return tuple(
        Case(family, n, c, k, (1, length), (1, taps), (1, stride), (0, padding), groups)
        for n, c, k, length, taps, stride, padding, groups in rows
    )


DIRECT = _family(
    "direct",
    [
        (8, 3, 64, 224, 7, 2, 3),
        (8, 64, 64, 56, 3, 1, 1),
        (8, 64, 256, 56, 1, 1, 0),
        (8, 128, 128, 28, 3, 1, 1),
        (8, 128, 128, 56, 3, 2, 1),
        (8, 256, 256, 14, 3, 1, 1),
        (8, 512, 512, 7, 3, 1, 1),
        (8, 2048, 512, 7, 1, 1, 0),
        (2, 64, 64, 224, 3, 1, 1),
        (64, 1, 6, 28, 5, 1, 2),
        (64, 6, 16, 14, 5, 1, 0),
        (64, 3, 32, 32, 3, 1, 1),
        (64, 32, 32, 32, 3, 1, 1),
        (32, 64, 128, 14, 5, 2, 2),
    ],
)

WINOGRAD = _family(
    "winograd",
    [
        (8, 64, 64, 56, 3, 1, 1),
        (8, 128, 128, 28, 3, 1, 1),
        (8, 256, 256, 14, 3, 1, 1),
        (8, 512, 512, 7, 3, 1, 1),
        (2, 64, 64, 224, 3, 1, 1),
        (2, 256, 256, 56, 3, 1, 1),
        (64, 32, 32, 32, 3, 1, 1),
        (1, 64, 64, 56, 3, 1, 1),
        (1, 256, 256, 14, 3, 1, 1),
    ],
)

# MobileNetV2, 224x224 input: the 1x1 layers that expand and project, and the 3x3 depthwise layers between them.
MOBILENET_POINTWISE = _family(
    "mobilenet 1x1",
    [
        (8, 32, 16, 112, 1, 1, 0),
        (8, 16, 96, 112, 1, 1, 0),
        (8, 96, 24, 56, 1, 1, 0),
        (8, 24, 144, 56, 1, 1, 0),
        (8, 144, 32, 28, 1, 1, 0),
        (8, 32, 192, 28, 1, 1, 0),
        (8, 192, 64, 14, 1, 1, 0),
        (8, 64, 384, 14, 1, 1, 0),
        (8, 576, 96, 14, 1, 1, 0),
        (8, 160, 960, 7, 1, 1, 0),
        (8, 960, 320, 7, 1, 1, 0),
        (8, 320, 1280, 7, 1, 1, 0),
    ],
)

MOBILENET_DEPTHWISE = _depthwise(
    "mobilenet depthwise",
    [
        (8, 32, 112, 3, 1, 1),
        (8, 96, 112, 3, 2, 1),
        (8, 144, 56, 3, 1, 1),
        (8, 144, 56, 3, 2, 1),
        (8, 192, 28, 3, 1, 1),
        (8, 192, 28, 3, 2, 1),
        (8, 384, 14, 3, 1, 1),
        (8, 576, 14, 3, 2, 1),
        (8, 960, 7, 3, 1, 1),
    ],
)

# Inception v3, 299x299 input.
INCEPTION = _family(
    "inception",
    [
        (8, 64, 96, 35, 3, 1, 1),
        (8, 48, 64, 35, 5, 1, 2),
        (8, 288, 384, 35, 3, 2, 0),
        (8, 128, 128, 17, (1, 7), 1, (0, 3)),
        (8, 128, 192, 17, (7, 1), 1, (3, 0)),
        (8, 192, 192, 17, (1, 7), 1, (0, 3)),
        (8, 192, 192, 17, (7, 1), 1, (3, 0)),
        (8, 384, 384, 8, (1, 3), 1, (0, 1)),
        (8, 384, 384, 8, (3, 1), 1, (1, 0)),
    ],
)

# DenseNet-BC with growth 12 on 32x32 (channel counts that fit no vector), and DenseNet-121 on 224x224.
DENSENET = _family(
    "densenet",
    [
        (32, 24, 48, 32, 1, 1, 0),
        (32, 48, 12, 32, 3, 1, 1),
        (32, 204, 48, 32, 1, 1, 0),
        (32, 216, 108, 32, 1, 1, 0),
        (32, 150, 48, 8, 1, 1, 0),
        (32, 28, 12, 32, 3, 1, 1),
        (32, 76, 12, 16, 3, 1, 1),
        (8, 128, 32, 56, 3, 1, 1),
        (8, 224, 128, 56, 1, 1, 0),
        (8, 128, 32, 14, 3, 1, 1),
        (8, 992, 128, 7, 1, 1, 0),
    ],
)

# U-Net as published: unpadded 3x3 layers, 2x2 transposed layers on the way up.
UNET = (
    *_family(
        "unet",
        [
            (1, 1, 64, 572, 3, 1, 0),
            (1, 64, 128, 284, 3, 1, 0),
            (1, 128, 256, 140, 3, 1, 0),
            (1, 256, 512, 68, 3, 1, 0),
            (1, 512, 1024, 32, 3, 1, 0),
            (1, 1024, 512, 56, 3, 1, 0),
            (1, 64, 2, 388, 1, 1, 0),
        ],
    ),
    *_family(
        "unet",
        [(1, 1024, 512, 28, 2, 2, 0), (1, 256, 128, 100, 2, 2, 0)],
        transposed=True,
    ),
)

# DCGAN, 64x64 pictures: 4x4 stride 2, the discriminator plain and the generator transposed.
DCGAN = (
    *_family(
        "dcgan",
        [
            (64, 3, 64, 64, 4, 2, 1),
            (64, 64, 128, 32, 4, 2, 1),
            (64, 128, 256, 16, 4, 2, 1),
            (64, 256, 512, 8, 4, 2, 1),
            (64, 512, 1, 4, 4, 1, 0),
        ],
    ),
    *_family(
        "dcgan",
        [
            (64, 100, 512, 1, 4, 1, 0),
            (64, 512, 256, 4, 4, 2, 1),
            (64, 256, 128, 8, 4, 2, 1),
            (64, 128, 64, 16, 4, 2, 1),
            (64, 64, 3, 32, 4, 2, 1),
        ],
        transposed=True,
    ),
)

# 1-D: raw audio (M5, wav2vec 2.0 with its grouped positional layer), EEG and long filters.
LINE = _line(
    "1-d",
    [
        (8, 1, 128, 8000, 80, 4, 0, 1),
        (4, 1, 512, 16000, 10, 5, 0, 1),
        (4, 512, 512, 3199, 3, 2, 0, 1),
        (4, 768, 768, 249, 128, 1, 64, 16),
        (16, 22, 40, 1000, 25, 1, 0, 1),
        (16, 64, 64, 4096, 31, 1, 15, 1),
        (16, 16, 16, 4096, 101, 1, 50, 1),
    ],
)

# One picture through ResNet-50 and VGG.
BATCH1 = _family(
    "batch 1",
    [
        (1, 3, 64, 224, 7, 2, 3),
        (1, 64, 64, 224, 3, 1, 1),
        (1, 64, 64, 56, 3, 1, 1),
        (1, 256, 64, 56, 1, 1, 0),
        (1, 128, 128, 28, 3, 1, 1),
        (1, 512, 128, 28, 1, 1, 0),
        (1, 256, 256, 14, 3, 1, 1),
        (1, 1024, 256, 14, 1, 1, 0),
        (1, 512, 512, 7, 3, 1, 1),
        (1, 512, 2048, 7, 1, 1, 0),
    ],
)

# Training on 8x8 digits, batches of 64.
DIGITS = _family(
    "digits",
    [
        (64, 1, 16, 8, 3, 1, 1),
        (64, 16, 32, 8, 3, 1, 1),
        (64, 32, 32, 8, 3, 1, 1),
        (64, 32, 64, 4, 3, 1, 1),
        (64, 64, 64, 4, 3, 1, 1),
    ],
)

# ResNeXt-50 32x4d: the 3x3 layers in 32 groups, and the first of each stage. ShuffleNet v1, eight groups: the 1x1
# layers that narrow and widen.
GROUPED = (
    *_family(
        "grouped",
        [
            (8, 128, 128, 56, 3, 1, 1),
            (8, 256, 256, 56, 3, 2, 1),
            (8, 256, 256, 28, 3, 1, 1),
            (8, 512, 512, 28, 3, 2, 1),
            (8, 512, 512, 14, 3, 1, 1),
            (8, 1024, 1024, 14, 3, 2, 1),
            (8, 1024, 1024, 7, 3, 1, 1),
            (1, 512, 512, 14, 3, 1, 1),
        ],
        groups=32,
    ),
    *_family(
        "grouped",
        [
            (8, 384, 96, 28, 1, 1, 0),
            (8, 96, 384, 28, 1, 1, 0),
            (8, 768, 192, 14, 1, 1, 0),
            (8, 192, 768, 14, 1, 1, 0),
            (8, 1536, 384, 7, 1, 1, 0),
            (8, 384, 1536, 7, 1, 1, 0),
        ],
        groups=8,
    ),
)

# Calls so small that overhead is most of their time.
TINY = _family(
    "tiny",
    [
        (1, 1, 6, 28, 5, 1, 0),
        (1, 3, 8, 16, 3, 1, 1),
        (1, 16, 16, 8, 3, 1, 1),
    ],
)

FAMILIES = {
    "direct": DIRECT,
    "winograd": WINOGRAD,
    "mobilenet 1x1": MOBILENET_POINTWISE,
    "mobilenet depthwise": MOBILENET_DEPTHWISE,
    "inception": INCEPTION,
    "densenet": DENSENET,
    "unet": UNET,
    "dcgan": DCGAN,
    "1-d": LINE,
    "batch 1": BATCH1,
    "grouped": GROUPED,
    "digits": DIGITS,
    "tiny": TINY,
}

# Families whose figures stay out of the overall mean: overhead, not arithmetic, decides there.
APART = ("digits", "tiny")
