/* Arguments of the kernels for pooling, subsampling, locally connected layers. */
#ifndef CONVGRAD_ARGUMENTS_POOL_H
#define CONVGRAD_ARGUMENTS_POOL_H

#define CG_POOL_KERNELS(X)

#endif
