/* SPDX-License-Identifier: Apache-2.0
 *
 * Which KV block holds which tokens after which: an index from the hash of all tokens up to a
 * block's end to the block. A hit is a hit only if the block's own tokens are equal too; those
 * before it are in the blocks before it, which were met in the same way. Pure.
 */
#ifndef KVERN_ENGINE_PREFIX_CACHE_H
#define KVERN_ENGINE_PREFIX_CACHE_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_BLOCK_TOKENS = 16 };

/* XXH3 (128 bit) of the key before it and a block's tokens. */
struct prefix_key {
    uint64_t low;
    uint64_t high;
};

struct prefix_entry {
    struct prefix_key key;
    int32_t tokens[KV_BLOCK_TOKENS];
    int32_t next; /* of the same bucket; -1: the last one */
    bool is_used;
};

struct prefix_cache {
    struct prefix_entry *entries; /* [n_blocks], one for each block; owned */
    int32_t *buckets;             /* [n_buckets]: -1, or the first block of each; owned */
    size_t n_buckets;             /* a power of two */
};

/* Where a chain begins: `salt` keeps apart what must not be shared. */
struct prefix_key prefix_key_root(const void *salt, size_t n_bytes);
/* The key after tokens [KV_BLOCK_TOKENS]. */
struct prefix_key prefix_key_next(struct prefix_key parent, const int32_t *tokens);

kvern_status prefix_cache_init(struct prefix_cache *cache, size_t n_blocks, kvern_error *err);
void prefix_cache_clear(struct prefix_cache *cache);
/* The block that holds tokens [KV_BLOCK_TOKENS] under this key, or -1. */
int32_t prefix_cache_find(const struct prefix_cache *cache, struct prefix_key key,
                          const int32_t *tokens);
/* Enters a block, which is in no entry yet. Nothing happens if another one holds the same. */
void prefix_cache_add(struct prefix_cache *cache, int32_t block, struct prefix_key key,
                      const int32_t *tokens);
bool prefix_cache_holds(const struct prefix_cache *cache, int32_t block);
/* Fine for a block that is not held. */
void prefix_cache_remove(struct prefix_cache *cache, int32_t block);

#endif
