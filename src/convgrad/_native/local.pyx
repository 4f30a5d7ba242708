"""Locally connected layers on the native kernels: what `local_calls` asks of an object with kernels."""

from libc.string cimport memset

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_locally_connected2d, CG_KERNEL_locally_connected2d_grad_input,
    CG_KERNEL_locally_connected2d_grad_weight, cg_local_args, cg_strides,
)
from .runtime cimport execute

ctypedef fused real:
    float
    double


cdef cg_strides strides_of(shape, ptrdiff_t channels, ptrdiff_t height, ptrdiff_t width):
    """Strides of a C-contiguous batch of images."""
    cdef cg_strides at
    at.stride_n = channels * height * width
    if shape.layout == "NHWC":
        at.stride_c = 1
        at.stride_w = channels
        at.stride_h = width * channels
    else:
        at.stride_w = 1
        at.stride_h = width
        at.stride_c = height * width
    return at


cdef void describe(cg_local_args *args, shape):
    memset(args, 0, sizeof(args[0]))
    args.N, args.C, args.H, args.W, args.K = (
        shape.batch, shape.in_channels, shape.height, shape.width, shape.out_channels,
    )
    args.R, args.S = shape.kernel
    args.OH, args.OW = shape.out_height, shape.out_width
    args.stride_h, args.stride_w = shape.stride
    args.x_at = strides_of(shape, args.C, args.H, args.W)
    args.y_at = strides_of(shape, args.K, args.OH, args.OW)


cdef int connect(real tag, cg_local_args *args, x, weight, bias, out) except -1:
    cdef const real[:, :, :, ::1] x_view = x
    cdef const real[:, :, :, :, :, ::1] weight_view = weight
    cdef const real[:, :, ::1] bias_view
    cdef real[:, :, :, ::1] out_view = out
    args.x = &x_view[0, 0, 0, 0]
    args.weight = &weight_view[0, 0, 0, 0, 0, 0]
    args.out = &out_view[0, 0, 0, 0]
    if bias is not None:
        bias_view = bias
        args.bias = &bias_view[0, 0, 0]
    return execute(CG_KERNEL_locally_connected2d, CG_F32 if real is float else CG_F64, args)


def forward(shape, x, weight, bias, int activation_code, double activation_parameter, out):
    cdef cg_local_args args
    if shape.batch == 0:
        return
    describe(&args, shape)
    args.activation = activation_code
    args.parameter = activation_parameter
    if x.itemsize == 4:
        connect[float](0, &args, x, weight, bias, out)
    else:
        connect[double](0, &args, x, weight, bias, out)


cdef int differentiate_weight(real tag, cg_local_args *args, grad_output, x, out, bias_out) except -1:
    cdef const real[:, :, :, ::1] grad_view = grad_output
    cdef const real[:, :, :, ::1] x_view = x
    cdef real[:, :, :, :, :, ::1] out_view
    cdef real[:, :, ::1] bias_view
    args.grad_output = &grad_view[0, 0, 0, 0]
    args.x = &x_view[0, 0, 0, 0]
    if out is not None:
        out_view = out
        args.out = &out_view[0, 0, 0, 0, 0, 0]
    if bias_out is not None:
        bias_view = bias_out
        args.grad_bias = &bias_view[0, 0, 0]
    return execute(CG_KERNEL_locally_connected2d_grad_weight, CG_F32 if real is float else CG_F64, args)


def grad_weight(shape, grad_output, x, out, bias_out):
    cdef cg_local_args args
    if shape.batch == 0:
        for target in (out, bias_out):
            if target is not None:
                target.fill(0)
        return
    describe(&args, shape)
    if x.itemsize == 4:
        differentiate_weight[float](0, &args, grad_output, x, out, bias_out)
    else:
        differentiate_weight[double](0, &args, grad_output, x, out, bias_out)


cdef int differentiate_input(real tag, cg_local_args *args, grad_output, weight, out) except -1:
    cdef const real[:, :, :, ::1] grad_view = grad_output
    cdef const real[:, :, :, :, :, ::1] weight_view = weight
    cdef real[:, :, :, ::1] out_view = out
    args.grad_output = &grad_view[0, 0, 0, 0]
    args.weight = &weight_view[0, 0, 0, 0, 0, 0]
    args.out = &out_view[0, 0, 0, 0]
    return execute(CG_KERNEL_locally_connected2d_grad_input, CG_F32 if real is float else CG_F64, args)


def grad_input(shape, grad_output, weight, out):
    cdef cg_local_args args
    if shape.batch == 0:
        return
    describe(&args, shape)
    if weight.itemsize == 4:
        differentiate_input[float](0, &args, grad_output, weight, out)
    else:
        differentiate_input[double](0, &args, grad_output, weight, out)
