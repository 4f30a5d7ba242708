/* SSE2, the baseline of x86-64: 16 registers of 16 bytes, no FMA. */
#define CG_ISA_NAME "sse2"
#define VECTOR_BYTES 16
#include "vector.h"

#include "compare.h"
#include "partial.h"

#if REAL_BYTES == 4
#define I128(name) _mm_##name##_ps
#else
#define I128(name) _mm_##name##_pd
#endif

INLINE vec v_blend(v_mask mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}
INLINE vec v_max(vec a, vec b) {
    return I128(max)(a, b);
}
INLINE vec v_min(vec a, vec b) {
    return I128(min)(a, b);
}
INLINE vec v_sqrt(vec a) {
    return I128(sqrt)(a);
}

INLINE void v_stream(REAL *p, vec v) {
    _mm_stream_ps((float *)p, (__m128)v);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

INLINE ivec v_load_u8(const uint8_t *p) {
#if REAL_BYTES == 4
    int32_t four;
    memcpy(&four, p, 4);
    __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), _mm_setzero_si128());
    return (ivec)_mm_unpacklo_epi16(words, _mm_setzero_si128());
#else
    return (ivec){p[0], p[1]};
#endif
}
INLINE void v_store_u8(uint8_t *p, ivec i) {
#if REAL_BYTES == 4
    __m128i words = _mm_and_si128((__m128i)i, _mm_set1_epi32(255));
    words = _mm_packs_epi32(words, words);
    int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(p, &four, 4);
#else
    p[0] = (uint8_t)i[0];
    p[1] = (uint8_t)i[1];
#endif
}
INLINE ivec v_load_i32(const int32_t *p) {
#if REAL_BYTES == 4
    return v_iload(p);
#else
    return (ivec){p[0], p[1]};
#endif
}
INLINE void v_store_i32(int32_t *p, ivec i) {
#if REAL_BYTES == 4
    v_istore(p, i);
#else
    p[0] = (int32_t)i[0];
    p[1] = (int32_t)i[1];
#endif
}

#define TILE_CHANNELS_MAX 4
#define TILE_PIXELS_1 8
#define TILE_PIXELS_2 5
#define TILE_PIXELS_4 3
#define TILE_ROWS_CHANNELS 5
#define TILE_ROWS_VECTORS 2
