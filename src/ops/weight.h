/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a packed weight from a node's initializers: what Linear and Embedding share.
 */
#ifndef KVERN_OPS_WEIGHT_H
#define KVERN_OPS_WEIGHT_H

#include "ops/op.h"

/* Attributes K, N, bits and the constant inputs first_input (data), +1 (scales), +2 (mins); every
 * shape is checked against K, N and bits. `weight` points into the initializers. */
kvern_status weight_open(const struct op_kernel *kernel, const OrtKernelInfo *info,
                         size_t first_input, struct packed_weight *weight, kvern_error *err);

#endif
