/* SPDX-License-Identifier: Apache-2.0
 *
 * What one step runs: the packed tokens of many sequences, as the paged contract takes them.
 * Pure data: no tensor, no thread.
 */
#ifndef KVERN_ENGINE_BATCH_H
#define KVERN_ENGINE_BATCH_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv_table;
struct plan;

struct batch {
    size_t n_tokens;       /* T */
    size_t n_sequences;    /* S */
    size_t n_output_rows;  /* R; may be 0: prefill chunks that are not a prompt's last */
    size_t n_logit_rows;   /* L, at most R */
    bool wants_hidden;     /* somebody reads the hidden states of the output rows */
    size_t blocks_per_row; /* B: columns of block_table */
    int64_t *input_ids;    /* [T] */
    int64_t *positions;    /* [T] */
    int32_t
        *query_start; /* [S + 1]: sequence s owns tokens query_start[s] .. query_start[s+1] - 1 */
    int32_t *context_len;     /* [S]: tokens in the KV after this step */
    int32_t *block_table;     /* [S, B]: KV block of each 16 positions; unused entries 0 */
    struct kv_table **tables; /* [S]: not owned, for a runner that keeps KV beside the blocks */
    /* of a seq2seq model: sources, and for each sequence where its own lies */
    bool has_sources;
    size_t n_source_tokens;          /* Q */
    size_t n_sources;                /* N */
    size_t source_blocks_per_row;    /* columns of source_table */
    size_t cross_blocks_per_row;     /* columns of cross_table */
    int64_t *source_ids;             /* [Q] */
    int32_t *source_start;           /* [N + 1]: source n owns tokens source_start[n] .. */
    int32_t *source_table;           /* [N, source_blocks_per_row] */
    struct kv_table **source_tables; /* [N]: not owned, as `tables` */
    int32_t *cross_table;            /* [S, cross_blocks_per_row] */
    int32_t *source_len;             /* [S]: tokens of its source */
    int64_t *output_rows;            /* [R]: tokens that leave the last layer, ascending */
    int64_t *logit_rows; /* [L]: those of them whose logits are wanted: indices into output_rows,
                            ascending */
};

/* Memory for the largest batch a step may have: every array of a batch made here is owned by it. */
kvern_status batch_init(struct batch *batch, size_t max_tokens, size_t max_sequences,
                        size_t max_blocks_per_row, bool has_sources, kvern_error *err);
void batch_clear(struct batch *batch);
/* Writes what the plan runs. Output rows and logit rows come in the plan's order. */
void batch_fill(struct batch *batch, const struct plan *plan);

#endif
