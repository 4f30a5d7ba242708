"""Convolution with weights packed once, and an account of how a convolution would be computed."""

cimport numpy as cnp

from .conv cimport direct_kernel, dtype_of, fill, fill_weight_gradient, gradient_kernel, shared_weights
from .conv_plan cimport FORWARD, GRAD_WEIGHT, Plan, plan_of
from .kernels cimport (
    CG_KERNEL_conv_correlate, CG_KERNEL_conv_grad_weight, CG_KERNEL_conv_pack, cg_conv_args, cg_conv_grad_weight_args,
    cg_winograd_args,
)
from .memory cimport give, take
from .runtime cimport execute, threads_for
from .runtime cimport plan as plan_kernel
from . cimport winograd

from ..precision import is_strict

cnp.import_array()


cdef class PackedWeights:
    """The weights of one convolution in the form that its kernel reads, for any batch size."""

    cdef void *data
    cdef bint strict  # the precision it was packed for

    def __dealloc__(self):
        if self.data != NULL:
            give(self.data)

    def is_whole(self):
        """Whether calls read nothing but what is packed."""
        return self.data != NULL


def pack(shape, x, weight, out):
    """Pack `weight` for the convolution of `shape`; x and out are contiguous arrays of one call's shapes, not read."""
    cdef cg_conv_args args
    cdef cg_winograd_args wino
    cdef int dtype = dtype_of(out)
    cdef bint strict = is_strict()
    cdef Plan plan = fill(shape, FORWARD, x, weight, None, 0, 0.0, out, &args, &wino, strict)
    cdef PackedWeights packed = PackedWeights()
    cdef size_t n_bytes
    packed.strict = strict
    if wino.m:
        n_bytes = winograd.whole_weights_bytes(&wino, dtype)
    else:
        args.all_packed = True
        plan_kernel(CG_KERNEL_conv_pack, dtype, &args)
        n_bytes = args.packed_bytes
    if n_bytes == 0 or (not wino.m and direct_kernel(plan, &args) != CG_KERNEL_conv_correlate):
        return packed  # transformed as they are used: keeping them would cost more memory traffic than it saves
    packed.data = take(n_bytes)
    if packed.data == NULL:
        raise MemoryError(f"prepack_conv2d: no memory for {n_bytes} bytes of packed weights")
    if wino.m:
        wino.u = packed.data
        winograd.transform_weights(&wino, dtype)
    else:
        args.packed = packed.data
        execute(CG_KERNEL_conv_pack, dtype, &args)
    return packed


def may_shuffle(shape):
    """Whether `forward_packed` takes `shuffle` for NCHW images of this shape."""
    cdef Plan plan = plan_of(shape, FORWARD, True)
    return plan.depthwise and not plan.m and not plan.channels_last


def forward_packed(
    shape, PackedWeights packed, x, weight, bias, int activation, double parameter, out, residual=None,
    ptrdiff_t shuffle=0,
):
    """`forward` of a contiguous x with weights that `pack` packed; `weight` and `bias` are the contiguous originals.

    `residual`, contiguous, of the shape of out, is added before the activation; NCHW only. It is apart from out, or out
    itself where `adds_in_place`. With `shuffle`, where `may_shuffle`, x's channels lie in that many groups and are
    taken from each group in turn.
    """
    cdef cg_conv_args args
    cdef cg_winograd_args wino
    cdef int dtype = dtype_of(out)
    cdef Plan plan
    if cnp.PyArray_DIM(x, 0) == 0:
        return
    plan = fill(shape, FORWARD, x, weight, bias, activation, parameter, out, &args, &wino, packed.strict)
    if residual is not None:
        args.residual = wino.residual = cnp.PyArray_DATA(residual)
    if wino.m:
        wino.u = packed.data
        winograd.correlate(&wino, dtype)
        return
    args.packed = packed.data
    args.all_packed = packed.data != NULL
    args.shuffle = shuffle
    execute(direct_kernel(plan, &args), dtype, &args)


def adds_in_place(shape, PackedWeights packed, x, weight, out):
    """Whether the residual of `forward_packed` may be `out`; x and out are contiguous arrays of the call's shapes."""
    cdef cg_conv_args args
    cdef cg_winograd_args wino
    cdef Plan plan = fill(shape, FORWARD, x, weight, None, 0, 0.0, out, &args, &wino, packed.strict)
    if wino.m or direct_kernel(plan, &args) != CG_KERNEL_conv_correlate:
        return False
    args.all_packed = packed.data != NULL
    plan_kernel(CG_KERNEL_conv_correlate, dtype_of(out), &args)
    return args.in_place != 0


def explain(shape, int direction, x, weight, out):
    """How a call of this shape would be computed; direction 0: forward, 1: by the input, 2: by the weight.

    x, weight and out are arrays of the right shape, not read: for direction 1 x is grad_output and out grad_input; for
    2 out is grad_output.
    """
    cdef cg_conv_args args
    cdef cg_winograd_args wino
    cdef cg_conv_grad_weight_args grad
    cdef int dtype = dtype_of(out)
    cdef Plan plan
    if direction == GRAD_WEIGHT:
        plan = fill_weight_gradient(shape, out, x, weight, &grad, &wino)
    else:
        plan = fill(shape, direction, x, weight, None, 0, 0.0, out, &args, &wino, is_strict())
    if wino.m:
        blocking, shared, scratch, n_threads = winograd.describe(&wino, dtype, direction == GRAD_WEIGHT)
        algorithm = (
            f"winograd F({wino.m}, {wino.R if wino.axis == 1 else wino.S}) along {('rows', 'columns')[wino.axis - 1]}"
            if wino.axis else f"winograd F({wino.m}x{wino.m}, 3x3)"
        )
    elif direction == GRAD_WEIGHT:
        plan_kernel(gradient_kernel(plan, &grad), dtype, &grad)
        along = grad.dot_products or grad.along_pixels
        algorithm = "direct, sums along pixels" if along else "direct, vectors over output channels"
        if gradient_kernel(plan, &grad) != CG_KERNEL_conv_grad_weight:
            algorithm = "direct, depthwise"
        blocking = f"{grad.k_block} output channels x {grad.c_block} weights of each"
        shared, scratch, n_threads = 0, grad.task.scratch_bytes, threads_for(&grad.task)
    else:
        shared = shared_weights(direct_kernel(plan, &args), dtype, &args)
        plan_kernel(direct_kernel(plan, &args), dtype, &args)
        over = "samples" if args.by_samples else "pixels" if args.vectors_over_pixels else "output channels"
        algorithm = f"direct, vectors over {over}"
        if direct_kernel(plan, &args) != CG_KERNEL_conv_correlate:
            algorithm = "direct, depthwise"
        blocking = (
            f"{args.block_n} samples x {args.block_rows} rows x {args.block_cols} columns x "
            f"{min(args.k_group, args.K)} output channels, {args.c_chunk} input channels at a time"
        )
        scratch, n_threads = args.task.scratch_bytes, threads_for(&args.task)
    return {
        "algorithm": algorithm, "blocking": blocking, "shared_bytes": shared, "scratch_bytes": scratch,
        "threads": n_threads,
    }
