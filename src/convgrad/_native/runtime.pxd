from .kernels cimport cg_table

cdef const cg_table *tables[2]

cdef int execute(int kernel, int dtype, void *args) except -1
