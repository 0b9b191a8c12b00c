/* SPDX-License-Identifier: Apache-2.0
 *
 * Admission and the sharing of a step's tokens. State changes here are three: waiting -> running,
 * blocks taken for planned tokens, and the order of decoding sequences. n_computed is the engine's
 * to move, after the step has run.
 */
#include "engine/scheduler.h"

#include "base/error.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>

/* The part of a step's tokens kept for prefill while a prompt is unfinished. */
enum { PREFILL_SHARE = 4 };

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

kvern_status scheduler_init(struct scheduler *scheduler, const struct scheduler_limits *limits,
                            size_t n_kv_blocks, kvern_error *err)
{
    *scheduler = (struct scheduler){.limits = *limits};
    if (limits->step_tokens < 2)
        return fail(err, KVERN_INVALID, "step_tokens is %zu; it must be at least 2",
                    limits->step_tokens);
    if (limits->max_running < 1)
        return fail(err, KVERN_INVALID, "max_sequences is 0; it must be at least 1");
    if (limits->max_context < 1)
        return fail(err, KVERN_INVALID, "max_context is 0; it must be at least 1");
    if (limits->scoring_rows < 1)
        return fail(err, KVERN_INVALID, "scoring_rows is 0; it must be at least 1");
    kvern_status status = kv_blocks_init(&scheduler->blocks, n_kv_blocks, err);
    if (status != KVERN_OK)
        return status;
    if (limits->prefill_chunk == 0)
        scheduler->limits.prefill_chunk = limits->step_tokens;
    if (!limits->has_no_kv)
        scheduler->limits.max_context =
            min_size(limits->max_context, n_kv_blocks * KV_BLOCK_TOKENS);
    return KVERN_OK;
}

void scheduler_clear(struct scheduler *scheduler)
{
    assert(scheduler->waiting.n == 0 && scheduler->running.n == 0);
    while (kept_kv_drop_oldest(&scheduler->kept, &scheduler->blocks))
        ;
    kv_blocks_clear(&scheduler->blocks);
}

kvern_status scheduler_accepts(const struct scheduler *scheduler, size_t n_prompt,
                               size_t max_tokens, const struct sequence_window *window,
                               kvern_error *err)
{
    size_t max_context = scheduler->limits.max_context;

    if (window->n_blocks > 0) {
        if (window->n_blocks * KV_BLOCK_TOKENS <= max_context)
            return KVERN_OK;
        return fail(err, KVERN_LIMIT,
                    "a window of %zu tokens is over the context limit of %zu tokens",
                    window->n_blocks * KV_BLOCK_TOKENS, max_context);
    }
    if (n_prompt > max_context)
        return fail(err, KVERN_LIMIT,
                    "the prompt has %zu tokens, over the context limit of %zu tokens", n_prompt,
                    max_context);
    if (max_tokens > max_context || sequence_max_positions(n_prompt, max_tokens) > max_context)
        return fail(err, KVERN_LIMIT,
                    "a prompt of %zu tokens with max_tokens %zu is over the context limit of %zu "
                    "tokens",
                    n_prompt, max_tokens, max_context);
    return KVERN_OK;
}

void scheduler_add(struct scheduler *scheduler, struct sequence *sequence)
{
    assert(sequence->state == SEQUENCE_NEW);
    sequence->state = SEQUENCE_WAITING;
    sequence_list_append(&scheduler->waiting, sequence);
}

void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence)
{
    if (sequence->state == SEQUENCE_WAITING)
        sequence_list_remove(&scheduler->waiting, sequence);
    else if (sequence->state == SEQUENCE_RUNNING)
        sequence_list_remove(&scheduler->running, sequence);
    sequence->state = SEQUENCE_NEW;
    kv_blocks_release(&scheduler->blocks, &sequence->table);
}

void scheduler_retire(struct scheduler *scheduler, struct sequence *sequence)
{
    bool has_kv = sequence->state == SEQUENCE_RUNNING || sequence->n_computed > 0;

    if (sequence->conversation != 0 && has_kv && !scheduler->limits.has_no_kv) {
        sequence_list_remove(sequence->state == SEQUENCE_RUNNING ? &scheduler->running
                                                                 : &scheduler->waiting,
                             sequence);
        sequence->state = SEQUENCE_NEW;
        kept_kv_put(&scheduler->kept, &scheduler->blocks, sequence);
    } else {
        scheduler_remove(scheduler, sequence);
    }
}

bool scheduler_promise(struct scheduler *scheduler, struct kv_table *table, size_t n_blocks)
{
    /* where even all of theirs would not do, idle conversations keep them */
    if (n_blocks > kv_blocks_available(&scheduler->blocks) + kept_kv_count_blocks(&scheduler->kept))
        return false;
    while (!kv_blocks_promise(&scheduler->blocks, table, n_blocks)) {
        if (!kept_kv_drop_oldest(&scheduler->kept, &scheduler->blocks))
            return false;
    }
    return true;
}

/* Blocks a sequence still has to take. Those that slide out of a window come back to it, unless
 * another one holds them too. */
static size_t count_needed(const struct scheduler *scheduler, const struct sequence *sequence)
{
    const struct kv_table *table = &sequence->table;
    size_t max_tokens = sequence->capacity - sequence->n_prompt;
    size_t n_positions = sequence_max_positions(sequence->n_prompt, max_tokens);
    size_t n_needed = kv_blocks_for_tokens(n_positions) - table->n_dropped - table->n_blocks;

    if (sequence->window.n_blocks > 0)
        n_needed = min_size(n_needed, sequence->window.n_blocks -
                                          kv_blocks_count_own(&scheduler->blocks, table));
    return n_needed;
}

/* Sets the blocks aside that a sequence needs beside those it took over; idle conversations give up
 * theirs for it. */
static bool promise(struct scheduler *scheduler, struct sequence *sequence)
{
    if (scheduler->limits.has_no_kv)
        return true;
    return scheduler_promise(scheduler, &sequence->table, count_needed(scheduler, sequence));
}

/* The worst case is promised, not taken: blocks go to a sequence as it grows into them. A scheduler
 * that can pre-empt would promise less here and take back there. */
static void admit(struct scheduler *scheduler)
{
    while (scheduler->waiting.first && scheduler->running.n < scheduler->limits.max_running) {
        struct sequence *sequence = scheduler->waiting.first;

        if (sequence->conversation != 0 && !sequence->wants_all_rows && sequence->n_cached == 0)
            kept_kv_take(&scheduler->kept, &scheduler->blocks, sequence);
        if (!promise(scheduler, sequence))
            break;
        sequence_list_remove(&scheduler->waiting, sequence);
        sequence_list_append(&scheduler->running, sequence);
        sequence->state = SEQUENCE_RUNNING;
    }
}

static void plan_add(struct scheduler *scheduler, struct plan *plan, struct sequence *sequence,
                     size_t n_tokens, size_t n_rows)
{
    assert(plan->n_items < plan->capacity);
    if (!scheduler->limits.has_no_kv)
        kv_blocks_extend(&scheduler->blocks, &sequence->table,
                         sequence_n_held(sequence, sequence->n_computed + n_tokens));
    plan->items[plan->n_items++] =
        (struct plan_item){.sequence = sequence, .n_tokens = n_tokens, .n_rows = n_rows};
}

/* Moves a sequence's window where a block begins, and gives the most tokens it may run before the
 * next such place. */
static size_t slide(struct scheduler *scheduler, struct sequence *sequence)
{
    const struct sequence_window *window = &sequence->window;
    struct kv_table *table = &sequence->table;
    size_t n_started = kv_blocks_for_tokens(sequence->n_computed) - table->n_dropped;

    if (window->n_blocks == 0)
        return SIZE_MAX;
    table->n_sinks = window->n_sinks;
    if (n_started == window->n_blocks && sequence->n_computed % KV_BLOCK_TOKENS == 0) {
        /* KV taken over with fewer blocks than it fills has them promised */
        kv_blocks_extend(&scheduler->blocks, table, n_started * KV_BLOCK_TOKENS);
        kv_blocks_slide(&scheduler->blocks, table);
    }
    return (window->n_blocks + table->n_dropped) * KV_BLOCK_TOKENS - sequence->n_computed;
}

/* Decoding sequences take turns at the head of the list: those that run now go to its end, so that
 * with fewer tokens than sequences each runs once a round. */
static size_t plan_decodes(struct scheduler *scheduler, struct plan *plan, size_t n_tokens)
{
    struct sequence *sequence = scheduler->running.first;
    size_t n_used = 0;

    for (size_t i = scheduler->running.n; i > 0 && n_used < n_tokens; i--) {
        struct sequence *next = sequence->next;

        if (sequence_is_decoding(sequence)) {
            slide(scheduler, sequence);
            plan_add(scheduler, plan, sequence, 1, 1);
            sequence_list_remove(&scheduler->running, sequence);
            sequence_list_append(&scheduler->running, sequence);
            n_used++;
        }
        sequence = next;
    }
    return n_used;
}

static void plan_prefills(struct scheduler *scheduler, struct plan *plan, size_t n_tokens)
{
    const struct scheduler_limits *limits = &scheduler->limits;
    size_t n_scoring_rows = limits->scoring_rows;

    for (struct sequence *sequence = scheduler->running.first; sequence && n_tokens > 0;
         sequence = sequence->next) {
        size_t n_pending = sequence->n_tokens - sequence->n_computed;
        size_t n = min_size(n_pending, limits->prefill_chunk);

        if (sequence_is_decoding(sequence))
            continue;
        n = min_size(n, slide(scheduler, sequence));
        if (!limits->has_fixed_chunks)
            n = min_size(n, n_tokens);
        if (sequence->wants_all_rows && !sequence->wants_hidden) {
            n = min_size(n, limits->has_fixed_chunks ? limits->scoring_rows : n_scoring_rows);
            if (n == 0 || n > n_scoring_rows)
                continue;
            n_scoring_rows -= n;
        }
        plan_add(scheduler, plan, sequence, n,
                 sequence->wants_all_rows ? n
                 : n == n_pending         ? 1
                                          : 0);
        n_tokens -= min_size(n, n_tokens);
    }
}

size_t scheduler_max_step_tokens(const struct scheduler *scheduler)
{
    return scheduler->limits.step_tokens +
           (scheduler->limits.has_fixed_chunks ? scheduler->limits.prefill_chunk : 0);
}

static bool has_prefill(const struct scheduler *scheduler)
{
    for (const struct sequence *sequence = scheduler->running.first; sequence;
         sequence = sequence->next) {
        if (!sequence_is_decoding(sequence))
            return true;
    }
    return false;
}

void scheduler_plan(struct scheduler *scheduler, struct plan *plan)
{
    size_t n_tokens = scheduler->limits.step_tokens;
    size_t n_for_decode = n_tokens;

    plan->n_items = 0;
    admit(scheduler);
    if (has_prefill(scheduler))
        n_for_decode -= n_tokens < PREFILL_SHARE ? 1 : n_tokens / PREFILL_SHARE;
    n_tokens -= plan_decodes(scheduler, plan, n_for_decode);
    plan_prefills(scheduler, plan, n_tokens);
}

kvern_status scheduler_check(const struct scheduler *scheduler, kvern_error *err)
{
    const struct sequence_list *lists[] = {&scheduler->waiting, &scheduler->running};
    size_t n_tables = 0;
    const struct kv_table **tables =
        try_new(scheduler->waiting.n + scheduler->running.n + scheduler->kept.n, sizeof(void *));

    if (!tables)
        return fail(err, KVERN_MEMORY, "no memory to check the KV blocks of %zu sequences",
                    scheduler->waiting.n + scheduler->running.n);
    for (size_t i = 0; i < 2; i++) {
        for (const struct sequence *s = lists[i]->first; s; s = s->next)
            tables[n_tables++] = &s->table;
    }
    for (size_t i = 0; i < scheduler->kept.n; i++)
        tables[n_tables++] = &scheduler->kept.items[i].table;
    kvern_status status = kv_blocks_check(&scheduler->blocks, tables, n_tables, err);
    free(tables);
    return status;
}

kvern_status plan_init(struct plan *plan, size_t capacity, kvern_error *err)
{
    *plan = (struct plan){0};
    plan->items = try_new(capacity, sizeof *plan->items);
    if (!plan->items)
        return fail(err, KVERN_MEMORY, "no memory for a plan of %zu sequences", capacity);
    plan->capacity = capacity;
    return KVERN_OK;
}

void plan_clear(struct plan *plan)
{
    free(plan->items);
    *plan = (struct plan){0};
}
