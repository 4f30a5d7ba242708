/* AVX-512 (F, VL, BW, DQ): 32 registers of 64 bytes, masks in registers of their own. */
#define CG_ISA_NAME "avx512"
#define VECTOR_BYTES 64
#if REAL_BYTES == 4
#define V_REDUCE _mm512_reduce_add_ps /* adds by halves */
#else
#define V_REDUCE _mm512_reduce_add_pd
#endif
#include "vector.h"

#if REAL_BYTES == 4
#define I512(name) _mm512_##name##_ps
typedef __mmask16 v_mask;
#define MASK_ALL ((v_mask)0xffff)
#define CMP_MASK(a, b, how) _mm512_cmp_ps_mask(a, b, how)
#else
#define I512(name) _mm512_##name##_pd
typedef __mmask8 v_mask;
#define MASK_ALL ((v_mask)0xff)
#define CMP_MASK(a, b, how) _mm512_cmp_pd_mask(a, b, how)
#endif

INLINE v_mask v_lt(vec a, vec b) {
    return CMP_MASK(a, b, _CMP_LT_OQ);
}
INLINE v_mask v_le(vec a, vec b) {
    return CMP_MASK(a, b, _CMP_LE_OQ);
}
INLINE v_mask v_gt(vec a, vec b) {
    return CMP_MASK(a, b, _CMP_GT_OQ);
}
INLINE v_mask v_ge(vec a, vec b) {
    return CMP_MASK(a, b, _CMP_GE_OQ);
}
INLINE v_mask v_eq(vec a, vec b) {
    return CMP_MASK(a, b, _CMP_EQ_OQ);
}
INLINE v_mask v_isnan(vec a) {
    return CMP_MASK(a, a, _CMP_UNORD_Q);
}
INLINE v_mask v_or(v_mask a, v_mask b) {
    return a | b;
}
INLINE v_mask v_and(v_mask a, v_mask b) {
    return a & b;
}
INLINE v_mask v_not(v_mask a) {
    return (v_mask)~a;
}
INLINE vec v_blend(v_mask mask, vec yes, vec no) {
    return I512(mask_blend)(mask, no, yes);
}
INLINE v_mask v_ieq(ivec a, ivec b) {
#if REAL_BYTES == 4
    return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b);
#else
    return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b);
#endif
}
INLINE v_mask v_ilt(ivec a, ivec b) {
#if REAL_BYTES == 4
    return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b);
#else
    return _mm512_cmplt_epi64_mask((__m512i)a, (__m512i)b);
#endif
}
INLINE ivec v_iblend(v_mask mask, ivec yes, ivec no) {
#if REAL_BYTES == 4
    return (ivec)_mm512_mask_blend_epi32(mask, (__m512i)no, (__m512i)yes);
#else
    return (ivec)_mm512_mask_blend_epi64(mask, (__m512i)no, (__m512i)yes);
#endif
}
INLINE vec v_max(vec a, vec b) {
    return I512(max)(a, b);
}
INLINE vec v_min(vec a, vec b) {
    return I512(min)(a, b);
}
INLINE vec v_sqrt(vec a) {
    return I512(sqrt)(a);
}
#define V_SCALE(a, n) I512(scalef)(a, n) /* a 2^n, see math.inc.h */
#define V_SCALE_WHERE(mask, a, n, otherwise) I512(mask_scalef)(otherwise, mask, a, n)
#define V_RECIPROCAL_14(a) I512(rcp14)(a)                  /* 1 / a to 2^-14 */
#define V_PERMUTE(a, i) I512(permutexvar)((__m512i)(i), a) /* lane k is a[i[k]] */
#if REAL_BYTES == 4                                        /* table[i mod 32] */
#define V_LOOKUP_32(table, i) _mm512_permutex2var_ps(v_load(table), (__m512i)(i), v_load((table) + 16))
#endif
#if REAL_BYTES == 4
#define V_LOAD_COLUMNS 1
/* v[c][r] = p[r * step + c] for four columns c and 16 rows: half the shuffles of a transpose of whole vectors. */
INLINE void v_load_columns(const REAL *p, ptrdiff_t step, vec *v) {
    __m512 row[4];
    UNROLL for (int i = 0; i < 4; i++) {
        row[i] = _mm512_castps128_ps512(_mm_loadu_ps(p + i * step));
        row[i] = _mm512_insertf32x4(row[i], _mm_loadu_ps(p + (i + 4) * step), 1);
        row[i] = _mm512_insertf32x4(row[i], _mm_loadu_ps(p + (i + 8) * step), 2);
        row[i] = _mm512_insertf32x4(row[i], _mm_loadu_ps(p + (i + 12) * step), 3);
    }
    __m512d a = (__m512d)_mm512_unpacklo_ps(row[0], row[1]), b = (__m512d)_mm512_unpackhi_ps(row[0], row[1]);
    __m512d c = (__m512d)_mm512_unpacklo_ps(row[2], row[3]), d = (__m512d)_mm512_unpackhi_ps(row[2], row[3]);
    v[0] = (vec)_mm512_unpacklo_pd(a, c), v[1] = (vec)_mm512_unpackhi_pd(a, c);
    v[2] = (vec)_mm512_unpacklo_pd(b, d), v[3] = (vec)_mm512_unpackhi_pd(b, d);
}
/* p[r * step + c] = v[c][r]: the way back. */
INLINE void v_store_columns(REAL *p, ptrdiff_t step, const vec *v) {
    __m512d a = (__m512d)_mm512_unpacklo_ps(v[0], v[1]), b = (__m512d)_mm512_unpackhi_ps(v[0], v[1]);
    __m512d c = (__m512d)_mm512_unpacklo_ps(v[2], v[3]), d = (__m512d)_mm512_unpackhi_ps(v[2], v[3]);
    __m512 row[4] = {(__m512)_mm512_unpacklo_pd(a, c), (__m512)_mm512_unpackhi_pd(a, c),
                     (__m512)_mm512_unpacklo_pd(b, d), (__m512)_mm512_unpackhi_pd(b, d)};
    UNROLL for (int i = 0; i < 4; i++) {
        _mm_storeu_ps(p + i * step, _mm512_castps512_ps128(row[i]));
        _mm_storeu_ps(p + (i + 4) * step, _mm512_extractf32x4_ps(row[i], 1));
        _mm_storeu_ps(p + (i + 8) * step, _mm512_extractf32x4_ps(row[i], 2));
        _mm_storeu_ps(p + (i + 12) * step, _mm512_extractf32x4_ps(row[i], 3));
    }
}
#endif

INLINE vec v_load_n(const REAL *p, ptrdiff_t n) {
    return I512(maskz_loadu)((v_mask)((1u << n) - 1), p);
}
#define V_LOAD_WHERE(mask, p, otherwise) I512(mask_loadu)(otherwise, mask, p)
INLINE void v_store_n(REAL *p, vec v, ptrdiff_t n) {
    I512(mask_storeu)(p, (v_mask)((1u << n) - 1), v);
}

INLINE ivec v_load_u8(const uint8_t *p) {
#if REAL_BYTES == 4
    return (ivec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#else
    return (ivec)_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)p));
#endif
}
INLINE void v_store_u8(uint8_t *p, ivec i) {
#if REAL_BYTES == 4
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)i));
#else
    _mm_storel_epi64((__m128i *)p, _mm512_cvtepi64_epi8((__m512i)i));
#endif
}
INLINE ivec v_load_i32(const int32_t *p) {
#if REAL_BYTES == 4
    return v_iload(p);
#else
    return (ivec)_mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i *)p));
#endif
}
INLINE void v_store_i32(int32_t *p, ivec i) {
#if REAL_BYTES == 4
    v_istore(p, i);
#else
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi64_epi32((__m512i)i));
#endif
}

/* Which of LANES bytes are equal to those of the int32_t `four`, four by four. */
#if REAL_BYTES == 4
#define V_EQUAL_U8(p, four) _mm_cmpeq_epi8_mask(_mm_loadu_si128((const __m128i *)(p)), _mm_set1_epi32(four))
#else
#define V_EQUAL_U8(p, four) ((v_mask)_mm_cmpeq_epi8_mask(_mm_loadl_epi64((const __m128i *)(p)), _mm_set1_epi32(four)))
#endif

/* Tiles that leave registers for the operands: 28 of 32 accumulate. See conv_direct.inc.h. */
INLINE void v_stream(REAL *p, vec v) {
    _mm512_stream_ps((float *)p, (__m512)v);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

#define TILE_CHANNELS_MAX 4 /* vectors of output channels */
#define TILE_PIXELS_1 14
#define TILE_PIXELS_2 14
#define TILE_PIXELS_4 7
#define TILE_ROWS_CHANNELS 8 /* broadcast output channels x vectors of pixels */
#define TILE_ROWS_VECTORS 3
