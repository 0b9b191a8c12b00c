/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of many sequences attend to their sequences' blocks of the pool: the work of PagedAttention
 * and CrossAttention, cut into units that threads take.
 */
#ifndef KVERN_OPS_ATTEND_UNITS_H
#define KVERN_OPS_ATTEND_UNITS_H

#include "ops/paged_batch.h"
#include "ops/scratch_slots.h"

/* Some rows of one sequence and some kv heads. */
struct attend_unit {
    uint32_t sequence;
    uint16_t head_begin; /* of the kv heads */
    uint16_t head_end;
    uint32_t row_begin; /* within the sequence's rows of this run */
    uint32_t n_rows;
};

/* The first group is the caller's to fill in. */
struct attend_units {
    const struct attention_kernels *kernels;
    const struct paged_batch *batch;
    const struct attention_shape *shape; /* is_cross: every row sees all of its context */
    const float *q;                      /* [n_tokens, q_stride]: heads of queries first */
    size_t q_stride;
    const char *pool; /* of the layer */
    float *out;       /* [n_tokens, H * D] */

    struct attend_unit *units;
    size_t n_units;
    struct scratch_slots slots;
};

/* Bytes of scratch that attend_units_cut takes. */
size_t attend_units_bytes(struct attend_units *work);
/* Cuts the work into n_units; memory is aligned to 64. */
void attend_units_cut(struct attend_units *work, void *memory);
/* Does unit i: for op_parallel_for, `work` a struct attend_units. */
void attend_units_run(void *work, size_t i);

#endif
