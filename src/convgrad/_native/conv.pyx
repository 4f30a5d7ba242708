"""Convolution, its gradients and the transposed convolution on the native kernels.

What depends on the shape alone (classes of output positions and the kernel positions that reach them) is worked out once and
kept with the `ConvShape`; a call fills in pointers and strides.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_channel_sum, CG_KERNEL_conv_correlate, CG_KERNEL_conv_grad_weight, cg_axis,
    cg_channel_sum_args, cg_conv_args, cg_conv_grad_weight_args, cg_phase, cg_strides,
)
from .runtime cimport execute

ctypedef fused real:
    float
    double


cdef class Axis:
    """One axis of a convolution: its classes of output positions, as C arrays."""

    cdef cg_axis axis
    cdef cg_phase *phases
    cdef ptrdiff_t *taps

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


cdef class Plan:
    """Both axes of a convolution or of its gradient by the input, and the same with all rows laid end to end."""

    cdef readonly Axis rows, cols, one_row, all_cols

    def __init__(self, shape, bint backward):
        cdef int i
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


cdef cg_strides strides_of(const real[:, :, :, :] view, bint channels_last) noexcept:
    """Strides in elements; views arrive with strides that are whole elements."""
    cdef cg_strides at
    cdef ptrdiff_t size = sizeof(real)
    at.stride_n = view.strides[0] // size
    at.stride_c = view.strides[3 if channels_last else 1] // size
    at.stride_h = view.strides[1 if channels_last else 2] // size
    at.stride_w = view.strides[2 if channels_last else 3] // size
    return at


cdef int correlate(
    real tag, shape, bint backward, x, weight, bias, int activation, double parameter, out
) except -1:
    """y = activation(bias + sum of weight * x) over the classes of output positions of `shape`, forward or backward."""
    cdef const real[:, :, :, :] x_view = x
    cdef const real[:, :, :, :] w_view = weight
    cdef real[:, :, :, ::1] y_view = out
    cdef const real[::1] bias_view
    cdef bint channels_last = shape.layout == "NHWC"
    cdef Plan plan = shape.plans.get(backward)
    cdef cg_conv_args args
    cdef cg_strides at
    cdef ptrdiff_t size = sizeof(real), C, K
    if x_view.shape[0] == 0:
        return 0
    if plan is None:
        plan = shape.plans.setdefault(backward, Plan(shape, backward))
    memset(&args, 0, sizeof(args))
    args.x = &x_view[0, 0, 0, 0]
    args.weight = &w_view[0, 0, 0, 0]
    args.y = &y_view[0, 0, 0, 0]
    if bias is not None:
        bias_view = bias if bias.flags.c_contiguous else bias.copy()
        args.bias = &bias_view[0]
    args.x_at = strides_of[real](x_view, channels_last)
    args.y_at = strides_of[real](y_view, channels_last)
    args.N = x_view.shape[0]
    args.H = x_view.shape[1 if channels_last else 2]
    args.W = x_view.shape[2 if channels_last else 3]
    args.groups = shape.groups
    K = w_view.shape[0] // args.groups
    C = w_view.shape[1]
    args.R = w_view.shape[2]
    args.S = w_view.shape[3]
    args.w_group = K * (w_view.strides[0] // size)
    if backward:
        args.C, args.K = K, C
        args.w_k, args.w_c = w_view.strides[1] // size, w_view.strides[0] // size
    else:
        args.C, args.K = C, K
        args.w_k, args.w_c = w_view.strides[0] // size, w_view.strides[1] // size
    args.w_r = w_view.strides[2] // size
    args.w_s = w_view.strides[3] // size
    at = args.x_at
    if plan.one_row is not None and (args.H == 1 or at.stride_h == args.W * at.stride_w):
        args.W *= args.H
        args.H = 1
        args.rows = plan.one_row.axis
        args.cols = plan.all_cols.axis
    else:
        args.rows = plan.rows.axis
        args.cols = plan.cols.axis
    args.activation = activation
    args.parameter = parameter
    return execute(CG_KERNEL_conv_correlate, CG_F32 if real is float else CG_F64, &args)


def forward(shape, x, weight, bias, int activation, double parameter, out):
    """Write activation(conv(x, weight) + bias) to `out`."""
    if out.itemsize == 4:
        correlate[float](0, shape, False, x, weight, bias, activation, parameter, out)
    else:
        correlate[double](0, shape, False, x, weight, bias, activation, parameter, out)


def grad_input(shape, grad_output, weight, bias, int activation, double parameter, out):
    """Write the gradient by the input, plus bias and through the activation for a transposed convolution, to `out`."""
    if out.itemsize == 4:
        correlate[float](0, shape, True, grad_output, weight, bias, activation, parameter, out)
    else:
        correlate[double](0, shape, True, grad_output, weight, bias, activation, parameter, out)


cdef int weight_gradient(real tag, shape, grad_output, x, out) except -1:
    cdef const real[:, :, :, :] g_view = grad_output
    cdef const real[:, :, :, :] x_view = x
    cdef real[:, :, :, ::1] out_view = out
    cdef bint channels_last = shape.layout == "NHWC"
    cdef cg_conv_grad_weight_args args
    cdef cg_strides at
    if x_view.shape[0] == 0:
        return 0
    memset(&args, 0, sizeof(args))
    args.x = &x_view[0, 0, 0, 0]
    args.grad_output = &g_view[0, 0, 0, 0]
    args.grad_weight = &out_view[0, 0, 0, 0]
    args.x_at = strides_of[real](x_view, channels_last)
    args.g_at = strides_of[real](g_view, channels_last)
    args.N = x_view.shape[0]
    args.groups = shape.groups
    args.K = out_view.shape[0] // args.groups
    args.C = out_view.shape[1]
    args.R = out_view.shape[2]
    args.S = out_view.shape[3]
    args.H = x_view.shape[1 if channels_last else 2]
    args.W = x_view.shape[2 if channels_last else 3]
    args.OH = g_view.shape[1 if channels_last else 2]
    args.OW = g_view.shape[2 if channels_last else 3]
    args.stride_h, args.stride_w = shape.stride
    args.dilation_h, args.dilation_w = shape.dilation
    args.top, args.left = shape.padding[0][0], shape.padding[1][0]
    at = args.x_at
    if (
        shape.kernel == (1, 1) and shape.stride == (1, 1) and shape.padding == ((0, 0), (0, 0))
        and args.OH == args.H and args.OW == args.W
        and (args.H == 1 or (at.stride_h == args.W * at.stride_w and args.g_at.stride_h == args.W * args.g_at.stride_w))
    ):
        args.W *= args.H
        args.OW = args.W
        args.H = args.OH = 1
    return execute(CG_KERNEL_conv_grad_weight, CG_F32 if real is float else CG_F64, &args)


def grad_weight(shape, grad_output, x, out):
    """Write the gradient by the weight to `out`; for an empty batch `out` is left alone."""
    if out.itemsize == 4:
        weight_gradient[float](0, shape, grad_output, x, out)
    else:
        weight_gradient[double](0, shape, grad_output, x, out)


cdef int channel_sum(real tag, grad_output, bint channels_last, out) except -1:
    cdef const real[:, :, :, :] view = grad_output
    cdef real[::1] out_view = out
    cdef cg_channel_sum_args args
    if view.shape[0] == 0:
        return 0
    memset(&args, 0, sizeof(args))
    args.x = &view[0, 0, 0, 0]
    args.out = &out_view[0]
    args.at = strides_of[real](view, channels_last)
    args.N = view.shape[0]
    args.C = view.shape[3 if channels_last else 1]
    args.H = view.shape[1 if channels_last else 2]
    args.W = view.shape[2 if channels_last else 3]
    return execute(CG_KERNEL_channel_sum, CG_F32 if real is float else CG_F64, &args)


def grad_bias(grad_output, layout, out):
    """Write the sum of grad_output over all but its channels to `out`; for an empty batch `out` is left alone."""
    if out.itemsize == 4:
        channel_sum[float](0, grad_output, layout == "NHWC", out)
    else:
        channel_sum[double](0, grad_output, layout == "NHWC", out)
