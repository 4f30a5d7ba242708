/* Every body, in the order in which they build on each other, and the table of what came of them. */
#include "math.inc.h"
#include "transpose.inc.h"
#include "activation.inc.h"
#include "channel_sum.inc.h"
#include "activation_bias.inc.h"
#include "dropout.inc.h"
#include "softmax.inc.h"
#include "loss.inc.h"
#include "norm.inc.h"
#include "optimizer.inc.h"
#include "conv_tiles.inc.h"
#include "conv_plan.inc.h"
#include "gemm.inc.h"
#include "conv_direct.inc.h"
#include "conv_depthwise.inc.h"
#include "conv_depthwise_channels.inc.h"
#include "conv_grad_pointwise.inc.h"
#include "conv_grad_weight.inc.h"
#include "winograd_transforms.inc.h"
#include "conv_winograd_tiles.inc.h"
#include "conv_winograd.inc.h"
#include "conv_winograd_grad.inc.h"
#include "pool_windows.inc.h"
#include "pool_global.inc.h"
#include "pool_max.inc.h"
#include "pool_max_indices.inc.h"
#include "pool_max_gather.inc.h"
#include "pool_max_small.inc.h"
#include "pool_max_backward.inc.h"
#include "pool_avg.inc.h"
#include "pool_avg_backward.inc.h"
#include "local.inc.h"

const cg_table CG_JOIN(cg_table_, CG_SUFFIX) = {
    CG_ISA_NAME,
    LANES,
    {CG_KERNELS(ENTRY)},
};
