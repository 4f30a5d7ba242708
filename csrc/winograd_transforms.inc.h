/* The linear maps of Winograd's minimal filtering F(m x m, 3x3), one dimension at a time, in vectors over channels.
 *
 *   y = AT [(G g) . (BT d)]        d: m + 2 inputs, g: 3 weights, y: m outputs; . is element by element
 *   gradient by g = GT [(A z) . (BT d)]   for a gradient z by y (the transpose of the same trilinear form)
 *
 * m = 4 takes the points 0, +-2/3, +-3/2, infinity: as many operations as with +-1, +-2 and half the error, since the
 * magnitudes of all powers stay near 1. m = 2 takes 0, +-1, infinity.
 *
 * Source: Winograd (1980), Arithmetic complexity of computations; Lavin, Gray (2016), arXiv 1509.09308; choice of
 * points: Barabasz et al. (2020), arXiv 1803.10986.
 */
#define WA ((REAL)(2.0 / 3)) /* the points +-WA, +-WB and their squares */
#define WB ((REAL)1.5)
#define WA2 ((REAL)(4.0 / 9))
#define WB2 ((REAL)2.25)
#define WS ((REAL)(4.0 / 9 + 2.25))
#define WN1                                                                                                            \
    ((REAL)(1 / (2 * 4.0 / 9 * (4.0 / 9 - 2.25)))) /* 1 / product of (WA - q) over the other finite points q           \
                                                    */
#define WN2 ((REAL)(1 / (2 * 2.25 * (2.25 - 4.0 / 9))))

INLINE void winograd_bt(const int m, const vec *d, const int step, vec *o, const int o_step) {
    if (m == 4) {
        vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
        o[0] = (d0 + d4) - WS * d2; /* row of point 0 */
        vec even = d4 - WB2 * d2, odd = d3 - WB2 * d1;
        o[o_step] = even + WA * odd;     /* WA */
        o[2 * o_step] = even - WA * odd; /* -WA */
        even = d4 - WA2 * d2, odd = d3 - WA2 * d1;
        o[3 * o_step] = even + WB * odd;     /* WB */
        o[4 * o_step] = even - WB * odd;     /* -WB */
        o[5 * o_step] = (d1 + d5) - WS * d3; /* infinity */
    } else {
        vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
        o[0] = d0 - d2;          /* 0 */
        o[o_step] = d1 + d2;     /* 1 */
        o[2 * o_step] = d2 - d1; /* -1 */
        o[3 * o_step] = d1 - d3; /* infinity */
    }
}

INLINE void winograd_g(const int m, const vec *g, const int step, vec *o, const int o_step) {
    vec g0 = g[0], g1 = g[step], g2 = g[2 * step];
    o[0] = g0;
    if (m == 4) {
        vec even = WN1 * g0 + (WN1 * WA2) * g2, odd = (WN1 * WA) * g1;
        o[o_step] = even + odd;
        o[2 * o_step] = even - odd;
        even = WN2 * g0 + (WN2 * WB2) * g2, odd = (WN2 * WB) * g1;
        o[3 * o_step] = even + odd;
        o[4 * o_step] = even - odd;
        o[5 * o_step] = g2;
    } else {
        vec even = (REAL)0.5 * (g0 + g2), odd = (REAL)0.5 * g1;
        o[o_step] = even + odd;
        o[2 * o_step] = even - odd;
        o[3 * o_step] = g2;
    }
}

INLINE void winograd_at(const int m, const vec *p, const int step, vec *y, const int y_step) {
    vec s = p[step] + p[2 * step], t = p[step] - p[2 * step];
    if (m == 4) {
        vec u = p[3 * step] + p[4 * step], w = p[3 * step] - p[4 * step];
        y[0] = p[0] + s + u;                                             /* power 0 of the points */
        y[y_step] = WA * t + WB * w;                                     /* 1 */
        y[2 * y_step] = WA2 * s + WB2 * u;                               /* 2 */
        y[3 * y_step] = (WA * WA2) * t + ((WB * WB2) * w + p[5 * step]); /* 3 */
    } else {
        y[0] = p[0] + s;
        y[y_step] = t - p[3 * step];
    }
}

INLINE void winograd_a(const int m, const vec *z, const int step, vec *o, const int o_step) {
    if (m == 4) {
        vec z0 = z[0], z1 = z[step], z2 = z[2 * step], z3 = z[3 * step];
        o[0] = z0;
        vec even = z0 + WA2 * z2, odd = z1 + WA2 * z3;
        o[o_step] = even + WA * odd;
        o[2 * o_step] = even - WA * odd;
        even = z0 + WB2 * z2, odd = z1 + WB2 * z3;
        o[3 * o_step] = even + WB * odd;
        o[4 * o_step] = even - WB * odd;
        o[5 * o_step] = z3;
    } else {
        vec z0 = z[0], z1 = z[step];
        o[0] = z0;
        o[o_step] = z0 + z1;
        o[2 * o_step] = z0 - z1;
        o[3 * o_step] = v_zero() - z1;
    }
}

INLINE void winograd_gt(const int m, const vec *p, const int step, vec *y, const int y_step) {
    if (m == 4) {
        vec s = p[step] + p[2 * step], t = p[step] - p[2 * step];
        vec u = p[3 * step] + p[4 * step], w = p[3 * step] - p[4 * step];
        y[0] = WN2 * u + (WN1 * s + p[0]);
        y[y_step] = (WN1 * WA) * t + (WN2 * WB) * w;
        y[2 * y_step] = (WN1 * WA2) * s + ((WN2 * WB2) * u + p[5 * step]);
    } else {
        vec s = (REAL)0.5 * (p[step] + p[2 * step]), t = (REAL)0.5 * (p[step] - p[2 * step]);
        y[0] = p[0] + s;
        y[y_step] = t;
        y[2 * y_step] = s + p[3 * step];
    }
}

/* A tile of only `rest` outputs along an axis is F(rest, 3) and needs fewer points. They are taken from those of
 * F(m, 3), and what depends on the choice is in BT alone, so the transformed weights serve all tiles: three outputs do
 * without infinity, two without 0 as well, one with 0 and +-WB. AT and A are those of F(m, 3), with nothing at the
 * other points. The points that such a tile has, as bits; rest = 0: all. */
INLINE int narrow_points(int m, int rest) {
    static const unsigned char of_four[] = {0x3f, 0x19, 0x1e, 0x1f};
    return m == 4 ? of_four[rest] : rest ? 0x07 : 0x0f;
}

/* Whether BT is not that of F(4, 3), along either axis. */
INLINE int own_points(int rest_h, int rest_w) {
    return rest_h == 1 || rest_h == 2 || rest_w == 1 || rest_w == 2;
}

/* BT of a tile of so many outputs, zeros at the points that it does not have; 0 or 3: all points, of F(4, 3). */
static void narrow_bt(int rest, const vec *d, vec *o, int o_step) {
    if (rest != 1 && rest != 2) {
        winograd_bt(4, d, 1, o, o_step);
        return;
    }
    vec even_a = v_zero(), odd_a = v_zero(), even_b = v_zero(), odd_b = v_zero();
    o[0] = v_zero();
    o[5 * o_step] = v_zero();
    if (rest == 1) {
        o[0] = d[0] - WA2 * d[2];    /* 0 */
        even_b = (WB2 - WA2) * d[2]; /* +-WB, as below */
        odd_b = (WB2 - WA2) * WB * d[1];
    } else {
        even_a = WA2 * (d[2] - WB2 * d[0]), odd_a = WA * (d[3] - WB2 * d[1]);
        even_b = WB2 * (d[2] - WA2 * d[0]), odd_b = WB * (d[3] - WA2 * d[1]);
    }
    o[o_step] = even_a + odd_a;     /* WA */
    o[2 * o_step] = even_a - odd_a; /* -WA */
    o[3 * o_step] = even_b + odd_b; /* WB */
    o[4 * o_step] = even_b - odd_b; /* -WB */
}

/* Filtering along one axis, F(m, r): n = m + r - 1 points, 0, +-q for each q of a list, infinity. Six points are those
 * of F(4, 3); eight are 0, +-1, +-1/2, +-2, infinity. A and G take values of a polynomial given by its coefficients, AT
 * and GT are their transposes. */
typedef struct {
    int pairs;
    REAL power[3][7]; /* of q */
    REAL norm[3];     /* 1 / product of (q - p) over the other finite points p */
} filter_points;

#define FILTER_POWERS(q)                                                                                               \
    {1,                                                                                                                \
     q,                                                                                                                \
     (q) * (q),                                                                                                        \
     (q) * (q) * (q),                                                                                                  \
     (q) * (q) * (q) * (q),                                                                                            \
     (q) * (q) * (q) * (q) * (q),                                                                                      \
     (q) * (q) * (q) * (q) * (q) * (q)}
static const filter_points filter_six = {2, {FILTER_POWERS(WA), FILTER_POWERS(WB)}, {WN1, WN2}};
static const filter_points filter_eight = {3,
                                           {FILTER_POWERS(1), FILTER_POWERS((REAL)0.5), FILTER_POWERS(2)},
                                           {(REAL)(-1 / 4.5), (REAL)(1 / 1.40625), (REAL)(1 / 90.0)}};

INLINE const filter_points *filter_of(int points) {
    return points == 6 ? &filter_six : &filter_eight;
}

/* BT d of eight points. */
INLINE void filter_bt(const vec *d, vec *o) {
    static const REAL c[3][3] = {{1, (REAL)4.25, 1}, {(REAL)0.5, 5, 4}, {2, (REAL)1.25, (REAL)0.25}};
    o[0] = (d[0] - d[6]) + (REAL)5.25 * (d[4] - d[2]);
    UNROLL for (int i = 0; i < 3; i++) { /* product over the other pairs: x^4 - c[1] x^2 + c[2] */
        vec even = d[6] - c[i][1] * d[4] + c[i][2] * d[2], odd = d[5] - c[i][1] * d[3] + c[i][2] * d[1];
        o[1 + 2 * i] = even + c[i][0] * odd;
        o[2 + 2 * i] = even - c[i][0] * odd;
    }
    o[7] = (d[7] - d[1]) + (REAL)5.25 * (d[3] - d[5]);
}

/* A of n values, or (scaled) G of n weights. */
static void filter_spread(const filter_points *f, const vec *in, int n, int scaled, vec *o) {
    o[0] = in[0];
    for (int i = 0; i < f->pairs; i++) {
        vec even = in[0], odd = in[1] * f->power[i][1];
        for (int j = 2; j < n; j += 2)
            even += in[j] * f->power[i][j];
        for (int j = 3; j < n; j += 2)
            odd += in[j] * f->power[i][j];
        if (scaled)
            even = even * f->norm[i], odd = odd * f->norm[i];
        o[1 + 2 * i] = even + odd;
        o[2 + 2 * i] = even - odd;
    }
    o[1 + 2 * f->pairs] = in[n - 1];
}

/* AT of the points p to n values plus bias, or (scaled) GT to n weights. */
static void filter_gather(const filter_points *f, const REAL *p, ptrdiff_t point, int n, int scaled, vec bias, vec *y) {
    vec half[2][3]; /* sums and differences of pairs */
    for (int i = 0; i < f->pairs; i++) {
        vec a = v_load(p + (1 + 2 * i) * point), b = v_load(p + (2 + 2 * i) * point);
        if (scaled)
            a = a * f->norm[i], b = b * f->norm[i];
        half[0][i] = a + b;
        half[1][i] = a - b;
    }
    for (int j = 0; j < n; j++) {
        vec sum = half[j % 2][0] * f->power[0][j];
        for (int i = 1; i < f->pairs; i++)
            sum += half[j % 2][i] * f->power[i][j];
        y[j] = sum + bias;
    }
    y[0] += v_load(p);
    y[n - 1] += v_load(p + (1 + 2 * f->pairs) * point);
}
