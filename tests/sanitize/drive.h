/* A program that calls every kernel without Python: what sanitizers, valgrind and emulators look at.
 *
 * A case draws a shape and options from its number, so that it is the same on every instruction set, makes its arrays,
 * fills an argument struct as the Cython modules do and calls `launch`. Each array and each thread's scratch is a piece
 * of memory of its own, of exactly the bytes it may have.
 */
#ifndef CONVGRAD_DRIVE_H
#define CONVGRAD_DRIVE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

enum { MOST_BLOCKS = 64, MOST_THREADS = 16 };

/* One run of one case. */
typedef struct {
    const cg_table *table;
    int dtype, threads;
    uint64_t state; /* of the generator */
    struct {
        void *start, *whole; /* what is handed out, and the mapping that holds it, if any */
        size_t bytes;        /* of the mapping */
    } block[MOST_BLOCKS];
    int n_blocks;
    double *result, *tolerance; /* what `keep` gathered */
    ptrdiff_t n_results, capacity;
    int *reached; /* calls of each kernel */
} drive;

/* Numbers below n; one of the integers given; uniform in [-1, 1). */
ptrdiff_t below(drive *d, ptrdiff_t n);
#define PICK(d, ...)                                                                                                   \
    ((const ptrdiff_t[]){                                                                                              \
        __VA_ARGS__}[below(d, (ptrdiff_t)(sizeof((const ptrdiff_t[]){__VA_ARGS__}) / sizeof(ptrdiff_t)))])
double uniform(drive *d);

/* Memory that is freed after the case: bytes; n elements not written yet; n elements in [-1, 1). With --guard it lies
 * against a page that may not be touched, at its end for even cases and at its beginning for odd ones. */
void *piece(drive *d, size_t bytes);
void *blank(drive *d, ptrdiff_t n);
void *numbers(drive *d, ptrdiff_t n);
void *numbers_if(drive *d, int wanted, ptrdiff_t n); /* or NULL */

double value_at(const drive *d, const void *p, ptrdiff_t i);

/* Plan and run a kernel on the threads of this run, as `execute` in _native/runtime.pyx does. */
void plan(drive *d, int kernel, void *args);
void launch(drive *d, int kernel, void *args);

/* Remember n results that are sums of `terms` terms of at most about 1, or doubles, or integers. */
void keep(drive *d, const void *p, ptrdiff_t n, double terms);
void keep_doubles(drive *d, const double *p, ptrdiff_t n, double terms);
void keep_integer(drive *d, int64_t value);

/* Strides of a batch of images: contiguous NCHW or NHWC. */
cg_strides strides(int channels_last, ptrdiff_t C, ptrdiff_t H, ptrdiff_t W);

typedef void family_fn(drive *d);
typedef struct {
    const char *name;
    family_fn *run;
} family;

extern const family conv_families[], winograd_families[], pool_families[], row_families[]; /* end with NULL */

#endif
