/* Activations and their derivatives.
 *
 *   value      y = a(x)
 *   backward   grad_input = grad_output * a'(.), one read of each operand, one write, in place allowed
 *
 * The derivative is taken from the output y of sigmoid, tanh, relu, leaky_relu, elu and selu, and from the input x of
 * softplus, silu and gelu. The switch over activations stands outside the loops: each loop is compiled for one of them.
 * Exponentials are taken of -|x|, which cannot overflow.
 *
 * Sources. elu: Clevert et al. (2015), arXiv 1511.07289, eq. 15. selu: Klambauer et al. (2017), arXiv 1706.02515,
 * eq. 2. silu: Elfwing et al. (2017), arXiv 1702.03118, eq. 5. gelu: Hendrycks and Gimpel (2016), arXiv 1606.08415.
 */
#define SELU_LAMBDA 1.0507009873554805
#define SELU_LAMBDA_ALPHA 1.7580993408473766
#define SELU_LAMBDA_ALPHA_LOW                                                                                          \
    (5.75014648756476e-17 + (SELU_LAMBDA_ALPHA - (REAL)SELU_LAMBDA_ALPHA)) /* the rest of it */
#define SQRT_1_2PI 0.39894228040143267794                                  /* 1 / sqrt(2 pi) */

#ifdef V_LOOKUP_32
#include "normal_table.inc.h"

/* A function of t >= 0 from its table of polynomials, 0 for t >= 7.625: as many steps as the polynomial of
 * v_normal_tail has, without its exponential and its division. */
INLINE vec v_piecewise(const REAL table[7][32], vec t) {
    vec magic = v_set1(ROUND_MAGIC / 4); /* rounds to quarters */
    t = v_min(v_set1((REAL)7.75), t);
    vec k = t + magic, u = t - (k - magic), y = V_LOOKUP_32(table[6], v_bits(k));
    UNROLL for (int i = 5; i >= 0; i--) y = y * u + V_LOOKUP_32(table[i], v_bits(k));
    return y;
}
#endif

/* r and *rest with 1 / (1 + e) = r (1 + *rest) for 0 <= e <= 1: free of the rounding of 1 + e. */
INLINE vec v_one_over_one_plus(vec e, vec *rest) {
    vec one = v_set1(1), r = v_reciprocal_guess(one + e);
    *rest = (one - r) - e * r; /* 1 - r is exact */
    return r;
}

INLINE vec activate(int op, REAL parameter, vec x) {
    const vec one = v_set1(1), zero = v_zero();
    vec e, lost, n, q, r, s, t, y;
    v_mask negative;
    v_power p;
    switch (op) {
    case CG_SIGMOID: /* 1 / (1 + e) or e / (1 + e) */
        negative = v_lt(x, zero);
        s = v_expm1_reduced(v_max(v_set1(EXP_LOW), -v_abs(x)), &n);
        p = v_power_of(n);
        t = one + s;
        r = v_one_over_one_plus(v_scale(t, p), &q);
        y = r + r * v_blend(negative, q * t + s, q);
        return v_scale_where(negative, y, p, y);
    case CG_TANH: /* e / (1 - e), e = (1 - e^-2t) / 2 */
        e = v_half_expm1(v_abs(x), &lost);
        r = v_reciprocal_guess(one - e);
        y = e * r;
        s = (e - y) + e * y;             /* e - y is exact */
#if REAL_BYTES == 8 || !defined(V_SCALE) /* 1.96 ULP without in float32 on AVX-512, up to 2.05 elsewhere */
        s += lost + lost * y;
#endif
        return v_add_sign(y + r * s, x);
    case CG_RELU:
        return v_max(zero, x);
    case CG_LEAKY_RELU:
        return v_blend(v_gt(x, zero), x, v_set1(parameter) * x);
    case CG_ELU:
        e = v_expm1_negative(v_min(zero, x), &lost);
        return v_blend(v_ge(x, zero), x, e * v_set1(parameter) + lost * v_set1(parameter));
    case CG_SELU:
        e = v_expm1_negative(v_min(zero, x), &lost);
        y = e * v_set1((REAL)SELU_LAMBDA_ALPHA_LOW) + lost * v_set1((REAL)SELU_LAMBDA_ALPHA);
        y = e * v_set1((REAL)SELU_LAMBDA_ALPHA) + y;
        return v_blend(v_ge(x, zero), v_set1((REAL)SELU_LAMBDA) * x, y);
    case CG_SOFTPLUS: /* max(x, 0) + log(1 + e) */
        s = v_expm1_reduced(v_max(v_set1(EXP_LOW), -v_abs(x)), &n);
        p = v_power_of(n);
        y = v_log1p_sum(v_scale(one + s, p), &lost);
        return (v_max(zero, x) + lost) + y;
    case CG_SILU: /* x / (1 + e) or x e / (1 + e) */
        negative = v_lt(x, zero);
        t = v_min(v_set1(-EXP_LOW), v_abs(x));
        s = v_expm1_reduced(-t, &n);
        p = v_power_of(n);
        r = v_one_over_one_plus(v_scale(one + s, p), &q);
        y = v_blend(negative, -t - t * s, x) * (r + r * q);
        return v_scale_where(negative, y, p, y);
    case CG_GELU: /* x (1 - tail) or x tail */
#ifdef V_LOOKUP_32
        return v_max(zero, x) - v_piecewise(gelu_table, v_abs(x));
#else
        t = v_min(v_set1(TAIL_HIGH), v_abs(x));
        y = v_normal_tail(t, &s, &n, &lost);
        y = t * y + t * lost;
        return v_max(zero, x) - v_scale(y, v_power_of(n));
#endif
    default:
        return x;
    }
}

/* grad_output * a'(.), v being the output or the input as stated above. */
INLINE vec activation_gradient(int op, REAL parameter, vec grad, vec v) {
    const vec one = v_set1(1), zero = v_zero();
    vec d, e, q, s, t;
    switch (op) {
    case CG_SIGMOID:
        return grad * (v * (one - v));
    case CG_TANH:
        return grad * ((one - v) * (one + v));
    case CG_RELU:
        return v_blend(v_le(v, zero), zero, grad);
    case CG_LEAKY_RELU:
        return grad * v_blend(v_gt(v, zero), one, v_set1(parameter));
    case CG_ELU: /* 1 at 0, which only alpha = 0 reaches from below: there it is 0, as for relu */
        return grad * v_blend(v_gt(v, v_set1(parameter > 0 ? -REAL_TINY : 0)), one, v + v_set1(parameter));
    case CG_SELU:
        d = v_blend(v_gt(v, zero), v_set1((REAL)SELU_LAMBDA), v + v_set1((REAL)SELU_LAMBDA_ALPHA));
        return grad * d;
    case CG_SOFTPLUS:
        return grad * activate(CG_SIGMOID, 0, v);
    case CG_SILU: /* p (1 + x (1 - p)), p = sigmoid(x); q = sigmoid(|x|), e q = sigmoid(-|x|) keeps its digits */
        v = v_clamp(v, EXP_LOW, -EXP_LOW);
        e = v_exp(-v_abs(v));
        t = v_one_over_one_plus(e, &q);
        q = t + t * q;
        s = e * q;
        d = v_blend(v_lt(v, zero), s, q);
        return grad * (d + q * s * v);
    case CG_GELU: /* tail - t phi(t) below 0, 1 minus that above */
        t = v_abs(v);
#ifdef V_LOOKUP_32
        d = v_piecewise(gelu_slope_table, t);
#else
        t = v_min(v_set1(TAIL_HIGH), t);
        vec lost, n;
        q = v_normal_tail(t, &s, &n, &lost);
        e = t * v_set1((REAL)SQRT_1_2PI);
        d = v_scale(q - (e + e * s), v_power_of(n));
#endif
        return grad * v_blend(v_lt(v, zero), d, one - d);
    default:
        return grad;
    }
}

/* Cache lines ahead of the loads and stores are asked for: the processor does so by itself only up to the end of a
 * page. At 1e7 numbers a plain loop moves 17 to 27 GB/s, this one 30; streaming stores 17 (AVX-512, Sapphire Rapids).
 */
#define STREAM_AHEAD (1024 / (ptrdiff_t)sizeof(REAL))
/* Numbers of a step: at least a cache line, but where numbers are taken one by one, whose code would be sixteen times
 * as long. */
#define STREAM_LINE (LANES == 1 ? 1 : MAX(LANES, 64 / (ptrdiff_t)sizeof(REAL)))

INLINE void activation_values(int op, REAL parameter, const REAL *x, REAL *y, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + STREAM_LINE <= n; i += STREAM_LINE) {
        PREFETCH_READ(x + i + STREAM_AHEAD);
        PREFETCH_WRITE(y + i + STREAM_AHEAD);
        UNROLL for (int k = 0; k < STREAM_LINE; k += LANES)
            v_store(y + i + k, activate(op, parameter, v_load(x + i + k)));
    }
    for (; i < n; i += LANES) {
        ptrdiff_t m = MIN(LANES, n - i);
        v_store_n(y + i, activate(op, parameter, v_load_n(x + i, m)), m);
    }
}

INLINE void activation_gradients(int op, REAL parameter, const REAL *grad, const REAL *v, REAL *out, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + STREAM_LINE <= n; i += STREAM_LINE) {
        PREFETCH_READ(grad + i + STREAM_AHEAD);
        PREFETCH_READ(v + i + STREAM_AHEAD);
        PREFETCH_WRITE(out + i + STREAM_AHEAD);
        UNROLL for (int k = 0; k < STREAM_LINE; k += LANES)
            v_store(out + i + k, activation_gradient(op, parameter, v_load(grad + i + k), v_load(v + i + k)));
    }
    for (; i < n; i += LANES) {
        ptrdiff_t m = MIN(LANES, n - i);
        v_store_n(out + i, activation_gradient(op, parameter, v_load_n(grad + i, m), v_load_n(v + i, m)), m);
    }
}

#define EACH_ACTIVATION(X)                                                                                             \
    X(CG_IDENTITY)                                                                                                     \
    X(CG_SIGMOID) X(CG_TANH) X(CG_RELU) X(CG_LEAKY_RELU) X(CG_ELU) X(CG_SELU) X(CG_SOFTPLUS) X(CG_SILU) X(CG_GELU)

static void activation_value_run(int op, REAL parameter, const REAL *x, REAL *y, ptrdiff_t n) {
    switch (op) {
#define CASE(name)                                                                                                     \
    case name:                                                                                                         \
        activation_values(name, parameter, x, y, n);                                                                   \
        break;
        EACH_ACTIVATION(CASE)
#undef CASE
    }
}

static void activation_gradient_run(int op, REAL parameter, const REAL *grad, const REAL *v, REAL *out, ptrdiff_t n) {
    switch (op) {
#define CASE(name)                                                                                                     \
    case name:                                                                                                         \
        activation_gradients(name, parameter, grad, v, out, n);                                                        \
        break;
        EACH_ACTIVATION(CASE)
#undef CASE
    }
}

/* y = a(y): what a convolution does to each run of its output while that is in cache. */
UNUSED static void activate_run(int op, REAL parameter, REAL *y, ptrdiff_t n) {
    if (op != CG_IDENTITY)
        activation_value_run(op, parameter, y, y, n);
}

/* The same with a residual, which lies as y does or is NULL, added first. */
UNUSED static void finish(int op, REAL parameter, const REAL *residual, REAL *y, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; residual && i + LANES <= n; i += LANES)
        v_store(y + i, v_load(y + i) + v_load(residual + i));
    if (residual && i < n)
        v_store_n(y + i, v_load_n(y + i, n - i) + v_load_n(residual + i, n - i), n - i);
    activate_run(op, parameter, y, n);
}

/* The same for rows that a tile has just left in the first-level cache, on their way from there to y, which may be
 * where they are. Whole vectors of `from` are read. */
UNUSED NOINLINE void finish_rows(int op, REAL parameter, const REAL *from, ptrdiff_t from_step, const REAL *residual,
                                 REAL *y, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t n) {
    vec least = v_set1(op == CG_RELU ? 0 : (REAL)-INFINITY);
    for (ptrdiff_t r = 0; r < rows; r++, from += from_step, y += step) {
        ptrdiff_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            vec v = v_load(from + i);
            if (residual)
                v += v_load(residual + r * step + i);
            v_store(y + i, v_max(least, v));
        }
        if (i < n) {
            vec v = v_load(from + i);
            if (residual)
                v += v_load_n(residual + r * step + i, n - i);
            v_store_n(y + i, v_max(least, v), n - i);
        }
        if (op != CG_RELU && op != CG_IDENTITY)
            activate_run(op, parameter, y, n);
    }
}

/* For arguments of a convolution, or Winograd's: whether results need a last pass, and that pass over n of them. */
#define FINISHES(a) ((a)->activation != CG_IDENTITY || (a)->residual)
#define FINISH(a, run, n)                                                                                              \
    finish((a)->activation, (REAL)(a)->parameter,                                                                      \
           (a)->residual ? (const REAL *)(a)->residual + ((run) - (REAL *)(a)->y) : 0, run, n)

/* Flat passes. */
#define ACTIVATION_BLOCK 16384 /* elements; a multiple of every LANES */

KERNEL_PLAN(activation) {
    cg_activation_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, ACTIVATION_BLOCK);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * (a->op == CG_RELU || a->op == CG_LEAKY_RELU || a->op == CG_IDENTITY ? 1 : 4);
}

KERNEL_RUN(activation) {
    (void)scratch_;
    const cg_activation_args *a = args_;
    ptrdiff_t i = begin * ACTIVATION_BLOCK, n = MIN(end * ACTIVATION_BLOCK, a->n) - i;
    activation_value_run(a->op, (REAL)a->parameter, (const REAL *)a->x + i, (REAL *)a->out + i, n);
}

KERNEL_PLAN(activation_backward) {
    cg_activation_args *a = args_;
    a->task.n_blocks = ceil_div(a->n, ACTIVATION_BLOCK);
    a->task.scratch_bytes = 0;
    a->task.work = (double)a->n * (a->op == CG_SOFTPLUS || a->op == CG_SILU || a->op == CG_GELU ? 5 : 2);
}

KERNEL_RUN(activation_backward) {
    (void)scratch_;
    const cg_activation_args *a = args_;
    ptrdiff_t i = begin * ACTIVATION_BLOCK, n = MIN(end * ACTIVATION_BLOCK, a->n) - i;
    activation_gradient_run(a->op, (REAL)a->parameter, (const REAL *)a->grad_output + i, (const REAL *)a->x + i,
                            (REAL *)a->out + i, n);
}
