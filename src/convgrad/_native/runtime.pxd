from .kernels cimport cg_table, cg_task

cdef const cg_table *tables[2]

cdef int execute(int kernel, int dtype, void *args) except -1
cdef int run_planned(int kernel, int dtype, void *args) except -1
cdef void plan(int kernel, int dtype, void *args) noexcept
cdef int threads_for(const cg_task *task) noexcept
cpdef int get_threads()
