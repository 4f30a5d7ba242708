from .kernels cimport cg_winograd_args

cdef int correlate(cg_winograd_args *args, int dtype) except -1
cdef int grad_weight(cg_winograd_args *args, int dtype) except -1
