/* SPDX-License-Identifier: Apache-2.0
 *
 * What sequences take over from each other, and who gives way to whom: prefixes, copies before
 * writing, followers, pre-emption, priorities.
 */
#include "test.h"

#include "engine/sharing.h"

#include <string.h>

enum { MAX_PROMPT = 400 };

struct rig {
    struct scheduler scheduler;
    struct plan plan;
};

static void open_rig(struct rig *rig, size_t n_blocks, size_t max_running)
{
    struct scheduler_limits limits = {
        .step_tokens = 512, .max_running = max_running, .max_context = 1000, .scoring_rows = 100};

    assert_int_equal(scheduler_init(&rig->scheduler, &limits, n_blocks, NULL), KVERN_OK);
    assert_int_equal(plan_init(&rig->plan, max_running, NULL), KVERN_OK);
}

static void close_rig(struct rig *rig)
{
    kvern_error err = {0};

    if (scheduler_check(&rig->scheduler, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(kv_blocks_available(&rig->scheduler.blocks), rig->scheduler.blocks.n_blocks);
    plan_clear(&rig->plan);
    scheduler_clear(&rig->scheduler);
}

/* Tokens 0, 1, 2, ..; from `differs_at` on others. */
static void make(struct sequence *sequence, size_t n_prompt, size_t max_tokens, size_t differs_at)
{
    int32_t prompt[MAX_PROMPT];

    for (size_t i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)(i < differs_at ? i : 1000 + i);
    assert_int_equal(sequence_init(sequence, prompt, n_prompt, max_tokens, NULL), KVERN_OK);
}

static void finish(struct rig *rig, struct sequence *sequence)
{
    scheduler_retire(&rig->scheduler, sequence);
    sequence_clear(sequence);
}

/* Plans a step and commits it; what has all its tokens computed generates token 7. */
static void step(struct rig *rig)
{
    kvern_error err = {0};

    scheduler_plan(&rig->scheduler, &rig->plan);
    for (size_t i = 0; i < rig->plan.n_items; i++) {
        struct plan_item *item = &rig->plan.items[i];

        scheduler_advance(&rig->scheduler, item->sequence, item->n_tokens);
        if (item->sequence->n_computed == item->sequence->n_tokens &&
            item->sequence->n_tokens < item->sequence->capacity)
            sequence_append(item->sequence, 7);
    }
    if (scheduler_check(&rig->scheduler, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* A first sequence of 100 tokens has come and gone; what a second one finds. */
static void prefixes_are_taken_over(void **state)
{
    static const struct {
        const char *label;
        size_t n_prompt, differs_at;
        bool wants_all_rows, has_window, has_other_root;
        size_t n_cached, n_copies;
    } cases[] = {
        {"the same", 100, 100, false, false, false, 96, 0},
        {"longer", 200, 100, false, false, false, 96, 0},
        {"other in the middle of a block", 100, 50, false, false, false, 48, 0},
        {"other from the first token on", 100, 0, false, false, false, 0, 0},
        {"all of it in blocks: one token runs, in a copy", 96, 96, false, false, false, 95, 0},
        {"a single block", 16, 16, false, false, false, 15, 0},
        {"less than a block", 15, 15, false, false, false, 0, 0},
        {"somebody reads every row", 100, 100, true, false, false, 0, 0},
        {"a window", 100, 100, false, true, false, 0, 0},
        {"another key", 100, 100, false, false, true, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sequence first, second;
        struct rig rig;

        open_rig(&rig, 40, 4);
        make(&first, 100, 1, 100);
        scheduler_add(&rig.scheduler, &first);
        step(&rig);
        finish(&rig, &first);
        assert_int_equal(kv_blocks_available(&rig.scheduler.blocks), 40);

        make(&second, cases[i].n_prompt, 1, cases[i].differs_at);
        second.wants_all_rows = cases[i].wants_all_rows;
        if (cases[i].has_window)
            second.window = (struct sequence_window){.n_blocks = 8};
        if (cases[i].has_other_root)
            second.root = prefix_key_root("other", 5);
        scheduler_add(&rig.scheduler, &second);
        scheduler_plan(&rig.scheduler, &rig.plan);
        if (second.n_cached != cases[i].n_cached)
            fail_msg("%s: %zu tokens", cases[i].label, second.n_cached);
        assert_int_equal(rig.plan.items[0].n_tokens, cases[i].n_prompt - cases[i].n_cached);
        assert_int_equal(rig.plan.n_copies, cases[i].n_copies);
        assert_int_equal(rig.scheduler.counts.n_hits, cases[i].n_cached > 0);
        assert_int_equal(rig.scheduler.counts.n_saved_tokens, cases[i].n_cached);
        finish(&rig, &second);
        close_rig(&rig);
    }
}

/* Two at once that are wholly cached: each writes its last token to a block of its own. */
static void who_writes_has_a_copy(void **state)
{
    struct sequence first, twins[2];
    struct rig rig;

    (void)state;
    open_rig(&rig, 20, 4);
    make(&first, 64, 1, 64);
    scheduler_add(&rig.scheduler, &first);
    step(&rig);
    finish(&rig, &first);
    for (size_t i = 0; i < 2; i++) {
        make(&twins[i], 64, 20, 64);
        scheduler_add(&rig.scheduler, &twins[i]);
    }
    scheduler_plan(&rig.scheduler, &rig.plan);
    assert_int_equal(rig.plan.n_items, 2);
    assert_int_equal(rig.plan.n_copies, 1);
    assert_int_equal(rig.plan.copies[0].from, twins[1].table.blocks[3]);
    assert_int_equal(rig.plan.copies[0].to, twins[0].table.blocks[3]);
    assert_memory_equal(twins[0].table.blocks, twins[1].table.blocks, 3 * sizeof(int32_t));
    for (size_t i = 0; i < 2; i++)
        finish(&rig, &twins[i]);
    close_rig(&rig);
}

static void the_longest_free_are_evicted(void **state)
{
    struct sequence sequences[3], again;
    struct rig rig;

    (void)state;
    open_rig(&rig, 10, 4);
    /* three of 3 full blocks each; the first is used again, so the second is the oldest */
    for (size_t i = 0; i < 3; i++) {
        make(&sequences[i], 48, 1, i * 5);
        scheduler_add(&rig.scheduler, &sequences[i]);
        step(&rig);
        finish(&rig, &sequences[i]);
    }
    make(&again, 49, 1, 0);
    scheduler_add(&rig.scheduler, &again);
    step(&rig);
    assert_int_equal(again.n_cached, 48);
    finish(&rig, &again);
    assert_int_equal(rig.scheduler.blocks.n_evicted, 0);
    make(&again, 40, 1, 40);
    scheduler_add(&rig.scheduler, &again); /* takes the empty block and two of the second's */
    step(&rig);
    finish(&rig, &again);
    assert_int_equal(rig.scheduler.blocks.n_evicted, 2);
    for (size_t i = 0; i < 3; i++) {
        static const size_t which[] = {0, 2, 1}; /* the last probe evicts */
        static const size_t n_cached[] = {48, 48, 16};

        make(&again, 49, 1, which[i] * 5);
        scheduler_add(&rig.scheduler, &again);
        scheduler_plan(&rig.scheduler, &rig.plan);
        assert_int_equal(again.n_cached, n_cached[i]);
        scheduler_remove(&rig.scheduler, &again);
        sequence_clear(&again);
    }
    close_rig(&rig);
}

/* Followers wait for their leader's prompt, then run its last token only. */
static void followers_take_the_prompt(void **state)
{
    static const size_t prompts[] = {100, 96, 97, 1, 17, 16};

    (void)state;
    for (size_t i = 0; i < COUNT(prompts); i++) {
        for (int is_lost = 0; is_lost < 2; is_lost++) {
            size_t n = prompts[i];
            struct sequence all[3];
            struct rig rig;

            open_rig(&rig, 40, 4);
            rig.scheduler.limits.prefill_chunk = 60;
            for (size_t j = 0; j < 3; j++) {
                make(&all[j], n, 30, n);
                all[j].leader = j > 0 ? &all[0] : NULL;
                scheduler_add(&rig.scheduler, &all[j]);
            }
            step(&rig);
            assert_int_equal(rig.plan.n_items, 1);
            if (is_lost) /* a cancelled leader: they run the prompt themselves */
                scheduler_remove(&rig.scheduler, &all[0]);
            while (all[1].n_computed < n || all[2].n_computed < n) {
                step(&rig);
                assert_true(rig.plan.n_items > 0);
            }
            if (!is_lost) {
                assert_int_equal(all[1].n_cached, n - 1);
                assert_int_equal(all[2].n_cached, n - 1);
                for (size_t b = 0; b < (n - 1) / KV_BLOCK_TOKENS; b++)
                    assert_int_equal(all[1].table.blocks[b], all[0].table.blocks[b]);
            }
            for (size_t step_i = 0; step_i < 20; step_i++)
                step(&rig);
            /* by now each has written to a last block of its own */
            size_t last = all[1].n_computed / KV_BLOCK_TOKENS - 1;
            if (last >= n / KV_BLOCK_TOKENS)
                assert_int_not_equal(all[1].table.blocks[last], all[2].table.blocks[last]);
            for (size_t j = (size_t)is_lost; j < 3; j++)
                scheduler_remove(&rig.scheduler, &all[j]);
            for (size_t j = 0; j < 3; j++)
                sequence_clear(&all[j]);
            close_rig(&rig);
        }
    }
}

/* A first prompt of 100 tokens runs in chunks of 32; a second that begins alike came with it. */
static void a_beginning_in_progress_is_waited_for(void **state)
{
    static const struct {
        const char *label;
        size_t n_alike;
        int32_t priority;
        bool wants_all_rows, has_other_root, is_overtaken, is_removed, first_slides;
        size_t chunk;   /* > 0: fixed ones of so many tokens */
        size_t n_steps; /* until the second one runs, that one too */
        size_t n_cached;
    } cases[] = {
        {.label = "64 alike", .n_alike = 64, .n_steps = 3, .n_cached = 64},
        {.label = "all alike", .n_alike = 100, .n_steps = 4, .n_cached = 96},
        {.label = "not a block alike", .n_alike = 15, .n_steps = 1},
        {.label = "the first is gone",
         .n_alike = 64,
         .is_removed = true,
         .n_steps = 2,
         .n_cached = 32},
        {.label = "a higher priority", .n_alike = 64, .priority = 1, .n_steps = 1},
        {.label = "every row is read", .n_alike = 64, .wants_all_rows = true, .n_steps = 1},
        {.label = "another key", .n_alike = 64, .has_other_root = true, .n_steps = 1},
        {.label = "waited long", .n_alike = 64, .is_overtaken = true, .n_steps = 1},
        {.label = "the first keeps nothing", .n_alike = 64, .first_slides = true, .n_steps = 1},
        {.label = "most of a whole prompt", .n_alike = 64, .chunk = 32, .n_steps = 5},
        {.label = "little of a whole prompt", .n_alike = 32, .chunk = 32, .n_steps = 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sequence first, second, other;
        struct rig rig;
        size_t n_steps = 0;

        open_rig(&rig, 40, 4);
        rig.scheduler.limits.prefill_chunk = 32;
        rig.scheduler.limits.has_fixed_chunks = cases[i].chunk > 0;
        make(&first, 100, 10, 100);
        if (cases[i].first_slides)
            first.window = (struct sequence_window){.n_blocks = 10};
        make(&second, 100, 10, cases[i].n_alike);
        make(&other, 100, 10, 0);
        second.priority = cases[i].priority;
        second.wants_all_rows = cases[i].wants_all_rows;
        if (cases[i].has_other_root)
            second.root = prefix_key_root("other", 5);
        second.n_overtaken = cases[i].is_overtaken ? 256 : 0;
        scheduler_add(&rig.scheduler, &first);
        scheduler_plan(&rig.scheduler, &rig.plan); /* it runs when the others come */
        scheduler_add(&rig.scheduler, &second);
        scheduler_add(&rig.scheduler, &other);
        while (!second.has_started) {
            step(&rig);
            n_steps++;
            assert_int_equal(other.state, SEQUENCE_RUNNING); /* it is not kept up */
            if (cases[i].is_removed && n_steps == 1)
                finish(&rig, &first);
        }
        if (n_steps != cases[i].n_steps || second.n_cached != cases[i].n_cached)
            fail_msg("%s: %zu steps, %zu tokens", cases[i].label, n_steps, second.n_cached);
        assert_int_equal(second.n_overtaken > 0, n_steps > 1 || cases[i].is_overtaken);
        if (!cases[i].is_removed)
            finish(&rig, &first);
        finish(&rig, &second);
        finish(&rig, &other);
        close_rig(&rig);
    }
}

/* What an encoder gives of a token depends on those after it: sources that begin alike share
 * nothing, wait for nobody and run whole, one beside another only where a step has room. */
static void a_source_runs_whole(void **state)
{
    static const struct {
        size_t step_tokens;
        size_t n_items; /* of the first step */
    } cases[] = {{512, 2}, {160, 2}, {159, 1}, {40, 1}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sequence both[2];
        struct rig rig;

        open_rig(&rig, 40, 4);
        rig.scheduler.limits.step_tokens = cases[i].step_tokens;
        for (size_t b = 0; b < 2; b++) {
            make(&both[b], 90, 10, b == 0 ? 90 : 64);
            both[b].n_source = 75; /* five blocks */
            scheduler_add(&rig.scheduler, &both[b]);
        }
        step(&rig);
        if (rig.plan.n_items != cases[i].n_items)
            fail_msg("%zu tokens a step: %zu sources", cases[i].step_tokens, rig.plan.n_items);
        assert_int_equal(both[0].n_computed, 80);
        while (both[1].n_computed < 90) {
            step(&rig);
            assert_true(both[1].n_computed == 0 || both[1].n_computed >= 80);
        }
        assert_int_equal(both[1].n_cached, 0);
        for (size_t b = 0; b < 2; b++)
            finish(&rig, &both[b]);
        close_rig(&rig);
    }
}

/* When blocks run out, the newest goes back and is computed again, out of the cache as far as that
 * still is there. */
static void the_newest_is_preempted(void **state)
{
    struct sequence old, new;
    struct rig rig;
    size_t n_shown = 0;

    (void)state;
    open_rig(&rig, 10, 4);
    make(&old, 60, 90, 60);
    make(&new, 60, 60, 0);
    scheduler_add(&rig.scheduler, &old);
    scheduler_add(&rig.scheduler, &new);
    while (new.n_preempted == 0) {
        n_shown = new.n_computed;
        step(&rig);
        assert_int_equal(old.n_preempted, 0);
    }
    assert_int_equal(new.state, SEQUENCE_WAITING);
    assert_int_equal(new.table.n_blocks, 0);
    assert_int_equal(new.n_shown, n_shown);
    while (old.n_tokens < old.capacity || old.n_computed + 1 < old.capacity)
        step(&rig);
    assert_int_equal(new.state, SEQUENCE_WAITING);
    finish(&rig, &old);
    while (new.n_tokens < new.capacity) {
        size_t n_before = new.n_tokens;

        step(&rig);
        /* no row is given twice */
        if (new.n_tokens == n_before && rig.plan.n_items > 0)
            assert_int_equal(rig.plan.items[0].n_rows, 0);
    }
    assert_int_equal(rig.scheduler.counts.n_preempted, 1);
    finish(&rig, &new);
    close_rig(&rig);
}

static void priorities(void **state)
{
    struct sequence low[3], high;
    struct rig rig;

    (void)state;
    open_rig(&rig, 12, 2);
    for (size_t i = 0; i < 3; i++) {
        make(&low[i], 50, 20, 0);
        low[i].tokens[0] += (int32_t)i;
        scheduler_add(&rig.scheduler, &low[i]);
    }
    step(&rig);
    assert_int_equal(rig.scheduler.running.n, 2);
    /* it goes before the one that waits, and the newest of those that run gives way */
    make(&high, 40, 20, 0);
    high.priority = 5;
    scheduler_add(&rig.scheduler, &high);
    assert_ptr_equal(rig.scheduler.waiting.first, &high);
    step(&rig);
    assert_int_equal(high.state, SEQUENCE_RUNNING);
    assert_int_equal(low[0].state, SEQUENCE_RUNNING);
    assert_int_equal(low[1].state, SEQUENCE_WAITING);
    assert_ptr_equal(rig.scheduler.waiting.first, &low[1]);
    assert_ptr_equal(rig.scheduler.waiting.last, &low[2]);
    scheduler_remove(&rig.scheduler, &high);
    step(&rig);
    assert_int_equal(low[1].state, SEQUENCE_RUNNING);
    for (size_t i = 0; i < 3; i++) {
        scheduler_remove(&rig.scheduler, &low[i]);
        sequence_clear(&low[i]);
    }
    sequence_clear(&high);
    close_rig(&rig);
}

/* However many of a higher priority come, one that waits has its turn. */
static void overtaking_is_bounded(void **state)
{
    struct sequence low, high[600];
    struct rig rig;
    size_t n_before = 0;

    (void)state;
    open_rig(&rig, 12, 1);
    for (size_t i = 0; i < COUNT(high); i++) {
        make(&high[i], 5, 1, 0);
        high[i].priority = 1;
    }
    make(&low, 5, 1, 0);
    scheduler_add(&rig.scheduler, &high[0]);
    scheduler_add(&rig.scheduler, &low);
    for (size_t i = 0; low.n_computed < 5; i++) {
        assert_true(i + 1 < COUNT(high));
        scheduler_add(&rig.scheduler, &high[i + 1]);
        step(&rig);
        if (low.n_computed == 0)
            scheduler_remove(&rig.scheduler, &high[i]);
        n_before = i;
    }
    assert_in_range(n_before, 200, 300);
    scheduler_remove(&rig.scheduler, &low);
    for (size_t i = 0; i < COUNT(high); i++) {
        if (high[i].state != SEQUENCE_NEW)
            scheduler_remove(&rig.scheduler, &high[i]);
        sequence_clear(&high[i]);
    }
    sequence_clear(&low);
    close_rig(&rig);
}

/* One of two beams of a prompt of 32 tokens; the first one runs it. */
static void make_beam(struct sequence *sequence, struct sequence *leader)
{
    make(sequence, 32, 60, 32);
    sequence->is_beam = true;
    sequence->is_held = leader != NULL;
    sequence->leader = leader;
}

/* Each beam generates a block of tokens of its own. */
static void run_block(struct rig *rig, struct sequence *beams, int32_t first_token)
{
    for (int32_t i = 0; i < KV_BLOCK_TOKENS; i++) {
        for (int32_t b = 0; b < 2; b++)
            sequence_append(&beams[b], first_token + 100 * b + i);
        scheduler_plan(&rig->scheduler, &rig->plan);
        assert_int_equal(rig->plan.n_items, 2);
        for (size_t b = 0; b < 2; b++)
            scheduler_advance(&rig->scheduler, &beams[b], 1);
    }
}

/* As beam_group.c has it: the KV goes first, then the tokens. */
static void reorder(struct rig *rig, struct sequence *beams, const size_t *parents,
                    struct kv_table *spare)
{
    struct sequence *const both[] = {&beams[0], &beams[1]};
    int32_t tokens[2][100];

    for (size_t b = 0; b < 2; b++)
        memcpy(tokens[b], beams[parents[b]].tokens, beams[b].n_tokens * sizeof(int32_t));
    sharing_reorder(&rig->scheduler, both, parents, spare, 2);
    for (size_t b = 0; b < 2; b++) {
        memcpy(beams[b].tokens, tokens[b], beams[b].n_tokens * sizeof(int32_t));
        beams[b].is_held = false;
    }
}

/* Two, whose prompt of 32 tokens is in the plan. */
static void start_beams(struct rig *rig, struct sequence *beams, struct kv_table *spare)
{
    make_beam(&beams[0], NULL);
    make_beam(&beams[1], &beams[0]);
    for (size_t b = 0; b < 2; b++) {
        assert_int_equal(kv_table_init(&spare[b], 6, NULL), KVERN_OK);
        scheduler_add(&rig->scheduler, &beams[b]);
    }
    scheduler_plan(&rig->scheduler, &rig->plan);
}

/* What a beam has computed since it went on from another one is remembered behind the other one's
 * tokens, and nowhere else. */
static void beams_are_remembered_by_their_tokens(void **state)
{
    static const struct {
        int32_t block; /* the first token behind the prompt, of the prompt that comes after */
        int32_t second_block;
        size_t n_cached;
    } cases[] = {{200, 300, 64}, {200, 400, 64}, {100, 300, 48}, {100, 400, 48}};
    struct sequence beams[2];
    struct kv_table spare[2] = {{0}};
    struct rig rig;

    (void)state;
    open_rig(&rig, 40, 4);
    start_beams(&rig, beams, spare);
    assert_int_equal(rig.plan.n_items, 1);
    scheduler_advance(&rig.scheduler, &beams[0], 32);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    run_block(&rig, beams, 100);
    reorder(&rig, beams, (const size_t[]){1, 1}, spare);
    assert_int_equal(beams[0].table.blocks[2], beams[1].table.blocks[2]);
    run_block(&rig, beams, 300);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sequence after;
        int32_t tokens[65] = {0};

        memcpy(tokens, beams[0].tokens, 32 * sizeof *tokens);
        for (int32_t t = 0; t < KV_BLOCK_TOKENS; t++) {
            tokens[32 + t] = cases[i].block + t;
            tokens[48 + t] = cases[i].second_block + t;
        }
        assert_int_equal(sequence_init(&after, tokens, 65, 1, NULL), KVERN_OK);
        scheduler_add(&rig.scheduler, &after);
        scheduler_plan(&rig.scheduler, &rig.plan);
        if (after.n_cached != cases[i].n_cached)
            fail_msg("%d, %d: %zu tokens", cases[i].block, cases[i].second_block, after.n_cached);
        finish(&rig, &after);
    }
    for (size_t b = 0; b < 2; b++) {
        finish(&rig, &beams[b]);
        kv_table_clear(&spare[b]);
    }
    close_rig(&rig);
}

/* A beam that gave its blocks back, and is chosen to go on from one that did not. */
static void a_preempted_beam_takes_no_kv(void **state)
{
    struct sequence beams[2], other;
    struct kv_table spare[2] = {{0}};
    struct rig rig;

    (void)state;
    open_rig(&rig, 40, 2);
    start_beams(&rig, beams, spare);
    scheduler_advance(&rig.scheduler, &beams[0], 32);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    run_block(&rig, beams, 100);
    make(&other, 20, 5, 0);
    other.priority = 1;
    scheduler_add(&rig.scheduler, &other);
    beams[0].is_held = beams[1].is_held = true;
    scheduler_plan(&rig.scheduler, &rig.plan); /* there are two places */
    assert_int_equal(beams[1].state, SEQUENCE_WAITING);
    scheduler_remove(&rig.scheduler, &other);
    sequence_clear(&other);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    assert_int_equal(beams[1].n_computed, 0);
    assert_int_equal(beams[1].table.n_blocks, 0);
    assert_int_equal(beams[0].n_computed, 48);
    sequence_append(&beams[0], 5);
    sequence_append(&beams[1], 6);
    step(&rig);
    assert_int_equal(beams[1].n_computed, 49); /* 48 of them out of the prefix cache */
    assert_int_equal(beams[0].n_computed, 49);
    for (size_t b = 0; b < 2; b++) {
        finish(&rig, &beams[b]);
        kv_table_clear(&spare[b]);
    }
    close_rig(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_taken_over),
        cmocka_unit_test(who_writes_has_a_copy),
        cmocka_unit_test(the_longest_free_are_evicted),
        cmocka_unit_test(followers_take_the_prompt),
        cmocka_unit_test(a_beginning_in_progress_is_waited_for),
        cmocka_unit_test(beams_are_remembered_by_their_tokens),
        cmocka_unit_test(a_preempted_beam_takes_no_kv),
        cmocka_unit_test(a_source_runs_whole),
        cmocka_unit_test(the_newest_is_preempted),
        cmocka_unit_test(priorities),
        cmocka_unit_test(overtaking_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
