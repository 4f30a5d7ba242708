"""Pooling on the native kernels: what `pool_calls` asks of an object with kernels."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_avg_pool2d, CG_KERNEL_avg_pool2d_backward, CG_KERNEL_channel_sum,
    CG_KERNEL_global_avg_pool2d, CG_KERNEL_global_avg_pool2d_backward, CG_KERNEL_global_max_pool2d,
    CG_KERNEL_global_max_pool2d_backward, CG_KERNEL_max_pool2d, CG_KERNEL_max_pool2d_backward,
    CG_KERNEL_max_pool2d_plane_indices, CG_KERNEL_subsample2d, CG_KERNEL_subsample2d_backward, cg_avg_pool_args,
    cg_channel_sum_args, cg_global_pool_args, cg_max_pool_args, cg_max_pool_backward_args, cg_windows,
)
from .runtime cimport execute


cdef class Windows:
    """The windows of a `PoolShape` as the kernels take them; kept with the shape."""

    cdef cg_windows windows

    def __cinit__(self, shape):
        cdef cg_windows *w = &self.windows
        cdef bint channels_last = shape.layout == "NHWC"
        w.planes = shape.batch if channels_last else shape.batch * shape.channels
        w.Z = shape.channels if channels_last else 1
        w.H, w.W, w.OH, w.OW = shape.height, shape.width, shape.out_height, shape.out_width
        w.R, w.S = shape.kernel
        w.stride_h, w.stride_w = shape.stride
        w.dilation_h, w.dilation_w = shape.dilation
        (w.top, w.bottom), (w.left, w.right) = shape.padding


cdef Windows windows_of(shape):
    cdef Windows windows = shape.plans.get("windows")
    return shape.plans.setdefault("windows", Windows(shape)) if windows is None else windows


# Addresses of the first element. The arrays outlive the call, so the views need not.

cdef const void *read_images(array) except NULL:  # IN, four axes
    cdef const float[:, :, :, ::1] single
    cdef const double[:, :, :, ::1] double_
    if array.itemsize == 4:
        single = array
        return &single[0, 0, 0, 0]
    double_ = array
    return &double_[0, 0, 0, 0]


cdef void *write_images(array) except NULL:  # OUT, four axes
    cdef float[:, :, :, ::1] single
    cdef double[:, :, :, ::1] double_
    if array.itemsize == 4:
        single = array
        return &single[0, 0, 0, 0]
    double_ = array
    return &double_[0, 0, 0, 0]


cdef const void *read_channels(array) except NULL:  # IN, one axis
    cdef const float[::1] single
    cdef const double[::1] double_
    if array.itemsize == 4:
        single = array
        return &single[0]
    double_ = array
    return &double_[0]


cdef void *write_channels(array) except NULL:  # OUT, one axis
    cdef float[::1] single
    cdef double[::1] double_
    if array.itemsize == 4:
        single = array
        return &single[0]
    double_ = array
    return &double_[0]


cdef const void *read_indices(array) except NULL:  # IN, uint8 or int32
    cdef const uint8_t[:, :, :, ::1] narrow
    cdef const int32_t[:, :, :, ::1] wide
    if array.itemsize == 1:
        narrow = array
        return &narrow[0, 0, 0, 0]
    wide = array
    return &wide[0, 0, 0, 0]


cdef void *write_indices(array) except NULL:  # OUT, uint8 or int32
    cdef uint8_t[:, :, :, ::1] narrow
    cdef int32_t[:, :, :, ::1] wide
    if array.itemsize == 1:
        narrow = array
        return &narrow[0, 0, 0, 0]
    wide = array
    return &wide[0, 0, 0, 0]


cdef inline int dtype_of(array):
    return CG_F32 if array.itemsize == 4 else CG_F64


def max_forward(shape, x, out, indices):
    cdef cg_max_pool_args args
    if shape.batch == 0:
        return
    memset(&args, 0, sizeof(args))
    args.windows = windows_of(shape).windows
    args.x = read_images(x)
    args.y = write_images(out)
    if indices is not None:
        args.indices = write_indices(indices)
        args.wide = indices.itemsize == 4
    execute(CG_KERNEL_max_pool2d, dtype_of(x), &args)


def max_backward(shape, grad_output, indices, out):
    """False where an index does not name a cell of its window in the image."""
    cdef cg_max_pool_backward_args args
    cdef int32_t invalid = 0
    if shape.batch == 0:
        return True
    memset(&args, 0, sizeof(args))
    args.windows = windows_of(shape).windows
    args.grad_output = read_images(grad_output)
    args.indices = read_indices(indices)
    args.result = write_images(out)
    args.invalid = &invalid
    args.wide = indices.itemsize == 4
    execute(CG_KERNEL_max_pool2d_backward, dtype_of(grad_output), &args)
    return not invalid


def max_plane_indices(shape, indices, out):
    """False where an index does not name a cell of its window in the image."""
    cdef cg_max_pool_backward_args args
    cdef int64_t[:, :, :, ::1] result = out
    cdef int32_t invalid = 0
    if shape.batch == 0:
        return True
    memset(&args, 0, sizeof(args))
    args.windows = windows_of(shape).windows
    args.indices = read_indices(indices)
    args.result = &result[0, 0, 0, 0]
    args.invalid = &invalid
    args.wide = indices.itemsize == 4
    execute(CG_KERNEL_max_pool2d_plane_indices, CG_F32, &args)
    return not invalid


cdef int average_into(int kernel, shape, bint count_include_pad, x, weight, bias, out) except -1:
    cdef cg_avg_pool_args args
    if shape.batch == 0:
        return 0
    memset(&args, 0, sizeof(args))
    args.windows = windows_of(shape).windows
    args.count_include_pad = count_include_pad
    args.C = shape.channels
    args.x = read_images(x)
    args.y = write_images(out)
    if weight is not None:
        args.weight = read_channels(weight)
        args.bias = read_channels(bias)
    return execute(kernel, dtype_of(x), &args)


def average(shape, count_include_pad, x, out):
    average_into(CG_KERNEL_avg_pool2d, shape, count_include_pad, x, None, None, out)


def subsample(shape, count_include_pad, x, weight, bias, out):
    average_into(CG_KERNEL_subsample2d, shape, count_include_pad, x, weight, bias, out)


def average_backward(shape, count_include_pad, grad_output, out):
    cdef cg_avg_pool_args args
    if shape.batch == 0:
        return
    memset(&args, 0, sizeof(args))
    args.windows = windows_of(shape).windows
    args.count_include_pad = count_include_pad
    args.C = shape.channels
    args.y = <void *>read_images(grad_output)
    args.grad_x = write_images(out)
    execute(CG_KERNEL_avg_pool2d_backward, dtype_of(out), &args)


def subsample_backward(shape, count_include_pad, grad_output, x, weight, grad_x, grad_weight, grad_bias):
    cdef cg_avg_pool_args args
    if shape.batch == 0:
        grad_weight.fill(0)
        grad_bias.fill(0)
        return
    memset(&args, 0, sizeof(args))
    # The gradients of weight and bias by sample: samples are independent blocks, added up afterwards.
    by_sample = np.empty((2, shape.batch, shape.channels, 1), grad_x.dtype)
    args.windows = windows_of(shape).windows
    args.count_include_pad = count_include_pad
    args.C = shape.channels
    args.x = read_images(x)
    args.weight = read_channels(weight)
    args.y = <void *>read_images(grad_output)
    args.grad_x = write_images(grad_x)
    args.weight_sums = write_images(by_sample)
    args.bias_sums = write_images(by_sample[1:])
    execute(CG_KERNEL_subsample2d_backward, dtype_of(x), &args)
    add_samples(args.weight_sums, shape, dtype_of(x), grad_weight)
    add_samples(args.bias_sums, shape, dtype_of(x), grad_bias)


cdef int add_samples(const void *sums, shape, int dtype, out) except -1:
    """out (C) = sum over samples of sums (N, C)."""
    cdef cg_channel_sum_args args
    memset(&args, 0, sizeof(args))
    args.x = sums
    args.out = write_channels(out)
    args.N, args.C, args.H, args.W = shape.batch, shape.channels, 1, 1
    args.at.stride_n = args.at.stride_h = args.at.stride_w = shape.channels
    args.at.stride_c = 1
    return execute(CG_KERNEL_channel_sum, dtype, &args)


cdef void describe_planes(cg_global_pool_args *args, shape):
    cdef bint channels_last = shape.layout == "NHWC"
    memset(args, 0, sizeof(args[0]))
    args.planes = shape.batch if channels_last else shape.batch * shape.channels
    args.Z = shape.channels if channels_last else 1
    args.pixels = shape.height * shape.width


def global_average(shape, x, out):
    cdef cg_global_pool_args args
    if shape.batch == 0:
        return
    describe_planes(&args, shape)
    args.x = read_images(x)
    args.y = write_images(out)
    execute(CG_KERNEL_global_avg_pool2d, dtype_of(x), &args)


def global_average_backward(shape, grad_output, out):
    cdef cg_global_pool_args args
    if shape.batch == 0:
        return
    describe_planes(&args, shape)
    args.x = read_images(grad_output)
    args.y = write_images(out)
    execute(CG_KERNEL_global_avg_pool2d_backward, dtype_of(out), &args)


def global_max(shape, x, out, indices):
    cdef cg_global_pool_args args
    cdef int64_t[:, :, :, ::1] places
    if shape.batch == 0:
        return
    describe_planes(&args, shape)
    args.x = read_images(x)
    args.y = write_images(out)
    if indices is not None:
        places = indices
        args.indices = &places[0, 0, 0, 0]
    execute(CG_KERNEL_global_max_pool2d, dtype_of(x), &args)


def global_max_backward(shape, grad_output, indices, out):
    """False where an index lies outside its plane."""
    cdef cg_global_pool_args args
    cdef const int64_t[:, :, :, ::1] places = indices
    cdef int32_t invalid = 0
    if shape.batch == 0:
        return True
    describe_planes(&args, shape)
    args.x = read_images(grad_output)
    args.y = write_images(out)
    args.indices = <int64_t *>&places[0, 0, 0, 0]
    args.invalid = &invalid
    execute(CG_KERNEL_global_max_pool2d_backward, dtype_of(out), &args)
    return not invalid
