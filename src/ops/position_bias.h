/* SPDX-License-Identifier: Apache-2.0
 *
 * The input `bias` of an attention, float32 [n_heads, 2 R + 1]: column R + d is added to the score
 * of a key d positions after the query, and the outermost columns to all that lie farther. An
 * operator reads it when it opens, in the form the kernels want.
 */
#ifndef KVERN_OPS_POSITION_BIAS_H
#define KVERN_OPS_POSITION_BIAS_H

#include "ops/op.h"

/* Reads the initializer at `index`; one that is absent leaves `bias` empty. */
kvern_status position_bias_open(struct position_bias *bias, const struct op_kernel *kernel,
                                const OrtKernelInfo *info, size_t index, size_t n_heads,
                                kvern_error *err);
/* The table of `values` [n_heads, 2 reach + 1]; KVERN_MEMORY leaves it empty. */
kvern_status position_bias_init(struct position_bias *bias, const float *values, size_t n_heads,
                                size_t reach, kvern_error *err);
void position_bias_clear(struct position_bias *bias);

#endif
