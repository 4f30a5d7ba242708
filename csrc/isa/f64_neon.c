/* Every kernel for double on neon. */
#if defined(__aarch64__)
#define CG_SUFFIX neon_f64
#define REAL double
#define INT int64_t
#define REAL_BYTES 8
#include "../simd/system.h"
#include "../simd/neon.h"
#include "../bodies.inc.h"
#endif
