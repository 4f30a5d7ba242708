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
#define SELU_LAMBDA_ALPHA (SELU_LAMBDA * 1.6732632423543772)
#define SQRT_1_2PI 0.39894228040143267794 /* 1 / sqrt(2 pi) */

/* (p + p_lost) / (a + (b + b_lost)) for a sum in [1, 2] and |b| <= a: one correction for what the roundings lost. */
INLINE vec quotient(vec p, vec p_lost, vec a, vec b, vec b_lost) {
    vec sum = a + b, sum_lost = (b - (sum - a)) + b_lost, q = p / sum;
    vec inverse = v_set1((REAL)1.45) - v_set1((REAL)0.5) * sum; /* 1 / sum to 10 % */
    return q + (p_lost - q * sum_lost) * inverse;
}

INLINE vec activate(int op, REAL parameter, vec x) {
    const vec one = v_set1(1), zero = v_zero();
    vec e, lost, n, s, t, y;
    v_mask negative;
    switch (op) {
    case CG_SIGMOID: /* 1 / (1 + e) or e / (1 + e) */
        s = v_expm1_reduced(v_max(v_set1(EXP_LOW), -v_abs(x)), zero, &n, &lost);
        t = one + s;
        e = v_scale(t, n);
        lost = (s - (t - one)) * (one - s) * e; /* 1 - s for 1 / (1 + s) */
        negative = v_lt(x, zero);
        return quotient(v_blend(negative, e, one), v_blend(negative, lost, zero), one, e, lost);
    case CG_TANH: /* (1 - e^-2t) / (1 + e^-2t) */
        e = v_expm1_negative(v_set1(-2) * v_abs(x), &lost);
        return v_copysign(quotient(e, lost, v_set1(2), e, lost), x);
    case CG_RELU:
        return v_max(zero, x);
    case CG_LEAKY_RELU:
        return v_blend(v_gt(x, zero), x, v_set1(parameter) * x);
    case CG_ELU:
        e = v_expm1_negative(v_min(zero, x), &lost);
        return v_blend(v_ge(x, zero), x, e * v_set1(parameter) + lost * v_set1(parameter));
    case CG_SELU:
        e = v_expm1_negative(v_min(zero, x), &lost);
        y = e * v_set1((REAL)(SELU_LAMBDA_ALPHA - (REAL)SELU_LAMBDA_ALPHA)) + lost * v_set1((REAL)SELU_LAMBDA_ALPHA);
        y = e * v_set1((REAL)SELU_LAMBDA_ALPHA) + y;
        return v_blend(v_ge(x, zero), v_set1((REAL)SELU_LAMBDA) * x, y);
    case CG_SOFTPLUS: /* max(x, 0) + log(1 + e) */
        return v_max(zero, x) + v_log1p_unit(v_exp(-v_abs(x)));
    case CG_SILU: /* x / (1 + e) or x e / (1 + e) */
        t = v_min(v_set1(-EXP_LOW), v_abs(x));
        s = v_expm1_reduced(-t, zero, &n, &lost);
        y = v_blend(v_lt(x, zero), v_scale(-t - t * s, n), x);
        return y / (one + v_scale(one + s, n));
    case CG_GELU: /* x (1 - tail) or x tail */
        t = v_min(v_set1(TAIL_HIGH), v_abs(x));
        y = v_normal_tail(t, &s, &n, &lost);
        y = t * y + t * lost;
        return v_max(zero, x) - v_scale(y, n);
    default:
        return x;
    }
}

/* grad_output * a'(.), v being the output or the input as stated above. */
INLINE vec activation_gradient(int op, REAL parameter, vec grad, vec v) {
    const vec one = v_set1(1), zero = v_zero();
    vec d, e, lost, n, q, s, t;
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
    case CG_SILU: /* p (1 + x (1 - p)), p = sigmoid(x); 1 - p = sigmoid(-x) keeps its digits */
        v = v_clamp(v, EXP_LOW, -EXP_LOW);
        e = v_exp(-v_abs(v));
        q = one / (one + e);
        s = e * q;
        d = v_blend(v_lt(v, zero), s, q);
        e = v_blend(v_lt(v, zero), q, s);
        return grad * (d + d * e * v);
    case CG_GELU: /* tail - t phi(t) below 0, 1 minus that above */
        t = v_min(v_set1(TAIL_HIGH), v_abs(v));
        q = v_normal_tail(t, &s, &n, &lost);
        e = t * v_set1((REAL)SQRT_1_2PI);
        d = v_scale(q - (e + e * s), n);
        return grad * v_blend(v_lt(v, zero), d, one - d);
    default:
        return grad;
    }
}

INLINE void activation_values(int op, REAL parameter, const REAL *x, REAL *y, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(y + i, activate(op, parameter, v_load(x + i)));
    if (i < n)
        v_store_n(y + i, activate(op, parameter, v_load_n(x + i, n - i)), n - i);
}

INLINE void activation_gradients(int op, REAL parameter, const REAL *grad, const REAL *v, REAL *out, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(out + i, activation_gradient(op, parameter, v_load(grad + i), v_load(v + i)));
    if (i < n)
        v_store_n(out + i, activation_gradient(op, parameter, v_load_n(grad + i, n - i), v_load_n(v + i, n - i)),
                  n - i);
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
