"""The only declaration of the C kernels for Cython."""

cdef extern from "kernels.h" nogil:
    ctypedef struct cg_task:
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
        CG_KERNEL_conv_grad_weight
        CG_KERNEL_winograd_weights
        CG_KERNEL_winograd_fused
        CG_KERNEL_winograd_input
        CG_KERNEL_winograd_multiply
        CG_KERNEL_winograd_grad_output
        CG_KERNEL_winograd_grad_products
        CG_KERNEL_winograd_grad_weight
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
        void *y
        void *packed
        ptrdiff_t N, groups, C, K, H, W
        cg_axis rows, cols
        cg_strides x_at, y_at
        ptrdiff_t w_group, w_k, w_c, w_r, w_s, R, S
        int activation
        double parameter
        int vectors_over_pixels
        ptrdiff_t c_chunk, n_chunks, k_group, block_n, block_rows, block_cols
        size_t packed_bytes

    ctypedef struct cg_winograd_args:
        cg_task task
        const void *x
        const void *weight
        const void *bias
        void *y
        const void *grad_output
        void *u
        void *v
        void *g
        void *du
        ptrdiff_t N, C, K, H, W, OH, OW, first_h, first_w
        cg_strides x_at, y_at
        ptrdiff_t w_k, w_c, w_r, w_s
        int flip, m, add, activation
        double parameter
        ptrdiff_t row0, row1, k0, k1, block_rows, block_cols

    ctypedef struct cg_conv_grad_weight_args:
        cg_task task
        const void *x
        const void *grad_output
        void *grad_weight
        ptrdiff_t N, groups, C, K, H, W, OH, OW, R, S
        ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, left
        cg_strides x_at, g_at
        int dot_products
        ptrdiff_t k_block, c_block
