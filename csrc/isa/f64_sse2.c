/* Every kernel for double on sse2. */
#if defined(__x86_64__)
#define CG_SUFFIX sse2_f64
#define REAL double
#define INT int64_t
#define REAL_BYTES 8
#include "../simd/system.h"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("sse2"))), apply_to = function)
#else
#pragma GCC target("sse2")
#endif
#include "../simd/sse2.h"
#include "../bodies.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
