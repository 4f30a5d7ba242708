/* Arguments of the kernels for convolution. */
#ifndef CONVGRAD_ARGUMENTS_CONV_H
#define CONVGRAD_ARGUMENTS_CONV_H

#define CG_CONV_KERNELS(X)                                                                                             \
    X(channel_sum)                                                                                                     \
    X(conv_pack)                                                                                                       \
    X(conv_correlate)                                                                                                  \
    X(conv_depthwise)                                                                                                  \
    X(conv_depthwise_strided_grad)                                                                                     \
    X(conv_depthwise_channels)                                                                                         \
    X(conv_depthwise_channels_grad)                                                                                    \
    X(conv_depthwise_grad)                                                                                             \
    X(conv_grad_weight)                                                                                                \
    X(winograd_weights)                                                                                                \
    X(winograd_fused)                                                                                                  \
    X(winograd_input)                                                                                                  \
    X(winograd_multiply)                                                                                               \
    X(winograd_grad_output)                                                                                            \
    X(winograd_grad_products)                                                                                          \
    X(winograd_grad_weight)                                                                                            \
    X(winograd_grad_fused)                                                                                             \
    X(winograd_grad_ranges)                                                                                            \
    X(winograd_groups)                                                                                                 \
    X(winograd_grad_groups)

/* One residue class of the output positions along an axis, and the kernel positions that reach it.
 *
 * Output position out_first + i * out_step (i = 0 .. count-1) is the sum over taps of
 * weight[tap_index] * source[i * in_step + tap_offset]. A convolution has one class, in_step = stride and out_step = 1;
 * its gradient by the input (and so the transposed convolution) has `stride` classes, in_step = 1 and out_step =
 * stride. */
typedef struct {
    ptrdiff_t out_first, count, n_taps;
    const ptrdiff_t *tap_index, *tap_offset;
} cg_phase;

typedef struct {
    const cg_phase *phase;
    ptrdiff_t n_phases;
    ptrdiff_t in_step, out_step;
    ptrdiff_t max_count;              /* largest count of a phase */
    ptrdiff_t min_offset, max_offset; /* over all taps of all phases */
} cg_axis;

/* y[n, k, ...] = activation(residual[n, k, ...] + bias[k] + sum over c and taps of weight[k, c, tap] * x[n, c, ...])
 * for each group of channels */
typedef struct {
    cg_task task;
    const void *x, *weight, *bias; /* IN; bias (groups * K) or NULL */
    const void *residual;          /* IN, laid out as y, or NULL; not in gradients */
    void *y;                       /* OUT */
    void *packed;                  /* weights as conv_pack left them, or NULL; OUT of conv_pack */
    ptrdiff_t N, groups, C, K;     /* C and K are those of one group */
    ptrdiff_t H, W;                /* size of the source */
    cg_axis rows, cols;
    cg_strides x_at, y_at;
    ptrdiff_t w_group, w_k, w_c, w_r, w_s; /* strides of the weight */
    ptrdiff_t R, S;
    int activation;
    double parameter;
    int samples_are_pixels; /* then nothing may depend on how many pixels there are */
    int all_packed;         /* `packed` holds or will hold all weights: input is staged once for as many as possible */
    ptrdiff_t shuffle; /* conv_depthwise only: group g reads plane g % shuffle * (groups / shuffle) + g / shuffle of
                        * x; 0: plane g */
    /* filled by the plan */
    int vectors_over_pixels, planar; /* planar: the staged input has one plane a channel, else adjacent channels */
    int pointwise, copies;           /* as in conv_pointwise.inc.h, whose panels are copies */
    int unstaged;                    /* 1x1, over channels: x is read where it is */
    int in_place;                    /* y may be where the residual is */
    int stream, stream_rows;         /* store whole lines of y past the cache: from tiles, row by row */
    int row_by_row, by_samples;      /* as in conv_rows.inc.h; row by row, row taps are the outermost terms */
    ptrdiff_t chain, rows_at_once;   /* there: terms of a chain of additions; rows of the results of samples */
    ptrdiff_t n_taps;                /* row taps x column taps, over all phases */
    ptrdiff_t c_chunk, n_chunks, k_group, n_k_groups;
    ptrdiff_t k_range, span;       /* as in conv_pointwise.inc.h; multiples of a tile's channels and pixels */
    ptrdiff_t k_share, n_k_shares; /* a range of k in parts, for more blocks */
    ptrdiff_t block_n, block_rows, block_cols, n_row_blocks, n_col_blocks, n_batches;
    ptrdiff_t stage_rows, stage_cols, stage_plane, stage_pixel, stage_channel, stage_row, stage_sample;
    ptrdiff_t slot, n_slots;
    size_t packed_bytes; /* conv_pack only: what `packed` must hold */
    ptrdiff_t weight_at, stage_at, result_at, offset_at, bias_at, pixel_at,
        temp_at; /* bytes from the beginning of scratch */
} cg_conv_args;

/* grad_weight[k, c, r, s] = sum over n, i, j of grad_output[n, k, i, j] * x[n, c, i * stride_h + r * dilation_h - top,
 * ...] */
typedef struct {
    cg_task task;
    const void *x, *grad_output; /* IN */
    void *grad_weight;           /* OUT (groups * K, C, R, S) */
    ptrdiff_t N, groups, C, K, H, W, OH, OW, R, S;
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, left;
    cg_strides x_at, g_at;
    void *partial; /* OUT where n_ranges > 1: sums of each range of samples, (n_ranges, groups * K, C, R, S) */
    /* filled by the plan */
    int dot_products, in_place, swap, along_pixels;
    ptrdiff_t n_ranges; /* of samples or rows; 1: grad_weight is written at once */
    ptrdiff_t k_tile, k_block, n_k_blocks, c_block, n_c_blocks; /* a block takes k in tiles of k_tile */
    ptrdiff_t block_n, block_rows, block_cols, n_row_blocks, n_col_blocks;
    ptrdiff_t stage_rows, stage_cols, stage_plane, stage_sample, run;
    ptrdiff_t gradient_at, stage_at, result_at, offset_at, term_at;
} cg_conv_grad_weight_args;

/* Convolution with stride 1 by Winograd's minimal filtering: 3x3 along both axes, F(m x m, 3x3), or R x S along one,
 * F(m, R) or F(m, S); see conv_winograd.inc.h for the layouts of u, v, g and du. */
typedef struct {
    cg_task task;
    const void *x, *weight, *bias; /* IN; bias (K) or NULL */
    const void *residual;          /* IN, laid out as y with adjacent columns, or NULL; not in gradients */
    void *y;                       /* OUT; for the gradient by the weight: grad_weight (K, C, R, S) */
    const void *grad_output;       /* IN, gradient by the weight only */
    void *u, *v, *g, *du;          /* transformed weights, inputs, gradients, products; shared by all threads */
    ptrdiff_t N, C, K, H, W, OH, OW, R, S;
    ptrdiff_t first_h, first_w; /* source position under the first tap of output (0, 0) */
    cg_strides x_at, y_at;
    ptrdiff_t w_k, w_c, w_r, w_s; /* strides of the weight */
    int flip;                     /* rotate the kernel: gradient by the input */
    int m;                        /* outputs of a tile along each transformed axis: 2 or 4 where that is both */
    int axis;                     /* 0: both axes, 1: rows (S = 1), 2: columns, and kernel rows are summed */
    int add;                      /* add to du */
    int activation;
    double parameter;
    ptrdiff_t groups,
        w_group;           /* groups, of C and K channels each, and how far apart their weights are: *_groups only */
    ptrdiff_t row0, row1;  /* range of tile rows (over all samples) to work on; row1 = 0: all */
    ptrdiff_t k0, k1;      /* range of output channels to work on; k1 = 0: all */
    ptrdiff_t range_tiles; /* gradient by the weight: tiles of a range, by which its sums are cut (IN) */
    ptrdiff_t n_sums;      /* that du holds, to be added up; 0: one */
    /* filled by the plan */
    ptrdiff_t tile_rows, tile_cols; /* of one sample */
    ptrdiff_t tile_h, tile_w;       /* outputs of a tile */
    ptrdiff_t sums, v_rows;         /* kernel rows that are summed over; rows of transformed inputs of one sample */
    int points;
    int rest_h, rest_w; /* outputs of the last tile along each axis where they are fewer than m, else 0 */
    ptrdiff_t block_rows, block_cols, n_col_blocks, block_tiles;
    ptrdiff_t point_u, point_v, point_m, point_g;
    ptrdiff_t v_at, m_at, stage_at, u_at;
} cg_winograd_args;

#endif
