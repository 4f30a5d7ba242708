from .kernels cimport cg_winograd_args

cdef size_t whole_weights_bytes(const cg_winograd_args *args, int dtype) noexcept
cdef int transform_weights(cg_winograd_args *args, int dtype) except -1
cdef int correlate(cg_winograd_args *args, int dtype) except -1
cdef int grad_weight(cg_winograd_args *args, int dtype) except -1
cdef list describe(cg_winograd_args *args, int dtype, bint weight_gradient)
