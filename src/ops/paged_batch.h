/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operators on the KV pool are told in a run: the pool, which rows belong to which
 * sequence, and where each sequence's blocks lie. Every index is checked here, before a kernel uses
 * it: a wrong batch is an error.
 */
#ifndef KVERN_OPS_PAGED_BATCH_H
#define KVERN_OPS_PAGED_BATCH_H

#include "ops/op.h"

struct kv_pool {
    char *data; /* [n_layers, n_blocks, block_bytes] */
    size_t n_layers;
    size_t n_blocks;
    size_t block_bytes; /* 2 * Hkv * 16 * (2 D, 4 D, or D + 4): tells the type */
    enum kv_type type;
};

struct paged_batch {
    struct kv_pool pool;
    const int32_t *block_table; /* [n_sequences, blocks_per_row] */
    const int32_t *query_start; /* [n_sequences + 1]: sequence s owns rows query_start[s] .. */
    const int32_t *context_len; /* [n_sequences]: positions in use; NULL: as many as its rows */
    size_t n_tokens;
    size_t n_sequences;
    size_t blocks_per_row;
};

/* The layer must be below n_layers. */
static inline char *kv_pool_layer(const struct kv_pool *pool, size_t layer)
{
    return pool->data + layer * pool->n_blocks * pool->block_bytes;
}

static inline size_t paged_batch_rows(const struct paged_batch *batch, size_t sequence)
{
    return (size_t)(batch->query_start[sequence + 1] - batch->query_start[sequence]);
}

static inline size_t paged_batch_context(const struct paged_batch *batch, size_t sequence)
{
    return batch->context_len ? (size_t)batch->context_len[sequence]
                              : paged_batch_rows(batch, sequence);
}

/* Which inputs of a node these are. */
struct paged_inputs {
    size_t pool;
    size_t block_table;
    size_t query_start;
    size_t context_len; /* 0: the node has none */
};

/* Reads and checks them all for a node of n_tokens rows that uses n_layers of the pool. The rows
 * are the last of a sequence's positions; of shape->is_cross they are none, but there must be a
 * position for them to see. */
kvern_status paged_batch_read(struct paged_batch *batch, const struct op_kernel *kernel,
                              OrtKernelContext *context, const struct paged_inputs *inputs,
                              const struct attention_shape *shape, size_t n_layers, size_t n_tokens,
                              kvern_error *err);

/* Slots [n_tokens] of the rows, which are the last of each sequence's positions. */
void paged_batch_slots(const struct paged_batch *batch, int32_t *slot_block, int32_t *slot_offset);

#endif
