/* Direct convolutions of every instruction set that runs here against four nested loops, for compilers and C libraries
 * that the rest of the tests do not see. Prints a line for each; exits with 1 where one is off. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

typedef struct {
    ptrdiff_t N, C, K, H, W, taps, stride, pad;
    int residual, activation;
} shape;

static const shape shapes[] = {
    {2, 3, 5, 9, 11, 3, 1, 1, 0, 0}, {1, 40, 70, 6, 7, 1, 1, 0, 1, 3},  {1, 9, 33, 8, 8, 3, 2, 1, 1, 0},
    {2, 1, 1, 12, 5, 5, 1, 2, 0, 3}, {1, 300, 20, 3, 3, 3, 1, 1, 1, 3},
};

static unsigned state = 1;
static double number(void) {
    state = state * 1664525u + 1013904223u;
    return (int)(state >> 8) / 8388608.0 - 1;
}

static void axis(cg_axis *a, cg_phase *phase, ptrdiff_t *tap, ptrdiff_t count, const shape *s) {
    memset(a, 0, sizeof *a);
    for (ptrdiff_t r = 0; r < s->taps; r++) {
        tap[r] = r;
        tap[s->taps + r] = r - s->pad;
    }
    *phase = (cg_phase){0, count, s->taps, tap, tap + s->taps};
    *a = (cg_axis){phase, 1, s->stride, 1, count, -s->pad, s->taps - 1 - s->pad};
}

#define CHECK(REAL, DTYPE, TOLERANCE)                                                                                  \
    static int check_##REAL(const cg_table *table, const shape *s) {                                                   \
        ptrdiff_t OH = (s->H + 2 * s->pad - s->taps) / s->stride + 1,                                                  \
                  OW = (s->W + 2 * s->pad - s->taps) / s->stride + 1;                                                  \
        ptrdiff_t n_x = s->N * s->C * s->H * s->W, n_w = s->K * s->C * s->taps * s->taps, n_y = s->N * s->K * OH * OW; \
        REAL *x = malloc(n_x * sizeof *x), *w = malloc(n_w * sizeof *w), *y = malloc(n_y * sizeof *y);                 \
        REAL *bias = malloc(s->K * sizeof *bias), *residual = malloc(n_y * sizeof *residual);                          \
        for (ptrdiff_t i = 0; i < n_x; i++)                                                                            \
            x[i] = (REAL)number();                                                                                     \
        for (ptrdiff_t i = 0; i < n_w; i++)                                                                            \
            w[i] = (REAL)number();                                                                                     \
        for (ptrdiff_t i = 0; i < s->K; i++)                                                                           \
            bias[i] = (REAL)number();                                                                                  \
        for (ptrdiff_t i = 0; i < n_y; i++)                                                                            \
            residual[i] = (REAL)number(), y[i] = (REAL)NAN;                                                            \
        cg_phase phases[2];                                                                                            \
        ptrdiff_t taps[2][16];                                                                                         \
        cg_conv_args a;                                                                                                \
        memset(&a, 0, sizeof a);                                                                                       \
        a.task.threads = 1;                                                                                            \
        a.x = x, a.weight = w, a.bias = bias, a.y = y, a.residual = s->residual ? residual : 0;                        \
        a.N = s->N, a.groups = 1, a.C = s->C, a.K = s->K, a.H = s->H, a.W = s->W, a.R = a.S = s->taps;                 \
        axis(&a.rows, phases, taps[0], OH, s);                                                                         \
        axis(&a.cols, phases + 1, taps[1], OW, s);                                                                     \
        a.x_at = (cg_strides){s->C * s->H * s->W, s->H * s->W, s->W, 1};                                               \
        a.y_at = (cg_strides){s->K * OH * OW, OH * OW, OW, 1};                                                         \
        a.w_s = 1, a.w_r = s->taps, a.w_c = s->taps * s->taps, a.w_k = s->C * a.w_c;                                   \
        a.activation = s->activation;                                                                                  \
        const cg_entry *kernel = &table->kernel[CG_KERNEL_conv_correlate];                                             \
        kernel->plan(&a);                                                                                              \
        char *memory = malloc(a.task.scratch_bytes + 64);                                                              \
        kernel->run(&a, 0, a.task.n_blocks, memory + (64 - (uintptr_t)memory % 64) % 64);                              \
        double worst = 0;                                                                                              \
        for (ptrdiff_t at = 0; at < n_y; at++) {                                                                       \
            ptrdiff_t j = at % OW, i = at / OW % OH, k = at / (OW * OH) % s->K, n = at / (OW * OH * s->K);             \
            double sum = bias[k] + (s->residual ? residual[at] : 0);                                                   \
            for (ptrdiff_t t = 0; t < s->C * s->taps * s->taps; t++) {                                                 \
                ptrdiff_t q = j * s->stride + t % s->taps - s->pad,                                                    \
                          p = i * s->stride + t / s->taps % s->taps - s->pad;                                          \
                if (p >= 0 && p < s->H && q >= 0 && q < s->W)                                                          \
                    sum += (double)w[k * a.w_k + t] * x[((n * s->C + t / (s->taps * s->taps)) * s->H + p) * s->W + q]; \
            }                                                                                                          \
            if (s->activation == 3 && sum < 0)                                                                         \
                sum = 0;                                                                                               \
            double error = fabs(y[at] - sum);                                                                          \
            if (!(error <= worst))                                                                                     \
                worst = error;                                                                                         \
        }                                                                                                              \
        free(x), free(w), free(y), free(bias), free(residual), free(memory);                                           \
        return worst <= TOLERANCE * s->C * s->taps * s->taps;                                                          \
    }
CHECK(float, CG_F32, 1e-6)
CHECK(double, CG_F64, 1e-15)

int main(void) {
    int wrong = 0;
    for (int isa = 0; isa < CG_N_ISAS; isa++) {
        if (!cg_isa_available(isa))
            continue;
        int good = 0, n = (int)(sizeof shapes / sizeof *shapes);
        for (int i = 0; i < n; i++)
            good += check_float(cg_isa_table(isa, CG_F32), shapes + i) +
                    check_double(cg_isa_table(isa, CG_F64), shapes + i);
        printf("%s: %d of %d\n", cg_isa_names[isa], good, 2 * n);
        wrong += good < 2 * n;
    }
    return wrong > 0;
}
