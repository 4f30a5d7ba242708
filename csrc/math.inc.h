/* exp, expm1, log1p and the tail of the normal distribution, a vector at a time.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2, e^x = 2^n (1 + s), s = e^r - 1 = r + r^2 q(r). The factor 2^n is applied
 * last, by v_scale, which rounds once also where the result is denormal; callers that multiply e^x do so before.
 *
 * log1p: log(1 + f) = f + f^2 P(f) for -1/4 <= f <= 1/2, without a division; larger arguments are halved first.
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
#define SCALE_LOW -160.0f /* 2^n times less than 2^10 rounds to 0 below */
#define EXP_LOW -120.0f   /* x e^x is 0 below, and 2^n is still in the range of v_scale */
#define EXP_HIGH 89.0f    /* e^x is infinity above */
#define EXPM1_LOW -60.0f
#define TAIL_K 4.0f
#define TAIL_HIGH 15.0f /* t P(X > t) is 0 above */
#define SPLIT_MASK 0xfffff000
/* 0.05 ULP */
static const REAL exp_q[] = {0.0013814319721997829863f, 0.0083688510664776908581f, 0.041668401093712789908f,
                             0.16666519524142635211f, 0.49999993373095445941f};
/* The same for (1 - e^-2r) / 2 = r - r^2 tanh_q(r): exp_q(-2r) scaled by powers of 2. */
static const REAL tanh_q[] = {0.0442058231103930555616f, -0.1339016170636430537296f, 0.333347208749702319264f,
                              -0.66666078096570540844f, 0.99999986746190891882f};
/* 0.05 ULP */
static const REAL log_p[] = {-0.041255247950285712916f, 0.10059358999109788617f,  -0.13109179579661712228f,
                             0.14541726093853061143f,   -0.16662796603525341858f, 0.19987686121707695027f,
                             -0.24999205070000942291f,  0.33333500808918089087f,  -0.50000013722532564361f};
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
#define SCALE_LOW -1085.0
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
/* The same for (1 - e^-2r) / 2 = r - r^2 tanh_q(r): exp_q(-2r) scaled by powers of 2. */
static const REAL tanh_q[] = {-0.000025599857361122841554944, 0.00014146828121513649870336,
                              -0.0007054742633795419948288,   0.00317459102562452669824,
                              -0.01269841248176015190272,     0.0444444446215993477568,
                              -0.1333333333359507090048,      0.333333333332224810120,
                              -0.66666666666665630704,        1.00000000000000216530};
/* 0.04 ULP */
static const REAL log_p[] = {
    0.0073564200036894099066, -0.027622871982017541735, 0.049233565454588836266, -0.059431902759602495277,
    0.061146233089219191602,  -0.062663181703235804247, 0.066425144753616194356, -0.071362994584328952399,
    0.076931029094431221288,  -0.083338491483160930461, 0.090909256277701517746, -0.09999981017484759977,
    0.11111109217319696447,   -0.12500000346763557389,  0.14285714337505535198,  -0.166666666640632224,
    0.19999999999412140084,   -0.24999999999999241058,  0.33333333333335611362,  -0.50000000000000060499};
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

/* a >= 0 with the sign of b. */
INLINE vec v_add_sign(vec a, vec b) {
    return v_from_bits(v_bits(a) | (v_bits(b) & v_bits(v_set1((REAL)-0.0))));
}

/* 2^n, n an integer in the range of the exponent. */
INLINE vec v_power_of_two(vec n) {
    return v_from_bits(v_shift_left(v_bits(n + v_set1(ROUND_MAGIC + EXPONENT_BIAS)), FRACTION_BITS));
}

/* 2^n for any integral n as what v_scale multiplies by: rounded once, also where the product is denormal. Zeros do not
 * come from arithmetic that underflows, which is twenty times as slow: below SCALE_LOW n stands for -infinity. */
#ifdef V_SCALE
typedef vec v_power;
INLINE v_power v_power_of(vec n) {
    return v_blend(v_lt(n, v_set1(SCALE_LOW)), v_set1(-(REAL)INFINITY), n);
}
INLINE vec v_scale(vec a, v_power n) {
    return V_SCALE(a, n);
}
INLINE vec v_scale_where(v_mask mask, vec a, v_power n, vec otherwise) {
    return V_SCALE_WHERE(mask, a, n, otherwise);
}
#else
typedef struct {
    vec first, second;
} v_power;
INLINE v_power v_power_of(vec n) {
    /* In two factors, as 2^n itself may be out of range; the first product is exact, so a denormal result rounds once.
     */
    vec magic = v_set1(ROUND_MAGIC), half = (n * v_set1((REAL)0.5) + magic) - magic;
    vec first = v_blend(v_lt(n, v_set1(SCALE_LOW)), v_zero(), v_power_of_two(half));
    return (v_power){first, v_power_of_two(n - half)};
}
INLINE vec v_scale(vec a, v_power p) {
    return a * p.first * p.second;
}
INLINE vec v_scale_where(v_mask mask, vec a, v_power p, vec otherwise) {
    return v_blend(mask, v_scale(a, p), otherwise);
}
#endif

/* 1 / a to at least half of its digits, for a in [1, 2]. */
INLINE vec v_reciprocal_guess(vec a) {
#ifdef V_RECIPROCAL_14
    vec r = V_RECIPROCAL_14(a); /* to 2^-14; a division takes as long as thirty additions */
    return REAL_BYTES == 4 ? r : r * (v_set1(2) - a * r);
#else
    return v_set1(1) / a;
#endif
}

/* e^r - 1 for |r| <= ln 2 / 2; *lost, to be added to it, is what rounding took away. */
INLINE vec v_expm1_small(vec r, vec *lost) {
    vec t = r * r * v_polynomial(r, exp_q, COUNT(exp_q)), s = r + t;
    *lost = t - (s - r);
    return s;
}

/* s with e^x = 2^n (1 + s), -0.3 < s < 0.42, for x in [EXP_LOW, EXP_HIGH]. */
INLINE vec v_expm1_reduced(vec x, vec *n) {
    vec magic = v_set1(ROUND_MAGIC);
    *n = (x * v_set1(LOG2_E) + magic) - magic;
    vec r = (x - *n * v_set1(LN2_HIGH)) - *n * v_set1(LN2_LOW);
    return r * r * v_polynomial(r, exp_q, COUNT(exp_q)) + r;
}

INLINE vec v_exp(vec x) {
    vec n, s = v_expm1_reduced(v_clamp(x, EXP_LOW, EXP_HIGH), &n);
    return v_scale(v_set1(1) + s, v_power_of(n));
}

/* e^x - 1 for x <= 0; *lost, to be added to it, is what rounding took away. */
INLINE vec v_expm1_negative(vec x, vec *lost) {
    vec magic = v_set1(ROUND_MAGIC + EXPONENT_BIAS), biased, n;
    x = v_max(v_set1(EXPM1_LOW), x);
    biased = x * v_set1(LOG2_E) + magic; /* its low bits are the exponent of 2^n */
    n = biased - magic;
    vec s_lost, s = v_expm1_small((x - n * v_set1(LN2_HIGH)) - n * v_set1(LN2_LOW), &s_lost);
    vec scale = v_from_bits(v_shift_left(v_bits(biased), FRACTION_BITS)), whole = scale - v_set1(1);
    vec part = scale * s, sum = whole + part; /* both exact, |whole| > |part| or whole = 0 */
    *lost = (part - (sum - whole)) + scale * s_lost;
    return sum;
}

/* (1 - e^-2t) / 2 for t >= 0; *lost, to be added to it, is what rounding took away. */
INLINE vec v_half_expm1(vec t, vec *lost) {
    vec magic = v_set1(ROUND_MAGIC + EXPONENT_BIAS), half = v_set1((REAL)0.5), biased, n, r, s, scale, whole, sum;
    t = v_min(v_set1(EXPM1_LOW / -2), t);
    biased = t * v_set1(-2 * (REAL)LOG2_E) + magic;
    n = biased - magic;
    r = (t + n * v_set1(LN2_HIGH / 2)) + n * v_set1(LN2_LOW / 2); /* e^-2t = 2^n e^-2r */
    s = r - r * r * v_polynomial(r, tanh_q, COUNT(tanh_q));
    scale = v_from_bits(v_shift_left(v_bits(biased), FRACTION_BITS));
    whole = half - half * scale;
    sum = scale * s + whole;
    *lost = scale * s - (sum - whole);
    return sum;
}

/* log(1 + e) for 0 <= e <= 1; *lost, to be added to it, is what rounding took away. */
INLINE vec v_log1p_sum(vec e, vec *lost) {
    v_mask halve = v_gt(e, v_set1((REAL)0.5)); /* 1 + e = 2 (1 + (e - 1) / 2), exactly */
    vec zero = v_zero(), f = v_blend(halve, e * v_set1((REAL)0.5) - v_set1((REAL)0.5), e);
    vec rest = f * v_polynomial(f, log_p, COUNT(log_p)) * f;
    vec whole = v_blend(halve, v_set1(LN2_HIGH), zero);
    vec part = f + (rest + v_blend(halve, v_set1(LN2_LOW), zero)), sum = whole + part;
    *lost = part - (sum - whole);
    return sum;
}
/* log(1 + e) for 0 <= e <= 1 */
INLINE vec v_log1p_unit(vec e) {
    vec lost;
    return v_log1p_sum(e, &lost);
}

/* q, its *lost part and n with P(X > t) = 2^n (q + *lost) for a standard normal X and 0 <= t <= TAIL_HIGH, and s with
 * e^(-t^2/2) = 2^n (1 + s). */
INLINE vec v_normal_tail(vec t, vec *s, vec *n, vec *lost) {
    vec high = v_from_bits(v_bits(t) & v_iset1((INT)SPLIT_MASK)), half = v_set1((REAL)0.5); /* high^2 is exact */
    vec magic = v_set1(ROUND_MAGIC), x = -half * high * high, low = -half * (t + high) * (t - high), s_lost;
    *n = ((x + low) * v_set1(LOG2_E) + magic) - magic;
    *s = v_expm1_small((x - *n * v_set1(LN2_HIGH)) + (low - *n * v_set1(LN2_LOW)), &s_lost);
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
