/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kv_store: zeroed pages from the system, so that a slot never written holds finite values.
 */
#include "engine/kv_store.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/kv_blocks.h"
#include "ops/kernels/kernels.h"

#include <string.h>

static enum kv_type type_of(const struct kv_layout *layout)
{
    if (layout->value_bytes == 1)
        return KV_INT8;
    return layout->value_bytes == 2 ? KV_F16 : KV_F32;
}

size_t kv_layout_block_bytes(const struct kv_layout *layout)
{
    return 2 * layout->n_kv_heads * kv_part_bytes(type_of(layout), layout->head_size);
}

size_t kv_layout_bytes_per_block(const struct kv_layout *layout)
{
    return layout->n_layers * kv_layout_block_bytes(layout);
}

/* Of n_rows rows of 16 tokens: all but the first n of each. */
static void clear_columns(char *rows, size_t n_rows, size_t token_bytes, size_t n)
{
    for (size_t row = 0; row < n_rows; row++)
        memset(rows + (row * KV_BLOCK_TOKENS + n) * token_bytes, 0,
               (KV_BLOCK_TOKENS - n) * token_bytes);
}

void kv_layout_clear_rest(const struct kv_layout *layout, void *block, size_t n)
{
    size_t head = layout->head_size;
    size_t part_bytes = kv_part_bytes(type_of(layout), head);
    bool is_int8 = type_of(layout) == KV_INT8;

    for (size_t i = 0; i < layout->n_kv_heads; i++) {
        char *keys = (char *)block + i * part_bytes;
        char *values = keys + layout->n_kv_heads * part_bytes;

        if (!is_int8) {
            clear_columns(keys, head, layout->value_bytes, n);
            clear_columns(values, 1, head * layout->value_bytes, n);
            continue;
        }
        clear_columns(keys, head / 2, 2, n);
        clear_columns(keys + KV_BLOCK_TOKENS * head, 1, sizeof(float), n);
        for (size_t d = 0; n % 2 == 1 && d < head; d++) /* the one beside the last */
            values[(n / 2 * head + d) * 2 + 1] = 0;
        memset(values + (n + 1) / 2 * 2 * head, 0, (KV_BLOCK_TOKENS - (n + 1) / 2 * 2) * head);
        clear_columns(values + KV_BLOCK_TOKENS * head, 1, sizeof(float), n);
    }
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
