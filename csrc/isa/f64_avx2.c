/* Every kernel for double on avx2. */
#if defined(__x86_64__)
#define CG_SUFFIX avx2_f64
#define REAL double
#define INT int64_t
#define REAL_BYTES 8
#include "../simd/system.h"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,prfchw")
#endif
#include "../simd/avx2.h"
#include "../bodies.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
