/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kept_kv: each entry's table is exclusive, so the block that holds the end of the common
 * part can be written on from there.
 */
#include "engine/kept_kv.h"

#include <stdlib.h>
#include <string.h>

static void drop(struct kept_kv *kept, struct kv_blocks *blocks, size_t i)
{
    struct kept *item = &kept->items[i];

    kv_blocks_release(blocks, &item->table);
    kv_table_clear(&item->table);
    free(item->tokens);
    kept->n--;
    memmove(item, item + 1, (kept->n - i) * sizeof *item);
}

static size_t find(const struct kept_kv *kept, uint64_t conversation)
{
    size_t i = 0;

    while (i < kept->n && kept->items[i].conversation != conversation)
        i++;
    return i;
}

void kept_kv_put(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence)
{
    size_t i = find(kept, sequence->conversation);

    if (i < kept->n)
        drop(kept, blocks, i);
    if (kept->n == KEPT_KV_MAX)
        drop(kept, blocks, 0);
    kv_blocks_forgo(blocks, &sequence->table);
    kept->items[kept->n++] = (struct kept){
        .conversation = sequence->conversation,
        .tokens = sequence->tokens,
        .n_tokens = sequence->n_computed,
        .table = sequence->table,
    };
    sequence->tokens = NULL;
    sequence->table = (struct kv_table){0};
}

static size_t count_common(const struct kept *item, const struct sequence *sequence)
{
    size_t limit = sequence->n_prompt - 1;
    size_t n = 0;

    if (item->n_tokens < limit)
        limit = item->n_tokens;
    while (n < limit && item->tokens[n] == sequence->tokens[n])
        n++;
    return n;
}

void kept_kv_take(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence)
{
    size_t i = find(kept, sequence->conversation);

    if (i == kept->n)
        return;

    struct kept *item = &kept->items[i];
    size_t n_common = count_common(item, sequence);
    for (size_t b = 0; b < kv_blocks_for_tokens(n_common); b++)
        kv_blocks_share(blocks, &sequence->table, item->table.blocks[b]);
    sequence->n_computed = n_common;
    sequence->n_cached = n_common;
    drop(kept, blocks, i);
}

bool kept_kv_drop_oldest(struct kept_kv *kept, struct kv_blocks *blocks)
{
    if (kept->n == 0)
        return false;
    drop(kept, blocks, 0);
    return true;
}
