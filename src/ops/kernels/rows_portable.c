/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels for portable C: rows_impl.h and layer_rows_impl.h on this
 * set's vectors.
 */
#include "ops/kernels/vector_portable.h"

#include "ops/kernels/layer_rows_impl.h"
#include "ops/kernels/rows_impl.h"

const struct row_kernels row_portable = {
    .gated_silu = gated_silu,
    .gated_gelu = gated_gelu,
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .add_layer_norm = add_layer_norm,
    .activate = activate,
};
