/* Every kernel for float on neon. */
#if defined(__aarch64__)
#define CG_SUFFIX neon_f32
#define REAL float
#define INT int32_t
#define REAL_BYTES 4
#include "../simd/system.h"
#include "../simd/neon.h"
#include "../bodies.inc.h"
#endif
