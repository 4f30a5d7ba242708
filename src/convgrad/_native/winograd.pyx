"""Winograd convolution as sequences of kernels: transform, multiply, transform back. See csrc/conv_winograd.inc.h.

Buffers that threads share come from the pool: transformed weights up to U_BYTES where they are kept whole, transformed
inputs up to V_BYTES, and for the gradient by the weight everything up to SHARED_BYTES, of that products up to DU_BYTES;
larger problems are cut into ranges of tile rows and of output channels. Of several groups of channels each is taken by
one thread through all steps where its buffers fit GROUP_BYTES and there are enough groups, else by all threads, one
group after the other.
"""

from .kernels cimport (
    CG_KERNEL_winograd_fused, CG_KERNEL_winograd_grad_fused, CG_KERNEL_winograd_grad_output,
    CG_KERNEL_winograd_grad_groups, CG_KERNEL_winograd_grad_products, CG_KERNEL_winograd_grad_ranges,
    CG_KERNEL_winograd_grad_weight, CG_KERNEL_winograd_groups, CG_KERNEL_winograd_input, CG_KERNEL_winograd_multiply,
    CG_KERNEL_winograd_weights, cg_winograd_args,
)
from .memory cimport give, take
from .runtime cimport execute, plan, tables, threads_for

cdef enum:
    U_BYTES = 2621440  # 2.5 MB: 128 x 128 channels in float32
    V_BYTES = 10485760  # 10 MB
    DU_BYTES = 9437184  # 9 MB
    SHARED_BYTES = 20447232  # 19.5 MB
    GROUP_BYTES = 2097152
    MULTIPLY_TILES = 152  # of one range: more would push the products out of L2
    GRADIENT_TILES = 192  # at most so many are taken at once; more in ranges of
    RANGE_TILES = 96
    OWN_TILES = 64  # of a range that one thread takes through all steps
    OWN_AXIS_TILES = 192  # the same along one axis: there are fewer points
    OWN_PRODUCTS = 262144  # along one axis, bytes at most: more are better added to in memory that threads share
    OWN_BYTES = 2202009  # at most: its inputs, gradients and products
    OWN_SUMS = 8  # of products: up to as many ranges are added up in the same order by either way
    OWN_RANGES = 2  # at least, for several threads
    GROUP_RANGES = 4  # the same in several groups of channels
    RANGE_BYTES = 524288  # of one point of a range, where only one axis is transformed: there are few points
    PAD = 1024  # elements by which a buffer may exceed the plain product of its sizes, for each point
    ROWS = 1  # cg_winograd_args.axis
    COLS = 2


cdef inline ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) noexcept:
    return (a + b - 1) // b * b


cdef void *buffer(size_t n_bytes) except NULL:
    cdef void *data = take(n_bytes)
    if data == NULL:
        raise MemoryError(f"convgrad: no memory for {n_bytes} bytes of Winograd scratch")
    return data


cdef ptrdiff_t n_points(const cg_winograd_args *args) noexcept:
    if args.axis:
        return args.m - 1 + (args.R if args.axis == ROWS else args.S)
    return (args.m + 2) * (args.m + 2)


cdef ptrdiff_t sums(const cg_winograd_args *args) noexcept:
    """Kernel rows that are summed over."""
    return args.R if args.axis == COLS else 1


cdef ptrdiff_t tile_rows(const cg_winograd_args *args) noexcept:
    return args.N * (args.OH if args.axis == COLS else (args.OH + args.m - 1) // args.m)


cdef ptrdiff_t tile_cols(const cg_winograd_args *args) noexcept:
    return args.OW if args.axis == ROWS else (args.OW + args.m - 1) // args.m


cdef size_t whole_weights_bytes(const cg_winograd_args *args, int dtype) noexcept:
    """Bytes of all transformed weights, or 0 where they are too large to be kept whole or of several groups. Rows of
    very many tiles are for the kernel that cuts them."""
    cdef ptrdiff_t size = 8 if dtype else 4, K = round_up(args.K, 4 * tables[dtype].lanes)
    cdef size_t n_bytes = n_points(args) * (K * args.C * sums(args) + PAD) * size
    if args.groups > 1:
        return 0
    return n_bytes if n_bytes <= U_BYTES or (args.axis and tile_cols(args) > MULTIPLY_TILES) else 0


cdef int transform_weights(cg_winograd_args *args, int dtype) except -1:
    """Fill args.u, which holds whole_weights_bytes."""
    return execute(CG_KERNEL_winograd_weights, dtype, args)


cdef ptrdiff_t rows_at_once(
    const cg_winograd_args *args, int dtype, ptrdiff_t channels, ptrdiff_t tiles, ptrdiff_t n_bytes
) noexcept:
    """Tile rows whose transformed data takes at most n_bytes and `tiles` tiles, at least one."""
    cdef ptrdiff_t size = 8 if dtype else 4
    tiles = min(tiles, n_bytes // (n_points(args) * channels * size))
    return min(tile_rows(args), max(1, tiles // tile_cols(args)))


cdef size_t shared_bytes(const cg_winograd_args *args, int dtype, ptrdiff_t channels, ptrdiff_t rows) noexcept:
    cdef ptrdiff_t size = 8 if dtype else 4, per_sample = tile_rows(args) // args.N
    rows += (sums(args) - 1) * min(args.N, (rows + 2 * per_sample - 2) // per_sample)
    return n_points(args) * (channels * rows * tile_cols(args) + PAD) * size


cdef bint group_by_thread(int kernel, cg_winograd_args *args, int dtype) noexcept:
    """Whether each group is for one thread. The bits are the same either way."""
    plan(kernel, dtype, args)
    if args.task.scratch_bytes > GROUP_BYTES:
        return False
    return threads_for(&args.task) == 1 or args.groups >= 4 * args.task.threads or args.groups % args.task.threads == 0


cdef cg_winograd_args group_of(const cg_winograd_args *args, int dtype, ptrdiff_t group) noexcept:
    """The arguments for one group alone."""
    cdef cg_winograd_args one = args[0]
    cdef ptrdiff_t size = 8 if dtype else 4, of_y = group * args.K * args.y_at.stride_c * size
    one.groups = 1
    one.n_sums = 0
    one.x = <const char *>args.x + group * args.C * args.x_at.stride_c * size
    if args.grad_output != NULL:  # then y is the gradient by the weight
        one.grad_output = <const char *>args.grad_output + of_y
        one.y = <char *>args.y + group * args.w_group * size
        return one
    one.weight = <const char *>args.weight + group * args.w_group * size
    one.y = <char *>args.y + of_y
    if args.bias != NULL:
        one.bias = <const char *>args.bias + group * args.K * size
    if args.residual != NULL:
        one.residual = <const char *>args.residual + of_y
    return one


cdef int correlate(cg_winograd_args *args, int dtype) except -1:
    """Forward, or with args.flip the gradient by the input. args.u: weights already transformed, or NULL."""
    cdef ptrdiff_t channels = round_up(args.C, tables[dtype].lanes), rows = tile_rows(args), most, row
    cdef size_t u_bytes = whole_weights_bytes(args, dtype)
    cdef bint given = args.u != NULL
    cdef cg_winograd_args one
    cdef ptrdiff_t group
    if args.groups > 1:
        if group_by_thread(CG_KERNEL_winograd_groups, args, dtype):
            return execute(CG_KERNEL_winograd_groups, dtype, args)
        for group in range(args.groups):
            one = group_of(args, dtype, group)
            correlate(&one, dtype)
        return 0
    if u_bytes:
        if not given:
            args.u = buffer(u_bytes)
        try:
            if not given:
                transform_weights(args, dtype)
            execute(CG_KERNEL_winograd_fused, dtype, args)
        finally:
            if not given:
                give(args.u)
        return 0
    most = rows_at_once(args, dtype, channels, MULTIPLY_TILES, V_BYTES)
    args.v = buffer(shared_bytes(args, dtype, channels, most))
    try:
        for row in range(0, rows, most):
            args.row0, args.row1 = row, min(rows, row + most)
            execute(CG_KERNEL_winograd_input, dtype, args)
            execute(CG_KERNEL_winograd_multiply, dtype, args)
    finally:
        give(args.v)
    return 0


cdef ptrdiff_t channels_at_once(const cg_winograd_args *args, int dtype) noexcept:
    """Output channels whose products with all input channels take at most DU_BYTES, at least one tile of them."""
    cdef ptrdiff_t size = 8 if dtype else 4, lanes = tables[dtype].lanes
    cdef ptrdiff_t row = n_points(args) * sums(args) * round_up(args.C, lanes) * size
    cdef ptrdiff_t channels = DU_BYTES // row // (4 * lanes) * (4 * lanes)
    return min(max(4 * lanes, channels), round_up(args.K, lanes))


cdef size_t products_bytes(const cg_winograd_args *args, int dtype, ptrdiff_t channels, ptrdiff_t k_step) noexcept:
    return n_points(args) * sums(args) * ((k_step + 16) * channels + PAD) * (8 if dtype else 4)


cdef ptrdiff_t gradient_rows(const cg_winograd_args *args, int dtype, ptrdiff_t C, ptrdiff_t k_step) noexcept:
    """Tile rows at a time: transformed inputs and gradients take what the products leave."""
    cdef ptrdiff_t left = SHARED_BYTES - <ptrdiff_t>products_bytes(args, dtype, C, k_step)
    cdef ptrdiff_t tiles = RANGE_BYTES // ((C + k_step) * (8 if dtype else 4)) if args.axis else RANGE_TILES
    return rows_at_once(args, dtype, C + k_step, max(tiles, RANGE_TILES), left)


cdef bint tiles_apart(cg_winograd_args *args, int dtype) noexcept:
    """Set args.range_tiles, by which the sums of the gradient by the weight are cut. Whether each thread is to take
    ranges of its own, which fit its cache together with their products, through all steps: the more there are, the less
    it costs to add up their sums; few are for several threads only."""
    cdef ptrdiff_t C = round_up(args.C, tables[dtype].lanes), K = round_up(args.K, tables[dtype].lanes)
    cdef ptrdiff_t size = 8 if dtype else 4, cols = tile_cols(args), products = C * K * sums(args), rows = OWN_TILES
    if args.axis:
        rows = OWN_AXIS_TILES
    rows = max(1, rows // cols)
    if (
        n_points(args) * size * ((C + K) * rows * cols + products) > OWN_BYTES
        or (args.axis and n_points(args) * size * products > OWN_PRODUCTS)
    ):
        args.range_tiles = gradient_rows(args, dtype, C, channels_at_once(args, dtype)) * cols
        return False
    args.range_tiles = rows * cols
    if tile_rows(args) > OWN_SUMS * rows:
        return True
    if args.groups > 1:
        return tile_rows(args) >= GROUP_RANGES * rows
    plan(CG_KERNEL_winograd_grad_ranges, dtype, args)
    args.n_sums = 0
    return tile_rows(args) >= OWN_RANGES * rows and threads_for(&args.task) > 1


cdef bint all_tiles_at_once(cg_winograd_args *args, int dtype) noexcept:
    """Whether the transforms of all tiles and channels fit the shared buffers, with enough blocks for all threads."""
    cdef ptrdiff_t lanes = tables[dtype].lanes, rows = tile_rows(args)
    cdef ptrdiff_t channels = round_up(args.C, lanes) + round_up(args.K, lanes)
    if rows_at_once(args, dtype, channels, GRADIENT_TILES, SHARED_BYTES) < rows:
        return False
    plan(CG_KERNEL_winograd_grad_fused, dtype, args)
    return args.task.n_blocks >= 2 * args.task.threads or threads_for(&args.task) == 1


cdef void give_all(const cg_winograd_args *args) noexcept:
    if args.v != NULL:
        give(args.v)
    if args.g != NULL:
        give(args.g)
    if args.du != NULL:
        give(args.du)


cdef int grad_weight(cg_winograd_args *args, int dtype) except -1:
    """Gradient by the weight: all tiles at once, or ranges of k, in each all ranges of tile rows in order. The bits are
    the same either way."""
    cdef ptrdiff_t C = round_up(args.C, tables[dtype].lanes), rows = tile_rows(args), k, row
    cdef ptrdiff_t k_step = channels_at_once(args, dtype)
    cdef bint apart = tiles_apart(args, dtype), at_once
    cdef ptrdiff_t most = min(rows, args.range_tiles // tile_cols(args)), group
    cdef cg_winograd_args one
    if args.groups > 1:
        args.n_sums = apart
        if group_by_thread(CG_KERNEL_winograd_grad_groups, args, dtype):
            return execute(CG_KERNEL_winograd_grad_groups, dtype, args)
        for group in range(args.groups):
            one = group_of(args, dtype, group)
            grad_weight(&one, dtype)
        return 0
    at_once = all_tiles_at_once(args, dtype)
    if apart:
        plan(CG_KERNEL_winograd_grad_ranges, dtype, args)
        args.du = buffer(args.n_sums * products_bytes(args, dtype, C, k_step))
        try:
            execute(CG_KERNEL_winograd_grad_ranges, dtype, args)
            execute(CG_KERNEL_winograd_grad_weight, dtype, args)
        finally:
            give(args.du)
        return 0
    if at_once:
        k_step, most = round_up(args.K, tables[dtype].lanes), rows
    args.v = args.g = args.du = NULL
    try:
        args.v = buffer(shared_bytes(args, dtype, C, most))
        args.g = buffer(shared_bytes(args, dtype, k_step, most))
        if at_once:
            execute(CG_KERNEL_winograd_input, dtype, args)
            execute(CG_KERNEL_winograd_grad_output, dtype, args)
            execute(CG_KERNEL_winograd_grad_fused, dtype, args)
            return 0
        args.du = buffer(products_bytes(args, dtype, C, k_step))
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
        give_all(args)
    return 0


cdef size_t scratch_of(cg_winograd_args *args, int dtype, tuple kernels):
    """The most that a thread takes in any of these kernels; the last one stays planned."""
    cdef size_t most = 0
    for kernel in kernels:
        plan(kernel, dtype, args)
        most = max(most, args.task.scratch_bytes)
    return most


cdef list describe(cg_winograd_args *args, int dtype, bint weight_gradient):
    """[blocking, shared bytes, scratch bytes a thread, threads] of a call, for `explain_conv2d`."""
    cdef ptrdiff_t C = round_up(args.C, tables[dtype].lanes), rows, k_step
    cdef size_t u_bytes
    cdef int by_group = CG_KERNEL_winograd_grad_groups if weight_gradient else CG_KERNEL_winograd_groups
    cdef bint apart = weight_gradient and tiles_apart(args, dtype)
    cdef cg_winograd_args one
    if args.groups > 1:
        args.n_sums = apart
        if group_by_thread(by_group, args, dtype):
            return ["each group by one thread", 0, args.task.scratch_bytes, threads_for(&args.task)]
        one = group_of(args, dtype, 0)
        blocking, *rest = describe(&one, dtype, weight_gradient)
        return [f"one group after the other, {blocking}", *rest]
    u_bytes = whole_weights_bytes(args, dtype)
    if apart:
        plan(CG_KERNEL_winograd_grad_ranges, dtype, args)
        return [
            f"each thread ranges of {args.range_tiles} tiles of its own, {args.n_sums} sums of products",
            args.n_sums * products_bytes(args, dtype, C, channels_at_once(args, dtype)), args.task.scratch_bytes,
            threads_for(&args.task),
        ]
    if weight_gradient and all_tiles_at_once(args, dtype):
        rows = tile_rows(args)
        scratch = scratch_of(
            args, dtype, (CG_KERNEL_winograd_input, CG_KERNEL_winograd_grad_output, CG_KERNEL_winograd_grad_fused)
        )
        return [
            "all tiles at once, blocks of channels by channels",
            shared_bytes(args, dtype, C, rows) + shared_bytes(args, dtype, round_up(args.K, tables[dtype].lanes), rows),
            scratch, threads_for(&args.task),
        ]
    if weight_gradient:
        k_step = channels_at_once(args, dtype)
        rows = min(tile_rows(args), args.range_tiles // tile_cols(args))
        args.row1, args.k1 = rows, min(args.K, k_step)
        scratch = scratch_of(
            args, dtype,
            (CG_KERNEL_winograd_input, CG_KERNEL_winograd_grad_output, CG_KERNEL_winograd_grad_products),
        )
        return [
            f"{rows} tile rows and {args.k1} output channels at a time",
            shared_bytes(args, dtype, C, rows) + shared_bytes(args, dtype, k_step, rows)
            + products_bytes(args, dtype, C, k_step),
            scratch, threads_for(&args.task),
        ]
    if u_bytes:
        plan(CG_KERNEL_winograd_fused, dtype, args)
        return [
            f"transformed weights kept whole, blocks of {args.block_rows} x {args.block_cols} tiles",
            u_bytes, args.task.scratch_bytes, threads_for(&args.task),
        ]
    rows = rows_at_once(args, dtype, C, MULTIPLY_TILES, V_BYTES)
    args.row1 = rows
    scratch = scratch_of(args, dtype, (CG_KERNEL_winograd_input, CG_KERNEL_winograd_multiply))
    return [
        f"weight-stationary: {rows} tile rows at a time, weights transformed as they are used",
        shared_bytes(args, dtype, C, rows), scratch, threads_for(&args.task),
    ]
