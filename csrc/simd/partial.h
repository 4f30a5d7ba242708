/* Partial loads and stores for instruction sets without masks: through the stack, never outside p[0 .. n-1]. */
INLINE vec v_load_n(const REAL *p, ptrdiff_t n) { /* lanes >= n are 0 */
    REAL lane[LANES] = {0};
    memcpy(lane, p, (size_t)n * sizeof(REAL));
    return v_load(lane);
}
INLINE void v_store_n(REAL *p, vec v, ptrdiff_t n) {
    REAL lane[LANES];
    v_store(lane, v);
    memcpy(p, lane, (size_t)n * sizeof(REAL));
}
