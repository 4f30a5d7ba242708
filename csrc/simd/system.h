/* System headers (they must come before any target pragma) and the few macros that every body uses. */
#ifndef CONVGRAD_SYSTEM_H
#define CONVGRAD_SYSTEM_H

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../kernels.h"

#define CG_JOIN_(a, b) a##b
#define CG_JOIN(a, b) CG_JOIN_(a, b)

/* conv_correlate_run__avx2_f32 is found in a profile; the bodies say KERNEL_RUN(conv_correlate). */
#define KERNEL_PLAN(name) static COLD void CG_JOIN(name##_plan__, CG_SUFFIX)(void *args_)
#define KERNEL_RUN(name)                                                                                               \
    static void CG_JOIN(name##_run__, CG_SUFFIX)(const void *args_, ptrdiff_t begin, ptrdiff_t end, void *scratch_)
#define ENTRY(name) {#name, CG_JOIN(name##_plan__, CG_SUFFIX), CG_JOIN(name##_run__, CG_SUFFIX)},

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline)) /* one copy, for the size of the wheel */
#define COLD __attribute__((cold))                /* small rather than fast */
#define UNROLL _Pragma("GCC unroll 32")
#define UNUSED __attribute__((unused))
#if defined(__x86_64__) && defined(__GNUC__)
#define IN_REGISTER(v) __asm__("" : "+v"(v)) /* loaded once, not by each instruction that could take it from memory */
#else
#define IN_REGISTER(v) (void)0
#endif
#define ONE_BY_ONE __asm__ volatile("") /* in the body of a short loop: it is not worth vector code */
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define PREFETCH(p) __builtin_prefetch(p, 0, 2) /* into L2: what L1 holds is in use */
#define PREFETCH_READ(p) __builtin_prefetch(p, 0, 3)
#define PREFETCH_WRITE(p) __builtin_prefetch(p, 1, 3)
#else
#define INLINE static __forceinline
#define NOINLINE static __declspec(noinline)
#define COLD
#define UNROLL
#define UNUSED
#define ONE_BY_ONE ((void)0)
#define LIKELY(x) (x)
#define PREFETCH(p) ((void)(p))
#define PREFETCH_READ(p) ((void)(p))
#define PREFETCH_WRITE(p) ((void)(p))
#endif

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

INLINE ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) {
    return (a + b - 1) / b;
}
INLINE ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) {
    return ceil_div(a, b) * b;
}

#endif
