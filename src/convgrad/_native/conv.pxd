from .conv_plan cimport Plan
from .kernels cimport cg_conv_args, cg_conv_grad_weight_args, cg_winograd_args

cdef int dtype_of(x) noexcept
cdef Plan fill(
    shape, int direction, x, weight, bias, int activation, double parameter, out, cg_conv_args *args,
    cg_winograd_args *wino, bint strict,
)
cdef int direct_kernel(Plan plan, const cg_conv_args *args) noexcept
cdef size_t shared_weights(int kernel, int dtype, cg_conv_args *args) noexcept
cdef Plan fill_weight_gradient(shape, grad_output, x, out, cg_conv_grad_weight_args *args, cg_winograd_args *wino)
cdef int gradient_kernel(Plan plan, const cg_conv_grad_weight_args *args) noexcept
