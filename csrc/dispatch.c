/* Which instruction sets this build and this CPU have. Looked at once, at import. */
#include "kernels.h"

const char *const cg_isa_names[CG_N_ISAS] = {"scalar", "sse2", "neon", "avx2", "avx512"};

extern const cg_table cg_table_scalar_f32, cg_table_scalar_f64;
#if defined(__x86_64__)
extern const cg_table cg_table_sse2_f32, cg_table_sse2_f64, cg_table_avx2_f32, cg_table_avx2_f64, cg_table_avx512_f32,
    cg_table_avx512_f64;
#elif defined(__aarch64__)
extern const cg_table cg_table_neon_f32, cg_table_neon_f64;
#endif

static const cg_table *const tables[CG_N_ISAS][CG_N_DTYPES] = {
    {&cg_table_scalar_f32, &cg_table_scalar_f64},
#if defined(__x86_64__)
    {&cg_table_sse2_f32, &cg_table_sse2_f64},     {0, 0},
    {&cg_table_avx2_f32, &cg_table_avx2_f64},     {&cg_table_avx512_f32, &cg_table_avx512_f64},
#elif defined(__aarch64__)
    {0, 0},
    {&cg_table_neon_f32, &cg_table_neon_f64},
    {0, 0},
    {0, 0},
#endif
};

int cg_isa_available(int isa) {
    if (isa < 0 || isa >= CG_N_ISAS || !tables[isa][CG_F32])
        return 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == 3)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == 4)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#endif
    return 1;
}

const cg_table *cg_isa_table(int isa, int dtype) {
    return cg_isa_available(isa) && dtype >= 0 && dtype < CG_N_DTYPES ? tables[isa][dtype] : 0;
}
