/* Every kernel for double on scalar. */
#define CG_SUFFIX scalar_f64
#define REAL double
#define INT int64_t
#define REAL_BYTES 8
#include "../simd/system.h"
#include "../simd/scalar.h"
#include "../bodies.inc.h"
