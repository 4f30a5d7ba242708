/* The part of the vocabulary that GCC's and clang's vector extensions express on every SIMD instruction set.
 *
 * An ISA header defines VECTOR_BYTES and the tile sizes, includes this file, and adds the operations whose instructions
 * differ: v_max, v_min, v_sqrt, comparisons and v_blend, partial loads and stores.
 *
 *   vec      LANES numbers of type REAL; + - * / work lane by lane, a * b + c becomes one FMA where the ISA has it
 *   ivec     LANES integers as wide as REAL; + - & | ^ << >> work lane by lane
 *   v_mask   what comparisons return and v_blend takes
 *   v_max(a, b), v_min(a, b)   b where a or b is NaN (so v_max(zero, x) lets the NaN of x through)
 *   v_stream(p, a)   stores at an address aligned to the vector, past the cache where the ISA can;
 *                    v_stream_end() must follow before another thread may look
 */
#define LANES (VECTOR_BYTES / REAL_BYTES)

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));
typedef INT ivec __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL vec_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BYTES), may_alias));

INLINE vec v_load(const REAL *p) {
    return *(const vec_unaligned *)p;
}
INLINE void v_store(REAL *p, vec v) {
    *(vec_unaligned *)p = v;
}
INLINE vec v_set1(REAL x) {
    return x - (vec){0}; /* x - 0 is x, signed zeros and NaN included */
}
INLINE ivec v_iset1(INT x) {
    return x - (ivec){0};
}
INLINE vec v_zero(void) {
    return (vec){0};
}
INLINE vec v_fma(vec a, vec b, vec c) { /* a * b + c */
    return a * b + c;
}
INLINE ivec v_bits(vec v) {
    return (ivec)v;
}
INLINE vec v_from_bits(ivec v) {
    return (vec)v;
}
INLINE ivec v_shift_left(ivec i, int bits) {
    return i << bits;
}
INLINE vec v_abs(vec v) {
    return (vec)((ivec)v & ~((ivec)v_set1((REAL)-0.0)));
}
INLINE REAL v_get(vec v, int lane) {
    return v[lane];
}

/* Sum of the lanes, by halves. */
INLINE REAL v_sum(vec v) {
#ifdef V_REDUCE
    return V_REDUCE(v);
#else
    REAL lane[LANES];
    v_store(lane, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
#endif
}

#ifdef __clang__
#define V_SHUFFLE_FROM(a, b, index) v_shuffle_by_table(a, b, index)
INLINE vec v_shuffle_by_table(vec a, vec b, ivec index) {
    REAL both[2 * LANES];
    v_store(both, a);
    v_store(both + LANES, b);
    vec out;
    UNROLL for (int i = 0; i < LANES; i++) out[i] = both[index[i]];
    return out;
}
#else
#define V_SHUFFLE_FROM(a, b, index) __builtin_shuffle(a, b, index)
#endif

/* Lane i is i where i & d is 0, else LANES + i - d. Written so that it folds into a constant: set lane by lane, it
 * would be put together at run time. */
#if LANES == 2
#define LANE_NUMBERS 0, 1
#elif LANES == 4
#define LANE_NUMBERS 0, 1, 2, 3
#elif LANES == 8
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#elif LANES == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#endif
INLINE ivec v_pairs(int d) {
    const ivec lane = {LANE_NUMBERS};
    return lane + (((lane & d) != 0) & (LANES - d));
}

/* Transpose LANES x LANES in registers: log2(LANES) rounds of two-input shuffles. */
INLINE void v_transpose(vec *rows) {
    UNROLL for (int d = LANES / 2; d; d /= 2) {
        const ivec low = v_pairs(d), high = low + d;
        UNROLL for (int i = 0; i < LANES; i++) if (!(i & d)) {
            vec x = rows[i], y = rows[i + d];
            rows[i] = V_SHUFFLE_FROM(x, y, low);
            rows[i + d] = V_SHUFFLE_FROM(x, y, high);
        }
    }
}

/* Lane i is the sum of the lanes of rows[i], by halves; rows are used up. */
INLINE vec v_sums(vec *rows) {
    UNROLL for (int d = LANES / 2; d; d /= 2) {
        const ivec low = v_pairs(d), high = low + d;
        UNROLL for (int i = 0; i < d; i++) {
            vec x = rows[i], y = rows[i + d];
            rows[i] = V_SHUFFLE_FROM(x, y, low) + V_SHUFFLE_FROM(x, y, high);
        }
    }
    return rows[0];
}

/* Neighbours apart and together: v_even(a, b) is a[0], a[2], .., b[0], b[2], .., v_odd the others; v_zip_low(a, b) is
 * a[0], b[0], a[1], b[1], .. up to half of the lanes, v_zip_high the rest. v_slide_k(a, b) begins k lanes into a and
 * ends k lanes into b. */
#if LANES == 2
#define V_EVEN 0, 2
#define V_SLIDE_1 1, 2
#define V_SLIDE_2 2, 3
#define V_ODD 1, 3
#define V_LOW 0, 2
#define V_HIGH 1, 3
#elif LANES == 4
#define V_EVEN 0, 2, 4, 6
#define V_SLIDE_1 1, 2, 3, 4
#define V_SLIDE_2 2, 3, 4, 5
#define V_ODD 1, 3, 5, 7
#define V_LOW 0, 4, 1, 5
#define V_HIGH 2, 6, 3, 7
#elif LANES == 8
#define V_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define V_SLIDE_1 1, 2, 3, 4, 5, 6, 7, 8
#define V_SLIDE_2 2, 3, 4, 5, 6, 7, 8, 9
#define V_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define V_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define V_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 16
#define V_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define V_SLIDE_1 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define V_SLIDE_2 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
#define V_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define V_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define V_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#ifdef __clang__
#define V_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* GCC has the other spelling from version 12 on only */
#define V_PICK(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
INLINE vec v_even(vec a, vec b) {
    return V_PICK(a, b, V_EVEN);
}
INLINE vec v_odd(vec a, vec b) {
    return V_PICK(a, b, V_ODD);
}
INLINE vec v_slide_1(vec a, vec b) {
    return V_PICK(a, b, V_SLIDE_1);
}
INLINE vec v_slide_2(vec a, vec b) {
    return V_PICK(a, b, V_SLIDE_2);
}
INLINE vec v_zip_low(vec a, vec b) {
    return V_PICK(a, b, V_LOW);
}
INLINE vec v_zip_high(vec a, vec b) {
    return V_PICK(a, b, V_HIGH);
}

INLINE ivec v_iload(const INT *p) {
    ivec v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void v_istore(INT *p, ivec v) {
    memcpy(p, &v, sizeof v);
}
