"""Convolution, its gradients and the transposed convolution on the native kernels.

What depends on the shape alone is in `conv_plan.pyx`; a call fills in pointers and strides. Calls with weights packed
beforehand are in `conv_packed.pyx`.
"""

from cython cimport floating
from libc.string cimport memset

cimport numpy as cnp

from .conv_plan cimport FORWARD, GRAD_INPUT, GRAD_WEIGHT, Plan, plan_of, row_of_samples
from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_channel_sum, CG_KERNEL_conv_correlate, CG_KERNEL_conv_depthwise,
    CG_KERNEL_conv_depthwise_channels, CG_KERNEL_conv_depthwise_channels_grad, CG_KERNEL_conv_depthwise_grad,
    CG_KERNEL_conv_depthwise_strided_grad, CG_KERNEL_conv_grad_weight, CG_KERNEL_conv_pack,
    cg_channel_sum_args, cg_conv_args, cg_conv_grad_weight_args, cg_strides, cg_winograd_args,
)
from .memory cimport give, take
from .runtime cimport execute, run_planned
from .runtime cimport plan as plan_kernel
from . cimport winograd

from ..precision import is_strict

cnp.import_array()


cdef cg_strides strides_of(x, bint channels_last) noexcept:
    """Strides in elements of an array with four axes; they are whole elements."""
    cdef cg_strides at
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(x)
    at.stride_n = strides[0] // size
    at.stride_c = strides[3 if channels_last else 1] // size
    at.stride_h = strides[1 if channels_last else 2] // size
    at.stride_w = strides[2 if channels_last else 3] // size
    return at


cdef int dtype_of(x) noexcept:
    return CG_F32 if cnp.PyArray_ITEMSIZE(x) == 4 else CG_F64


cdef bint is_packed(cg_strides at, ptrdiff_t H, ptrdiff_t W) noexcept:
    """Whether the values of one sample (C, H, W) are adjacent, in that order."""
    return at.stride_w == 1 and at.stride_h == W and at.stride_c == H * W


cdef Plan fill(
    shape, int direction, x, weight, bias, int activation, double parameter, out, cg_conv_args *args,
    cg_winograd_args *wino, bint strict,
):
    """Fill `args` for the direct kernels, or `wino` where wino.m is not 0. The arrays must outlive the call."""
    cdef bint backward = direction == GRAD_INPUT
    cdef Plan plan = plan_of(shape, direction, dtype_of(out) == CG_F32)
    cdef bint channels_last = plan.channels_last
    cdef cg_strides at
    cdef cnp.npy_intp *x_shape = cnp.PyArray_DIMS(x)
    cdef cnp.npy_intp *w_shape = cnp.PyArray_DIMS(weight)
    cdef cnp.npy_intp *w_strides = cnp.PyArray_STRIDES(weight)
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(out), C, K
    memset(args, 0, sizeof(cg_conv_args))
    args.x, args.weight, args.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(weight), cnp.PyArray_DATA(out)
    if bias is not None:
        args.bias = cnp.PyArray_DATA(bias)
    args.x_at = strides_of(x, channels_last)
    args.y_at = strides_of(out, channels_last)
    args.N = x_shape[0]
    args.H = x_shape[1 if channels_last else 2]
    args.W = x_shape[2 if channels_last else 3]
    args.groups = plan.groups
    K = w_shape[0] // args.groups
    C = w_shape[1]
    args.R = w_shape[2]
    args.S = w_shape[3]
    args.w_group = K * (w_strides[0] // size)
    if backward:
        args.C, args.K = K, C
        args.w_k, args.w_c = w_strides[1] // size, w_strides[0] // size
    else:
        args.C, args.K = C, K
        args.w_k, args.w_c = w_strides[0] // size, w_strides[1] // size
    args.w_r = w_strides[2] // size
    args.w_s = w_strides[3] // size
    args.activation = activation
    args.parameter = parameter
    wino.m = plan.tile(strict)
    if wino.m:
        memset(wino, 0, sizeof(cg_winograd_args))
        wino.x, wino.weight, wino.bias, wino.y = args.x, args.weight, args.bias, args.y
        wino.x_at, wino.y_at = args.x_at, args.y_at
        wino.N, wino.C, wino.K, wino.H, wino.W = args.N, args.C, args.K, args.H, args.W
        wino.OH = cnp.PyArray_DIM(out, 1 if channels_last else 2)
        wino.OW = cnp.PyArray_DIM(out, 2 if channels_last else 3)
        wino.R, wino.S = args.R, args.S
        (wino.first_h, _), (wino.first_w, _) = shape.padding
        wino.first_h = wino.first_h - args.R + 1 if backward else -wino.first_h
        wino.first_w = wino.first_w - args.S + 1 if backward else -wino.first_w
        wino.w_k, wino.w_c, wino.w_r, wino.w_s = args.w_k, args.w_c, args.w_r, args.w_s
        wino.flip = backward
        wino.groups, wino.w_group = args.groups, args.w_group
        wino.m, wino.axis = plan.tile(strict), plan.axis
        wino.activation, wino.parameter = activation, parameter
        return plan
    if (
        plan.whole and args.w_s == 1 and args.w_r == args.S and w_strides[1] == args.R * args.S * size
        and is_packed(args.y_at if backward else args.x_at, args.R, args.S) and not (backward and args.bias != NULL)
    ):
        # Samples become the pixels of one row, channels last: (N, C R S) times (C R S, K), or the other way round.
        at = args.x_at
        at.stride_w, at.stride_h = at.stride_n, 0
        if backward:
            args.K *= args.R * args.S
            args.w_k = 1
        else:
            args.C *= args.R * args.S
            args.w_c = at.stride_c = 1
        args.x_at = at
        at = args.y_at
        at.stride_w, at.stride_c, at.stride_h = at.stride_n, 1, 0
        args.y_at = at
        args.H, args.W, args.N, args.R, args.S = 1, args.N, 1, 1, 1
        args.rows = row_of_samples(plan, 1)
        args.cols = row_of_samples(plan, args.W)
        args.w_r = args.w_s = 0
        args.samples_are_pixels = True
        return plan
    at = args.x_at
    if plan.one_row is not None and (
        args.H == 1 or (at.stride_h == args.W * at.stride_w and args.y_at.stride_h == args.W * args.y_at.stride_w)
    ):
        args.W *= args.H
        args.H = 1
        args.rows = plan.one_row.axis
        args.cols = plan.all_cols.axis
    else:
        args.rows = plan.rows.axis
        args.cols = plan.cols.axis
    return plan


cdef int direct_kernel(Plan plan, const cg_conv_args *args) noexcept:
    """The kernel for a direct convolution."""
    if plan.depthwise and args.x_at.stride_w == 1 and args.y_at.stride_w == 1:
        return CG_KERNEL_conv_depthwise if args.cols.out_step == 1 else CG_KERNEL_conv_depthwise_strided_grad
    if args.groups > 1 and args.C == 1 and args.K == 1 and args.x_at.stride_c == 1 and args.y_at.stride_c == 1:
        return CG_KERNEL_conv_depthwise_channels
    if args.groups > 1 and args.C == 1 and args.K == 1 and args.R == 1 and args.S == 1:
        if keeps_planes(args, &args.x_at) and keeps_planes(args, &args.y_at):
            return CG_KERNEL_conv_depthwise
    return CG_KERNEL_conv_correlate


cdef bint keeps_planes(const cg_conv_args *args, const cg_strides *at) noexcept:
    """Whether every pixel of the source has a result, and all planes follow each other."""
    return (
        args.rows.n_phases == 1 and args.rows.max_count == args.H and args.rows.min_offset == 0
        and args.cols.n_phases == 1 and args.cols.max_count == args.W and args.cols.min_offset == 0
        and at.stride_w == 1 and (args.H == 1 or at.stride_h == args.W) and at.stride_c == args.H * args.W
        and (args.N == 1 or at.stride_n == args.groups * at.stride_c)
    )


cdef enum:
    PACK_FROM = 1048576  # bytes of weights that would not stay in L2 with the rest
    PACK_MOST = 20971520
    PACK_PIXELS = 1024  # output pixels of a call that make up for the way through memory


cdef size_t shared_weights(int kernel, int dtype, cg_conv_args *args) noexcept:
    """Bytes of weights to pack before a direct convolution, for all threads and blocks, so that its input is staged
    once; 0: each block packs its own. Sets args.all_packed, which plans look at."""
    if (
        kernel != CG_KERNEL_conv_correlate or args.K * args.C * args.R * args.S * (8 if dtype else 4) <= PACK_FROM
        or args.N * args.rows.max_count * args.cols.max_count < PACK_PIXELS
    ):
        return 0
    plan_kernel(kernel, dtype, args)
    if args.vectors_over_pixels or args.n_k_groups == 1:
        return 0
    args.all_packed = True
    plan_kernel(CG_KERNEL_conv_pack, dtype, args)
    if args.packed_bytes > PACK_MOST:
        args.all_packed = False
        return 0
    return args.packed_bytes


cdef int run_direct(int kernel, int dtype, cg_conv_args *args) except -1:
    cdef size_t n_bytes = shared_weights(kernel, dtype, args)
    if n_bytes == 0:
        return execute(kernel, dtype, args)
    args.packed = take(n_bytes)
    if args.packed == NULL:
        raise MemoryError(f"convgrad: no memory for {n_bytes} bytes of packed weights")
    try:
        execute(CG_KERNEL_conv_pack, dtype, args)
        return execute(kernel, dtype, args)
    finally:
        give(args.packed)


cdef int correlate(shape, int direction, x, weight, bias, int activation, double parameter, out) except -1:
    """y = activation(bias + sum of weight * x) over the classes of output positions of `shape`, forward or backward."""
    cdef cg_conv_args args
    cdef cg_winograd_args wino
    cdef int dtype = dtype_of(out)
    cdef Plan plan
    if cnp.PyArray_DIM(x, 0) == 0:
        return 0
    if bias is not None and not cnp.PyArray_IS_C_CONTIGUOUS(bias):
        bias = cnp.PyArray_NewCopy(bias, cnp.NPY_CORDER)
    plan = fill(shape, direction, x, weight, bias, activation, parameter, out, &args, &wino, is_strict())
    if wino.m:
        return winograd.correlate(&wino, dtype)
    return run_direct(direct_kernel(plan, &args), dtype, &args)


def forward(shape, x, weight, bias, int activation, double parameter, out):
    """Write activation(conv(x, weight) + bias) to `out`."""
    correlate(shape, FORWARD, x, weight, bias, activation, parameter, out)


def grad_input(shape, grad_output, weight, bias, int activation, double parameter, out):
    """Write the gradient by the input, plus bias and through the activation for a transposed convolution, to `out`."""
    correlate(shape, GRAD_INPUT, grad_output, weight, bias, activation, parameter, out)


cdef Plan fill_weight_gradient(
    shape, grad_output, x, out, cg_conv_grad_weight_args *args, cg_winograd_args *wino
):
    """Fill `args` for the direct kernel, or `wino` where wino.m is not 0. The arrays must outlive the call."""
    cdef cnp.npy_intp *g_shape = cnp.PyArray_DIMS(grad_output)
    cdef cnp.npy_intp *x_shape = cnp.PyArray_DIMS(x)
    cdef cnp.npy_intp *w_shape = cnp.PyArray_DIMS(out)
    cdef Plan plan = plan_of(shape, GRAD_WEIGHT, dtype_of(out) == CG_F32)
    cdef bint channels_last = plan.channels_last
    cdef cg_strides at
    memset(args, 0, sizeof(cg_conv_grad_weight_args))
    args.x, args.grad_output = cnp.PyArray_DATA(x), cnp.PyArray_DATA(grad_output)
    args.grad_weight = cnp.PyArray_DATA(out)
    args.x_at = strides_of(x, channels_last)
    args.g_at = strides_of(grad_output, channels_last)
    args.N = x_shape[0]
    args.groups = plan.groups
    args.K = w_shape[0] // args.groups
    args.C = w_shape[1]
    args.R = w_shape[2]
    args.S = w_shape[3]
    args.H = x_shape[1 if channels_last else 2]
    args.W = x_shape[2 if channels_last else 3]
    args.OH = g_shape[1 if channels_last else 2]
    args.OW = g_shape[2 if channels_last else 3]
    wino.m = plan.tile(is_strict())
    if wino.m:
        memset(wino, 0, sizeof(cg_winograd_args))
        wino.x, wino.grad_output, wino.y = args.x, args.grad_output, args.grad_weight
        wino.x_at, wino.y_at = args.x_at, args.g_at
        wino.N, wino.C, wino.K, wino.H, wino.W = args.N, args.C, args.K, args.H, args.W
        wino.OH, wino.OW, wino.R, wino.S = args.OH, args.OW, args.R, args.S
        (wino.first_h, _), (wino.first_w, _) = shape.padding
        wino.first_h, wino.first_w = -wino.first_h, -wino.first_w
        wino.groups, wino.w_group = args.groups, args.K * args.C * args.R * args.S
        wino.m, wino.axis = plan.tile(is_strict()), plan.axis
        return plan
    args.stride_h, args.stride_w = shape.stride
    args.dilation_h, args.dilation_w = shape.dilation
    args.top, args.left = shape.padding[0][0], shape.padding[1][0]
    at = args.x_at
    if plan.whole and is_packed(at, args.R, args.S):
        at.stride_w, at.stride_c, at.stride_h = at.stride_n, 1, 0
        args.x_at = at
        at = args.g_at
        at.stride_w, at.stride_h = at.stride_n, 0
        args.g_at = at
        args.C *= args.R * args.S
        args.W = args.OW = args.N
        args.N = args.H = args.OH = args.R = args.S = args.stride_h = args.stride_w = 1
        return plan
    if (
        shape.kernel == (1, 1) and shape.stride == (1, 1) and shape.padding == ((0, 0), (0, 0))
        and args.OH == args.H and args.OW == args.W
        and (args.H == 1 or (at.stride_h == args.W * at.stride_w and args.g_at.stride_h == args.W * args.g_at.stride_w))
    ):
        args.W *= args.H
        args.OW = args.W
        args.H = args.OH = 1
    return plan


cdef int gradient_kernel(Plan plan, const cg_conv_grad_weight_args *args) noexcept:
    """The kernel for a direct gradient by the weight."""
    if plan.depthwise and args.x_at.stride_w == 1 and args.g_at.stride_w == 1:
        return CG_KERNEL_conv_depthwise_grad
    if args.groups > 1 and args.C == 1 and args.K == 1 and args.x_at.stride_c == 1 and args.g_at.stride_c == 1:
        return CG_KERNEL_conv_depthwise_channels_grad
    return CG_KERNEL_conv_grad_weight


cdef void add_up(floating *out, const floating *partial, ptrdiff_t n_ranges, ptrdiff_t n) noexcept nogil:
    """out = the sum of n_ranges arrays of n numbers, in their order."""
    cdef ptrdiff_t i, r
    cdef floating total
    for i in range(n):
        total = partial[i]
        for r in range(1, n_ranges):
            total += partial[r * n + i]
        out[i] = total


cdef int direct_weight_gradient(int kernel, int dtype, cg_conv_grad_weight_args *args, ptrdiff_t n) except -1:
    """Run a direct gradient by a weight of n numbers."""
    cdef size_t n_bytes
    plan_kernel(kernel, dtype, args)
    if kernel != CG_KERNEL_conv_grad_weight or args.n_ranges == 1:
        return run_planned(kernel, dtype, args)
    n_bytes = args.n_ranges * n * (8 if dtype else 4)
    args.partial = take(n_bytes)
    if args.partial == NULL:
        raise MemoryError(f"convgrad: no memory for {n_bytes} bytes of sums over ranges of samples")
    try:
        run_planned(kernel, dtype, args)
        if dtype:
            add_up(<double *>args.grad_weight, <const double *>args.partial, args.n_ranges, n)
        else:
            add_up(<float *>args.grad_weight, <const float *>args.partial, args.n_ranges, n)
    finally:
        give(args.partial)


cdef int weight_gradient(shape, grad_output, x, out) except -1:
    cdef cg_conv_grad_weight_args args
    cdef cg_winograd_args wino
    cdef int dtype = dtype_of(out)
    cdef Plan plan
    if cnp.PyArray_DIM(x, 0) == 0:
        return 0
    plan = fill_weight_gradient(shape, grad_output, x, out, &args, &wino)
    if wino.m:
        return winograd.grad_weight(&wino, dtype)
    return direct_weight_gradient(gradient_kernel(plan, &args), dtype, &args, cnp.PyArray_SIZE(out))


def grad_weight(shape, grad_output, x, out):
    """Write the gradient by the weight to `out`; for an empty batch `out` is left alone."""
    weight_gradient(shape, grad_output, x, out)


def grad_bias(grad_output, layout, out):
    """Write the sum of grad_output over all but its channels to `out`; for an empty batch `out` is left alone."""
    cdef bint channels_last = layout == "NHWC"
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(grad_output)
    cdef cg_channel_sum_args args
    if shape[0] == 0:
        return
    memset(&args, 0, sizeof(args))
    args.x, args.out = cnp.PyArray_DATA(grad_output), cnp.PyArray_DATA(out)
    args.at = strides_of(grad_output, channels_last)
    args.N = shape[0]
    args.C = shape[3 if channels_last else 1]
    args.H = shape[1 if channels_last else 2]
    args.W = shape[2 if channels_last else 3]
    execute(CG_KERNEL_channel_sum, dtype_of(out), &args)
