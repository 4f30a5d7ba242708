/* Checks every operation of one instruction set's vocabulary (csrc/simd) against plain C, lane by lane and bit by bit.
 *
 * The test makes a program of this file and of csrc/isa/<dtype>_<isa>.c, which it takes as they are but for the bodies:
 * the target pragma and the vocabulary under test are those of the library. The program prints each difference and
 * returns their number (at most 1).
 *
 * Numbers come from `special`: every ordered pair of them meets in every lane.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if REAL_BYTES == 4
typedef uint32_t bits_t;
#define SQRT sqrtf
#define FMA fmaf
#define LDEXP ldexpf
#define TINY 1.40129846e-45f
#define SMALL 1.17549435e-38f
#define LARGE 3.40282347e+38f
#define NAN_WITH_PAYLOAD 0xffc12345u
#define FRACTION 0x7fffff
#else
typedef uint64_t bits_t;
#define SQRT sqrt
#define FMA fma
#define LDEXP ldexp
#define TINY 4.94065645841246544e-324
#define SMALL 2.2250738585072014e-308
#define LARGE 1.7976931348623157e+308
#define NAN_WITH_PAYLOAD 0xfff8123456789abcu
#define FRACTION 0xfffffffffffff
#endif

static int differences;
static REAL special[32];
static int n_special;

static bits_t bits_of(REAL x) {
    bits_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}
static INT int_of(REAL x) {
    return (INT)bits_of(x);
}
static REAL real_of(bits_t b) {
    REAL x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static void differ(const char *what, int lane, double a, double b, double got, double expected) {
    if (++differences <= 40)
        printf("%s: lane %d of (%g, %g): got %g, expected %g\n", what, lane, a, b, got, expected);
}

/* The same bits. */
static void same(const char *what, int lane, REAL a, REAL b, REAL got, REAL expected) {
    if (bits_of(got) != bits_of(expected))
        differ(what, lane, (double)a, (double)b, (double)got, (double)expected);
}
/* The same number: the sign and payload of a NaN that arithmetic makes are the processor's business. */
static void equal(const char *what, int lane, REAL a, REAL b, REAL got, REAL expected) {
    if (got != got && expected != expected)
        return;
    same(what, lane, a, b, got, expected);
}
static void same_int(const char *what, int lane, long long got, long long expected) {
    if (got != expected)
        differ(what, lane, (double)got, 0, (double)got, (double)expected);
}

static void make_special(void) {
    REAL values[] = {0,    (REAL)0.5, 1,     (REAL)1.5,      3,        (REAL)1e10, (REAL)1e-10,
                     TINY, SMALL,     LARGE, (REAL)INFINITY, (REAL)NAN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        special[n_special++] = values[i];
        special[n_special++] = -values[i];
    }
    special[n_special++] = real_of(NAN_WITH_PAYLOAD);
}

/* ---------------------------------------------------------------- one vector and its lanes */

typedef struct {
    REAL lane[LANES];
} lanes_t;

static lanes_t lanes_of(vec v) {
    lanes_t l;
    v_store(l.lane, v);
    return l;
}
static lanes_t int_lanes_of(ivec v) {
    lanes_t l;
    v_store(l.lane, v_from_bits(v));
    return l;
}

/* 1 where the mask is set, 0 elsewhere */
static lanes_t mask_lanes(v_mask mask) {
    return lanes_of(v_blend(mask, v_set1(1), v_zero()));
}

static void check_pair(const REAL *x, const REAL *y) {
    volatile REAL product, sum, difference, quotient; /* volatile: rounded on their own, never fused */
    vec a = v_load(x), b = v_load(y);
    lanes_t add = lanes_of(a + b), sub = lanes_of(a - b), mul = lanes_of(a * b), div = lanes_of(a / b);
    lanes_t max = lanes_of(v_max(a, b)), min = lanes_of(v_min(a, b));
    lanes_t lt = mask_lanes(v_lt(a, b)), le = mask_lanes(v_le(a, b)), gt = mask_lanes(v_gt(a, b));
    lanes_t ge = mask_lanes(v_ge(a, b)), eq = mask_lanes(v_eq(a, b)), nan = mask_lanes(v_isnan(a));
    lanes_t both = mask_lanes(v_and(v_le(a, b), v_ge(a, b))), neither = mask_lanes(v_not(v_or(v_lt(a, b), v_isnan(b))));
    lanes_t either = mask_lanes(v_or(v_isnan(a), v_isnan(b))), ieq = mask_lanes(v_ieq(v_bits(a), v_bits(b)));
    lanes_t ilt = mask_lanes(v_ilt(v_bits(a), v_bits(b)));
    lanes_t picked = lanes_of(v_blend(v_lt(a, b), a, b)),
            ipicked = int_lanes_of(v_iblend(v_gt(a, b), v_bits(a), v_bits(b)));
    lanes_t fused = lanes_of(v_fma(a, b, v_set1(3))), square = lanes_of(v_fma(a, a, b));
    lanes_t magnitude = lanes_of(v_abs(a)), root = lanes_of(v_sqrt(a)), again = lanes_of(v_from_bits(v_bits(a)));
    lanes_t shifted = int_lanes_of(v_shift_left(v_bits(a), 3));
    lanes_t isum = int_lanes_of(v_bits(a) + v_bits(b)), iand = int_lanes_of(v_bits(a) & ~v_bits(b)),
            ior = int_lanes_of(v_bits(a) | v_bits(b));
    for (int i = 0; i < LANES; i++) {
        REAL p = x[i], q = y[i];
#define SAME(what, got, expected) same(what, i, p, q, (got).lane[i], expected)
        sum = p + q, difference = p - q, product = p * q, quotient = p / q;
        equal("a + b", i, p, q, add.lane[i], sum);
        equal("a - b", i, p, q, sub.lane[i], difference);
        equal("a * b", i, p, q, mul.lane[i], product);
        equal("a / b", i, p, q, div.lane[i], quotient);
        SAME("v_max", max, p > q ? p : q); /* b where either is NaN or both are zero */
        SAME("v_min", min, p < q ? p : q);
        SAME("v_lt", lt, p < q ? 1 : 0);
        SAME("v_le", le, p <= q ? 1 : 0);
        SAME("v_gt", gt, p > q ? 1 : 0);
        SAME("v_ge", ge, p >= q ? 1 : 0);
        SAME("v_eq", eq, p == q ? 1 : 0);
        SAME("v_isnan", nan, p != p ? 1 : 0);
        SAME("v_and", both, p == q ? 1 : 0);
        SAME("v_or", either, p != p || q != q ? 1 : 0);
        SAME("v_not", neither, p < q || q != q ? 0 : 1);
        SAME("v_ieq", ieq, bits_of(p) == bits_of(q) ? 1 : 0);
        SAME("v_ilt", ilt, int_of(p) < int_of(q) ? 1 : 0);
        SAME("v_blend", picked, p < q ? p : q);
        SAME("v_iblend", ipicked, p > q ? p : q);
        SAME("v_abs", magnitude, real_of(bits_of(p) << 1 >> 1));
        equal("v_sqrt", i, p, q, root.lane[i], SQRT(p));
        SAME("v_bits, v_from_bits", again, p);
        SAME("v_shift_left", shifted, real_of(bits_of(p) << 3));
        SAME("ivec +", isum, real_of(bits_of(p) + bits_of(q)));
        SAME("ivec & ~", iand, real_of(bits_of(p) & ~bits_of(q)));
        SAME("ivec |", ior, real_of(bits_of(p) | bits_of(q)));
        same("v_get", i, p, q, v_get(a, i), p);
        /* fused or not, as the instruction set has it: one of the two results */
        sum = product + 3;
        equal("v_fma", i, p, q, fused.lane[i], bits_of(fused.lane[i]) == bits_of(sum) ? sum : FMA(p, q, 3));
        product = p * p, sum = product + q;
        equal("v_fma of equals", i, p, q, square.lane[i], bits_of(square.lane[i]) == bits_of(sum) ? sum : FMA(p, p, q));
#undef SAME
    }
}

static void check_pairs(void) {
    for (int s = 0; s < n_special; s++)
        for (int t = 0; t < n_special; t++) {
            REAL x[LANES], y[LANES];
            for (int i = 0; i < LANES; i++) {
                x[i] = special[(s + i) % n_special];
                y[i] = special[(t + i) % n_special];
            }
            check_pair(x, y);
        }
}

static void check_constants(void) {
    for (int s = 0; s < n_special; s++) {
        lanes_t all = lanes_of(v_set1(special[s])), zero = lanes_of(v_zero());
        lanes_t bits = int_lanes_of(v_iset1((INT)bits_of(special[s])));
        for (int i = 0; i < LANES; i++) {
            same("v_set1", i, special[s], 0, all.lane[i], special[s]);
            same("v_iset1", i, special[s], 0, bits.lane[i], special[s]);
            same("v_zero", i, 0, 0, zero.lane[i], 0);
        }
    }
}

/* ---------------------------------------------------------------- across lanes */

static void check_sum(void) {
    REAL x[LANES], halves[LANES];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < LANES; i++)
            halves[i] = x[i] = round == 0 ? (REAL)-0.0 : (REAL)(rand() % 2001 - 1000) / 7;
        if (round > 100)
            halves[round % LANES] = x[round % LANES] = special[round % n_special];
        for (int half = LANES / 2; half; half /= 2)
            for (int i = 0; i < half; i++) {
                volatile REAL sum = halves[i] + halves[i + half];
                halves[i] = sum;
            }
        equal("v_sum", 0, x[0], x[LANES - 1], v_sum(v_load(x)), halves[0]);
    }
}

static void check_moves(void) {
    REAL a[LANES], b[LANES], cell[LANES][LANES];
    vec rows[LANES];
    for (int i = 0; i < LANES; i++)
        a[i] = (REAL)(i + 1), b[i] = i % 2 ? real_of(NAN_WITH_PAYLOAD) : (REAL)-0.0;
    lanes_t even = lanes_of(v_even(v_load(a), v_load(b))), low = lanes_of(v_zip_low(v_load(a), v_load(b)));
    lanes_t odd = lanes_of(v_odd(v_load(a), v_load(b))), high = lanes_of(v_zip_high(v_load(a), v_load(b)));
    REAL both[2 * LANES], zipped[2 * LANES];
    for (int i = 0; i < LANES; i++)
        both[i] = zipped[2 * i] = a[i], both[LANES + i] = zipped[2 * i + 1] = b[i];
    for (int i = 0; i < LANES; i++) {
        same("v_even", i, a[i], b[i], even.lane[i], both[2 * i]);
        same("v_odd", i, a[i], b[i], odd.lane[i], both[2 * i + 1]);
        same("v_zip_low", i, a[i], b[i], low.lane[i], zipped[i]);
        same("v_zip_high", i, a[i], b[i], high.lane[i], zipped[LANES + i]);
    }
#if LANES > 1
    lanes_t one = lanes_of(v_slide_1(v_load(a), v_load(b))), two = lanes_of(v_slide_2(v_load(a), v_load(b)));
    for (int i = 0; i < LANES; i++) {
        same("v_slide_1", i, a[i], b[i], one.lane[i], both[i + 1]);
        same("v_slide_2", i, a[i], b[i], two.lane[i], both[i + 2]);
    }
#endif
#ifdef V_LOAD_WHERE
    for (int n = 0; n <= LANES; n++) {
        lanes_t some = lanes_of(V_LOAD_WHERE(v_lt(v_load(a), v_set1((REAL)(n + 1))), a, v_load(b)));
        for (int i = 0; i < LANES; i++)
            same("V_LOAD_WHERE", i, a[i], b[i], some.lane[i], i < n ? a[i] : b[i]);
    }
#endif
#ifdef V_LOAD_COLUMNS
    REAL table[LANES][6];
    vec columns[4];
    for (int i = 0; i < 6 * LANES; i++)
        table[i / 6][i % 6] = i % 5 ? (REAL)i : special[i % n_special];
    v_load_columns(table[0], 6, columns);
    for (int c = 0; c < 4; c++) {
        lanes_t column = lanes_of(columns[c]);
        for (int i = 0; i < LANES; i++)
            same("v_load_columns", i, (REAL)c, 0, column.lane[i], table[i][c]);
    }
    REAL stored[LANES][6] = {{0}};
    v_store_columns(stored[0] + 1, 6, columns);
    for (int i = 0; i < LANES; i++)
        for (int c = 0; c < 6; c++)
            same("v_store_columns", i, (REAL)c, 0, stored[i][c], c == 0 || c == 5 ? 0 : table[i][c - 1]);
#endif
    for (int s = 0; s < n_special; s++) {
        for (int i = 0; i < LANES; i++) {
            for (int j = 0; j < LANES; j++)
                cell[i][j] = (i + j) % 3 ? (REAL)(i * LANES + j + 1) : special[(s + i * LANES + j) % n_special];
            rows[i] = v_load(cell[i]);
        }
        v_transpose(rows);
        for (int i = 0; i < LANES; i++) {
            lanes_t row = lanes_of(rows[i]);
            for (int j = 0; j < LANES; j++)
                same("v_transpose", j, (REAL)i, (REAL)j, row.lane[j], cell[j][i]);
        }
    }
    for (int i = 0; i < LANES; i++) {
        for (int j = 0; j < LANES; j++)
            cell[i][j] = (REAL)(rand() % 2001 - 1000); /* integers: every order of summation is exact */
        rows[i] = v_load(cell[i]);
    }
    lanes_t sums = lanes_of(v_sums(rows));
    for (int i = 0; i < LANES; i++) {
        REAL expected = 0;
        for (int j = 0; j < LANES; j++)
            expected += cell[i][j];
        same("v_sums", i, 0, 0, sums.lane[i], expected);
    }
}

/* ---------------------------------------------------------------- memory: between two pages that may not be touched */

static char *first_byte, *end_byte;

static void make_guarded_page(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(0, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, page, PROT_NONE) || mprotect(pages + 2 * page, page, PROT_NONE)) {
        printf("no guarded page\n");
        exit(1);
    }
    first_byte = pages + page;
    end_byte = pages + 2 * page;
}

/* Where `n_bytes` bytes begin that end with the page (at = 0), begin with it (1), or lie unaligned by one element
 * inside (2). */
static void *place(int at, size_t n_bytes) {
    return at == 0 ? end_byte - n_bytes : at == 1 ? first_byte : first_byte + 3 * REAL_BYTES;
}

static void check_written(const char *what, const void *from, size_t n_bytes) {
    for (const char *p = first_byte; p < end_byte; p++)
        if ((p < (const char *)from || p >= (const char *)from + n_bytes) && *p != 0x5a) {
            differ(what, (int)(p - (const char *)from), 0, 0, *p, 0x5a);
            return;
        }
}

static void check_partial(int at, int n) {
    size_t n_bytes = (size_t)n * sizeof(REAL);
    REAL *p = place(at, n_bytes), x[LANES];
    for (int s = 0; s < n_special; s++) {
        for (int i = 0; i < LANES; i++)
            x[i] = special[(s + i) % n_special];
        memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
        v_store_n(p, v_load(x), n);
        check_written("v_store_n writes outside", p, n_bytes);
        lanes_t got = lanes_of(v_load_n(p, n));
        for (int i = 0; i < LANES; i++) {
            if (i < n)
                same("v_store_n", i, x[i], (REAL)n, p[i], x[i]);
            same("v_load_n", i, x[i], (REAL)n, got.lane[i], i < n ? x[i] : 0);
        }
    }
}

static void check_whole(int at) {
    REAL *p = place(at, LANES * sizeof(REAL)), x[LANES];
    for (int i = 0; i < LANES; i++)
        x[i] = special[i % n_special];
    memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
    v_store(p, v_load(x));
    check_written("v_store writes outside", p, LANES * sizeof(REAL));
    lanes_t got = lanes_of(v_load(p));
    for (int i = 0; i < LANES; i++)
        same("v_load, v_store", i, x[i], 0, got.lane[i], x[i]);
    uintptr_t width = LANES * sizeof(REAL), aligned = ((uintptr_t)p - width + 1) / width * width;
    if ((char *)aligned < (char *)first_byte)
        return;
    memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
    v_stream((REAL *)aligned, v_load(x));
    v_stream_end();
    check_written("v_stream writes outside", (REAL *)aligned, width);
    got = lanes_of(v_load((const REAL *)aligned));
    for (int i = 0; i < LANES; i++)
        same("v_stream", i, x[i], 0, got.lane[i], x[i]);
}

/* Integers: as wide as lanes, bytes, 32 bits; what does not fit is cut off. */
static void check_integers(int at) {
    INT wide[LANES], *w = place(at, LANES * sizeof(INT));
    for (int i = 0; i < LANES; i++)
        wide[i] = (INT)(0x1234567 * (i + 1)) ^ (i % 2 ? (INT)-1 : 0);
    memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
    v_istore(w, v_iload(wide));
    check_written("v_istore writes outside", w, LANES * sizeof(INT));
    for (int i = 0; i < LANES; i++)
        same_int("v_iload, v_istore", i, (long long)w[i], (long long)wide[i]);

    uint8_t *bytes = at == 2 ? (uint8_t *)first_byte + 5 : place(at, LANES);
    memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
    v_store_u8(bytes, v_iload(wide));
    check_written("v_store_u8 writes outside", bytes, LANES);
    for (int i = 0; i < LANES; i++)
        same_int("v_store_u8", i, bytes[i], (uint8_t)wide[i]);
    v_istore(wide, v_load_u8(bytes));
    for (int i = 0; i < LANES; i++)
        same_int("v_load_u8", i, (long long)wide[i], bytes[i]);

    int32_t *words = place(at, LANES * sizeof(int32_t));
    for (int i = 0; i < LANES; i++)
        wide[i] = (INT)(0x1234567 * (i + 1)) ^ (i % 2 ? (INT)-1 : 0);
    memset(first_byte, 0x5a, (size_t)(end_byte - first_byte));
    v_store_i32(words, v_iload(wide));
    check_written("v_store_i32 writes outside", words, LANES * sizeof(int32_t));
    for (int i = 0; i < LANES; i++)
        same_int("v_store_i32", i, words[i], (int32_t)wide[i]);
    v_istore(wide, v_load_i32(words));
    for (int i = 0; i < LANES; i++)
        same_int("v_load_i32", i, (long long)wide[i], words[i]);
}

/* ---------------------------------------------------------------- macros, where the instruction set has them */

static void check_scale(void) {
#ifdef V_SCALE
    for (int s = 0; s < n_special; s++)
        for (int n = -2200; n <= 2200; n += n > -160 && n < 140 ? 1 : 17) {
            vec a = v_set1(special[s]), power = v_set1((REAL)n), other = v_set1(7);
            lanes_t got = lanes_of(V_SCALE(a, power));
            lanes_t yes = lanes_of(V_SCALE_WHERE(v_eq(other, other), a, power, other));
            lanes_t no = lanes_of(V_SCALE_WHERE(v_lt(other, other), a, power, other));
            for (int i = 0; i < LANES; i++) {
                equal("V_SCALE", i, special[s], (REAL)n, got.lane[i], LDEXP(special[s], n));
                equal("V_SCALE_WHERE", i, special[s], (REAL)n, yes.lane[i], got.lane[i]);
                equal("V_SCALE_WHERE", i, special[s], (REAL)n, no.lane[i], 7);
            }
        }
#endif
}

static void check_guesses(void) {
#ifdef V_RECIPROCAL_14
    for (int k = 0; k <= 4096; k++) {
        REAL a = 1 + (REAL)k / 4096;
        lanes_t got = lanes_of(V_RECIPROCAL_14(v_set1(a)));
        for (int i = 0; i < LANES; i++)
            if (!(fabs((double)got.lane[i] * a - 1) < 1.0 / 16384))
                differ("V_RECIPROCAL_14", i, a, 0, got.lane[i], 1 / a);
    }
#endif
#ifdef V_LOOKUP_32
    REAL table[32];
    for (int k = 0; k < 32; k++)
        table[k] = (REAL)(k * k + 1);
    for (int k = -40; k < 80; k++) {
        INT index[LANES];
        for (int i = 0; i < LANES; i++)
            index[i] = k + 3 * i;
        lanes_t got = lanes_of(V_LOOKUP_32(table, v_iload(index)));
        for (int i = 0; i < LANES; i++)
            equal("V_LOOKUP_32", i, k, 0, got.lane[i], table[index[i] & 31]);
    }
#endif
}

int main(void) {
    make_special();
    make_guarded_page();
    check_constants();
    check_pairs();
    check_sum();
    check_moves();
    for (int at = 0; at < 3; at++) {
        for (int n = 0; n <= LANES; n++)
            check_partial(at, n);
        check_whole(at);
        check_integers(at);
    }
    check_scale();
    check_guesses();
    printf("%s, %d lanes of %d bytes: %d differences\n", CG_ISA_NAME, LANES, REAL_BYTES, differences);
    return differences != 0;
}
