"""What depends on the shape of a convolution alone: the algorithm, classes of output positions and the kernel positions
that reach them. Worked out once and kept with the `ConvShape`.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from .kernels cimport cg_axis, cg_phase


cdef class Axis:
    """One axis of a convolution: its classes of output positions, as C arrays."""

    def __cinit__(self, list phases, ptrdiff_t in_step, ptrdiff_t out_step):
        """`phases`: (first output position, count, [(kernel index, source offset), ...]) each."""
        cdef ptrdiff_t n_taps = 0, i = 0, index, offset
        cdef cg_axis *axis = &self.axis
        for _, _, taps in phases:
            n_taps += len(taps)
        self.phases = <cg_phase *>malloc(len(phases) * sizeof(cg_phase) + 1)
        self.taps = <ptrdiff_t *>malloc(2 * n_taps * sizeof(ptrdiff_t) + 1)
        if self.phases == NULL or self.taps == NULL:
            raise MemoryError()
        memset(axis, 0, sizeof(cg_axis))
        axis.phase = self.phases
        axis.n_phases = len(phases)
        axis.in_step = in_step
        axis.out_step = out_step
        cdef ptrdiff_t *tap = self.taps
        cdef bint first = True
        for out_first, count, taps in phases:
            self.phases[i].out_first = out_first
            self.phases[i].count = count
            self.phases[i].n_taps = len(taps)
            self.phases[i].tap_index = tap
            self.phases[i].tap_offset = tap + len(taps)
            for index, offset in taps:
                tap[0] = index
                tap[len(taps)] = offset
                tap += 1
                axis.min_offset = offset if first else min(axis.min_offset, offset)
                axis.max_offset = offset if first else max(axis.max_offset, offset)
                first = False
            tap += len(taps)
            axis.max_count = max(axis.max_count, self.phases[i].count)
            i += 1

    def __dealloc__(self):
        free(self.phases)
        free(self.taps)


def forward_axis(out_size, kernel, stride, dilation, before):
    """Output i is the sum over r of weight[r] * source[i * stride + r * dilation - before]."""
    return Axis([(0, out_size, [(r, r * dilation - before) for r in range(kernel)])], stride, 1)


def backward_axis(size, kernel, stride, dilation, before):
    """Input position h = u * stride + a - before is the sum over the r with r * dilation = a (mod stride) of
    weight[r] * grad_output[u + (a - r * dilation) / stride]: one class for each a."""
    by_residue = {}
    for r in range(kernel):
        by_residue.setdefault(r * dilation % stride, []).append(r)
    phases = []
    for first in range(min(stride, size)):
        u, a = divmod(first + before, stride)
        taps = [(r, u + (a - r * dilation) // stride) for r in by_residue.get(a, ())]
        phases.append((first, (size - 1 - first) // stride + 1, taps))
    return Axis(phases, 1, stride)


cdef enum:
    MOST_TAPS = 7
    MOST_POINTS = 16777216  # elements of transformed weights: 64 MB in float32


cdef bint filters_both_axes(shape):
    """Whether F(m x m, 3x3) computes this convolution: 3x3, stride 1, no dilation."""
    return shape.kernel == (3, 3) and shape.stride == (1, 1) and shape.dilation == (1, 1)


cdef int filtered_axis(shape):
    """The one axis along which minimal filtering computes this convolution, as cg_winograd_args.axis: columns (2),
    kernel rows summed up, or the rows (1) of a kernel of one column; 0: none."""
    R, S = shape.kernel
    if shape.stride != (1, 1) or shape.dilation != (1, 1) or shape.groups != 1 or max(R, S) > MOST_TAPS:
        return 0
    return 2 if S >= 3 else 1 if S == 1 and R >= 3 else 0


cdef int filtered_outputs(int taps):
    """Outputs of a tile along one axis: those of F(4, 3), or of eight points."""
    return 4 if taps == 3 else 9 - taps


cdef str reason_along_axis(shape, int direction, int axis):
    """`reason` for minimal filtering along one axis, float32, not strict."""
    cdef ptrdiff_t C = shape.in_channels, K = shape.out_channels, taps = shape.kernel[axis - 1]
    cdef ptrdiff_t sums = shape.kernel[0] if axis == 2 else 1
    cdef ptrdiff_t terms = sums * (K if direction == GRAD_INPUT else C)
    cdef ptrdiff_t along = min((shape.height, shape.width)[axis - 1], (shape.out_height, shape.out_width)[axis - 1])
    cdef ptrdiff_t least = 32 if sums > 1 else 64
    if shape.out_height * shape.out_width < (49 if direction == GRAD_WEIGHT else 36) or along < 3:
        return "direct: too few pixels to fill Winograd's tiles"
    if min(C, K) < least:
        return "direct: too few channels for Winograd's products to outweigh its transforms"
    if direction != GRAD_WEIGHT and taps > 3 and terms > (2048 if taps < 6 else 1024):
        return "direct: sums so long that Winograd's rounding would show"
    if (filtered_outputs(taps) + taps - 1) * sums * C * K > MOST_POINTS:
        return "direct: Winograd's transformed weights would take too much memory"
    return f"winograd: stride 1, {taps} taps along an axis, at least {least} channels on either side"


def reason(shape, bint is_float32, int direction, bint strict):
    """Which algorithm a convolution (direction 0), its gradient by the input (1) or by the weight (2) takes and why: a
    sentence that begins with its name.

    The rule of algorithm="auto" looks at the shape of one sample, the dtype and the precision alone; see
    docs/performance.md.
    """
    cdef ptrdiff_t C = shape.in_channels // shape.groups, K = shape.out_channels // shape.groups
    cdef bint both = filters_both_axes(shape)
    cdef int axis = 0 if both else filtered_axis(shape)
    if axis and strict and shape.algorithm != "direct":
        return "direct: under strict precision only 3x3 kernels take Winograd's algorithm"
    if shape.algorithm != "auto":
        return f"{shape.algorithm}: asked for"
    if not both and not axis:
        return "direct: Winograd needs 3x3, or one group and 3 to 7 taps along an axis, stride 1, dilation 1"
    if axis and not is_float32:
        return "direct: in float64 only 3x3 kernels take Winograd's algorithm"
    if axis:
        return reason_along_axis(shape, direction, axis)
    if shape.out_height * shape.out_width < (9 if min(C, K) < 64 else 4):
        return "direct: too few pixels to fill Winograd's tiles"
    if not is_float32:
        if min(C, K) < 16 or max(C, K) < 32:
            return "direct: too few channels for Winograd's products to outweigh its transforms"
        return "winograd: 3x3, stride 1, float64, at least 16 channels on either side and 32 on one"
    if direction == GRAD_WEIGHT:
        if C < 12 or K < 8:
            return "direct: too few channels for Winograd's products to outweigh its transforms"
        return "winograd: 3x3, stride 1, at least 12 input and 8 output channels"
    if min(C, K) < 8 or max(C, K) < (16 if min(C, K) >= 12 else 32):
        return "direct: too few channels for Winograd's products to outweigh its transforms"
    return "winograd: 3x3, stride 1, at least 12 channels on one side and 16 on the other, or 8 and 32"


cdef class Plan:
    """What one direction of a convolution needs for every call of its shape: the algorithm; for the direct one both
    axes, and the same with all rows laid end to end."""

    def __init__(self, shape, int direction, bint is_float32):
        cdef int i
        cdef bint backward = direction == GRAD_INPUT
        self.channels_last = shape.layout == "NHWC"
        self.groups = shape.groups
        if reason(shape, is_float32, direction, False).startswith("winograd"):
            self.axis = 0 if filters_both_axes(shape) else filtered_axis(shape)
            self.m = filtered_outputs(shape.kernel[self.axis - 1]) if self.axis else 4
            self.m_strict = 0 if self.axis else 2
            if not is_float32 and shape.algorithm == "auto":
                self.m = self.m_strict
        self.depthwise = (
            shape.groups == (shape.out_channels if backward else shape.in_channels) and shape.groups > 1
            and shape.kernel in ((3, 3), (5, 5)) and shape.dilation == (1, 1)
            and (
                shape.stride == (1, 1)
                or (shape.stride == (2, 2) and (not backward or shape.in_channels == shape.groups))
            )
            and min(shape.height, shape.width, shape.out_height, shape.out_width) > 1
        )
        self.whole = (
            shape.layout == "NCHW" and shape.groups == 1 and shape.kernel == (shape.height, shape.width)
            and shape.padding == ((0, 0), (0, 0)) and shape.dilation == (1, 1) and shape.kernel != (1, 1)
            and (shape.out_height, shape.out_width) == (1, 1) and not self.m
        )
        self.samples = {}
        if direction == GRAD_WEIGHT or self.m_strict:
            return
        axes = []
        for i in range(2):
            size = (shape.height, shape.width)[i] if backward else (shape.out_height, shape.out_width)[i]
            make = backward_axis if backward else forward_axis
            axes.append(make(size, shape.kernel[i], shape.stride[i], shape.dilation[i], shape.padding[i][0]))
        self.rows, self.cols = axes
        if (
            shape.kernel == (1, 1) and shape.stride == (1, 1) and shape.padding == ((0, 0), (0, 0))
            and shape.out_height == shape.height and shape.out_width == shape.width
        ):
            self.one_row = forward_axis(1, 1, 1, 1, 0)
            self.all_cols = forward_axis(shape.height * shape.width, 1, 1, 1, 0)

    cdef int tile(self, bint strict) noexcept:
        """cg_winograd_args.m, or 0 where the direct algorithm computes."""
        return self.m_strict if strict else self.m


cdef cg_axis row_of_samples(Plan plan, ptrdiff_t n):
    cdef Axis axis = plan.samples.get(n)
    if axis is None:
        axis = plan.samples.setdefault(n, forward_axis(n, 1, 1, 1, 0))
    return axis.axis


cdef Plan plan_of(shape, int direction, bint is_float32):
    key = direction * 2 + is_float32
    plan = shape.plans.get(key)
    return plan if plan is not None else shape.plans.setdefault(key, Plan(shape, direction, is_float32))
