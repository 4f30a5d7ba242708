/* NEON (AArch64): 32 registers of 16 bytes, FMA always. */
#define CG_ISA_NAME "neon"
#define VECTOR_BYTES 16
#include "vector.h"

#include "compare.h"
#include "narrow.h"
#include "partial.h"

INLINE vec v_blend(v_mask mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}
INLINE vec v_max(vec a, vec b) { /* FMAX would return NaN for either operand; the vocabulary promises b */
    return v_blend(a > b, a, b);
}
INLINE vec v_min(vec a, vec b) {
    return v_blend(a < b, a, b);
}
INLINE vec v_sqrt(vec a) {
#if REAL_BYTES == 4
    return (vec)vsqrtq_f32((float32x4_t)a);
#else
    return (vec)vsqrtq_f64((float64x2_t)a);
#endif
}

INLINE void v_stream(REAL *p, vec v) {
    v_store(p, v);
}
INLINE void v_stream_end(void) {
}

#define TILE_CHANNELS_MAX 4
#define TILE_PIXELS_1 14
#define TILE_PIXELS_2 12
#define TILE_PIXELS_4 6
#define TILE_ROWS_CHANNELS 8
#define TILE_ROWS_VECTORS 3
