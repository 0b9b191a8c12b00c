/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks are shared by 16 tokens, through the prefix cache. Values of a run (exports) are immutable
 * and come of chunks that are cut every prefill_chunk tokens: of a kept prompt any number of whole
 * chunks is taken, because a later chunk only adds rows to those of the ones before it. Values on a
 * device cannot be cut: there a prompt is kept where its last whole chunk ends.
 */
#include "engine/sharing.h"

#include "base/memory.h"
#include "engine/beam.h"

#include <stdlib.h>
#include <string.h>

static bool uses_prefix_cache(const struct scheduler *scheduler, const struct sequence *sequence)
{
    return !scheduler->limits.has_no_kv && !scheduler->limits.has_no_prefix_cache &&
           sequence->window.n_blocks == 0 && !sequence->is_foreign &&
           sequence->n_source == 0; /* an encoder's tokens depend on those after them, too */
}

/* Tokens that are shared or not at once. */
static size_t unit_of(const struct scheduler *scheduler)
{
    return scheduler_can_preempt(scheduler) ? KV_BLOCK_TOKENS : scheduler->limits.prefill_chunk;
}

static bool has_root(struct prefix_key root, const struct sequence *sequence)
{
    return root.low == sequence->root.low && root.high == sequence->root.high;
}

/* Whole units that the first n_tokens tokens and the sequence's own have in common, in tokens. */
static size_t count_common(const int32_t *tokens, size_t n_tokens, const struct sequence *sequence,
                           size_t unit)
{
    size_t n_most = n_tokens < sequence->n_tokens ? n_tokens : sequence->n_tokens;
    size_t n = 0;

    while (n + unit <= n_most &&
           memcmp(tokens + n, sequence->tokens + n, unit * sizeof *tokens) == 0)
        n += unit;
    return n;
}

void sharing_leave_leader(struct sequence *sequence)
{
    if (sequence->leader)
        sequence->leader->n_followers--;
    sequence->leader = NULL;
}

/* Blocks are there as soon as they are full; a prompt is kept when it has ended, and not worth a
 * wait if more than half of it is not shared. */
static bool will_share(const struct scheduler *scheduler, const struct sequence *running,
                       const struct sequence *sequence)
{
    size_t unit = unit_of(scheduler);
    size_t n;

    if (sequence_is_decoding(running) || running->priority < sequence->priority ||
        !has_root(running->root, sequence) || !uses_prefix_cache(scheduler, running))
        return false;
    n = count_common(running->tokens, running->n_tokens, sequence, unit);
    return scheduler_can_preempt(scheduler) ? running->n_computed + unit <= n
                                            : n > 0 && 2 * n >= running->n_prompt;
}

bool sharing_is_worth_a_wait(const struct scheduler *scheduler, const struct sequence *sequence)
{
    if (sequence->is_held)
        return true;
    if (sequence->leader)
        return sequence->leader->n_computed < sequence->n_prompt;
    if (!uses_prefix_cache(scheduler, sequence) || sequence->wants_all_rows ||
        sequence->n_computed > 0 || sequence->n_overtaken >= MOST_OVERTAKEN ||
        (sequence->conversation != 0 && kept_kv_find(&scheduler->kept, sequence->conversation)))
        return false;
    for (const struct sequence *s = scheduler->running.first; s; s = s->next) {
        if (will_share(scheduler, s, sequence))
            return true;
    }
    return false;
}

/* The blocks of its leader, whose prompt is its own, but for the last token. */
static void take_of_leader(struct scheduler *scheduler, struct sequence *sequence)
{
    const struct sequence *leader = sequence->leader;
    size_t n_tokens = sequence->n_prompt - 1;

    if (!sequence->wants_all_rows && leader->window.n_blocks == 0 &&
        sequence->window.n_blocks == 0) {
        for (size_t i = 0; i < kv_blocks_for_tokens(n_tokens); i++)
            kv_blocks_share(&scheduler->blocks, &sequence->table, leader->table.blocks[i]);
        sequence->n_computed = n_tokens;
    }
    sharing_leave_leader(sequence);
}

/* Remembered blocks of its first tokens. */
static void take_remembered(struct scheduler *scheduler, struct sequence *sequence)
{
    size_t limit = sequence->wants_all_rows ? sequence->n_shown : sequence->n_tokens - 1;
    struct prefix_key key = sequence->root;
    struct prefix_key last = key;
    size_t n = 0;

    while (n * KV_BLOCK_TOKENS < limit && (n + 1) * KV_BLOCK_TOKENS <= sequence->n_tokens) {
        const int32_t *tokens = sequence->tokens + n * KV_BLOCK_TOKENS;
        struct prefix_key next = prefix_key_next(key, tokens);
        int32_t block = prefix_cache_find(&scheduler->blocks.prefixes, next, tokens);

        if (block < 0 || !kv_blocks_share(&scheduler->blocks, &sequence->table, block))
            break;
        last = key;
        key = next;
        n++;
    }
    sequence->n_computed = n * KV_BLOCK_TOKENS < limit ? n * KV_BLOCK_TOKENS : limit;
    sequence->n_remembered = n;
    sequence->key = key;
    if (sequence->n_computed < n * KV_BLOCK_TOKENS) { /* the last one is not its own to fill */
        sequence->n_remembered = n - 1;
        sequence->key = last;
    }
}

/* Whole chunks of the kept prompt that has most of them in common with it. Its values become new
 * ones in the next step, so its blocks are all its own. */
static void take_prompt(struct scheduler *scheduler, struct sequence *sequence)
{
    struct kept_kv *prompts = &scheduler->prompts;
    size_t unit = unit_of(scheduler);
    size_t best = 0;
    size_t n_best = 0;

    if (sequence->wants_all_rows)
        return;
    for (size_t i = 0; i < prompts->n; i++) {
        const struct kept *item = &prompts->items[i];
        size_t n = count_common(item->tokens, item->n_tokens, sequence, unit);

        if (n == sequence->n_tokens)
            n -= unit;
        if (n > n_best && has_root(item->root, sequence) &&
            (!item->table.values->is_rigid || n == item->n_tokens)) {
            best = i;
            n_best = n;
        }
    }
    if (n_best == 0)
        return;
    sequence->table.values = kv_values_share(prompts->items[best].table.values);
    sequence->n_computed = n_best;
    kept_kv_touch(prompts, best);
}

bool sharing_take(struct scheduler *scheduler, struct sequence *sequence)
{
    if (sequence->n_computed > 0 || sequence->table.n_blocks > 0)
        return false; /* taken before, when there was no room */
    if (sequence->conversation != 0 && !sequence->wants_all_rows && !sequence->has_started)
        kept_kv_take(&scheduler->kept, &scheduler->blocks, sequence);
    if (sequence->leader)
        take_of_leader(scheduler, sequence);
    if (sequence->n_computed > 0 || sequence->table.n_blocks > 0 ||
        !uses_prefix_cache(scheduler, sequence))
        return false;
    if (scheduler_can_preempt(scheduler))
        take_remembered(scheduler, sequence);
    else
        take_prompt(scheduler, sequence);
    return sequence->n_computed > 0;
}

/* Where what a prompt has computed is worth keeping: at its end, or where it can still be used. */
static bool is_prompt_end(const struct scheduler *scheduler, const struct sequence *sequence)
{
    const struct kv_values *values = sequence->table.values;
    size_t unit = unit_of(scheduler);

    if (!values || sequence->n_tokens > sequence->n_prompt || sequence->n_computed < unit)
        return false;
    if (values->is_rigid)
        return sequence->n_computed % unit == 0 && sequence->n_prompt - sequence->n_computed < unit;
    return sequence->n_computed == sequence->n_prompt;
}

/* Another one begins with the same tokens and has as many or more of them. */
static bool is_kept_already(const struct scheduler *scheduler, const struct sequence *sequence)
{
    for (size_t i = 0; i < scheduler->prompts.n; i++) {
        const struct kept *item = &scheduler->prompts.items[i];

        if (has_root(item->root, sequence) && item->n_tokens >= sequence->n_computed &&
            count_common(item->tokens, sequence->n_computed, sequence, 1) == sequence->n_computed &&
            (!item->table.values->is_rigid || item->n_tokens == sequence->n_computed))
            return true;
    }
    return false;
}

/* Keeps a prompt, in blocks that nobody else needs now. What went on from a conversation was not
 * cut where a prompt is cut. */
static void keep_prompt(struct scheduler *scheduler, struct sequence *sequence)
{
    struct kv_blocks *blocks = &scheduler->blocks;
    size_t n_blocks = kv_blocks_for_tokens(sequence->n_computed);
    struct kept item = {.conversation = ++scheduler->n_prompts_kept,
                        .n_tokens = sequence->n_computed,
                        .root = sequence->root};

    if (!is_prompt_end(scheduler, sequence) ||
        (sequence->conversation != 0 && sequence->n_cached > 0) ||
        is_kept_already(scheduler, sequence) || n_blocks > blocks->max_remembered)
        return;
    while (kept_kv_count_blocks(&scheduler->prompts) + n_blocks > blocks->max_remembered)
        kept_kv_drop_oldest(&scheduler->prompts, blocks);
    item.tokens = try_new(item.n_tokens, sizeof *item.tokens);
    if (!item.tokens || kv_table_init(&item.table, n_blocks, NULL) != KVERN_OK ||
        !kv_blocks_promise(blocks, &item.table, n_blocks)) {
        kv_table_clear(&item.table);
        free(item.tokens);
        return;
    }
    kv_blocks_extend(blocks, &item.table, item.n_tokens);
    memcpy(item.tokens, sequence->tokens, item.n_tokens * sizeof *item.tokens);
    item.table.values = kv_values_share(sequence->table.values);
    kept_kv_add(&scheduler->prompts, blocks, item);
}

void sharing_remember(struct scheduler *scheduler, struct sequence *sequence)
{
    if (!uses_prefix_cache(scheduler, sequence))
        return;
    if (!scheduler_can_preempt(scheduler)) {
        keep_prompt(scheduler, sequence);
        return;
    }
    while ((sequence->n_remembered + 1) * KV_BLOCK_TOKENS <= sequence->n_computed) {
        const int32_t *tokens = sequence->tokens + sequence->n_remembered * KV_BLOCK_TOKENS;

        sequence->key = prefix_key_next(sequence->key, tokens);
        kv_blocks_remember(&scheduler->blocks, &sequence->table, sequence->n_remembered,
                           sequence->key, tokens);
        sequence->n_remembered++;
    }
}

/* The parent's KV into the spare table; one that has no blocks, or waits for some, gets none. */
static void share_table(struct scheduler *scheduler, const struct sequence *sequence,
                        const struct sequence *parent, struct kv_table *spare)
{
    for (size_t i = 0; sequence->state == SEQUENCE_RUNNING && i < parent->table.n_blocks; i++)
        kv_blocks_share(&scheduler->blocks, spare, parent->table.blocks[i]);
}

/* What was computed of a sequence, without the KV itself. */
struct computed {
    size_t n_computed, n_shown, n_remembered;
    struct prefix_key key;
};

static struct computed get_computed(const struct sequence *sequence, const struct sequence *parent,
                                    bool has_kv)
{
    struct computed computed = {.n_shown = parent->n_shown, .key = sequence->root};

    if (has_kv) {
        computed.n_computed = parent->n_computed;
        computed.n_remembered = parent->n_remembered;
        computed.key = parent->key;
    }
    return computed;
}

void sharing_reorder(struct scheduler *scheduler, struct sequence *const *beams,
                     const size_t *parents, struct kv_table *spare, size_t n)
{
    bool has_blocks = scheduler_can_preempt(scheduler);
    struct computed computed[MAX_BEAMS];

    for (size_t i = 0; i < n; i++) {
        const struct sequence *parent = beams[parents[i]];

        if (has_blocks)
            share_table(scheduler, beams[i], parent, &spare[i]);
        else
            spare[i].values = kv_values_share(parent->table.values);
        computed[i] = get_computed(beams[i], parent, !has_blocks || spare[i].n_blocks > 0);
    }
    for (size_t i = 0; i < n; i++) {
        struct sequence *sequence = beams[i];
        struct kv_table table = sequence->table;

        if (has_blocks) {
            kv_blocks_release(&scheduler->blocks, &table);
            sequence->table = spare[i];
            spare[i] = table;
        } else {
            kv_values_release(table.values);
            sequence->table.values = spare[i].values;
            spare[i].values = NULL;
        }
        sequence->n_computed = computed[i].n_computed;
        sequence->n_shown = computed[i].n_shown;
        sequence->n_remembered = computed[i].n_remembered;
        sequence->key = computed[i].key;
    }
}
