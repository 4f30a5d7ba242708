"""The only declaration of the C kernels for Cython."""

from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "kernels.h" nogil:
    ctypedef struct cg_task:
        int threads
        int flush
        ptrdiff_t n_blocks
        size_t scratch_bytes
        double work

    ctypedef void cg_plan_fn(void *args) noexcept
    ctypedef void cg_run_fn(const void *args, ptrdiff_t begin, ptrdiff_t end, void *scratch) noexcept

    ctypedef struct cg_entry:
        const char *name
        cg_plan_fn *plan
        cg_run_fn *run

    enum cg_dtype:
        CG_F32
        CG_F64
        CG_N_DTYPES

    enum cg_kernel:
        CG_KERNEL_channel_sum
        CG_KERNEL_conv_pack
        CG_KERNEL_conv_correlate
        CG_KERNEL_conv_depthwise
        CG_KERNEL_conv_depthwise_strided_grad
        CG_KERNEL_conv_depthwise_channels
        CG_KERNEL_conv_depthwise_channels_grad
        CG_KERNEL_conv_depthwise_grad
        CG_KERNEL_conv_grad_weight
        CG_KERNEL_winograd_weights
        CG_KERNEL_winograd_fused
        CG_KERNEL_winograd_input
        CG_KERNEL_winograd_multiply
        CG_KERNEL_winograd_grad_fused
        CG_KERNEL_winograd_grad_ranges
        CG_KERNEL_winograd_grad_output
        CG_KERNEL_winograd_grad_products
        CG_KERNEL_winograd_grad_weight
        CG_KERNEL_winograd_groups
        CG_KERNEL_winograd_grad_groups
        CG_KERNEL_max_pool2d
        CG_KERNEL_max_pool2d_backward
        CG_KERNEL_max_pool2d_plane_indices
        CG_KERNEL_avg_pool2d
        CG_KERNEL_avg_pool2d_backward
        CG_KERNEL_subsample2d
        CG_KERNEL_subsample2d_backward
        CG_KERNEL_global_avg_pool2d
        CG_KERNEL_global_avg_pool2d_backward
        CG_KERNEL_global_max_pool2d
        CG_KERNEL_global_max_pool2d_backward
        CG_KERNEL_locally_connected2d
        CG_KERNEL_locally_connected2d_grad_weight
        CG_KERNEL_locally_connected2d_grad_input
        CG_KERNEL_activation
        CG_KERNEL_activation_backward
        CG_KERNEL_activation_backward_bias
        CG_KERNEL_sum_partials
        CG_KERNEL_dropout
        CG_KERNEL_softmax
        CG_KERNEL_log_softmax
        CG_KERNEL_softmax_backward
        CG_KERNEL_log_softmax_backward
        CG_KERNEL_softmax_cross_entropy
        CG_KERNEL_least_squares
        CG_KERNEL_sigmoid_cross_entropy
        CG_KERNEL_batch_norm
        CG_KERNEL_batch_norm_backward
        CG_KERNEL_layer_norm
        CG_KERNEL_layer_norm_backward
        CG_KERNEL_gemm
        CG_KERNEL_linear_backward
        CG_KERNEL_optimizer_step
        CG_KERNEL_gradient_norm
        CG_N_KERNELS

    ctypedef struct cg_table:
        const char *isa
        int lanes
        cg_entry *kernel

    enum:
        CG_N_ISAS

    const char **cg_isa_names
    int cg_isa_available(int isa)
    const cg_table *cg_isa_table(int isa, int dtype)

    ctypedef struct cg_strides:
        ptrdiff_t stride_n, stride_c, stride_h, stride_w

    ctypedef struct cg_channel_sum_args:
        cg_task task
        const void *x
        void *out
        ptrdiff_t N, C, H, W
        cg_strides at

    ctypedef struct cg_phase:
        ptrdiff_t out_first, count, n_taps
        const ptrdiff_t *tap_index
        const ptrdiff_t *tap_offset

    ctypedef struct cg_axis:
        const cg_phase *phase
        ptrdiff_t n_phases, in_step, out_step, max_count, min_offset, max_offset

    ctypedef struct cg_conv_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        const void *residual
        void *y
        void *packed
        ptrdiff_t N, groups, C, K, H, W
        cg_axis rows, cols
        cg_strides x_at, y_at
        ptrdiff_t w_group, w_k, w_c, w_r, w_s, R, S
        int activation
        double parameter
        int samples_are_pixels, all_packed
        ptrdiff_t shuffle
        int vectors_over_pixels, by_samples, in_place
        ptrdiff_t n_taps, c_chunk, n_chunks, k_group, n_k_groups, block_n, block_rows, block_cols
        size_t packed_bytes

    ctypedef struct cg_winograd_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        const void *residual
        void *y
        const void *grad_output
        void *u
        void *v
        void *g
        void *du
        ptrdiff_t N, C, K, H, W, OH, OW, R, S, first_h, first_w
        cg_strides x_at, y_at
        ptrdiff_t groups, w_group
        ptrdiff_t w_k, w_c, w_r, w_s
        int flip, m, axis, add, activation
        double parameter
        ptrdiff_t row0, row1, k0, k1, range_tiles, n_sums, block_rows, block_cols

    ctypedef struct cg_conv_grad_weight_args:
        cg_task task
        const void *x
        const void *grad_output
        void *grad_weight
        ptrdiff_t N, groups, C, K, H, W, OH, OW, R, S
        ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, left
        cg_strides x_at, g_at
        void *partial
        int dot_products, along_pixels
        ptrdiff_t n_ranges
        ptrdiff_t k_block, c_block

    ctypedef struct cg_windows:
        ptrdiff_t planes, Z, H, W, R, S, OH, OW
        ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right

    ctypedef struct cg_max_pool_args:
        cg_task task
        const void *x
        void *y
        void *indices
        int wide
        cg_windows windows

    ctypedef struct cg_max_pool_backward_args:
        cg_task task
        const void *grad_output
        const void *indices
        void *result
        int32_t *invalid
        int wide
        cg_windows windows

    ctypedef struct cg_avg_pool_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        void *y
        void *grad_x
        void *weight_sums
        void *bias_sums
        ptrdiff_t C
        int count_include_pad
        cg_windows windows

    ctypedef struct cg_global_pool_args:
        cg_task task
        const void *x
        void *y
        int64_t *indices
        int32_t *invalid
        ptrdiff_t planes, pixels, Z

    ctypedef struct cg_local_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        const void *grad_output
        void *out
        void *grad_bias
        ptrdiff_t N, C, H, W, K, R, S, OH, OW, stride_h, stride_w
        cg_strides x_at, y_at
        int activation
        double parameter

    # activations, dropout
    ctypedef struct cg_activation_args:
        cg_task task
        const void *grad_output
        const void *x
        void *out
        ptrdiff_t n
        int op
        double parameter

    ctypedef struct cg_activation_bias_args:
        cg_task task
        const void *grad_output
        const void *x
        void *out
        double *partial
        ptrdiff_t outer, C, inner, outer_step
        int op
        double parameter

    ctypedef struct cg_sum_partials_args:
        cg_task task
        const double *partial
        void *out
        ptrdiff_t n_partials, C

    ctypedef struct cg_dropout_args:
        cg_task task
        const void *x
        const uint8_t *mask
        void *out
        ptrdiff_t n
        double scale, shift, fill

    # softmax, losses, normalisation
    ctypedef struct cg_softmax_args:
        cg_task task
        const void *x
        const void *y
        void *out
        ptrdiff_t outer, K, inner

    enum:
        CG_LOSS_RUN

    ctypedef struct cg_loss_args:
        cg_task task
        const void *x
        const int64_t *labels
        const void *target
        void *grad
        void *losses
        double *totals
        ptrdiff_t n, K
        double scale

    ctypedef struct cg_batch_norm_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        const void *running_mean
        const void *running_var
        void *y
        void *mean
        void *inv_std
        void *new_running_mean
        void *new_running_var
        ptrdiff_t outer, C, inner
        double momentum, eps
        int training

    ctypedef struct cg_batch_norm_backward_args:
        cg_task task
        const void *grad_output
        const void *x
        const void *weight
        const void *mean
        const void *inv_std
        void *grad_x
        void *grad_weight
        void *grad_bias
        ptrdiff_t outer, C, inner
        int training

    ctypedef struct cg_layer_norm_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        void *y
        void *mean
        void *inv_std
        ptrdiff_t n, K
        double eps

    ctypedef struct cg_layer_norm_backward_args:
        cg_task task
        const void *grad_output
        const void *x
        const void *weight
        const void *mean
        const void *inv_std
        void *grad_x
        double *partial
        ptrdiff_t n, K, n_step

    # fully connected layers
    ctypedef struct cg_gemm_args:
        cg_task task
        const void *a
        const void *b
        const void *bias
        void *c
        ptrdiff_t M, N, K, a_row, a_k, b_k, b_n, c_row
        int activation
        double parameter

    ctypedef struct cg_linear_backward_args:
        cg_task task
        cg_gemm_args input, weight
        cg_channel_sum_args bias

    # optimizers
    ctypedef struct cg_tensor:
        void *data
        const void *grad
        void **state
        const double *constant
        ptrdiff_t n, first_block

    enum:
        CG_OPTIMIZER_BLOCK

    ctypedef struct cg_optimizer_args:
        cg_task task
        const cg_tensor *tensor
        ptrdiff_t n_tensors, n_blocks, n_elements
        int rule
        double low, high, scale, decay
        double *totals
