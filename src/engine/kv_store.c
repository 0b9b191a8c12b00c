/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kv_store: zeroed pages from the system, so that a slot never written holds finite values.
 */
#include "engine/kv_store.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/kv_blocks.h"

size_t kv_layout_block_bytes(const struct kv_layout *layout)
{
    return 2 * layout->n_kv_heads * KV_BLOCK_TOKENS * layout->head_size * layout->value_bytes;
}

size_t kv_layout_bytes_per_block(const struct kv_layout *layout)
{
    return layout->n_layers * kv_layout_block_bytes(layout);
}

kvern_status kv_store_init(struct kv_store *store, const struct kv_layout *layout, size_t n_blocks,
                           kvern_error *err)
{
    *store = (struct kv_store){.layout = *layout, .n_blocks = n_blocks};
    if (!multiply_sizes(n_blocks, kv_layout_bytes_per_block(layout), &store->n_bytes))
        return fail(err, KVERN_LIMIT, "a KV cache of %zu blocks is too large", n_blocks);
    store->pool = try_map_pages(store->n_bytes);
    if (!store->pool)
        return fail(err, KVERN_MEMORY, "out of memory for a KV cache of %zu MiB (%zu blocks)",
                    store->n_bytes >> 20, n_blocks);
    return KVERN_OK;
}

void kv_store_clear(struct kv_store *store)
{
    if (!store)
        return;
    memory_unmap(store->pool, store->n_bytes);
    *store = (struct kv_store){0};
}
