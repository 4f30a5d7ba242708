/* Arguments of the kernels for softmax, losses and normalisation: reductions over rows. */
#ifndef CONVGRAD_ARGUMENTS_ROWS_H
#define CONVGRAD_ARGUMENTS_ROWS_H

#define CG_ROW_KERNELS(X)

#endif
