/* SPDX-License-Identifier: Apache-2.0
 *
 * The attention kernels for AVX2, FMA and F16C: append_impl.h and attention_impl.h on this set's
 * vectors.
 */
#include "ops/kernels/vector_avx2.h"

#include "ops/kernels/append_impl.h"
#include "ops/kernels/attention_impl.h"
#include "ops/kernels/packed_attention_impl.h"

const struct attention_kernels attention_avx2 = {
    .append = append,
    .store = store,
    .attend = attend,
    .attention_scratch_bytes = attention_scratch_bytes,
    .rows_per_call = ROWS_PER_CALL,
    .attend_packed = attend_packed,
    .packed_scratch_bytes = packed_scratch_bytes,
    .packed_rows_per_call = PACKED_ROWS_PER_CALL,
};
