/* SPDX-License-Identifier: Apache-2.0
 *
 * 100,000 random operations on the scheduler and the KV it keeps: requests with and without
 * conversations and windows, forks, cuts, failures and cancels. After each, references are tables;
 * before each step, every sequence finds its own history in its blocks; and whatever was accepted
 * ends.
 */
#include "test.h"

#include "engine/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_OPERATIONS = 100000, N_SLOTS = 12, MAX_PROMPT = 220, N_CONVERSATIONS = 6 };

static const struct sequence_window windows[] = {{0, 0}, {2, 0}, {4, 1}, {5, 3}};

static const struct setting {
    struct scheduler_limits limits;
    size_t n_blocks;
} settings[] = {
    {{.step_tokens = 64, .max_running = 4, .max_context = 300}, 20},
    {{.step_tokens = 2, .max_running = 3, .max_context = 300}, 16},
    {{.step_tokens = 48, .max_running = 8, .max_context = 300, .prefill_chunk = 20}, 60},
    {{.step_tokens = 30,
      .max_running = 4,
      .max_context = 300,
      .prefill_chunk = 40,
      .has_fixed_chunks = true},
     24},
    {{.step_tokens = 64,
      .max_running = 6,
      .max_context = 260,
      .prefill_chunk = 260,
      .has_fixed_chunks = true,
      .has_no_kv = true},
     1},
};

struct world {
    const struct setting *setting;
    struct scheduler scheduler;
    struct plan plan;
    int32_t *content;                    /* [n_blocks * 16]: the token whose KV a slot has */
    struct sequence *sequences[N_SLOTS]; /* NULL: none */
    uint64_t random;
    size_t n_ended;
};

static size_t draw(struct world *world, size_t n)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(world->random >> 33) % n;
}

static size_t position_of(const struct sequence *sequence, size_t slot)
{
    const struct kv_table *table = &sequence->table;

    return slot < table->n_sinks * KV_BLOCK_TOKENS ? slot
                                                   : slot + table->n_dropped * KV_BLOCK_TOKENS;
}

static int32_t *content_at(const struct world *world, const struct sequence *sequence, size_t slot)
{
    const struct kv_table *table = &sequence->table;

    assert_true(slot / KV_BLOCK_TOKENS < table->n_blocks);
    return &world->content[(size_t)table->blocks[slot / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                           slot % KV_BLOCK_TOKENS];
}

/* What a runner does with the sequence's part of the plan. */
static void run_item(struct world *world, const struct plan_item *item)
{
    const struct sequence *sequence = item->sequence;
    size_t n_past = sequence_n_held(sequence, sequence->n_computed);

    if (world->setting->limits.has_no_kv) {
        assert_int_equal(item->n_tokens, sequence->n_prompt);
        assert_int_equal(sequence->table.n_blocks, 0);
        return;
    }
    if (sequence->window.n_blocks > 0)
        assert_true(sequence->table.n_blocks <= sequence->window.n_blocks);
    for (size_t i = 0; i < n_past; i++) {
        if (*content_at(world, sequence, i) != sequence->tokens[position_of(sequence, i)])
            fail_msg("slot %zu of a sequence of %zu tokens has another token's KV", i,
                     sequence->n_tokens);
    }
    for (size_t i = 0; i < item->n_tokens; i++)
        *content_at(world, sequence, n_past + i) = sequence->tokens[sequence->n_computed + i];
}

static void end(struct world *world, struct sequence *sequence, bool is_well)
{
    if (is_well)
        scheduler_retire(&world->scheduler, sequence);
    else
        scheduler_remove(&world->scheduler, sequence);
    for (size_t i = 0; i < N_SLOTS; i++) {
        if (world->sequences[i] == sequence)
            world->sequences[i] = NULL;
    }
    sequence_clear(sequence);
    free(sequence);
    world->n_ended++;
}

static void commit_item(struct world *world, const struct plan_item *item)
{
    struct sequence *sequence = item->sequence;

    if (draw(world, 60) == 0) {
        end(world, sequence, false);
        return;
    }
    scheduler_advance(&world->scheduler, sequence, item->n_tokens);
    if (sequence->n_computed < sequence->n_tokens)
        return;
    if (!sequence->wants_hidden)
        sequence_append(sequence, (int32_t)draw(world, 3));
    if (sequence->wants_hidden || sequence->n_tokens == sequence->capacity)
        end(world, sequence, true);
}

static void step(struct world *world)
{
    struct plan *plan = &world->plan;
    const struct scheduler_limits *limits = &world->scheduler.limits;
    size_t n_tokens = 0;

    scheduler_plan(&world->scheduler, plan);
    if (plan->n_items == 0 && world->scheduler.waiting.n + world->scheduler.running.n > 0)
        fail_msg("%zu sequences wait for nothing, %zu blocks are available",
                 world->scheduler.waiting.n, kv_blocks_available(&world->scheduler.blocks));
    for (size_t i = 0; i < plan->n_copies; i++)
        memcpy(world->content + (size_t)plan->copies[i].to * KV_BLOCK_TOKENS,
               world->content + (size_t)plan->copies[i].from * KV_BLOCK_TOKENS,
               KV_BLOCK_TOKENS * sizeof *world->content);
    for (size_t i = 0; i < plan->n_items; i++) {
        const struct plan_item *item = &plan->items[i];

        n_tokens += item->n_tokens;
        assert_in_range(item->n_tokens, 1, limits->prefill_chunk);
        assert_true(item->n_rows <= item->n_tokens);
        run_item(world, item);
    }
    assert_true(n_tokens <= scheduler_max_step_tokens(&world->scheduler));
    for (size_t i = 0; i < plan->n_items; i++)
        commit_item(world, &plan->items[i]);
}

/* Few texts and few tokens, so that conversations have much in common. */
static void submit(struct world *world)
{
    bool has_no_kv = world->setting->limits.has_no_kv;
    size_t n_prompt = 1 + draw(world, MAX_PROMPT);
    size_t max_tokens = has_no_kv ? 1 : 1 + draw(world, 40);
    size_t edited = draw(world, 3) ? SIZE_MAX : draw(world, n_prompt);
    const struct sequence_window *window = &windows[has_no_kv ? 0 : draw(world, COUNT(windows))];
    struct sequence *sequence;
    int32_t prompt[MAX_PROMPT];
    size_t slot = draw(world, N_SLOTS);

    if (world->sequences[slot] ||
        scheduler_accepts(&world->scheduler, n_prompt, max_tokens, window, NULL) != KVERN_OK)
        return;
    for (size_t i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)(i * 7 % 90) + (i == edited);
    sequence = calloc(1, sizeof *sequence);
    assert_non_null(sequence);
    assert_int_equal(sequence_init(sequence, prompt, n_prompt, max_tokens, NULL), KVERN_OK);
    sequence->window = *window;
    sequence->conversation = draw(world, N_CONVERSATIONS);
    sequence->wants_hidden = has_no_kv || draw(world, 4) == 0;
    sequence->wants_all_rows = draw(world, 5) == 0;
    scheduler_add(&world->scheduler, sequence);
    world->sequences[slot] = sequence;
}

static void change_kept(struct world *world)
{
    struct kept_kv *kept = &world->scheduler.kept;
    struct kv_blocks *blocks = &world->scheduler.blocks;
    uint64_t from = 1 + draw(world, N_CONVERSATIONS - 1);
    uint64_t to = 1 + draw(world, N_CONVERSATIONS + 4);
    size_t n_tokens = draw(world, MAX_PROMPT);
    struct kept *item = kept_kv_find(kept, from);

    switch (draw(world, 4)) {
    case 0:
        if (item && n_tokens < item->n_tokens) /* as kv_image_cut does */
            item->n_tokens = n_tokens;
        break;
    case 1:
        kept_kv_drop(kept, blocks, to);
        break;
    default:
        if (from != to)
            kept_kv_fork(kept, blocks, from, to, n_tokens, NULL);
    }
}

static void operate(struct world *world)
{
    struct sequence *sequence = world->sequences[draw(world, N_SLOTS)];

    switch (draw(world, 16)) {
    case 0:
    case 1:
    case 2:
        submit(world);
        break;
    case 3:
        if (sequence && draw(world, 4) == 0)
            end(world, sequence, draw(world, 2) == 0);
        break;
    case 4:
    case 5:
        change_kept(world);
        break;
    default:
        step(world);
    }
}

static void check(const struct world *world)
{
    kvern_error err = {0};

    if (scheduler_check(&world->scheduler, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    if (world->setting->limits.has_no_kv)
        assert_int_equal(world->scheduler.kept.n, 0);
}

static void whatever_was_accepted_ends(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(settings); s++) {
        struct world world = {.setting = &settings[s], .random = 17 + s};
        struct scheduler_limits limits = settings[s].limits;
        size_t n_steps = 0;
        size_t n_left = N_OPERATIONS / COUNT(settings);

        limits.scoring_rows = 8;
        assert_int_equal(scheduler_init(&world.scheduler, &limits, settings[s].n_blocks, NULL),
                         KVERN_OK);
        assert_int_equal(plan_init(&world.plan, limits.max_running, NULL), KVERN_OK);
        world.content = calloc(settings[s].n_blocks * KV_BLOCK_TOKENS, sizeof *world.content);
        assert_non_null(world.content);
        for (; n_left > 0; n_left--) {
            operate(&world);
            check(&world);
        }
        while (world.scheduler.waiting.n + world.scheduler.running.n > 0) {
            assert_true(n_steps++ < 20000);
            step(&world);
            check(&world);
        }
        printf("  setting %zu: %zu requests ended, %zu conversations kept\n", s, world.n_ended,
               world.scheduler.kept.n);
        assert_true(world.n_ended > 500);
        while (kept_kv_drop_oldest(&world.scheduler.kept, &world.scheduler.blocks))
            ;
        assert_int_equal(kv_blocks_available(&world.scheduler.blocks), settings[s].n_blocks);
        free(world.content);
        plan_clear(&world.plan);
        scheduler_clear(&world.scheduler);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_was_accepted_ends)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
