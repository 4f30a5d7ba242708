/* Every kernel for float on avx512. */
#if defined(__x86_64__)
#define CG_SUFFIX avx512_f32
#define REAL float
#define INT int32_t
#define REAL_BYTES 4
#include "../simd/system.h"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prfchw"))),            \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prfchw")
#endif
#include "../simd/avx512.h"
#include "../bodies.inc.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
