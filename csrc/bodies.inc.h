/* Every body, in the order in which they build on each other, and the table of what came of them. */
#include "math.inc.h"
#include "activation.inc.h"
#include "channel_sum.inc.h"
#include "transpose.inc.h"
#include "conv_tiles.inc.h"
#include "conv_direct.inc.h"
#include "conv_grad_weight.inc.h"
#include "winograd_transforms.inc.h"
#include "conv_winograd.inc.h"
#include "conv_winograd_grad.inc.h"

const cg_table CG_JOIN(cg_table_, CG_SUFFIX) = {
    CG_ISA_NAME,
    LANES,
    {CG_KERNELS(ENTRY)},
};
