"""Recycled memory for results and scratch.

Memory fresh from the system costs a page fault for every 4 KB, which can take as long as computing what goes there.
Large arrays that the library returns, and its scratch, come from blocks that are kept when they are freed, up to a
limit for the process. Arrays made here own their memory like any other (NEP 49): a block comes back when its array is
freed, wherever that happens.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from operator import index

import numpy as np

cnp.import_array()

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
    #include <malloc.h>
    #include <intrin.h>
    static volatile long cg_pool_lock;
    #define CG_LOCK() while (_InterlockedExchange(&cg_pool_lock, 1)) {}
    #define CG_UNLOCK() _InterlockedExchange(&cg_pool_lock, 0)
    static void *cg_system_alloc(size_t bytes) { return _aligned_malloc(bytes, 4096); }
    #define cg_system_free _aligned_free
    static void cg_survive_fork(void) {}
    #else
    #include <pthread.h>
    #include <sched.h>
    static char cg_pool_lock;
    static void CG_LOCK(void) {
        int tries = 0;
        while (__atomic_test_and_set(&cg_pool_lock, __ATOMIC_ACQUIRE))
            if (++tries % 64 == 0)
                sched_yield(); /* to the holder, which may share this processor */
    }
    static void CG_UNLOCK(void) { __atomic_clear(&cg_pool_lock, __ATOMIC_RELEASE); }
    /* A child must not inherit the lock from a thread that it does not have: whoever forks holds it meanwhile. */
    static void cg_survive_fork(void) { pthread_atfork(CG_LOCK, CG_UNLOCK, CG_UNLOCK); }
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    static void *cg_system_alloc(size_t bytes) {
        void *block;
        size_t huge = (size_t)2 << 20;
        if (posix_memalign(&block, bytes >= huge ? huge : 4096, bytes))
            return 0;
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (bytes >= huge)
            madvise(block, bytes / huge * huge, MADV_HUGEPAGE);
    #endif
        return block;
    }
    #define cg_system_free free
    #endif
    /* The C library keeps freed memory as well: after one large block was freed, up to twice its size. */
    #if defined(__GLIBC__)
    #include <malloc.h>
    static void cg_system_trim(void) { malloc_trim(0); }
    #else
    static void cg_system_trim(void) {}
    #endif
    #if defined(__SANITIZE_ADDRESS__)  /* what is not handed out may not be touched either */
    #include <sanitizer/asan_interface.h>
    #define CG_FORBID(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
    #define CG_ALLOW(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
    #else
    #define CG_FORBID(p, bytes) ((void)0)
    #define CG_ALLOW(p, bytes) ((void)0)
    #endif
    """
    void CG_LOCK() noexcept nogil
    void CG_UNLOCK() noexcept nogil
    void cg_survive_fork() noexcept nogil
    void CG_FORBID(void *, size_t) noexcept nogil
    void CG_ALLOW(void *, size_t) noexcept nogil
    void *cg_system_alloc(size_t) noexcept nogil
    void cg_system_free(void *) noexcept nogil
    void cg_system_trim() noexcept nogil

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *, size_t) noexcept nogil
        void *(*calloc)(void *, size_t, size_t) noexcept nogil
        void *(*realloc)(void *, void *, size_t) noexcept nogil
        void (*free)(void *, void *, size_t) noexcept nogil

    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator

    object PyDataMem_SetHandler(object)

# A block begins with its capacity; what is handed out follows after HEADER bytes.
cdef enum:
    HEADER = 64
    N_KEPT = 128

cdef void *kept[N_KEPT]  # oldest first
cdef int n_kept = 0
cdef size_t kept_bytes = 0
cdef size_t limit_bytes = <size_t>256 << 20
cdef size_t n_system_blocks = 0

cg_survive_fork()

cdef uint32_t junk = 0  # what to find in memory that is handed out, for tests

cdef double SMALLEST = 65536  # bytes; smaller arrays are left to NumPy
cdef double LARGEST = 2.0**62  # bytes; sizes beyond it overflow


cdef inline size_t capacity_of(void *block) noexcept nogil:
    return (<size_t *>block)[0]


cdef size_t rounded(size_t size) noexcept nogil:
    """Capacity to ask for: a few classes, so that blocks of nearly the same size serve each other."""
    cdef size_t step = 4096
    while step * 16 < size:
        step *= 2
    return (size + step - 1) // step * step


cdef void *take(size_t size) noexcept nogil:
    """`size` bytes, aligned to 64, or NULL."""
    global n_kept, kept_bytes, n_system_blocks
    cdef size_t wanted
    cdef void *block = NULL
    cdef int i, best = -1
    if size > (<size_t>1 << 62):
        return NULL
    wanted = rounded(size + HEADER)
    CG_LOCK()
    for i in range(n_kept):
        if wanted <= capacity_of(kept[i]) <= wanted + wanted // 2 and (
            best < 0 or capacity_of(kept[i]) <= capacity_of(kept[best])
        ):
            best = i
    if best >= 0:
        block = kept[best]
        kept_bytes -= capacity_of(block)
        n_kept -= 1
        for i in range(best, n_kept):
            kept[i] = kept[i + 1]
    else:
        n_system_blocks += 1
    CG_UNLOCK()
    if block == NULL:
        block = cg_system_alloc(wanted)
        if block == NULL:  # what is kept for later may be what is missing now
            drop_kept()
            block = cg_system_alloc(wanted)
        if block == NULL:
            return NULL
        (<size_t *>block)[0] = wanted
    CG_FORBID(<char *>block + HEADER, capacity_of(block) - HEADER)
    CG_ALLOW(<char *>block + HEADER, size)
    if junk:
        for i in range(<int>min(size // 4, <size_t>1 << 30)):
            (<uint32_t *>(<char *>block + HEADER))[i] = junk
    return <char *>block + HEADER


cdef void drop_kept() noexcept nogil:
    """Give all memory kept for reuse back to the system."""
    global n_kept, kept_bytes
    cdef void *dropped[N_KEPT]
    cdef int i, n
    CG_LOCK()
    n = n_kept
    for i in range(n):
        dropped[i] = kept[i]
    n_kept = 0
    kept_bytes = 0
    CG_UNLOCK()
    for i in range(n):
        cg_system_free(dropped[i])


cdef void give(void *data) noexcept nogil:
    """Keep the memory for the next `take`, or free it, oldest first, where that would be more than the limit."""
    global n_kept, kept_bytes
    cdef void *block = <char *>data - HEADER
    cdef void *dropped[N_KEPT + 1]
    cdef int i, n_dropped = 0
    cdef size_t capacity = capacity_of(block)
    CG_FORBID(data, capacity - HEADER)
    CG_LOCK()
    while n_dropped < n_kept and (kept_bytes + capacity > limit_bytes or n_kept - n_dropped == N_KEPT):
        dropped[n_dropped] = kept[n_dropped]
        kept_bytes -= capacity_of(kept[n_dropped])
        n_dropped += 1
    n_kept -= n_dropped
    if n_dropped:
        for i in range(n_kept):
            kept[i] = kept[i + n_dropped]
    if kept_bytes + capacity > limit_bytes:
        dropped[n_dropped] = block
        n_dropped += 1
    else:
        kept[n_kept] = block
        n_kept += 1
        kept_bytes += capacity
    CG_UNLOCK()
    for i in range(n_dropped):
        cg_system_free(dropped[i])


cdef void *array_malloc(void *ctx, size_t size) noexcept nogil:
    return take(size)


cdef void *array_calloc(void *ctx, size_t count, size_t size) noexcept nogil:
    cdef void *data
    if size and count > (<size_t>1 << 62) // size:
        return NULL
    data = take(count * size)
    if data != NULL:
        memset(data, 0, count * size)
    return data


cdef void array_free(void *ctx, void *data, size_t size) noexcept nogil:
    if data != NULL:
        give(data)


cdef void *array_realloc(void *ctx, void *data, size_t size) noexcept nogil:
    cdef void *moved
    cdef size_t held
    if data == NULL:
        return take(size)
    held = capacity_of(<char *>data - HEADER) - HEADER
    if size <= held:
        CG_FORBID(data, held)
        CG_ALLOW(data, size)
        return data
    moved = take(size)
    if moved != NULL:
        CG_ALLOW(data, held)
        memcpy(moved, data, held)
        give(data)
    return moved


cdef PyDataMem_Handler handler
memcpy(handler.name, <const char *>b"convgrad", 9)
handler.version = 1
handler.allocator.malloc = array_malloc
handler.allocator.calloc = array_calloc
handler.allocator.realloc = array_realloc
handler.allocator.free = array_free
cdef object handler_capsule = PyCapsule_New(&handler, b"mem_handler", NULL)


def empty(tuple shape, cnp.dtype dtype, function=None):
    """A C-contiguous array like np.empty's; a large one in recycled memory. `function` is named where there is none."""
    cdef cnp.npy_intp dims[64]
    cdef int i, ndim = len(shape)
    cdef double size = dtype.itemsize
    for i in range(ndim):
        dims[i] = shape[i]
        size *= dims[i]
    if size < SMALLEST:
        return cnp.PyArray_EMPTY(ndim, dims, dtype.type_num, 0)
    before = PyDataMem_SetHandler(handler_capsule)
    try:
        if size < LARGEST:
            return cnp.PyArray_EMPTY(ndim, dims, dtype.type_num, 0)
    except MemoryError:
        pass
    finally:
        PyDataMem_SetHandler(before)
    raise MemoryError(
        f"{function or 'convgrad'}: no memory for an array of shape {shape} and {dtype}, {size:.3g} bytes; pass fewer "
        "samples at a time or free some"
    )


cdef object empty_like(object x):
    """`empty` with the shape and dtype of the array x."""
    if cnp.PyArray_NBYTES(x) < SMALLEST:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    before = PyDataMem_SetHandler(handler_capsule)
    try:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    finally:
        PyDataMem_SetHandler(before)


cdef bint is_plain(object x) noexcept:
    """Whether x is exactly an ndarray, aligned, of float32 or float64 in this machine's byte order."""
    return cnp.PyArray_CheckExact(x) and cnp.PyArray_ISBEHAVED_RO(x) and (
        cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT or cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE
    )


def plain(x, y=..., z=..., bint optional=False):
    """Whether the arguments given need no conversion: `is_plain`, all of one dtype; z may be None where `optional`.

    The long way, with a message for whatever is wrong, is `checks.float_arrays`.
    """
    return (
        is_plain(x)
        and (y is ... or (is_plain(y) and cnp.PyArray_TYPE(y) == cnp.PyArray_TYPE(x)))
        and (z is ... or (z is None and optional) or (is_plain(z) and cnp.PyArray_TYPE(z) == cnp.PyArray_TYPE(x)))
    )


cdef bint is_exact(object value) noexcept:
    """Whether value is an int, a string or a tuple of these, of exactly these types: True and 1.0 are not 1."""
    cdef Py_ssize_t i
    if type(value) is tuple:
        for i in range(len(<tuple>value)):
            if not is_exact((<tuple>value)[i]):
                return False
        return True
    return type(value) is int or type(value) is str


def recall(dict known, x, weight, tuple options):
    """known[x.shape, weight.shape, options], or None where it holds nothing for them.

    None too where an option is none of `is_exact`, which might only seem to be the one that was checked.
    """
    return known.get((x.shape, weight.shape, options)) if is_exact(options) else None


def empty_cache():
    """Give all memory kept for reuse back to the system."""
    drop_kept()
    cg_system_trim()


def set_cache_limit(n_bytes):
    """Keep at most `n_bytes` of freed memory for reuse in this process; 0 keeps none."""
    global limit_bytes
    try:
        if isinstance(n_bytes, (bool, np.bool_)):
            raise TypeError
        n_bytes = index(n_bytes)
    except TypeError:
        raise TypeError(f"set_cache_limit: n_bytes must be an integer, got {n_bytes!r}") from None
    if n_bytes < 0:
        got = n_bytes if n_bytes > -(1 << 1000) else "one of over 1000 bits"
        raise ValueError(f"set_cache_limit: n_bytes must be at least 0, got {got}")
    cdef size_t limit = min(n_bytes, 1 << 62)
    CG_LOCK()
    limit_bytes = limit
    cdef bint too_much = kept_bytes > limit
    CG_UNLOCK()
    if too_much:
        empty_cache()


def set_junk(uint32_t pattern):
    """Fill memory with this pattern before it is used as a result or as scratch; 0: leave it. For tests: no result
    and no time may depend on what memory held before."""
    global junk
    junk = pattern


def cache_info():
    """{"limit": bytes, "kept": bytes, "kept_blocks": count, "system_blocks": blocks taken from the system so far}."""
    cdef size_t limit, held, taken
    cdef int n
    CG_LOCK()
    limit, held, n, taken = limit_bytes, kept_bytes, n_kept, n_system_blocks
    CG_UNLOCK()
    return {"limit": limit, "kept": held, "kept_blocks": n, "system_blocks": taken}
