"""Which kernels run, on how many threads, in which scratch memory: the one parallel loop of the library.

The instruction set is chosen once, at import: the best that this CPU has, or what CONVGRAD_ISA names.
"""

import contextvars
import os

from cython.parallel cimport parallel, threadid
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from .memory cimport give, take
from .kernels cimport (
    CG_F32, CG_F64, CG_N_DTYPES, CG_N_ISAS, CG_N_KERNELS, cg_isa_available, cg_isa_names, cg_isa_table, cg_run_fn,
    cg_table, cg_task,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define CG_HAS_OPENMP 1
    #else
    #define CG_HAS_OPENMP 0
    #endif
    /* GCC has omp_pause_resource_all from version 9 on, though it claims OpenMP 5.0 only much later. */
    #if defined(_OPENMP) && !defined(_WIN32) && (_OPENMP >= 201811 || (defined(__GNUC__) && __GNUC__ >= 9))
    #include <pthread.h>
    /* A child forked after a parallel region would wait for workers that it does not have; letting go of them first
       cures it. */
    static void cg_before_fork(void) { omp_pause_resource_all(omp_pause_soft); }
    static void cg_survive_fork(void) { pthread_atfork(cg_before_fork, 0, 0); }
    #else
    static void cg_survive_fork(void) {}
    #endif

    #ifdef _OPENMP
    static int cg_openmp_threads(void) { return omp_get_max_threads(); }
    static int cg_team_size(void) { return omp_get_num_threads(); }
    #else
    static int cg_openmp_threads(void) { return 1; }
    static int cg_team_size(void) { return 1; }
    #endif

    /* The shares of one parallel loop: which are taken, and how many threads have nothing left to do. */
    #define CG_MOST_SHARES 4096
    typedef struct { unsigned arrived; int processor; unsigned char taken[CG_MOST_SHARES]; } cg_shares;
    #if defined(_OPENMP) && defined(__GNUC__) && !defined(_WIN32)
    #include <sched.h>
    static int cg_take_share(cg_shares *shares, int t) {
        return !__atomic_exchange_n(&shares->taken[t], 1, __ATOMIC_RELAXED);
    }
    /* OpenMP's own barrier keeps its processor for milliseconds while it waits, even from the thread that it waits for:
       a system may wake a worker on the processor of the thread that woke it. */
    static void cg_meet(cg_shares *shares, unsigned n) {
        __atomic_add_fetch(&shares->arrived, 1, __ATOMIC_ACQ_REL);
        for (int tries = 0; __atomic_load_n(&shares->arrived, __ATOMIC_ACQUIRE) < n;) {
            if (tries == 1000)
                sched_yield();
            else
                tries++;
    #if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
    #endif
        }
    }
    #if defined(__linux__)
    /* Where idle virtual processors count as taken, Linux wakes a worker on the processor of the thread that woke it,
       and both share that for milliseconds: the worker goes to another one that it may use. */
    static int cg_processor(void) { return sched_getcpu(); }
    static void cg_leave_processor(int processor) {
        cpu_set_t all, others;
        if (processor < 0 || sched_getcpu() != processor || sched_getaffinity(0, sizeof(all), &all))
            return;
        others = all;
        CPU_CLR(processor, &others);
        if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof(others), &others) == 0)
            sched_setaffinity(0, sizeof(all), &all);
    }
    #define CG_CAN_LEAVE
    #endif
    #elif defined(_MSC_VER)
    #include <intrin.h>
    static int cg_take_share(cg_shares *shares, int t) { return !_InterlockedExchange8((char *)&shares->taken[t], 1); }
    static void cg_meet(cg_shares *shares, unsigned n) { (void)shares, (void)n; }
    #else
    static int cg_take_share(cg_shares *shares, int t) { return !shares->taken[t]++; }
    static void cg_meet(cg_shares *shares, unsigned n) { (void)shares, (void)n; }
    #endif
    #if !defined(CG_CAN_LEAVE)
    static int cg_processor(void) { return -1; }
    static void cg_leave_processor(int processor) { (void)processor; }
    #endif

    /* State of the process that any thread may change. Without the GIL plain accesses would be data races. */
    #if defined(Py_GIL_DISABLED) && defined(_MSC_VER)
    #include <intrin.h>
    #define CG_COUNT(x) _InterlockedExchangeAdd64(x, 1)
    #define CG_GET(x) (*(volatile int *)&(x)) /* aligned words are read and written whole */
    #define CG_SET(x, value) (*(volatile int *)&(x) = (value))
    #elif defined(Py_GIL_DISABLED)
    #define CG_COUNT(x) __atomic_fetch_add(x, 1, __ATOMIC_RELAXED)
    #define CG_GET(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
    #define CG_SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)
    #else
    #define CG_COUNT(x) (++*(x))
    #define CG_GET(x) (x)
    #define CG_SET(x, value) ((x) = (value))
    #endif

    /* Denormal numbers read and written as zero: bits of this thread's own control register. */
    #if defined(__SSE2__) || defined(_M_X64)
    #include <xmmintrin.h>
    #define CG_CAN_FLUSH 1
    typedef unsigned int cg_float_mode;
    static cg_float_mode cg_flush_denormals(void) {
        cg_float_mode before = _mm_getcsr();
        _mm_setcsr(before | 0x8040); /* FTZ, bit 15, and DAZ, bit 6 */
        return before;
    }
    static void cg_set_float_mode(cg_float_mode mode) {
        _mm_setcsr((_mm_getcsr() & ~0x8040u) | (mode & 0x8040u)); /* exceptions raised meanwhile stay raised */
    }
    #elif defined(__aarch64__) && defined(__GNUC__)
    #define CG_CAN_FLUSH 1
    typedef unsigned long long cg_float_mode;
    static cg_float_mode cg_get_float_mode(void) {
        cg_float_mode mode;
        __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void cg_set_float_mode(cg_float_mode mode) { __asm__ __volatile__("msr fpcr, %0" : : "r"(mode)); }
    static cg_float_mode cg_flush_denormals(void) {
        cg_float_mode before = cg_get_float_mode();
        cg_set_float_mode(before | 1ull << 24); /* FZ */
        return before;
    }
    #else
    #define CG_CAN_FLUSH 0
    typedef int cg_float_mode;
    static cg_float_mode cg_flush_denormals(void) { return 0; }
    static void cg_set_float_mode(cg_float_mode mode) { (void)mode; }
    #endif

    #if defined(__SANITIZE_ADDRESS__)
    #include <sanitizer/asan_interface.h>
    #define CG_FORBID(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
    #else
    #define CG_FORBID(p, bytes) ((void)0)
    #endif
    """
    enum:
        CG_HAS_OPENMP
        CG_CAN_FLUSH
    ctypedef long long cg_float_mode
    void cg_survive_fork() nogil
    ctypedef struct cg_shares:
        unsigned int arrived
        int processor
        unsigned char *taken
    int cg_processor() noexcept nogil
    void cg_leave_processor(int) noexcept nogil
    int cg_take_share(cg_shares *, int) noexcept nogil
    void cg_meet(cg_shares *, unsigned int) noexcept nogil
    int cg_team_size() noexcept nogil
    int cg_openmp_threads() noexcept nogil
    void CG_COUNT(long long *) noexcept nogil
    int CG_GET(int) noexcept nogil
    void CG_SET(int, int) noexcept nogil
    cg_float_mode cg_flush_denormals() noexcept nogil
    void cg_set_float_mode(cg_float_mode) noexcept nogil
    void CG_FORBID(void *, size_t) noexcept


# ---------------------------------------------------------------- instruction set

cdef int selected_isa = -1

cdef list available_isas():
    cdef int i
    return [cg_isa_names[i].decode() for i in range(CG_N_ISAS) if cg_isa_available(i)]


cdef int select_isa(object requested) except -1:
    global selected_isa
    cdef int i
    names = available_isas()
    if requested is None or requested == "":
        requested = names[len(names) - 1]
    if requested not in names:
        raise ImportError(
            f"convgrad: CONVGRAD_ISA={requested!r} is not available on this CPU in this build; "
            f"available: {', '.join(names)}"
        )
    for i in range(CG_N_ISAS):
        if cg_isa_names[i].decode() == requested:
            selected_isa = i
            tables[0] = cg_isa_table(i, CG_F32)
            tables[1] = cg_isa_table(i, CG_F64)
    return 0


select_isa(os.environ.get("CONVGRAD_ISA"))
cg_survive_fork()


def isa():
    """Name of the instruction set in use."""
    return cg_isa_names[selected_isa].decode()


def isas():
    """Names of the instruction sets that this build has kernels for and this CPU can run, slowest first."""
    return available_isas()


def lanes(dtype_name):
    """Elements of "float32" or "float64" in one vector of the instruction set in use."""
    return tables[dtype_name == "float64"].lanes


def kernel_table(name=None):
    """{(kernel, dtype): address} of an instruction set (default: the one in use)."""
    cdef int i, dtype, kernel
    cdef const cg_table *table
    for i in range(CG_N_ISAS):
        if cg_isa_available(i) and cg_isa_names[i].decode() == (name or isa()):
            break
    else:
        raise ValueError(f"kernel_table: no instruction set {name!r} here; available: {', '.join(available_isas())}")
    entries = {}
    for dtype in range(CG_N_DTYPES):
        table = cg_isa_table(i, dtype)
        for kernel in range(CG_N_KERNELS):
            key = table.kernel[kernel].name.decode(), "float64" if dtype else "float32"
            entries[key] = <uintptr_t>table.kernel[kernel].run
    return entries


cdef long long calls[2][256]


def kernel_calls():
    """{(kernel, dtype): number of calls so far in this process}."""
    cdef int dtype, kernel
    counts = {}
    for dtype in range(CG_N_DTYPES):
        for kernel in range(CG_N_KERNELS):
            name = tables[dtype].kernel[kernel].name.decode()
            counts[name, "float64" if dtype else "float32"] = calls[dtype][kernel]
    return counts


# ---------------------------------------------------------------- threads

has_openmp = bool(CG_HAS_OPENMP)
thread_limit = contextvars.ContextVar("convgrad_threads", default=0)
cdef int process_threads = 1
cdef int openmp_threads = cg_openmp_threads()  # what OpenMP itself would take, before anyone lowers it
cdef object limit_here = thread_limit.get


def set_process_threads(int n):
    """Threads that calls use where no context says otherwise."""
    CG_SET(process_threads, n)


cpdef int get_threads():
    """Threads that a large call made here would use.

    Where OpenMP's own number was lowered in this thread since this module was imported, as threadpoolctl does, no more
    than that.
    """
    cdef int n = limit_here(), most = cg_openmp_threads()
    if n <= 0:
        n = CG_GET(process_threads)
    return most if most < n and most < openmp_threads else n


# ---------------------------------------------------------------- denormals

can_flush_denormals = bool(CG_CAN_FLUSH)
flush_here = contextvars.ContextVar("convgrad_flush_denormals", default=None)
cdef int process_flushes = 0
cdef int flush_was_asked_for = 0  # by any context, ever: what nobody uses costs no look at the context
cdef object local_flush = flush_here.get


def set_process_flushes(bint on):
    """Whether calls flush denormals where no context says otherwise."""
    CG_SET(process_flushes, on)
    CG_SET(flush_was_asked_for, 1)


def set_context_flushes(bint on):
    """Whether calls in this context flush denormals; returns the token that takes it back."""
    token = flush_here.set(on)
    CG_SET(flush_was_asked_for, 1)
    return token


cpdef bint get_flushes():
    """Whether a call made here would read and write denormals as zero."""
    if not CG_GET(flush_was_asked_for):
        return False
    local = local_flush()
    return CG_GET(process_flushes) if local is None else local


# Work (see cg_task) below which a call stays on its thread and keeps the GIL: waking
# workers costs several microseconds, letting go of the GIL a fraction of one.
cdef double THREADS_FROM = 400_000
cdef double NOGIL_FROM = 20_000


cdef size_t LARGEST_SCRATCH = <size_t>4 << 30


# ---------------------------------------------------------------- the one parallel loop

cdef void run_one(
    cg_run_fn *run, const void *args, ptrdiff_t first, ptrdiff_t last, char *scratch, bint flush
) noexcept nogil:
    """Run these blocks on this thread, whose floating-point mode is the same afterwards."""
    cdef cg_float_mode before
    if not flush:
        run(args, first, last, scratch)
        return
    before = cg_flush_denormals()
    run(args, first, last, scratch)
    cg_set_float_mode(before)


cdef void run_shares(
    cg_run_fn *run, const void *args, ptrdiff_t n_blocks, char *scratch, size_t stride, int n_shares, bint flush,
    int me, cg_shares *shares
) noexcept nogil:
    """This thread's share, and those of threads that are late."""
    cdef int i, t
    if me > 0:
        cg_leave_processor(shares.processor)
    for i in range(n_shares):
        t = (me + i) % n_shares
        if cg_take_share(shares, t):
            run_one(run, args, n_blocks * t // n_shares, n_blocks * (t + 1) // n_shares, scratch + t * stride, flush)
    cg_meet(shares, cg_team_size())


cdef void run_parallel(
    cg_run_fn *run, const void *args, ptrdiff_t n_blocks, char *scratch, size_t stride, int n_threads, bint flush
) noexcept nogil:
    cdef cg_shares shares
    shares.arrived = 0
    shares.processor = cg_processor()
    memset(shares.taken, 0, n_threads)
    with parallel(num_threads=n_threads):
        run_shares(run, args, n_blocks, scratch, stride, n_threads, flush, threadid(), &shares)


cdef void plan(int kernel, int dtype, void *args) noexcept:
    """Only plan: fill the planned fields of `args`."""
    (<cg_task *>args).threads = get_threads() if CG_HAS_OPENMP else 1
    (<cg_task *>args).flush = 0
    tables[dtype].kernel[kernel].plan(args)


cdef int threads_for(const cg_task *task) noexcept:
    """Threads that a planned call uses."""
    if task.threads > 1 and task.n_blocks > 1 and task.work >= THREADS_FROM:
        return min(task.threads, <int>min(task.n_blocks, 4096))
    return 1


cdef int execute(int kernel, int dtype, void *args) except -1:
    """Plan and run one kernel; `args` is its argument struct, which begins with a cg_task."""
    plan(kernel, dtype, args)
    return run_planned(kernel, dtype, args)


cdef int run_planned(int kernel, int dtype, void *args) except -1:
    """Run one kernel as `plan` planned it."""
    cdef cg_run_fn *run = tables[dtype].kernel[kernel].run
    cdef cg_task *task = <cg_task *>args
    cdef int n_threads = 1, t
    cdef size_t stride
    cdef void *block = NULL
    cdef char *scratch = NULL
    cdef bint with_gil
    cdef bint flush = task.flush or get_flushes()

    CG_COUNT(&calls[dtype][kernel])
    if task.n_blocks <= 0:
        return 0
    n_threads = threads_for(task)
    # Threads' scratch begins at different offsets in a page, so that they do not share cache sets.
    stride = (task.scratch_bytes + 63) // 64 * 64 + 192
    if task.scratch_bytes:
        if task.scratch_bytes > LARGEST_SCRATCH:  # kernels count elements of scratch in 32 bits
            raise MemoryError(f"convgrad: this call would need {task.scratch_bytes} bytes of scratch for each thread")
        block = take(stride * n_threads)
        if block == NULL:
            raise MemoryError(f"convgrad: no memory for {stride * n_threads} bytes of scratch")
        scratch = <char *>block
        for t in range(n_threads):  # beyond what each thread asked for
            CG_FORBID(scratch + t * stride + task.scratch_bytes, stride - task.scratch_bytes)
    with_gil = task.work < NOGIL_FROM
    if with_gil:
        run_one(run, args, 0, task.n_blocks, scratch, flush)
    else:
        with nogil:
            if n_threads == 1:
                run_one(run, args, 0, task.n_blocks, scratch, flush)
            else:
                run_parallel(run, args, task.n_blocks, scratch, stride, n_threads, flush)
    if block != NULL:
        give(block)
    return 0
