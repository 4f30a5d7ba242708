"""Winograd convolution as sequences of kernels: transform, multiply, transform back. See csrc/conv_winograd.inc.h.

Buffers that threads share come from the pool: transformed weights up to U_BYTES where they are kept whole, transformed inputs and
gradients up to V_BYTES each, products up to DU_BYTES; larger problems are cut into ranges of tile rows and of output channels.
"""

from .kernels cimport (
    CG_KERNEL_winograd_fused, CG_KERNEL_winograd_grad_output, CG_KERNEL_winograd_grad_products,
    CG_KERNEL_winograd_grad_weight, CG_KERNEL_winograd_input, CG_KERNEL_winograd_multiply, CG_KERNEL_winograd_weights,
    cg_winograd_args,
)
from .memory cimport give, take
from .runtime cimport execute, tables

cdef enum:
    U_BYTES = 2621440  # 2.5 MB: 128 x 128 channels in float32
    V_BYTES = 10485760  # 10 MB
    DU_BYTES = 9437184  # 9 MB
    MULTIPLY_TILES = 192  # of one range: more would push the products out of L2
    GRADIENT_TILES = 192
    PAD = 1024  # elements by which a buffer may exceed the plain product of its sizes, for each point


cdef inline ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) noexcept:
    return (a + b - 1) // b * b


cdef void *buffer(size_t n_bytes) except NULL:
    cdef void *data = take(n_bytes)
    if data == NULL:
        raise MemoryError(f"convgrad: no memory for {n_bytes} bytes of Winograd scratch")
    return data


cdef int correlate(cg_winograd_args *args, int dtype) except -1:
    """Forward, or with args.flip the gradient by the input."""
    cdef ptrdiff_t size = 8 if dtype else 4, points = (args.m + 2) * (args.m + 2), lanes = tables[dtype].lanes
    cdef ptrdiff_t u_bytes = points * (round_up(args.K, 4 * lanes) * args.C + PAD) * size
    cdef ptrdiff_t tile_cols = (args.OW + args.m - 1) // args.m, rows = args.N * ((args.OH + args.m - 1) // args.m)
    cdef ptrdiff_t most, row
    if u_bytes <= U_BYTES:
        args.u = buffer(u_bytes)
        try:
            execute(CG_KERNEL_winograd_weights, dtype, args)
            execute(CG_KERNEL_winograd_fused, dtype, args)
        finally:
            give(args.u)
        return 0
    most = min(MULTIPLY_TILES, V_BYTES // (points * round_up(args.C, lanes) * size))
    most = min(rows, max(1, most // tile_cols))
    args.v = buffer(points * (round_up(args.C, lanes) * most * tile_cols + PAD) * size)
    try:
        for row in range(0, rows, most):
            args.row0, args.row1 = row, min(rows, row + most)
            execute(CG_KERNEL_winograd_input, dtype, args)
            execute(CG_KERNEL_winograd_multiply, dtype, args)
    finally:
        give(args.v)
    return 0


cdef int grad_weight(cg_winograd_args *args, int dtype) except -1:
    """Gradient by the weight: ranges of k, in each all ranges of tile rows in order."""
    cdef ptrdiff_t size = 8 if dtype else 4, points = (args.m + 2) * (args.m + 2), lanes = tables[dtype].lanes
    cdef ptrdiff_t C = round_up(args.C, lanes), rows = args.N * ((args.OH + args.m - 1) // args.m)
    cdef ptrdiff_t tile_cols = (args.OW + args.m - 1) // args.m
    cdef ptrdiff_t k_step = max(4 * lanes, DU_BYTES // (points * C * size) // (4 * lanes) * (4 * lanes))
    cdef ptrdiff_t most, k, row
    k_step = min(k_step, round_up(args.K, lanes))
    most = min(GRADIENT_TILES, V_BYTES // (points * max(C, k_step) * size))
    most = min(rows, max(1, most // tile_cols))
    args.v = args.g = args.du = NULL
    try:
        args.v = buffer(points * (C * most * tile_cols + PAD) * size)
        args.g = buffer(points * (k_step * most * tile_cols + PAD) * size)
        args.du = buffer(points * ((k_step + 16) * C + PAD) * size)
        for k in range(0, args.K, k_step):
            args.k0, args.k1 = k, min(args.K, k + k_step)
            for row in range(0, rows, most):
                args.row0, args.row1 = row, min(rows, row + most)
                args.add = row > 0
                if k == 0 or most < rows:  # one range of rows serves all ranges of k
                    execute(CG_KERNEL_winograd_input, dtype, args)
                execute(CG_KERNEL_winograd_grad_output, dtype, args)
                execute(CG_KERNEL_winograd_grad_products, dtype, args)
            execute(CG_KERNEL_winograd_grad_weight, dtype, args)
    finally:
        if args.v != NULL:
            give(args.v)
        if args.g != NULL:
            give(args.g)
        if args.du != NULL:
            give(args.du)
    return 0
