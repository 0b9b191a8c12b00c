/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of all KV blocks: one pool [n_layers, n_blocks, block_bytes], where a block holds keys
 * and values of 16 tokens: [2, n_kv_heads] parts of f16, f32, or int8 with an f32 scale a token
 * (their insides: ops/kernels/kernels.h). Which sequence owns which block is kv_blocks' business.
 */
#ifndef KVERN_ENGINE_KV_STORE_H
#define KVERN_ENGINE_KV_STORE_H

#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct kv_layout {
    size_t n_layers;
    size_t n_kv_heads;
    size_t head_size;
    size_t value_bytes; /* 2: f16, 4: f32, 1: int8, with 4 more for each token of a part */
};

struct kv_store {
    struct kv_layout layout;
    size_t n_blocks;
    void *pool; /* [n_layers, n_blocks, block_bytes]; pages are touched as blocks are used */
    size_t n_bytes;
};

/* Bytes of one block of one layer. */
size_t kv_layout_block_bytes(const struct kv_layout *layout);
/* Bytes of one block in all layers. */
size_t kv_layout_bytes_per_block(const struct kv_layout *layout);
/* Zeroes what a block of one layer holds past its first n tokens: it may be of another sequence. */
void kv_layout_clear_rest(const struct kv_layout *layout, void *block, size_t n);
kvern_status kv_store_init(struct kv_store *store, const struct kv_layout *layout, size_t n_blocks,
                           kvern_error *err);
void kv_store_clear(struct kv_store *store);

#endif
