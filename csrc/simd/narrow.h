/* Integers kept narrower in memory than in lanes, for compilers that widen and narrow vectors well: GCC takes them
 * apart lane by lane on x86, where the instruction sets have their own. */
typedef uint8_t v_bytes __attribute__((vector_size(LANES)));
typedef int32_t v_words __attribute__((vector_size(LANES * 4)));

INLINE ivec v_load_u8(const uint8_t *p) {
    v_bytes v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, ivec);
}
INLINE ivec v_load_i32(const int32_t *p) {
    v_words v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, ivec);
}
INLINE void v_store_u8(uint8_t *p, ivec i) {
    v_bytes v = __builtin_convertvector(i, v_bytes);
    memcpy(p, &v, sizeof v);
}
INLINE void v_store_i32(int32_t *p, ivec i) {
    v_words v = __builtin_convertvector(i, v_words);
    memcpy(p, &v, sizeof v);
}
