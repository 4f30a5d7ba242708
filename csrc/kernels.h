/* The contract between the kernels and whoever calls them.
 *
 * A kernel is a pair of functions that take one argument struct:
 *   plan(args)   fills args->task: number of independent blocks, scratch bytes a thread, estimated work
 *   run(args, begin, end, scratch)   computes blocks begin .. end-1; scratch is 64-byte aligned, private to the thread
 * Blocks never write the same cell, so any split of them over threads gives the same bits. A plan may cut finer for
 * more threads where that leaves the order of every sum alone. Kernels know nothing else of threads and nothing of
 * Python, allocate nothing and cannot fail: every size was checked before they are called.
 *
 * Letters: N batch, C input channels, H W input size, K output channels, R S kernel size, OH OW output size. Strides
 * and sizes are in elements unless a name says bytes.
 */
#ifndef CONVGRAD_KERNELS_H
#define CONVGRAD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int threads; /* IN of the plan: how many threads may share the blocks */
    int flush;   /* 0 before the plan, which may set it: denormals are read and written as zero while it runs */
    ptrdiff_t n_blocks;
    size_t scratch_bytes; /* for each thread */
    double work;          /* about one unit an element moved, or eight multiplications and additions from cache */
} cg_task;

typedef void cg_plan_fn(void *args);
typedef void cg_run_fn(const void *args, ptrdiff_t begin, ptrdiff_t end, void *scratch);

enum cg_dtype { CG_F32, CG_F64, CG_N_DTYPES };

#include "arguments.h"

/* Every kernel, by name. Entry i of a table is the kernel with index CG_KERNEL_<name>. */
#define CG_KERNELS(X)                                                                                                  \
    CG_CONV_KERNELS(X) CG_POOL_KERNELS(X) CG_ELEMENTWISE_KERNELS(X) CG_ROW_KERNELS(X) CG_DENSE_KERNELS(X)

#define CG_ENUM(name) CG_KERNEL_##name,
enum cg_kernel { CG_KERNELS(CG_ENUM) CG_N_KERNELS };
#undef CG_ENUM

typedef struct {
    const char *name;
    cg_plan_fn *plan;
    cg_run_fn *run;
} cg_entry;

typedef struct {
    const char *isa;
    int lanes; /* elements of this dtype in one vector */
    cg_entry kernel[CG_N_KERNELS];
} cg_table;

#define CG_N_ISAS 5

/* The tables of an ISA for each dtype; NULL where the build or this CPU lacks it. */
extern const char *const cg_isa_names[CG_N_ISAS]; /* slowest first */
int cg_isa_available(int isa);
const cg_table *cg_isa_table(int isa, int dtype);

#endif
