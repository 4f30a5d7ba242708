/* Winograd's algorithm for groups of channels: a block of the work is a group, which one thread takes through all
 * kernels of conv_winograd.inc.h or conv_winograd_grad.inc.h in scratch of its own. They sum as they do when called for
 * one group after the other.
 */
#define GROUP_TILES 192 /* gradient by the weight: at most so many are transformed at once, more in ranges */
#define PLAN(kernel, args) CG_JOIN(kernel##_plan__, CG_SUFFIX)(args)

/* The arguments for one group. */
static cg_winograd_args group_args(const cg_winograd_args *a, ptrdiff_t group) {
    cg_winograd_args one = *a;
    ptrdiff_t of_y = group * a->K * a->y_at.stride_c;
    one.task.threads = 1;
    one.x = (const REAL *)a->x + group * a->C * a->x_at.stride_c;
    if (a->grad_output) { /* then y is the gradient by the weight */
        one.grad_output = (const REAL *)a->grad_output + of_y;
        one.y = (REAL *)a->y + group * a->w_group;
        return one;
    }
    one.weight = (const REAL *)a->weight + group * a->w_group;
    one.y = (REAL *)a->y + of_y;
    if (a->bias)
        one.bias = (const REAL *)a->bias + group * a->K;
    if (a->residual)
        one.residual = (const REAL *)a->residual + of_y;
    return one;
}

INLINE size_t point_bytes(const cg_winograd_args *a, ptrdiff_t point) {
    return round_up(point * a->points * sizeof(REAL), 64);
}

KERNEL_PLAN(winograd_groups) {
    cg_winograd_args *a = args_, one = group_args(a, 0);
    PLAN(winograd_weights, &one);
    a->task.work = one.task.work;
    a->v_at = point_bytes(&one, one.point_u);
    PLAN(winograd_fused, &one);
    a->task.work = a->groups * (a->task.work + one.task.work);
    a->task.scratch_bytes = a->v_at + one.task.scratch_bytes;
    a->task.n_blocks = a->groups;
    a->block_rows = one.block_rows;
    a->block_cols = one.block_cols;
}

KERNEL_RUN(winograd_groups) {
    const cg_winograd_args *a = args_;
    for (ptrdiff_t group = begin; group < end; group++) {
        cg_winograd_args one = group_args(a, group);
        one.u = scratch_;
        WHOLE(winograd_weights, &one, NULL);
        WHOLE(winograd_fused, &one, (char *)scratch_ + a->v_at);
    }
}

/* a->range_tiles: tiles of a range of whole tile rows. a->n_sums: not 0 where the sums are those of grad_ranges. */
KERNEL_PLAN(winograd_grad_groups) {
    cg_winograd_args *a = args_, one = group_args(a, 0);
    size_t stage;
    winograd_geometry(&one);
    ptrdiff_t rows = one.row1, most = a->range_tiles / one.tile_cols;
    a->task.n_blocks = a->groups;
    if (a->n_sums) {
        PLAN(winograd_grad_ranges, &one);
        a->u_at = 0;
        a->stage_at = one.n_sums * point_bytes(&one, winograd_point_du(&one));
        a->task.scratch_bytes = a->stage_at + one.task.scratch_bytes;
        a->task.work = one.task.work * a->groups;
        return;
    }
    a->block_rows = rows * one.tile_cols <= MAX(GROUP_TILES, a->range_tiles) ? rows : most;
    one.row1 = a->block_rows;
    PLAN(winograd_input, &one);
    a->m_at = point_bytes(&one, one.point_v);
    stage = one.task.scratch_bytes;
    a->task.work = one.task.work;
    PLAN(winograd_grad_output, &one);
    a->u_at = a->m_at + point_bytes(&one, one.point_g);
    stage = MAX(stage, one.task.scratch_bytes);
    a->task.work += one.task.work;
    if (a->block_rows == rows)
        PLAN(winograd_grad_fused, &one);
    else
        PLAN(winograd_grad_products, &one);
    stage = MAX(stage, one.task.scratch_bytes);
    a->stage_at = a->u_at + (a->block_rows == rows ? 0 : point_bytes(&one, one.point_u));
    a->task.scratch_bytes = a->stage_at + stage;
    a->task.work = (a->task.work + one.task.work) * a->groups * ceil_div(rows, a->block_rows);
}

KERNEL_RUN(winograd_grad_groups) {
    const cg_winograd_args *a = args_;
    char *scratch = scratch_, *stage = scratch + a->stage_at;
    for (ptrdiff_t group = begin; group < end; group++) {
        cg_winograd_args one = group_args(a, group);
        winograd_geometry(&one);
        ptrdiff_t rows = one.row1;
        one.v = scratch;
        one.g = scratch + a->m_at;
        one.du = scratch + a->u_at;
        if (a->n_sums) {
            WHOLE(winograd_grad_ranges, &one, stage);
            WHOLE(winograd_grad_weight, &one, stage);
            continue;
        }
        for (one.row0 = 0; one.row0 < rows; one.row0 = one.row1) {
            one.row1 = MIN(rows, one.row0 + a->block_rows);
            one.add = one.row0 > 0;
            WHOLE(winograd_input, &one, stage);
            WHOLE(winograd_grad_output, &one, stage);
            if (a->block_rows == rows)
                WHOLE(winograd_grad_fused, &one, stage);
            else
                WHOLE(winograd_grad_products, &one, stage);
        }
        if (a->block_rows < rows)
            WHOLE(winograd_grad_weight, &one, stage);
    }
}
#undef PLAN
