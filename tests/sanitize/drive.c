/* Run every family of cases on every instruction set of this CPU: see drive.h.
 *
 *   drive [--cases N] [--first I] [--threads T] [--isa NAME] [--only FAMILY] [--raw] [--guard]
 *         [--write FILE | --against FILE]
 *
 * The plain C kernels on one thread give the results that all others are compared with; several threads must give the
 * bits of one. Memory is filled with NaN before it is written, with --raw left as malloc gave it, and with --guard put
 * against pages that may not be touched. --write stores the results of --isa in a file, --against compares with such a
 * file in place of running other instruction sets: so kernels of another machine meet those of this one.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "drive.h"

static struct {
    ptrdiff_t cases, first;
    int threads, raw, guard;
    const char *isa, *only, *write, *against;
} options = {.cases = 20, .threads = 4};

static int at_end = 1;

ptrdiff_t below(drive *d, ptrdiff_t n) {
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (ptrdiff_t)((d->state >> 33) % (uint64_t)n);
}

double uniform(drive *d) {
    return (double)(below(d, 1 << 24) - (1 << 23)) / (1 << 23);
}

static void *aligned_piece(drive *d, size_t bytes, size_t alignment) {
    void *p, *whole = NULL;
    size_t mapped = 0;
    if (d->n_blocks == MOST_BLOCKS)
        abort();
    if (options.guard) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
        mapped = room + 2 * page;
        whole = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (whole == MAP_FAILED || (room && mprotect((char *)whole + page, room, PROT_READ | PROT_WRITE)))
            abort();
        p = (char *)whole + page + (at_end ? (room - bytes) / alignment * alignment : 0);
    } else if (posix_memalign(&p, 64, bytes ? bytes : 1))
        abort();
    for (size_t i = 0; !options.raw && i < bytes; i++) /* NaN, and the largest int32_t */
        ((unsigned char *)p)[i] = i % 4 == 3 ? 0x7f : 0xff;
    d->block[d->n_blocks].start = p;
    d->block[d->n_blocks].whole = whole;
    d->block[d->n_blocks++].bytes = mapped;
    return p;
}

static void free_down_to(drive *d, int n) {
    while (d->n_blocks > n) {
        d->n_blocks--;
        if (d->block[d->n_blocks].whole)
            munmap(d->block[d->n_blocks].whole, d->block[d->n_blocks].bytes);
        else
            free(d->block[d->n_blocks].start);
    }
}

void *piece(drive *d, size_t bytes) {
    return aligned_piece(d, bytes, bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 1);
}

void *blank(drive *d, ptrdiff_t n) {
    return piece(d, (size_t)n * (d->dtype == CG_F32 ? 4 : 8));
}

void *numbers(drive *d, ptrdiff_t n) {
    void *p = blank(d, n);
    for (ptrdiff_t i = 0; i < n; i++)
        if (d->dtype == CG_F32)
            ((float *)p)[i] = (float)uniform(d);
        else
            ((double *)p)[i] = uniform(d);
    return p;
}

void *numbers_if(drive *d, int wanted, ptrdiff_t n) {
    return wanted ? numbers(d, n) : NULL;
}

double value_at(const drive *d, const void *p, ptrdiff_t i) {
    return d->dtype == CG_F32 ? ((const float *)p)[i] : ((const double *)p)[i];
}

void plan(drive *d, int kernel, void *args) {
    ((cg_task *)args)->threads = d->threads;
    d->table->kernel[kernel].plan(args);
}

void launch(drive *d, int kernel, void *args) {
    const cg_task *task = args;
    cg_run_fn *run = d->table->kernel[kernel].run;
    void *scratch[MOST_THREADS] = {0};
    plan(d, kernel, args);
    d->reached[kernel]++;
    const ptrdiff_t n = task->n_blocks, threads = MAX(1, MIN(d->threads, n));
    const int first = d->n_blocks;
    if (n <= 0)
        return;
    for (ptrdiff_t t = 0; t < threads; t++)
        scratch[t] = task->scratch_bytes ? aligned_piece(d, task->scratch_bytes, 64) : NULL;
    if (threads == 1)
        run(args, 0, n, scratch[0]);
    else {
#pragma omp parallel for num_threads((int)threads) schedule(static, 1)
        for (ptrdiff_t t = 0; t < threads; t++)
            run(args, n * t / threads, n * (t + 1) / threads, scratch[t]);
    }
    free_down_to(d, first);
}

static void keep_one(drive *d, double value, double tolerance) {
    if (d->n_results == d->capacity) {
        d->capacity = 2 * d->capacity + 1024;
        d->result = realloc(d->result, (size_t)d->capacity * sizeof(double));
        d->tolerance = realloc(d->tolerance, (size_t)d->capacity * sizeof(double));
        if (!d->result || !d->tolerance)
            abort();
    }
    if (value < 0) /* a branch on each result: where it is junk, valgrind and MSan say so */
        tolerance *= 1;
    d->result[d->n_results] = value;
    d->tolerance[d->n_results++] = tolerance;
}

void keep(drive *d, const void *p, ptrdiff_t n, double terms) {
    const double unit = d->dtype == CG_F32 ? 0x1p-23 : 0x1p-52;
    for (ptrdiff_t i = 0; i < n; i++)
        keep_one(d, value_at(d, p, i), 2 * unit * (terms + 8));
}

void keep_doubles(drive *d, const double *p, ptrdiff_t n, double terms) {
    const double unit = d->dtype == CG_F32 ? 0x1p-23 : 0x1p-52; /* they are sums of numbers of the dtype */
    for (ptrdiff_t i = 0; i < n; i++)
        keep_one(d, p[i], 2 * unit * (terms + 8));
}

void keep_integer(drive *d, int64_t value) {
    keep_one(d, (double)value, 0);
}

cg_strides strides(int channels_last, ptrdiff_t C, ptrdiff_t H, ptrdiff_t W) {
    if (channels_last)
        return (cg_strides){C * H * W, 1, W * C, C};
    return (cg_strides){C * H * W, H * W, W, 1};
}

/* ------------------------------------------------------------------ runs */

static const family *const groups[] = {conv_families, winograd_families, pool_families, row_families};
static ptrdiff_t n_checked, n_wrong;
static int reached[CG_N_ISAS][CG_N_DTYPES][CG_N_KERNELS];

static drive run_case(const family *f, ptrdiff_t number, int isa, int dtype, int threads) {
    drive d = {.table = cg_isa_table(isa, dtype), .dtype = dtype, .threads = threads};
    d.state = (uint64_t)number * 2862933555777941757u + 3037000493u;
    for (const char *c = f->name; *c; c++)
        d.state = d.state * 31 + (unsigned char)*c;
    d.reached = reached[isa][dtype];
    at_end = number % 2 == 0;
    for (int i = 0; i < 8; i++)
        below(&d, 2);
    f->run(&d);
    free_down_to(&d, 0);
    return d;
}

/* Compare with what is expected, each within its tolerance, or bit for bit. */
static void compare(const drive *got, const drive *expected, int exact, const char *what, const family *f,
                    ptrdiff_t number) {
    ptrdiff_t bad = -1;
    n_checked++;
    if (got->n_results != expected->n_results)
        bad = 0;
    for (ptrdiff_t i = 0; bad < 0 && i < got->n_results; i++) {
        double a = got->result[i], b = expected->result[i];
        int same = a == b || (a != a && b != b);
        if (!same && (exact || !(fabs(a - b) <= expected->tolerance[i] * (1 + fabs(b)))))
            bad = i;
    }
    if (bad < 0)
        return;
    n_wrong++;
    printf("%s: %s case %td, %s: result %td of %td is %.9g in place of %.9g\n", what, f->name, number,
           got->dtype ? "float64" : "float32", bad, got->n_results, got->n_results ? got->result[bad] : 0,
           expected->n_results ? expected->result[bad] : 0);
}

static void release(drive *d) {
    free(d->result);
    free(d->tolerance);
}

static void in_file(FILE *file, int writing, void *p, size_t size, size_t n) {
    if ((writing ? fwrite(p, size, n, file) : fread(p, size, n, file)) != n) {
        fprintf(stderr, "drive: the file of results does not fit these cases\n");
        exit(2);
    }
}

static void check_case(const family *f, ptrdiff_t number, int dtype, FILE *file) {
    drive plain = run_case(f, number, 0, dtype, 1);
    for (int isa = 0; isa < CG_N_ISAS; isa++) {
        if (!cg_isa_available(isa) || (options.isa && strcmp(options.isa, cg_isa_names[isa])))
            continue;
        drive one = run_case(f, number, isa, dtype, 1), many = run_case(f, number, isa, dtype, options.threads);
        compare(&one, &plain, isa == 0, cg_isa_names[isa], f, number);
        compare(&many, &one, 1, "several threads", f, number);
        if (options.write)
            in_file(file, 1, one.result, sizeof(double), (size_t)one.n_results);
        release(&one);
        release(&many);
    }
    if (options.against) {
        drive other = plain;
        other.result = malloc((size_t)plain.n_results * sizeof(double) + 1);
        in_file(file, 0, other.result, sizeof(double), (size_t)plain.n_results);
        compare(&other, &plain, 0, options.against, f, number);
        free(other.result);
    }
    release(&plain);
}

static void usage(void) {
    fprintf(stderr, "usage: drive [--cases N] [--first I] [--threads T] [--isa NAME] [--only FAMILY] [--raw] "
                    "[--guard] [--write FILE | --against FILE]\n");
    exit(2);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--raw") || !strcmp(argv[i], "--guard")) {
            *(argv[i][2] == 'r' ? &options.raw : &options.guard) = 1;
            continue;
        }
        if (!value)
            usage();
        if (!strcmp(argv[i], "--cases"))
            options.cases = atol(value);
        else if (!strcmp(argv[i], "--first"))
            options.first = atol(value);
        else if (!strcmp(argv[i], "--threads"))
            options.threads = MIN(MOST_THREADS, atoi(value));
        else if (!strcmp(argv[i], "--isa"))
            options.isa = value;
        else if (!strcmp(argv[i], "--only"))
            options.only = value;
        else if (!strcmp(argv[i], "--write"))
            options.write = value;
        else if (!strcmp(argv[i], "--against"))
            options.against = value;
        else
            usage();
        i++;
    }
    if ((options.write && (options.against || !options.isa)) || (options.against && options.isa))
        usage();
    if (options.against)
        options.isa = "none: the file takes its place";
    FILE *file = options.write ? fopen(options.write, "wb") : options.against ? fopen(options.against, "rb") : NULL;
    if ((options.write || options.against) && !file) {
        perror(options.write ? options.write : options.against);
        return 2;
    }
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        for (const family *f = groups[g]; f->name; f++)
            for (ptrdiff_t i = options.first; i < options.first + options.cases; i++)
                for (int dtype = 0; dtype < CG_N_DTYPES; dtype++)
                    if (!options.only || !strcmp(options.only, f->name))
                        check_case(f, i, dtype, file);
    if (file)
        fclose(file);
    for (int isa = 0; isa < CG_N_ISAS; isa++) {
        int kernels = 0;
        for (int k = 0; k < CG_N_KERNELS; k++)
            kernels += reached[isa][CG_F32][k] && reached[isa][CG_F64][k];
        if (kernels)
            printf("%s: %d of %d kernels reached\n", cg_isa_names[isa], kernels, CG_N_KERNELS);
    }
    for (int k = 0; k < CG_N_KERNELS && !options.only; k++)
        if (!reached[0][CG_F32][k] || !reached[0][CG_F64][k])
            printf("not reached: %s\n", cg_isa_table(0, CG_F32)->kernel[k].name);
    printf("%td comparisons, %td wrong\n", n_checked, n_wrong);
    return n_wrong > 0;
}
