/* exp, expm1, log1p and the tail of the normal distribution, a vector at a time.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2, e^x = 2^n (1 + s), s = e^r - 1 = r + r^2 q(r). The factor 2^n is applied
 * last, by v_scale, which rounds once also where the result is denormal; callers that multiply e^x do so before.
 *
 * log1p: with s = f / (2 + f) and z = s^2, log(1 + f) = f - (f^2/2 - s (f^2/2 + z R(z))), as in FreeBSD's s_log1p.c.
 *
 * tail: P(X > t) = e^(-t^2/2) Q(t), Q a polynomial in t / (t + k), up to an affine map the variable of Shepherd and
 * Laframboise (1981), Mathematics of Computation 36, 249-253. t^2 is taken in two parts, so that its rounding does not
 * enter e^(-t^2/2).
 *
 * The polynomials are minimax in relative error (Remez exchange; tools/make_polynomials.py); what each leaves, in ULP
 * of the function's result, is stated. NaN gives NaN everywhere. No bound relies on a multiplication and an addition
 * being fused, nor on their being separate.
 */
#if REAL_BYTES == 4
#define REAL_TINY 1.40129846e-45f /* the smallest positive number */
#define FRACTION_BITS 23
#define EXPONENT_BIAS 127
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits */
#define LOG2_E 1.44269504088896341f
#define LN2_HIGH 0.693359375f /* 9 bits: n * LN2_HIGH is exact */
#define LN2_LOW -2.12194440054690583e-4f
#define EXP_LOW -120.0f /* x e^x is 0 below, and 2^n is still in the range of v_scale */
#define EXP_HIGH 89.0f  /* e^x is infinity above */
#define EXPM1_LOW -60.0f
#define TAIL_K 4.0f
#define TAIL_HIGH 15.0f /* t P(X > t) is 0 above */
#define SPLIT_MASK 0xfffff000
/* 0.05 ULP */
static const REAL exp_q[] = {0.0013814319721997829863f, 0.0083688510664776908581f, 0.041668401093712789908f,
                             0.16666519524142635211f, 0.49999993373095445941f};
/* 0.05 ULP */
static const REAL log_r[] = {0.30384006391236709844f, 0.39956730029472608601f, 0.66666958275408398369f};
/* 0.08 ULP */
static const REAL tail_q[] = {0.012178668756749212888f, -0.024126755721113301446f, -0.04437613905899038086f,
                              0.082175954695491844523f, 0.032179784943009040952f,  -0.27177865024403668908f,
                              0.49384875418104878472f,  -0.57365851855134163279f,  0.49751684608310402312f,
                              -0.34079544644495829121f, 0.094410641720560222982f};
#else
#define REAL_TINY 4.94065645841246544e-324
#define FRACTION_BITS 52
#define EXPONENT_BIAS 1023
#define ROUND_MAGIC 6755399441055744.0 /* 1.5 * 2^52 */
#define LOG2_E 1.4426950408889634074
#define LN2_HIGH 0.693145751953125 /* 16 bits */
#define LN2_LOW 1.42860682030941723212e-6
#define EXP_LOW -800.0
#define EXP_HIGH 710.0
#define EXPM1_LOW -60.0
#define TAIL_K 5.0
#define TAIL_HIGH 40.0
#define SPLIT_MASK 0xfffffffff8000000
/* 0.03 ULP */
static const REAL exp_q[] = {2.4999860704221524956e-8, 2.7630523674831347403e-7, 2.7557588413263359173e-6,
                             2.480149238769161483e-5,  1.9841269502750237348e-4, 1.3888888944249796174e-3,
                             8.3333333334969193128e-3, 4.1666666666528101265e-2, 0.16666666666666407676,
                             0.50000000000000108265};
/* 0.12 ULP */
static const REAL log_r[] = {0.15395943787333591177, 0.15246601826062538469, 0.1818653626584417467,
                             0.22222134078601248201, 0.28571429449731606583, 0.39999999995856604128,
                             0.66666666666673273142};
/* 0.18 ULP */
static const REAL tail_q[] = {
    -0.00097029156717690515944, -0.0011927653275678971427, 0.0019139186467646469639, 0.0029817717788138581543,
    -0.0028823971310334285895,  -0.0051336821668872140461, 0.005053357664162343053,  0.0079740039260867345583,
    -0.011060493731702222292,   -0.010404470148486440933,  0.027215549399112954705,  0.0019687564099950684238,
    -0.061877742345720401917,   0.06874974366450104377,    0.056204988828783015571,  -0.30449207764930022031,
    0.57544771523781879157,     -0.74924481560631492364,   0.76568563654672013284,   -0.64707101811301768908,
    0.46427524754401317193,     -0.28691511052802394842,   0.076919304975006295918};
#endif
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* c[0] x^(n-1) + ... + c[n-1]; n is a constant, so the coefficients become constants of the code. */
INLINE vec v_polynomial(vec x, const REAL *c, int n) {
    vec y = v_set1(c[0]);
    UNROLL for (int i = 1; i < n; i++) y = y * x + v_set1(c[i]);
    return y;
}

/* min(max(x, low), high), NaN for NaN */
INLINE vec v_clamp(vec x, REAL low, REAL high) {
    return v_min(v_set1(high), v_max(v_set1(low), x));
}

/* The magnitude of a with the sign of b. */
INLINE vec v_copysign(vec a, vec b) {
    ivec sign = v_bits(v_set1((REAL)-0.0));
    return v_from_bits((v_bits(a) & ~sign) | (v_bits(b) & sign));
}

/* 2^n, n an integer in the range of the exponent. */
INLINE vec v_power_of_two(vec n) {
    return v_from_bits(v_shift_left(v_bits(n + v_set1(ROUND_MAGIC + EXPONENT_BIAS)), FRACTION_BITS));
}

/* a 2^n for an integral n. */
INLINE vec v_scale(vec a, vec n) {
#ifdef V_SCALE
    return V_SCALE(a, n);
#else
    /* In two factors, as 2^n itself may be out of range; the first product is exact, so a denormal result rounds once.
     */
    vec magic = v_set1(ROUND_MAGIC), half = (n * v_set1((REAL)0.5) + magic) - magic;
    return a * v_power_of_two(half) * v_power_of_two(n - half);
#endif
}

/* s and n with e^(x + low) = 2^n (1 + s), -0.3 < s < 0.42, for x + low in [EXP_LOW, EXP_HIGH] and a small low.
 * *lost, to be added to s, is what its rounding took away. */
INLINE vec v_expm1_reduced(vec x, vec low, vec *n, vec *lost) {
    vec magic = v_set1(ROUND_MAGIC);
    *n = ((x + low) * v_set1(LOG2_E) + magic) - magic;
    vec r = (x - *n * v_set1(LN2_HIGH)) + (low - *n * v_set1(LN2_LOW));
    vec t = r * r * v_polynomial(r, exp_q, COUNT(exp_q)), s = r + t;
    *lost = t - (s - r);
    return s;
}

INLINE vec v_exp(vec x) {
    vec n, lost, s = v_expm1_reduced(v_clamp(x, EXP_LOW, EXP_HIGH), v_zero(), &n, &lost);
    return v_scale(v_set1(1) + s, n);
}

/* e^x - 1 for x <= 0; *lost, to be added to it, is what rounding took away. */
INLINE vec v_expm1_negative(vec x, vec *lost) {
    vec n, s_lost, s = v_expm1_reduced(v_max(v_set1(EXPM1_LOW), x), v_zero(), &n, &s_lost);
    vec scale = v_power_of_two(n), whole = scale - v_set1(1), part = scale * s; /* both exact, |whole| > |part| or 0 */
    vec sum = whole + part;
    *lost = (part - (sum - whole)) + scale * s_lost;
    return sum;
}

/* log(1 + f) for -0.3 <= f <= 0.5 */
INLINE vec v_log1p_reduced(vec f) {
    vec s = f / (v_set1(2) + f), z = s * s, half_square = v_set1((REAL)0.5) * f * f;
    return f - (half_square - s * (half_square + z * v_polynomial(z, log_r, COUNT(log_r))));
}

/* log(1 + e) for 0 <= e <= 1 */
INLINE vec v_log1p_unit(vec e) {
    v_mask halve = v_gt(e, v_set1((REAL)0.5)); /* 1 + e = 2 (1 + (e - 1) / 2), exactly */
    vec low = v_log1p_reduced(v_blend(halve, (e - v_set1(1)) * v_set1((REAL)0.5), e));
    return v_blend(halve, v_set1(LN2_HIGH) + (v_set1(LN2_LOW) + low), low);
}

/* q, its *lost part and n with P(X > t) = 2^n (q + *lost) for a standard normal X and 0 <= t <= TAIL_HIGH, and s with
 * e^(-t^2/2) = 2^n (1 + s). */
INLINE vec v_normal_tail(vec t, vec *s, vec *n, vec *lost) {
    vec high = v_from_bits(v_bits(t) & v_iset1((INT)SPLIT_MASK)), half = v_set1((REAL)0.5); /* high^2 is exact */
    vec s_lost;
    *s = v_expm1_reduced(-half * high * high, -half * (t + high) * (t - high), n, &s_lost);
    vec sum = t + v_set1(TAIL_K), w = t / sum, u = w - half;
    /* What rounding took from the sum and from u counts, as Q is steep near 0. With Q = c + u p, dQ/du is about 2 p (1
     * - w). */
    vec rest = v_set1(1) - w;
    vec slip = (w - (u + half)) - (t - (sum - v_set1(TAIL_K))) * v_set1(1 / TAIL_K) * w * rest;
    vec p = v_polynomial(u, tail_q, COUNT(tail_q) - 1), c = v_set1(tail_q[COUNT(tail_q) - 1]);
    vec q = p * u + c, c_part = q - p * u;
    vec more = q * *s + (((p * u - (q - c_part)) + (c - c_part)) + p * (slip * (rest + rest)));
    vec tail = q + more;
    *lost = more - (tail - q);
    return tail;
}
