/* SPDX-License-Identifier: Apache-2.0
 *
 * Admission, pre-emption and the sharing of a step's tokens. State changes here are four: waiting
 * -> running and back, blocks taken for planned tokens, and the order of decoding sequences. What
 * was computed moves on in scheduler_advance(), after the step has run.
 */
#include "engine/scheduler.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/sharing.h"

#include <assert.h>
#include <stdlib.h>

enum {
    PREFILL_SHARE = 4,   /* the part of a step's tokens kept for prefill while one is unfinished */
    MOST_PREEMPTED = 16, /* times a sequence gives way to a higher priority that is not running */
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

kvern_status scheduler_init(struct scheduler *scheduler, const struct scheduler_limits *limits,
                            size_t n_kv_blocks, kvern_error *err)
{
    *scheduler = (struct scheduler){
        .limits = *limits, .most_prefill = SIZE_MAX, .prefill_beside_decode = SIZE_MAX};
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
    if (limits->prefix_cache_tokens > 0)
        scheduler->blocks.max_remembered = limits->prefix_cache_tokens / KV_BLOCK_TOKENS;
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
    while (kept_kv_drop_oldest(&scheduler->prompts, &scheduler->blocks) ||
           kept_kv_drop_oldest(&scheduler->kept, &scheduler->blocks))
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

bool scheduler_can_preempt(const struct scheduler *scheduler)
{
    const struct scheduler_limits *limits = &scheduler->limits;

    return !limits->has_fixed_chunks && !limits->has_no_kv && !limits->counts_blocks;
}

static bool goes_before(const struct sequence *a, const struct sequence *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->arrival < b->arrival;
}

void scheduler_add(struct scheduler *scheduler, struct sequence *sequence)
{
    struct sequence *next = NULL;

    assert(sequence->state == SEQUENCE_NEW);
    sequence->arrival = scheduler->n_arrived++;
    sequence->state = SEQUENCE_WAITING;
    sequence->key = sequence->root;
    if (sequence->leader && (scheduler_can_preempt(scheduler) || sequence->is_beam))
        sequence->leader->n_followers++;
    else
        sequence->leader = NULL;
    for (struct sequence *s = scheduler->waiting.last;
         s && goes_before(sequence, s) && s->n_overtaken < MOST_OVERTAKEN; s = s->previous) {
        s->n_overtaken++;
        next = s;
    }
    sequence_list_insert(&scheduler->waiting, sequence, next);
}

/* Takes it out of its list. Those who wait for its prompt run their own. */
static void take_out(struct scheduler *scheduler, struct sequence *sequence)
{
    sharing_leave_leader(sequence);
    for (struct sequence *s = scheduler->waiting.first; s && sequence->n_followers > 0;
         s = s->next) {
        if (s->leader == sequence)
            sharing_leave_leader(s);
    }
    if (sequence->state == SEQUENCE_WAITING)
        sequence_list_remove(&scheduler->waiting, sequence);
    else if (sequence->state == SEQUENCE_RUNNING)
        sequence_list_remove(&scheduler->running, sequence);
    sequence->state = SEQUENCE_NEW;
}

void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence)
{
    take_out(scheduler, sequence);
    kv_blocks_release(&scheduler->blocks, &sequence->table);
}

void scheduler_retire(struct scheduler *scheduler, struct sequence *sequence)
{
    bool has_kv = sequence->state == SEQUENCE_RUNNING || sequence->n_computed > 0;

    take_out(scheduler, sequence);
    if (sequence->conversation != 0 && has_kv && !scheduler->limits.has_no_kv)
        kept_kv_put(&scheduler->kept, &scheduler->blocks, sequence);
    else
        kv_blocks_release(&scheduler->blocks, &sequence->table);
}

void scheduler_advance(struct scheduler *scheduler, struct sequence *sequence, size_t n_tokens)
{
    sequence->n_computed += n_tokens;
    if (sequence->n_shown < sequence->n_computed)
        sequence->n_shown = sequence->n_computed;
    sharing_remember(scheduler, sequence);
}

/* Blocks that are free, or would be if all that is kept were dropped. */
static size_t count_obtainable(const struct scheduler *scheduler)
{
    return kv_blocks_available(&scheduler->blocks) + kept_kv_count_blocks(&scheduler->prompts) +
           kept_kv_count_blocks(&scheduler->kept);
}

bool scheduler_promise(struct scheduler *scheduler, struct kv_table *table, size_t n_blocks)
{
    /* where even all of theirs would not do, idle conversations keep them */
    if (n_blocks > count_obtainable(scheduler))
        return false;
    while (!kv_blocks_promise(&scheduler->blocks, table, n_blocks)) {
        if (!kept_kv_drop_oldest(&scheduler->prompts, &scheduler->blocks) &&
            !kept_kv_drop_oldest(&scheduler->kept, &scheduler->blocks))
            return false;
    }
    return true;
}

/* Whether its next token is written into the middle of a block that another table holds too. */
static bool needs_copy(const struct scheduler *scheduler, const struct sequence *sequence)
{
    const struct kv_table *table = &sequence->table;
    size_t n_held = sequence_n_held(sequence, sequence->n_computed);
    size_t i = n_held / KV_BLOCK_TOKENS;

    return !scheduler->limits.counts_blocks && n_held % KV_BLOCK_TOKENS != 0 &&
           scheduler->blocks.blocks[table->blocks[i]].n_references > 1;
}

/* Blocks a sequence needs beside those it has or is promised: for its tokens, or (worst case) for
 * all it may ever have. Those that slide out of a window come back to it, unless another one holds
 * them too. */
static size_t count_missing(const struct scheduler *scheduler, const struct sequence *sequence,
                            bool of_worst_case)
{
    const struct kv_table *table = &sequence->table;
    size_t max_tokens = sequence->capacity - sequence->n_prompt;
    size_t n_positions =
        of_worst_case ? sequence_max_positions(sequence->n_prompt, max_tokens) : sequence->n_tokens;
    size_t n_needed =
        kv_blocks_for_tokens(n_positions) - table->n_dropped + needs_copy(scheduler, sequence);
    size_t n_has = table->n_blocks;

    if (sequence->window.n_blocks > 0) {
        size_t n_own = kv_blocks_count_own(&scheduler->blocks, table);

        if (n_needed > n_has && n_needed - n_has > sequence->window.n_blocks - n_own) {
            n_needed = sequence->window.n_blocks;
            n_has = n_own;
        }
    }
    n_has += table->n_promised;
    return n_needed > n_has ? n_needed - n_has : 0;
}

/* A window bounds what its sequence needs, so that much is promised at once. */
static bool needs_worst_case(const struct scheduler *scheduler, const struct sequence *sequence)
{
    return !scheduler_can_preempt(scheduler) || sequence->window.n_blocks > 0;
}

static void forget_computed(struct scheduler *scheduler, struct sequence *sequence)
{
    kv_blocks_release(&scheduler->blocks, &sequence->table);
    sequence->n_computed = 0;
    sequence->is_foreign = false;
    sequence->n_remembered = 0;
    sequence->key = sequence->root;
}

/* Back among the waiting ones, before whoever came later. */
static void preempt(struct scheduler *scheduler, struct sequence *sequence)
{
    struct sequence *next = scheduler->waiting.first;

    forget_computed(scheduler, sequence);
    sequence_list_remove(&scheduler->running, sequence);
    while (next && goes_before(next, sequence))
        next = next->next;
    sequence_list_insert(&scheduler->waiting, sequence, next);
    sequence->state = SEQUENCE_WAITING;
    sequence->n_preempted++;
    scheduler->counts.n_preempted++;
}

/* The last of the running ones by priority and arrival. */
static struct sequence *find_lowest(const struct scheduler *scheduler)
{
    struct sequence *lowest = scheduler->running.first;

    for (struct sequence *s = lowest; s; s = s->next) {
        if (goes_before(lowest, s))
            lowest = s;
    }
    return lowest;
}

static bool promise_growth(struct scheduler *scheduler)
{
    for (struct sequence *s = scheduler->running.first; s; s = s->next) {
        size_t n_missing =
            s->is_held ? 0 : count_missing(scheduler, s, needs_worst_case(scheduler, s));

        if (n_missing > 0 && !scheduler_promise(scheduler, &s->table, n_missing))
            return false;
    }
    return true;
}

/* Blocks for all that run, or fewer run. */
static void see_to_growth(struct scheduler *scheduler)
{
    while (scheduler_can_preempt(scheduler) && !promise_growth(scheduler))
        preempt(scheduler, find_lowest(scheduler));
}

/* ---- admission ---- */

/* Beams that are admitted with this one. */
static size_t count_beside(const struct sequence *sequence)
{
    return sequence->is_beam ? sequence->n_followers : 0;
}

/* Finds what is computed of it already and promises it the blocks it needs beside. Those that run
 * are left a block each to grow into. */
static bool promise_first(struct scheduler *scheduler, struct sequence *sequence)
{
    bool can_preempt = scheduler_can_preempt(scheduler);
    size_t n_left = can_preempt ? scheduler->running.n : 0;

    if (scheduler->limits.has_no_kv)
        return true;
    bool has_hit = sharing_take(scheduler, sequence);
    size_t n_missing = count_missing(scheduler, sequence, needs_worst_case(scheduler, sequence));
    size_t n_wanted = can_preempt ? n_missing : n_missing * (1 + count_beside(sequence));
    if (n_wanted + n_left > count_obtainable(scheduler) ||
        !scheduler_promise(scheduler, &sequence->table, n_missing)) {
        if (can_preempt || has_hit)
            forget_computed(scheduler, sequence);
        return false;
    }
    scheduler->counts.n_hits += has_hit;
    scheduler->counts.n_saved_tokens += has_hit ? sequence->n_computed : 0;
    return true;
}

/* The first of the waiting ones whose prompt, or the beginning of it, nobody is running. */
static struct sequence *first_ready(const struct scheduler *scheduler)
{
    struct sequence *s = scheduler->waiting.first;

    while (s && sharing_is_worth_a_wait(scheduler, s))
        s = s->next;
    return s;
}

/* Pre-empts the lowest of the running ones for a waiting one of a higher priority. */
static bool make_way(struct scheduler *scheduler, const struct sequence *sequence)
{
    struct sequence *lowest = find_lowest(scheduler);

    if (!scheduler_can_preempt(scheduler) || !lowest || lowest->priority >= sequence->priority ||
        lowest->n_preempted >= MOST_PREEMPTED)
        return false;
    preempt(scheduler, lowest);
    return true;
}

/* Among the running ones, before the first unfinished prompt of a lower priority. */
static void start(struct scheduler *scheduler, struct sequence *sequence)
{
    struct sequence *next = scheduler->running.first;

    while (next && (sequence_is_decoding(next) || next->priority >= sequence->priority))
        next = next->next;
    for (struct sequence *s = sequence->previous; s; s = s->previous)
        s->n_overtaken++; /* those that wait for a prompt in progress */
    sequence_list_remove(&scheduler->waiting, sequence);
    sequence_list_insert(&scheduler->running, sequence, next);
    sequence->state = SEQUENCE_RUNNING;
    if (!sequence->has_started)
        sequence->n_cached = sequence->n_computed;
    sequence->has_started = true;
}

/* The beams that are admitted with it, after it: they have nothing to run yet, and take its blocks
 * when it has run the prompt. Where chunks are fixed, they are promised theirs with it. */
static void start_beside(struct scheduler *scheduler, struct sequence *sequence)
{
    struct sequence *next;

    for (struct sequence *s = scheduler->waiting.first; s && count_beside(sequence) > 0; s = next) {
        next = s->next;
        if (s->leader != sequence)
            continue;
        if (!scheduler_can_preempt(scheduler))
            scheduler_promise(scheduler, &s->table, count_missing(scheduler, s, true));
        sharing_leave_leader(s);
        start(scheduler, s);
    }
}

static void admit(struct scheduler *scheduler)
{
    struct sequence *sequence;

    while ((sequence = first_ready(scheduler))) {
        if (scheduler->running.n + count_beside(sequence) < scheduler->limits.max_running &&
            promise_first(scheduler, sequence)) {
            start(scheduler, sequence);
            start_beside(scheduler, sequence);
        } else if (!make_way(scheduler, sequence))
            break;
    }
}

/* The last of the running ones that wait for others: what they have was used for what they wait
 * for. false: there is none. */
static bool preempt_held(struct scheduler *scheduler)
{
    struct sequence *lowest = NULL;

    for (struct sequence *s = scheduler->running.first; s; s = s->next) {
        if (s->is_held && (!lowest || goes_before(lowest, s)))
            lowest = s;
    }
    if (!lowest || !scheduler_can_preempt(scheduler))
        return false;
    preempt(scheduler, lowest);
    return true;
}

/* ---- the plan ---- */

/* Sees that the sequence may write after its n_computed tokens. */
static void own_tail(struct scheduler *scheduler, struct plan *plan, struct sequence *sequence)
{
    struct kv_table *table = &sequence->table;
    size_t n_held = sequence_n_held(sequence, sequence->n_computed);
    size_t i = n_held / KV_BLOCK_TOKENS;

    if (scheduler->limits.counts_blocks || n_held % KV_BLOCK_TOKENS == 0 ||
        !kv_blocks_is_settled(&scheduler->blocks, table, i))
        return;
    if (needs_copy(scheduler, sequence)) {
        int32_t from = kv_blocks_replace(&scheduler->blocks, table, i);

        plan->copies[plan->n_copies++] = (struct plan_copy){from, table->blocks[i]};
    } else {
        kv_blocks_forget(&scheduler->blocks, table, i);
    }
}

static void plan_add(struct scheduler *scheduler, struct plan *plan, struct sequence *sequence,
                     size_t n_tokens, size_t n_rows)
{
    assert(plan->n_items < plan->capacity);
    if (!scheduler->limits.has_no_kv) {
        own_tail(scheduler, plan, sequence);
        kv_blocks_extend(&scheduler->blocks, &sequence->table,
                         sequence_n_held(sequence, sequence->n_computed + n_tokens));
    }
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

/* Of the next n tokens: how many have rows that somebody reads. */
static size_t count_rows(const struct sequence *sequence, size_t n)
{
    size_t end = sequence->n_computed + n;
    size_t begin =
        sequence->n_computed > sequence->n_shown ? sequence->n_computed : sequence->n_shown;

    if (!sequence->wants_all_rows)
        return end == sequence->n_tokens ? 1 : 0;
    return end > begin ? end - begin : 0;
}

/* Its next step is part of a prompt, and nothing keeps it from running now. */
static bool is_prefilling(const struct scheduler *scheduler, const struct sequence *sequence)
{
    return !sequence_is_decoding(sequence) && !sequence->is_held &&
           (scheduler->wave.is_open || !sequence_is_encoding(sequence));
}

static void plan_prefills(struct scheduler *scheduler, struct plan *plan, size_t n_tokens)
{
    const struct scheduler_limits *limits = &scheduler->limits;
    size_t n_scoring_rows = limits->scoring_rows;
    bool has_prompt = false;

    for (struct sequence *sequence = scheduler->running.first; sequence && n_tokens > 0;
         sequence = sequence->next) {
        size_t n_pending = sequence->n_tokens - sequence->n_computed;
        size_t n = min_size(n_pending, limits->prefill_chunk);

        if (!is_prefilling(scheduler, sequence))
            continue;
        if (sequence_is_encoding(sequence)) {
            n = sequence_n_source_slots(sequence);
            if (n > n_tokens && has_prompt)
                continue; /* it is first in a later step, and runs there whatever the budget */
        } else {
            n = min_size(n, slide(scheduler, sequence));
            if (!limits->has_fixed_chunks)
                n = min_size(n, n_tokens);
        }
        if (sequence->wants_all_rows && !sequence->wants_hidden) {
            size_t n_free = n - count_rows(sequence, n); /* of rows: they were shown before */

            n = min_size(n, n_free +
                                (limits->has_fixed_chunks ? limits->scoring_rows : n_scoring_rows));
            if (n == 0 || count_rows(sequence, n) > n_scoring_rows)
                continue;
            n_scoring_rows -= count_rows(sequence, n);
        }
        plan_add(scheduler, plan, sequence, n, count_rows(sequence, n));
        has_prompt = true;
        n_tokens -= min_size(n, n_tokens);
    }
}

size_t scheduler_max_step_tokens(const struct scheduler *scheduler)
{
    return scheduler->limits.step_tokens + scheduler->limits.max_source +
           (scheduler->limits.has_fixed_chunks ? scheduler->limits.prefill_chunk : 0);
}

static bool has_prefill(const struct scheduler *scheduler)
{
    for (const struct sequence *sequence = scheduler->running.first; sequence;
         sequence = sequence->next) {
        if (is_prefilling(scheduler, sequence))
            return true;
    }
    return false;
}

static void make_plan(struct scheduler *scheduler, struct plan *plan)
{
    size_t n_tokens = scheduler->limits.step_tokens;
    size_t n_for_decode = n_tokens;

    plan->n_items = 0;
    plan->n_copies = 0;
    see_to_growth(scheduler);
    admit(scheduler);
    see_to_growth(scheduler); /* who takes over a leader's blocks makes it copy its last one */
    source_wave_step(&scheduler->wave, &scheduler->running);
    if (has_prefill(scheduler))
        n_for_decode -= n_tokens < PREFILL_SHARE ? 1 : n_tokens / PREFILL_SHARE;
    n_tokens -= plan_decodes(scheduler, plan, n_for_decode);
    n_tokens = min_size(n_tokens, scheduler->most_prefill);
    if (plan->n_items > 0)
        n_tokens = min_size(n_tokens, scheduler->prefill_beside_decode);
    plan_prefills(scheduler, plan, n_tokens);
}

void scheduler_plan(struct scheduler *scheduler, struct plan *plan)
{
    make_plan(scheduler, plan);
    while (plan->n_items == 0 && preempt_held(scheduler))
        make_plan(scheduler, plan);
}

kvern_status scheduler_check(const struct scheduler *scheduler, kvern_error *err)
{
    const struct sequence_list *lists[] = {&scheduler->waiting, &scheduler->running};
    size_t n_tables = 0;
    const struct kv_table **tables = try_new(scheduler->waiting.n + scheduler->running.n +
                                                 scheduler->kept.n + scheduler->prompts.n,
                                             sizeof(void *));

    if (!tables)
        return fail(err, KVERN_MEMORY, "no memory to check the KV blocks of %zu sequences",
                    scheduler->waiting.n + scheduler->running.n);
    for (size_t i = 0; i < 2; i++) {
        for (const struct sequence *s = lists[i]->first; s; s = s->next)
            tables[n_tables++] = &s->table;
    }
    for (size_t i = 0; i < scheduler->kept.n; i++)
        tables[n_tables++] = &scheduler->kept.items[i].table;
    for (size_t i = 0; i < scheduler->prompts.n; i++)
        tables[n_tables++] = &scheduler->prompts.items[i].table;
    kvern_status status = kv_blocks_check(&scheduler->blocks, tables, n_tables, err);
    free(tables);
    return status;
}
