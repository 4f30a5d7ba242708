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
INLINE void v_store_n(REAL *p, vec v, ptrdiff_t n) {
    I256(maskstore)(p, MASK_OF(n), v);
}

INLINE void v_stream(REAL *p, vec v) {
    _mm256_stream_ps((float *)p, (__m256)v);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

#define TILE_CHANNELS_MAX 2
#define TILE_PIXELS_1 12
#define TILE_PIXELS_2 6
#define TILE_PIXELS_4 3
#define TILE_ROWS_CHANNELS 6
#define TILE_ROWS_VECTORS 2
