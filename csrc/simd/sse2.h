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

#define TILE_CHANNELS_MAX 4
#define TILE_PIXELS_1 8
#define TILE_PIXELS_2 5
#define TILE_PIXELS_4 3
#define TILE_ROWS_CHANNELS 5
#define TILE_ROWS_VECTORS 2
