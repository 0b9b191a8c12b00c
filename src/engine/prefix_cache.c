/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash table of chains, whose links are in the entries: a block's number is its entry's.
 */
#include "engine/prefix_cache.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { NONE = -1 };

static struct prefix_key make_key(XXH128_hash_t hash)
{
    return (struct prefix_key){.low = hash.low64, .high = hash.high64};
}

struct prefix_key prefix_key_root(const void *salt, size_t n_bytes)
{
    return make_key(XXH3_128bits(salt, n_bytes));
}

struct prefix_key prefix_key_next(struct prefix_key parent, const int32_t *tokens)
{
    struct {
        struct prefix_key parent;
        int32_t tokens[KV_BLOCK_TOKENS];
    } bytes = {.parent = parent};

    memcpy(bytes.tokens, tokens, sizeof bytes.tokens);
    return make_key(XXH3_128bits(&bytes, sizeof bytes));
}

kvern_status prefix_cache_init(struct prefix_cache *cache, size_t n_blocks, kvern_error *err)
{
    size_t n_buckets = 16;

    *cache = (struct prefix_cache){0};
    while (n_buckets < n_blocks)
        n_buckets *= 2;
    cache->entries = try_new(n_blocks, sizeof *cache->entries);
    cache->buckets = try_new(n_buckets, sizeof *cache->buckets);
    if (!cache->entries || !cache->buckets) {
        prefix_cache_clear(cache);
        return fail(err, KVERN_MEMORY, "no memory for an index of %zu KV blocks", n_blocks);
    }
    cache->n_buckets = n_buckets;
    for (size_t i = 0; i < n_buckets; i++)
        cache->buckets[i] = NONE;
    return KVERN_OK;
}

void prefix_cache_clear(struct prefix_cache *cache)
{
    free(cache->entries);
    free(cache->buckets);
    *cache = (struct prefix_cache){0};
}

static int32_t *bucket_of(const struct prefix_cache *cache, struct prefix_key key)
{
    return &cache->buckets[key.low & (cache->n_buckets - 1)];
}

int32_t prefix_cache_find(const struct prefix_cache *cache, struct prefix_key key,
                          const int32_t *tokens)
{
    int32_t block = *bucket_of(cache, key);

    for (; block != NONE; block = cache->entries[block].next) {
        const struct prefix_entry *entry = &cache->entries[block];

        if (entry->key.low == key.low && entry->key.high == key.high &&
            memcmp(entry->tokens, tokens, sizeof entry->tokens) == 0)
            break;
    }
    return block;
}

void prefix_cache_add(struct prefix_cache *cache, int32_t block, struct prefix_key key,
                      const int32_t *tokens)
{
    struct prefix_entry *entry = &cache->entries[block];
    int32_t *bucket = bucket_of(cache, key);

    if (entry->is_used || prefix_cache_find(cache, key, tokens) != NONE)
        return;
    entry->is_used = true;
    entry->key = key;
    memcpy(entry->tokens, tokens, sizeof entry->tokens);
    entry->next = *bucket;
    *bucket = block;
}

bool prefix_cache_holds(const struct prefix_cache *cache, int32_t block)
{
    return cache->entries[block].is_used;
}

void prefix_cache_remove(struct prefix_cache *cache, int32_t block)
{
    struct prefix_entry *entry = &cache->entries[block];
    int32_t *link;

    if (!entry->is_used)
        return;
    link = bucket_of(cache, entry->key);
    while (*link != block)
        link = &cache->entries[*link].next;
    *link = entry->next;
    entry->is_used = false;
}
