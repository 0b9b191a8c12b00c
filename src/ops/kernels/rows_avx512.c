/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels for AVX-512: rows_impl.h and layer_rows_impl.h on this
 * set's vectors.
 */
#include "ops/kernels/vector_avx512.h"

#include "ops/kernels/layer_rows_impl.h"
#include "ops/kernels/rows_impl.h"

const struct row_kernels row_avx512 = {
    .gated_silu = gated_silu,
    .gated_gelu = gated_gelu,
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .add_layer_norm = add_layer_norm,
    .activate = activate,
};
