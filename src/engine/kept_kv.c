/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kept_kv: forks share blocks, also one that is not full: who writes to it first is given a
 * copy (the scheduler's own_tail()).
 */
#include "engine/kept_kv.h"

#include "base/error.h"
#include "base/memory.h"

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
    if (kept->n == 0) {
        free(kept->items);
        kept->items = NULL;
    }
}

static size_t find(const struct kept_kv *kept, uint64_t conversation)
{
    size_t i = 0;

    while (i < kept->n && kept->items[i].conversation != conversation)
        i++;
    return i;
}

void kept_kv_add(struct kept_kv *kept, struct kv_blocks *blocks, struct kept item)
{
    kept_kv_drop(kept, blocks, item.conversation);
    if (kept->n == KEPT_KV_MAX)
        drop(kept, blocks, 0);
    kept->items = resize_or_abort(kept->items, (kept->n + 1) * sizeof *kept->items);
    kept->items[kept->n++] = item;
}

void kept_kv_put(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence)
{
    kv_blocks_forgo(blocks, &sequence->table);
    kept_kv_add(kept, blocks,
                (struct kept){.conversation = sequence->conversation,
                              .tokens = sequence->tokens,
                              .n_tokens = sequence->n_computed,
                              .window = sequence->window,
                              .is_foreign = sequence->is_foreign,
                              .table = sequence->table});
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

/* Nothing is missing of the KV of the item's first n_tokens tokens. */
static bool can_end_at(const struct kept *item, size_t n_tokens)
{
    const struct kv_values *values = item->table.values;

    return sequence_window_dropped(&item->window, n_tokens) == item->table.n_dropped &&
           (!values || !values->is_rigid || values->n_tokens == n_tokens);
}

/* How much of the first n_tokens of the item's KV another table can go on from; 0: none. */
static size_t count_usable(const struct kept *item, const struct sequence_window *window,
                           size_t n_tokens)
{
    const struct kv_table *table = &item->table;

    if (window->n_blocks != item->window.n_blocks || window->n_sinks != item->window.n_sinks)
        return 0;
    if (table->values)
        return can_end_at(item, n_tokens) ? n_tokens : 0;
    if (table->n_dropped * KV_BLOCK_TOKENS > n_tokens)
        return 0;
    return can_end_at(item, n_tokens) ? n_tokens : 0;
}

/* Shares the KV of the first n_tokens of `from` with the table `to`, which is empty. Values are
 * made anew by the next step, the shared part too: `to` must get blocks of its own for what a third
 * one holds if it is to run (is_run), or the blocks would count less than there is. */
static void share(struct kv_blocks *blocks, const struct kv_table *from, struct kv_table *to,
                  size_t n_tokens, bool is_run)
{
    size_t n_blocks = kv_blocks_for_tokens(n_tokens - from->n_dropped * KV_BLOCK_TOKENS);

    for (size_t b = 0; b < n_blocks && b < from->n_blocks; b++) {
        if (!is_run || !from->values || blocks->blocks[from->blocks[b]].n_references == 1)
            kv_blocks_share(blocks, to, from->blocks[b]); /* in use: it cannot fail */
    }
    to->values = kv_values_share(from->values);
    to->n_sinks = from->n_sinks;
    to->n_dropped = from->n_dropped;
}

void kept_kv_take(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence)
{
    size_t i = find(kept, sequence->conversation);

    if (i == kept->n)
        return;

    const struct kept *item = &kept->items[i];
    size_t n = count_usable(item, &sequence->window, count_common(item, sequence));
    if (n > 0)
        share(blocks, &item->table, &sequence->table, n, true);
    sequence->n_computed = n;
    sequence->is_foreign = n > 0 && item->is_foreign;
    drop(kept, blocks, i);
}

kvern_status kept_kv_fork(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t from,
                          uint64_t to, size_t n_tokens, kvern_error *err)
{
    size_t i = find(kept, from);
    struct kept copy = {.conversation = to};
    const struct kept *item;
    kvern_status status;

    if (i == kept->n)
        return fail(err, KVERN_NOT_FOUND, "there is no KV of conversation %llu to share",
                    (unsigned long long)from);
    item = &kept->items[i];
    if (n_tokens > item->n_tokens)
        n_tokens = item->n_tokens;
    /* any part of a block can be shared for reading; who writes next looks again */
    if (!can_end_at(item, n_tokens))
        return fail(err, KVERN_UNSUPPORTED,
                    "the KV of %zu tokens is not there any more, only that of %zu", n_tokens,
                    item->n_tokens);
    copy.n_tokens = n_tokens;
    copy.window = item->window;
    copy.is_foreign = item->is_foreign;
    copy.tokens = try_new(n_tokens > 0 ? n_tokens : 1, sizeof *copy.tokens);
    if (!copy.tokens)
        return fail(err, KVERN_MEMORY, "no memory for %zu tokens", n_tokens);
    memcpy(copy.tokens, item->tokens, n_tokens * sizeof *copy.tokens);
    status = kv_table_init(&copy.table, item->table.n_blocks > 0 ? item->table.n_blocks : 1, err);
    if (status != KVERN_OK) {
        free(copy.tokens);
        return status;
    }
    share(blocks, &item->table, &copy.table, n_tokens, false);
    kept_kv_add(kept, blocks, copy);
    return KVERN_OK;
}

void kept_kv_cut(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t conversation,
                 size_t n_tokens)
{
    size_t i = find(kept, conversation);
    struct kept *item = i < kept->n ? &kept->items[i] : NULL;

    if (!item || item->n_tokens <= n_tokens)
        return;
    item->n_tokens = n_tokens;
    if (n_tokens == 0 || !can_end_at(item, n_tokens))
        drop(kept, blocks, i);
    else if (!item->table.values) /* those stay whole, and the blocks count them */
        kv_blocks_cut(blocks, &item->table, n_tokens - item->table.n_dropped * KV_BLOCK_TOKENS);
}

void kept_kv_touch(struct kept_kv *kept, size_t i)
{
    struct kept item = kept->items[i];

    memmove(&kept->items[i], &kept->items[i + 1], (kept->n - i - 1) * sizeof item);
    kept->items[kept->n - 1] = item;
}

struct kept *kept_kv_find(const struct kept_kv *kept, uint64_t conversation)
{
    size_t i = find(kept, conversation);

    return i < kept->n ? &kept->items[i] : NULL;
}

void kept_kv_drop(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t conversation)
{
    size_t i = find(kept, conversation);

    if (i < kept->n)
        drop(kept, blocks, i);
}

size_t kept_kv_count_blocks(const struct kept_kv *kept)
{
    size_t n_blocks = 0;

    for (size_t i = 0; i < kept->n; i++)
        n_blocks += kept->items[i].table.n_blocks;
    return n_blocks;
}

bool kept_kv_drop_oldest(struct kept_kv *kept, struct kv_blocks *blocks)
{
    if (kept->n == 0)
        return false;
    drop(kept, blocks, 0);
    return true;
}
