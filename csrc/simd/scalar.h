/* One lane: the vocabulary in plain C, for compilers and processors without any of the others, and to test them
 * against. */
#define CG_ISA_NAME "scalar"
#define LANES 1
typedef REAL vec;
typedef INT ivec;
typedef int v_mask;

INLINE vec v_load(const REAL *p) {
    return *p;
}
INLINE void v_store(REAL *p, vec v) {
    *p = v;
}
INLINE vec v_load_n(const REAL *p, ptrdiff_t n) {
    return n ? *p : 0;
}
INLINE void v_store_n(REAL *p, vec v, ptrdiff_t n) {
    if (n)
        *p = v;
}
INLINE vec v_set1(REAL x) {
    return x;
}
INLINE ivec v_iset1(INT x) {
    return x;
}
INLINE vec v_zero(void) {
    return 0;
}
INLINE vec v_fma(vec a, vec b, vec c) {
    return a * b + c;
}
INLINE ivec v_bits(vec v) {
    ivec i;
    memcpy(&i, &v, sizeof i);
    return i;
}
INLINE vec v_from_bits(ivec i) {
    vec v;
    memcpy(&v, &i, sizeof v);
    return v;
}
INLINE ivec v_shift_left(ivec i, int bits) { /* as unsigned: a sign may be shifted out */
#if REAL_BYTES == 4
    return (ivec)((uint32_t)i << bits);
#else
    return (ivec)((uint64_t)i << bits);
#endif
}
INLINE vec v_abs(vec v) {
    return (vec)fabs(v);
}
INLINE REAL v_get(vec v, int lane) {
    (void)lane;
    return v;
}
INLINE REAL v_sum(vec v) {
    return v;
}
INLINE void v_transpose(vec *rows) {
    (void)rows;
}
INLINE v_mask v_lt(vec a, vec b) {
    return a < b;
}
INLINE v_mask v_le(vec a, vec b) {
    return a <= b;
}
INLINE v_mask v_gt(vec a, vec b) {
    return a > b;
}
INLINE v_mask v_ge(vec a, vec b) {
    return a >= b;
}
INLINE v_mask v_eq(vec a, vec b) {
    return a == b;
}
INLINE v_mask v_isnan(vec a) {
    return a != a;
}
INLINE v_mask v_or(v_mask a, v_mask b) {
    return a | b;
}
INLINE v_mask v_and(v_mask a, v_mask b) {
    return a & b;
}
INLINE v_mask v_not(v_mask a) {
    return !a;
}
INLINE vec v_blend(v_mask mask, vec yes, vec no) {
    return mask ? yes : no;
}
INLINE vec v_max(vec a, vec b) {
    return a > b ? a : b;
}
INLINE vec v_min(vec a, vec b) {
    return a < b ? a : b;
}
INLINE vec v_sqrt(vec a) {
#if REAL_BYTES == 4
    return sqrtf(a);
#else
    return sqrt(a);
#endif
}
INLINE v_mask v_ieq(ivec a, ivec b) {
    return a == b;
}
INLINE v_mask v_ilt(ivec a, ivec b) {
    return a < b;
}
INLINE ivec v_iblend(v_mask mask, ivec yes, ivec no) {
    return mask ? yes : no;
}
INLINE ivec v_iload(const INT *p) {
    return *p;
}
INLINE void v_istore(INT *p, ivec v) {
    *p = v;
}
INLINE ivec v_load_u8(const uint8_t *p) {
    return *p;
}
INLINE ivec v_load_i32(const int32_t *p) {
    return *p;
}
INLINE void v_store_u8(uint8_t *p, ivec v) {
    *p = (uint8_t)v;
}
INLINE void v_store_i32(int32_t *p, ivec v) {
    *p = (int32_t)v;
}
INLINE vec v_even(vec a, vec b) {
    (void)b;
    return a;
}
INLINE vec v_odd(vec a, vec b) { /* of the two lanes of a and b together, the second */
    (void)a;
    return b;
}
INLINE vec v_zip_low(vec a, vec b) {
    (void)b;
    return a;
}
INLINE vec v_zip_high(vec a, vec b) {
    (void)a;
    return b;
}
INLINE vec v_sums(vec *rows) {
    return rows[0];
}

INLINE void v_stream(REAL *p, vec v) {
    v_store(p, v);
}
INLINE void v_stream_end(void) {
}

#define TILE_CHANNELS_MAX 4
#define TILE_PIXELS_1 8
#define TILE_PIXELS_2 5
#define TILE_PIXELS_4 3
#define TILE_ROWS_CHANNELS 4
#define TILE_ROWS_VECTORS 3
