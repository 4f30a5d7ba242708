/* AVX2 with FMA: 16 registers of 32 bytes. */
#define CG_ISA_NAME "avx2"
#define VECTOR_BYTES 32
#include "vector.h"

#include "compare.h"

#if REAL_BYTES == 4
#define I256(name) _mm256_##name##_ps
#define MASK_OF(n) _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#else
#define I256(name) _mm256_##name##_pd
#define MASK_OF(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)(n)), _mm256_setr_epi64x(0, 1, 2, 3))
#endif

INLINE vec v_blend(v_mask mask, vec yes, vec no) {
    return I256(blendv)(no, yes, (vec)mask);
}
INLINE vec v_max(vec a, vec b) {
    return I256(max)(a, b);
}
INLINE vec v_min(vec a, vec b) {
    return I256(min)(a, b);
}
INLINE vec v_sqrt(vec a) {
    return I256(sqrt)(a);
}
INLINE vec v_load_n(const REAL *p, ptrdiff_t n) {
    return I256(maskload)(p, MASK_OF(n));
}
#define V_LOAD_WHERE(mask, p, otherwise) v_blend(mask, I256(maskload)(p, (__m256i)(mask)), otherwise)
INLINE void v_store_n(REAL *p, vec v, ptrdiff_t n) {
    I256(maskstore)(p, MASK_OF(n), v);
}

#if REAL_BYTES == 4
#define V_PERMUTE(a, i) ((vec)_mm256_permutevar8x32_ps((__m256)(a), (__m256i)(i))) /* lane k is a[i[k]] */
#endif

INLINE void v_stream(REAL *p, vec v) {
    _mm256_stream_ps((float *)p, (__m256)v);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

/* The low bytes of the lanes of i as eight 16-bit numbers, or four 64-bit lanes as 32 bits. */
INLINE __m128i v_halves(ivec i) {
#if REAL_BYTES == 4
    __m256i bytes = _mm256_and_si256((__m256i)i, _mm256_set1_epi32(255));
    return _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
#else
    return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32((__m256i)i, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
#endif
}
INLINE ivec v_load_u8(const uint8_t *p) {
#if REAL_BYTES == 4
    return (ivec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    int32_t four;
    memcpy(&four, p, 4);
    return (ivec)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
#endif
}
INLINE void v_store_u8(uint8_t *p, ivec i) {
    __m128i words = v_halves(i);
#if REAL_BYTES == 4
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
#else
    words = _mm_and_si128(words, _mm_set1_epi32(255));
    words = _mm_packus_epi32(words, words);
    int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(p, &four, 4);
#endif
}
INLINE ivec v_load_i32(const int32_t *p) {
#if REAL_BYTES == 4
    return v_iload(p);
#else
    return (ivec)_mm256_cvtepi32_epi64(_mm_loadu_si128((const __m128i *)p));
#endif
}
INLINE void v_store_i32(int32_t *p, ivec i) {
#if REAL_BYTES == 4
    v_istore(p, i);
#else
    _mm_storeu_si128((__m128i *)p, v_halves(i));
#endif
}

#define TILE_CHANNELS_MAX 2
#define TILE_PIXELS_1 12
#define TILE_PIXELS_2 6
#define TILE_PIXELS_4 3
#define TILE_ROWS_CHANNELS 6
#define TILE_ROWS_VECTORS 2
