/* One step of an optimizer over many parameters: each array is read once and written once.
 *
 * With g = clamp(grad, low, high) * scale + decay * data and the constants c of each parameter:
 *
 *   SGD            data -= c0 g
 *   momentum       v = c0 v + c1 g; data -= c2 g + c3 v        (c2 = 0, or the learning rate for Nesterov's step)
 *   Adam           m += c0 (g - m); v = c1 v + c2 g^2; data = c3 data - c4 m / (c5 sqrt(v) + c6)
 *   RMSprop        s = c0 s + c1 g^2; data -= c2 g / (sqrt(s) + c3)
 *   RMSprop, full  the same with a += c1 (g - a), b = c5 b + g / (sqrt(max(s - c4 a^2, 0)) + c3); data -= c2 b
 *
 * A block is a run of CG_OPTIMIZER_BLOCK elements of one parameter. Source: see convgrad.optimizers.
 *
 * Where a gradient stays 0, as that of a dead ReLU does, its means decay to denormal numbers, with which a step takes
 * two to five times as long. A step reads and writes those as zero, where the processor can: no sum changes by more
 * than the smallest normal number. Only where what is added to a root of squares is so small that squares below that
 * number count, they are kept.
 */
#define ROOT_FLOOR (REAL_BYTES == 4 ? 0x1p-38 : 0x1p-457) /* 2^25 or 2^54 roots of the smallest normal number */

/* Whether no result of the step depends on denormals by more than rounding. */
static int may_flush(const cg_optimizer_args *a) {
    for (ptrdiff_t i = 0; i < a->n_tensors; i++) {
        const double *c = a->tensor[i].constant;
        if (a->rule == CG_ADAM ? !(c[6] >= ROOT_FLOOR * c[5]) : a->rule >= CG_RMSPROP && !(c[3] >= ROOT_FLOOR))
            return 0;
    }
    return 1;
}

INLINE vec optimizer_update(const int rule, const vec *c, vec g, vec p, vec *s0, vec *s1, vec *s2) {
    if (rule == CG_SGD)
        return p - c[0] * g;
    if (rule == CG_MOMENTUM) {
        *s0 = c[0] * *s0 + c[1] * g;
        return p - (c[2] * g + c[3] * *s0);
    }
    if (rule == CG_ADAM) {
        *s0 += c[0] * (g - *s0);
        *s1 = c[1] * *s1 + c[2] * g * g;
        return c[3] * p - c[4] * *s0 / (c[5] * v_sqrt(*s1) + c[6]);
    }
    *s0 = c[0] * *s0 + c[1] * g * g;
    if (rule == CG_RMSPROP)
        return p - c[2] * g / (v_sqrt(*s0) + c[3]);
    *s1 += c[1] * (g - *s1);
    *s2 = c[5] * *s2 + g / (v_sqrt(v_max(v_zero(), *s0 - c[4] * *s1 * *s1)) + c[3]);
    return p - c[2] * *s2;
}

INLINE void optimizer_run(const int rule, const cg_optimizer_args *a, const cg_tensor *tensor, ptrdiff_t first) {
    const int n_states = rule == CG_SGD ? 0 : rule == CG_ADAM ? 2 : rule == CG_RMSPROP_FULL ? 3 : 1;
    const ptrdiff_t n = MIN(CG_OPTIMIZER_BLOCK, tensor->n - first);
    const REAL low = (REAL)a->low, high = (REAL)a->high, *grad = (const REAL *)tensor->grad + first;
    const vec scale = v_set1((REAL)a->scale), decay = v_set1((REAL)a->decay);
    REAL *data = (REAL *)tensor->data + first, *state[3];
    vec c[7], s[3] = {v_zero(), v_zero(), v_zero()};
    UNROLL for (int j = 0; j < 7; j++) c[j] = v_set1((REAL)tensor->constant[j]);
    UNROLL for (int j = 0; j < 3; j++) state[j] = j < n_states ? (REAL *)tensor->state[j] + first : 0;
    /* The first numbers alone, so that the rest of data is whole lines of the cache, then the last ones. */
    ptrdiff_t i = 0, some = MIN(n, (ptrdiff_t)(-(uintptr_t)data % (LANES * REAL_BYTES) / REAL_BYTES));
    for (int end = 0; end < 2; end++, some = n - i) {
        if (some) {
            vec p = v_load_n(data + i, some), g = v_clamp(v_load_n(grad + i, some), low, high) * scale + decay * p;
            UNROLL for (int j = 0; j < n_states; j++) s[j] = v_load_n(state[j] + i, some);
            v_store_n(data + i, optimizer_update(rule, c, g, p, s, s + 1, s + 2), some);
            UNROLL for (int j = 0; j < n_states; j++) v_store_n(state[j] + i, s[j], some);
            i += some;
        }
        for (; i + LANES <= n; i += LANES) {
            PREFETCH_READ(grad + i + 16 * LANES);
            PREFETCH_READ(data + i + 16 * LANES);
            vec p = v_load(data + i), g = v_clamp(v_load(grad + i), low, high) * scale + decay * p;
            UNROLL for (int j = 0; j < n_states; j++) s[j] = v_load(state[j] + i);
            v_store(data + i, optimizer_update(rule, c, g, p, s, s + 1, s + 2));
            UNROLL for (int j = 0; j < n_states; j++) v_store(state[j] + i, s[j]);
        }
    }
}

static const cg_tensor *tensor_of_block(const cg_optimizer_args *a, ptrdiff_t block) {
    const cg_tensor *tensor = a->tensor + a->n_tensors - 1;
    while (tensor->first_block > block)
        tensor--;
    return tensor;
}

KERNEL_PLAN(optimizer_step) {
    cg_optimizer_args *a = args_;
    a->task.n_blocks = a->n_blocks;
    a->task.scratch_bytes = 0;
    const ptrdiff_t states = a->rule == CG_SGD ? 0 : a->rule == CG_ADAM ? 2 : a->rule == CG_RMSPROP_FULL ? 3 : 1;
    a->task.work = 0.75 * (3 + 2 * states) * a->n_elements; /* LeNet-5: 16 us on one thread, 45 on two */
    a->task.flush = may_flush(a);
}

KERNEL_RUN(optimizer_step) {
    (void)scratch_;
    const cg_optimizer_args *a = args_;
    for (ptrdiff_t block = begin; block < end; block++) {
        const cg_tensor *tensor = tensor_of_block(a, block);
        ptrdiff_t first = (block - tensor->first_block) * CG_OPTIMIZER_BLOCK;
        switch (a->rule) {
        case CG_SGD:
            optimizer_run(CG_SGD, a, tensor, first);
            break;
        case CG_MOMENTUM:
            optimizer_run(CG_MOMENTUM, a, tensor, first);
            break;
        case CG_ADAM:
            optimizer_run(CG_ADAM, a, tensor, first);
            break;
        case CG_RMSPROP:
            optimizer_run(CG_RMSPROP, a, tensor, first);
            break;
        default:
            optimizer_run(CG_RMSPROP_FULL, a, tensor, first);
        }
    }
}

KERNEL_PLAN(gradient_norm) {
    CG_JOIN(optimizer_step_plan__, CG_SUFFIX)(args_);
    ((cg_optimizer_args *)args_)->task.flush = 0;
}

/* Squares are summed in vectors, a run at a time, and the runs in double. */
KERNEL_RUN(gradient_norm) {
    (void)scratch_;
    const cg_optimizer_args *a = args_;
    const REAL low = (REAL)a->low, high = (REAL)a->high;
    for (ptrdiff_t block = begin; block < end; block++) {
        const cg_tensor *tensor = tensor_of_block(a, block);
        ptrdiff_t first = (block - tensor->first_block) * CG_OPTIMIZER_BLOCK;
        const REAL *grad = (const REAL *)tensor->grad + first;
        const ptrdiff_t n = MIN(CG_OPTIMIZER_BLOCK, tensor->n - first);
        double total = 0;
        for (ptrdiff_t start = 0; start < n; start += ROW_RUN) {
            vec sum = v_zero();
            for (ptrdiff_t i = start; i < MIN(start + ROW_RUN, n); i += LANES) {
                vec g = v_clamp(v_load_some(grad + i, MIN(LANES, n - i)), low, high);
                sum += g * g;
            }
            total += v_sum(sum);
        }
        a->totals[block] = total;
    }
}
