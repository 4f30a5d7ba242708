/* The gradients of a fully connected layer: two products and a sum of rows, in one parallel loop.
 *
 * Blocks are counted in those of the part that has most; of every part, begin .. end are the same share. A thread
 * so gets as much of each part as of the others, and waking threads is paid for once.
 */
INLINE ptrdiff_t part_of_blocks(const cg_task *part, const cg_linear_backward_args *a, ptrdiff_t block) {
    return a->task.n_blocks ? part->n_blocks * block / a->task.n_blocks : 0;
}

KERNEL_PLAN(linear_backward) {
    cg_linear_backward_args *a = args_;
    cg_task *part[] = {&a->input.task, &a->weight.task, &a->bias.task};
    for (int i = 0; i < 3; i++)
        part[i]->threads = a->task.threads;
    if (a->input.c)
        CG_JOIN(gemm_plan__, CG_SUFFIX)(&a->input);
    if (a->weight.c)
        CG_JOIN(gemm_plan__, CG_SUFFIX)(&a->weight);
    if (a->bias.out)
        CG_JOIN(channel_sum_plan__, CG_SUFFIX)(&a->bias);
    a->task.n_blocks = 0, a->task.scratch_bytes = 0, a->task.work = 0;
    for (int i = 0; i < 3; i++) {
        a->task.n_blocks = MAX(a->task.n_blocks, part[i]->n_blocks);
        a->task.scratch_bytes = MAX(a->task.scratch_bytes, part[i]->scratch_bytes);
        a->task.work += part[i]->work;
    }
}

KERNEL_RUN(linear_backward) {
    const cg_linear_backward_args *a = args_;
    const cg_task *input = &a->input.task, *weight = &a->weight.task, *bias = &a->bias.task;
    CG_JOIN(gemm_run__, CG_SUFFIX)(&a->input, part_of_blocks(input, a, begin), part_of_blocks(input, a, end), scratch_);
    CG_JOIN(gemm_run__, CG_SUFFIX)
    (&a->weight, part_of_blocks(weight, a, begin), part_of_blocks(weight, a, end), scratch_);
    CG_JOIN(channel_sum_run__, CG_SUFFIX)
    (&a->bias, part_of_blocks(bias, a, begin), part_of_blocks(bias, a, end), scratch_);
}
