/* Products with few rows, few columns or few terms: the ways of gemm.inc.h other than "panels", and the choice of one.
 */
#if GEMM_WIDE
/* clang-format off */
#define TILE(KV, P)                                                                                                    \
    static void gemm_tile_##KV##x##P(const REAL *b, ptrdiff_t b_k, const REAL *const *rows, const int32_t *offset,     \
                                     ptrdiff_t k, const REAL *init, int add, REAL *out, ptrdiff_t out_step,            \
                                     const REAL *soon, ptrdiff_t soon_step) {                                          \
        tile_broadcast(KV, P, 1, b, b_k, rows, offset, k, init, add, out, out_step, soon, soon_step);                     \
    }
TILE(1, 1) TILE(1, 4) TILE(1, 8)
#if TILE_CHANNELS_MAX == 4
typedef void gemm_tile_fn(const REAL *, ptrdiff_t, const REAL *const *, const int32_t *, ptrdiff_t, const REAL *, int,
                          REAL *, ptrdiff_t, const REAL *, ptrdiff_t);
TILE(4, 4) TILE(4, 5) TILE(4, 6) TILE(4, 7)
#undef TILE
#define TILE(KV, P) gemm_tile_##KV##x##P,
static gemm_tile_fn *const gemm_tiles[] = {TILE(4, 4) TILE(4, 5) TILE(4, 6) TILE(4, 7)};
#endif
#undef TILE
/* clang-format on */

#if TILE_CHANNELS_MAX == 4

static void gemm_direct(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, char *scratch) {
    enum { WIDE = 4 * LANES };
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    const ptrdiff_t strips = (n1 - n0) / WIDE, passes = ceil_div(m1 - m0, 7), whole = n0 + strips * WIDE;
    for (ptrdiff_t k = 0; k < a->block_k; k++)
        offset[k] = (int32_t)(k * a->a_k);
    for (ptrdiff_t k0 = 0; k0 < a->K; k0 += a->block_k) {
        const ptrdiff_t k = MIN(a->block_k, a->K - k0);
        const int along_rows = a->K <= GEMM_DIRECT_TERMS;
        for (ptrdiff_t i = 0; i < strips * passes; i++) {
            const ptrdiff_t pass = along_rows ? i / strips : i % passes, strip = along_rows ? i % strips : i / passes;
            const ptrdiff_t m = m0 + (m1 - m0) * pass / passes, rows = m0 + (m1 - m0) * (pass + 1) / passes - m;
            const ptrdiff_t n = n0 + strip * WIDE;
            const REAL *row[7], *b = (const REAL *)a->b + k0 * a->b_k + n;
            for (ptrdiff_t r = 0; r < rows; r++)
                row[r] = (const REAL *)a->a + (m + r) * a->a_row + k0 * a->a_k;
            const int more = !along_rows && strip + 1 < strips && pass < 4;
            gemm_tiles[rows - 4](b, a->b_k, row, offset, k, a->bias && k0 == 0 ? (const REAL *)a->bias + n : zeros,
                                 k0 > 0, (REAL *)a->c + m * a->c_row + n, a->c_row, more ? b + WIDE + pass * LANES : b,
                                 more ? a->b_k : 0);
        }
    }
    if (whole < n1)
        gemm_panels(a, m0, m1, whole, n1, scratch);
}
#else
#define gemm_direct gemm_panels
#endif

#ifdef V_LOAD_COLUMNS
/* R rows of c from row m on, of which `rows` exist, and a vector of columns from n on. whole: all LANES columns exist,
 * and what lies behind them in b may be read. */
INLINE void gemm_columns_tile(const int R, const cg_gemm_args *a, ptrdiff_t m, ptrdiff_t rows, ptrdiff_t n,
                              ptrdiff_t lanes, int whole) {
    const REAL *b = (const REAL *)a->b + n * a->b_n, *x[4];
    vec sum[4];
    UNROLL for (int r = 0; r < R; r++) {
        sum[r] = a->bias ? v_load_some((const REAL *)a->bias + n, lanes) : v_zero();
        x[r] = (const REAL *)a->a + (m + MIN(r, rows - 1)) * a->a_row;
    }
    for (ptrdiff_t k = 0; k < a->K; k += 4) {
        REAL last[4 * LANES];
        const REAL *p = b + k;
        ptrdiff_t step = a->b_n, some = MIN(4, a->K - k);
        vec w[4];
        if (!whole) {
            for (ptrdiff_t i = 0; i < 4 * LANES; i++)
                last[i] = i / 4 < lanes && i % 4 < some ? p[i / 4 * step + i % 4] : 0;
            p = last, step = 4;
        }
        v_load_columns(p, step, w);
        UNROLL for (int i = 0; i < 4; i++) if (i < some) UNROLL for (int r = 0; r < R; r++) sum[r] =
            v_fma(w[i], v_set1(x[r][(k + i) * a->a_k]), sum[r]);
    }
    UNROLL for (int r = 0; r < R; r++) if (r < rows) v_store_some((REAL *)a->c + (m + r) * a->c_row + n, sum[r], lanes);
}

static void gemm_columns(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1) {
    for (ptrdiff_t n = n0; n < n1; n += LANES) {
        const ptrdiff_t lanes = MIN(LANES, n1 - n);
        const int whole = n + LANES < a->N;
        for (ptrdiff_t m = m0; m < m1; m += 4)
            if (m + 1 == m1)
                gemm_columns_tile(1, a, m, 1, n, lanes, whole);
            else
                gemm_columns_tile(4, a, m, MIN(4, m1 - m), n, lanes, whole);
    }
}
#endif

/* c has at most LANES columns and b is read in place: lanes beyond the columns hold what follows in b, except in its
 * last rows, which are copied. */
static void gemm_narrow(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, char *scratch) {
    REAL *last = (REAL *)(scratch + a->panel_at), *result = (REAL *)(scratch + a->result_at);
    int32_t *offset = (int32_t *)(scratch + a->offset_at);
    const ptrdiff_t whole = MAX(0, a->K - ceil_div(LANES - a->N, a->b_k));
    for (ptrdiff_t k = 0; k < a->block_k; k++)
        offset[k] = (int32_t)(k * a->a_k);
    for (ptrdiff_t k = whole; k < a->K; k++)
        v_store(last + (k - whole) * LANES, v_load_some((const REAL *)a->b + k * a->b_k, a->N));
    REAL init[LANES] = {0};
    if (a->bias)
        memcpy(init, a->bias, (size_t)a->N * sizeof(REAL));
    for (ptrdiff_t m = m0, rows; m < m1; m += rows) {
        const REAL *row[8];
        rows = MIN(8, m1 - m);
        for (ptrdiff_t k0 = 0, k; k0 < a->K; k0 += k) {
            k = k0 < whole ? MIN(a->block_k, whole - k0) : a->K - k0;
            for (ptrdiff_t r = 0; r < 8; r++)
                row[r] = (const REAL *)a->a + (m + MIN(r, rows - 1)) * a->a_row + k0 * a->a_k;
            (rows == 1  ? gemm_tile_1x1
             : rows > 4 ? gemm_tile_1x8
                        : gemm_tile_1x4)(k0 < whole ? (const REAL *)a->b + k0 * a->b_k : last,
                                         k0 < whole ? a->b_k : LANES, row, offset, k, k0 ? zeros : init, k0 > 0, result,
                                         LANES, result, 0);
        }
        for (ptrdiff_t r = 0; r < rows; r++)
            v_store_some((REAL *)a->c + (m + r) * a->c_row, v_load(result + r * LANES), a->N);
    }
}

/* c has few columns and no gaps, a lies along its rows, and there are few k: LANES rows of c are N whole vectors, in
 * which a's numbers are spread by a permutation and b's, the same for all of them, lie ready. K: terms, some perhaps 0.
 */
INLINE void gemm_outer_rows(const int K, const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, const REAL *b,
                            const INT *of_row) {
    const ptrdiff_t N = a->N;
    for (ptrdiff_t m = m0; m < m1; m += LANES) {
        const ptrdiff_t rows = MIN(LANES, m1 - m);
        REAL *to = (REAL *)a->c + m * N;
        vec v[4];
        UNROLL for (int k = 0; k < K; k++) v[k] =
            k < a->K ? v_load_some((const REAL *)a->a + m + k * a->a_k, rows) : v_zero();
        for (ptrdiff_t j = 0; j < rows * N; j += LANES) {
            const ivec at = v_iload(of_row + j);
            vec sum = V_PERMUTE(v[0], at) * v_load(b + j);
            UNROLL for (int k = 1; k < K; k++) sum = v_fma(V_PERMUTE(v[k], at), v_load(b + k * N * LANES + j), sum);
            v_store_some(to + j, sum, MIN(LANES, rows * N - j));
        }
    }
}

static void gemm_outer(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, char *scratch) {
    REAL *b = (REAL *)(scratch + a->panel_at);
    INT *of_row = (INT *)(scratch + a->result_at);
    for (ptrdiff_t i = 0, row = 0, column = 0; i < a->N * LANES; i++) {
        of_row[i] = (INT)row;
        for (ptrdiff_t k = 0; k < GEMM_OUTER_TERMS; k++)
            b[k * a->N * LANES + i] = k < a->K ? ((const REAL *)a->b)[k * a->b_k + column] : 0;
        if (++column == a->N)
            column = 0, row++;
    }
    if (a->K == 1)
        gemm_outer_rows(1, a, m0, m1, b, of_row);
    else
        gemm_outer_rows(GEMM_OUTER_TERMS, a, m0, m1, b, of_row);
}

/* out[r][0 .. n-1] = the sum over k of a[r][k] * b[k][0 .. n-1], four k at a time; add: plus what is there. */
INLINE void gemm_stretch(const int R, const cg_gemm_args *a, const REAL *rows, const REAL *b, ptrdiff_t K, ptrdiff_t n,
                         REAL *out, ptrdiff_t out_step) {
    for (ptrdiff_t k = 0; k < K; k += 4) {
        const REAL *from[4];
        vec factor[16];
        UNROLL for (int i = 0; i < 4; i++) {
            from[i] = b + MIN(k + i, K - 1) * a->b_k;
            UNROLL for (int r = 0; r < R; r++) factor[i * R + r] =
                k + i < K ? v_set1(rows[r * a->a_row + (k + i) * a->a_k]) : v_zero();
        }
        for (ptrdiff_t j = 0; j < n; j += LANES) {
            const ptrdiff_t lanes = MIN(LANES, n - j);
            vec v[4];
            UNROLL for (int i = 0; i < 4; i++) v[i] = v_load_some(from[i] + j, lanes);
            UNROLL for (int r = 0; r < R; r++) {
                REAL *to = out + r * out_step + j;
                vec sum = k ? v_load_some(to, lanes) : v_zero();
                UNROLL for (int i = 0; i < 4; i++) sum = v_fma(v[i], factor[i * R + r], sum);
                v_store_some(to, sum, lanes);
            }
        }
    }
}

static void gemm_rows(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, char *scratch) {
    REAL *result = (REAL *)(scratch + a->result_at);
    for (ptrdiff_t n = n0; n < n1; n += GEMM_STRETCH) {
        const ptrdiff_t width = MIN(GEMM_STRETCH, n1 - n);
        for (ptrdiff_t k0 = 0; k0 < a->K; k0 += a->block_k)
            for (ptrdiff_t m = m0, R; m < m1; m += R) {
                const ptrdiff_t k = MIN(a->block_k, a->K - k0), step = k0 ? GEMM_STRETCH : a->c_row;
                const REAL *rows = (const REAL *)a->a + m * a->a_row + k0 * a->a_k;
                const REAL *b = (const REAL *)a->b + k0 * a->b_k + n;
                REAL *c = (REAL *)a->c + m * a->c_row + n, *out = k0 ? result : c;
                R = m + 4 <= m1 ? 4 : 1;
                if (R == 4)
                    gemm_stretch(4, a, rows, b, k, width, out, step);
                else
                    gemm_stretch(1, a, rows, b, k, width, out, step);
                for (ptrdiff_t r = 0; r < R; r++) {
                    if (k0)
                        add_run(c + r * a->c_row, result + r * GEMM_STRETCH, width, 1);
                    else if (a->bias)
                        add_run(c + r * a->c_row, (const REAL *)a->bias + n, width, 1);
                }
            }
    }
}

/* Sums of products along k, RM rows of a by RN of b: the lane of (r, j) is r * RN + j. */
INLINE void gemm_dot_tile(const int RM, const int RN, const REAL *const *x, const REAL *const *w, ptrdiff_t k,
                          REAL *out) {
    vec sum[16];
    UNROLL for (int i = 0; i < 16; i++) sum[i] = v_zero();
    ptrdiff_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        vec b[16];
        UNROLL for (int j = 0; j < RN; j++) b[j] = v_load(w[j] + i);
        UNROLL for (int r = 0; r < RM; r++) {
            vec v = v_load(x[r] + i);
            UNROLL for (int j = 0; j < RN; j++) sum[r * RN + j] = v_fma(v, b[j], sum[r * RN + j]);
        }
    }
    if (i < k) {
        REAL rest[20][LANES]; /* copies with zeros behind: less code than so many partial loads */
        for (int j = 0; j < RN + RM; j++) {
            ONE_BY_ONE;
            v_store(rest[j], v_load_n((j < RN ? w[j] : x[j - RN]) + i, k - i));
        }
        UNROLL for (int r = 0; r < RM; r++) {
            vec v = v_load(rest[RN + r]);
            UNROLL for (int j = 0; j < RN; j++) sum[r * RN + j] = v_fma(v, v_load(rest[j]), sum[r * RN + j]);
        }
    }
    UNROLL for (int j = 0; j < 16; j += LANES) v_store(out + j, v_sums(sum + j));
}

static void gemm_dot(const cg_gemm_args *a, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1) {
    const int RM = m1 - m0 == 1 ? 1 : 4, RN = RM == 1 ? 16 : 4, by_rows = m1 - m0 > n1 - n0;
    const ptrdiff_t most = RM == 1 ? GEMM_CHAIN * LANES : GEMM_DOT_RUN;
    const ptrdiff_t outer0 = by_rows ? m0 : n0, outer1 = by_rows ? m1 : n1, outer_step = by_rows ? RM : RN;
    const ptrdiff_t inner0 = by_rows ? n0 : m0, inner1 = by_rows ? n1 : m1, inner_step = by_rows ? RN : RM;
    for (ptrdiff_t i = outer0; i < outer1; i += outer_step)
        for (ptrdiff_t k0 = 0; k0 < a->K; k0 += most)
            for (ptrdiff_t j = inner0; j < inner1; j += inner_step) {
                const ptrdiff_t m = by_rows ? i : j, n = by_rows ? j : i, columns = MIN(RN, n1 - n);
                const REAL *w[16], *x[4];
                REAL sum[16];
                for (int q = 0; q < RN; q++) {
                    ONE_BY_ONE;
                    w[q] = (const REAL *)a->b + MIN(n + q, n1 - 1) * a->b_n + k0;
                }
                for (int r = 0; r < RM; r++) {
                    ONE_BY_ONE;
                    x[r] = (const REAL *)a->a + MIN(m + r, m1 - 1) * a->a_row + k0;
                }
                if (RM == 1)
                    gemm_dot_tile(1, 16, x, w, MIN(most, a->K - k0), sum);
                else
                    gemm_dot_tile(4, 4, x, w, MIN(most, a->K - k0), sum);
                for (ptrdiff_t r = 0; r < MIN(RM, m1 - m); r++) {
                    REAL *to = (REAL *)a->c + (m + r) * a->c_row + n;
                    const REAL *more = k0 ? to : a->bias ? (const REAL *)a->bias + n : zeros;
                    for (ptrdiff_t q = 0; q < columns; q++) {
                        ONE_BY_ONE;
                        to[q] = sum[r * RN + q] + more[q];
                    }
                }
            }
}
#endif

KERNEL_RUN(gemm) {
    const cg_gemm_args *a = args_;
    for (ptrdiff_t block = begin; block < end; block++) {
        const ptrdiff_t m0 = block / a->n_column_blocks * a->block_m, m1 = MIN(a->M, m0 + a->block_m);
        const ptrdiff_t n0 = block % a->n_column_blocks * a->block_n, n1 = MIN(a->N, n0 + a->block_n);
        if (a->way == GEMM_PANELS)
            gemm_panels(a, m0, m1, n0, n1, scratch_);
#if GEMM_WIDE
        else if (a->way == GEMM_DOT)
            gemm_dot(a, m0, m1, n0, n1);
#ifdef V_LOAD_COLUMNS
        else if (a->way == GEMM_COLUMNS_WAY)
            gemm_columns(a, m0, m1, n0, n1);
#endif
        else if (a->way == GEMM_NARROW)
            gemm_narrow(a, m0, m1, scratch_);
        else if (a->way == GEMM_OUTER)
            gemm_outer(a, m0, m1, scratch_);
        else if (a->way == GEMM_DIRECT)
            gemm_direct(a, m0, m1, n0, n1, scratch_);
        else
            gemm_rows(a, m0, m1, n0, n1, scratch_);
#endif
        const ptrdiff_t row = a->swap ? n0 : m0, end_row = a->swap ? n1 : m1;
        const ptrdiff_t column = a->swap ? m0 : n0, width = a->swap ? m1 - m0 : n1 - n0;
        for (ptrdiff_t i = row; a->activation != CG_IDENTITY && i < end_row; i++)
            activate_run(a->activation, (REAL)a->parameter, (REAL *)a->c + i * a->c_row + column, width);
    }
}
