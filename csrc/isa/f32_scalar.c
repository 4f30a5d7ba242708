/* Every kernel for float on scalar. */
#define CG_SUFFIX scalar_f32
#define REAL float
#define INT int32_t
#define REAL_BYTES 4
#include "../simd/system.h"
#include "../simd/scalar.h"
#include "../bodies.inc.h"
