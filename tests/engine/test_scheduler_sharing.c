/* SPDX-License-Identifier: Apache-2.0
 *
 * What sequences take over from each other, and who gives way to whom: prefixes, copies before
 * writing, followers, pre-emption, priorities.
 */
#include "support_scheduling.h"
#include "test.h"

#include "engine/sharing.h"

#include <string.h>

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
        struct scheduling rig;

        scheduling_open(&rig, 40, 4);
        make_sequence(&first, 100, 1, 100);
        scheduler_add(&rig.scheduler, &first);
        scheduling_step(&rig);
        scheduling_finish(&rig, &first);
        assert_int_equal(kv_blocks_available(&rig.scheduler.blocks), 40);

        make_sequence(&second, cases[i].n_prompt, 1, cases[i].differs_at);
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
        scheduling_finish(&rig, &second);
        scheduling_close(&rig);
    }
}

/* Two at once that are wholly cached: each writes its last token to a block of its own. */
static void who_writes_has_a_copy(void **state)
{
    struct sequence first, twins[2];
    struct scheduling rig;

    (void)state;
    scheduling_open(&rig, 20, 4);
    make_sequence(&first, 64, 1, 64);
    scheduler_add(&rig.scheduler, &first);
    scheduling_step(&rig);
    scheduling_finish(&rig, &first);
    for (size_t i = 0; i < 2; i++) {
        make_sequence(&twins[i], 64, 20, 64);
        scheduler_add(&rig.scheduler, &twins[i]);
    }
    scheduler_plan(&rig.scheduler, &rig.plan);
    assert_int_equal(rig.plan.n_items, 2);
    assert_int_equal(rig.plan.n_copies, 1);
    assert_int_equal(rig.plan.copies[0].from, twins[1].table.blocks[3]);
    assert_int_equal(rig.plan.copies[0].to, twins[0].table.blocks[3]);
    assert_memory_equal(twins[0].table.blocks, twins[1].table.blocks, 3 * sizeof(int32_t));
    for (size_t i = 0; i < 2; i++)
        scheduling_finish(&rig, &twins[i]);
    scheduling_close(&rig);
}

static void the_longest_free_are_evicted(void **state)
{
    struct sequence sequences[3], again;
    struct scheduling rig;

    (void)state;
    scheduling_open(&rig, 10, 4);
    /* three of 3 full blocks each; the first is used again, so the second is the oldest */
    for (size_t i = 0; i < 3; i++) {
        make_sequence(&sequences[i], 48, 1, i * 5);
        scheduler_add(&rig.scheduler, &sequences[i]);
        scheduling_step(&rig);
        scheduling_finish(&rig, &sequences[i]);
    }
    make_sequence(&again, 49, 1, 0);
    scheduler_add(&rig.scheduler, &again);
    scheduling_step(&rig);
    assert_int_equal(again.n_cached, 48);
    scheduling_finish(&rig, &again);
    assert_int_equal(rig.scheduler.blocks.n_evicted, 0);
    make_sequence(&again, 40, 1, 40);
    scheduler_add(&rig.scheduler, &again); /* takes the empty block and two of the second's */
    scheduling_step(&rig);
    scheduling_finish(&rig, &again);
    assert_int_equal(rig.scheduler.blocks.n_evicted, 2);
    for (size_t i = 0; i < 3; i++) {
        static const size_t which[] = {0, 2, 1}; /* the last probe evicts */
        static const size_t n_cached[] = {48, 48, 16};

        make_sequence(&again, 49, 1, which[i] * 5);
        scheduler_add(&rig.scheduler, &again);
        scheduler_plan(&rig.scheduler, &rig.plan);
        assert_int_equal(again.n_cached, n_cached[i]);
        scheduler_remove(&rig.scheduler, &again);
        sequence_clear(&again);
    }
    scheduling_close(&rig);
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
            struct scheduling rig;

            scheduling_open(&rig, 40, 4);
            rig.scheduler.limits.prefill_chunk = 60;
            for (size_t j = 0; j < 3; j++) {
                make_sequence(&all[j], n, 30, n);
                all[j].leader = j > 0 ? &all[0] : NULL;
                scheduler_add(&rig.scheduler, &all[j]);
            }
            scheduling_step(&rig);
            assert_int_equal(rig.plan.n_items, 1);
            if (is_lost) /* a cancelled leader: they run the prompt themselves */
                scheduler_remove(&rig.scheduler, &all[0]);
            while (all[1].n_computed < n || all[2].n_computed < n) {
                scheduling_step(&rig);
                assert_true(rig.plan.n_items > 0);
            }
            if (!is_lost) {
                assert_int_equal(all[1].n_cached, n - 1);
                assert_int_equal(all[2].n_cached, n - 1);
                for (size_t b = 0; b < (n - 1) / KV_BLOCK_TOKENS; b++)
                    assert_int_equal(all[1].table.blocks[b], all[0].table.blocks[b]);
            }
            for (size_t step_i = 0; step_i < 20; step_i++)
                scheduling_step(&rig);
            /* by now each has written to a last block of its own */
            size_t last = all[1].n_computed / KV_BLOCK_TOKENS - 1;
            if (last >= n / KV_BLOCK_TOKENS)
                assert_int_not_equal(all[1].table.blocks[last], all[2].table.blocks[last]);
            for (size_t j = (size_t)is_lost; j < 3; j++)
                scheduler_remove(&rig.scheduler, &all[j]);
            for (size_t j = 0; j < 3; j++)
                sequence_clear(&all[j]);
            scheduling_close(&rig);
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
        struct scheduling rig;
        size_t n_steps = 0;

        scheduling_open(&rig, 40, 4);
        rig.scheduler.limits.prefill_chunk = 32;
        rig.scheduler.limits.has_fixed_chunks = cases[i].chunk > 0;
        make_sequence(&first, 100, 10, 100);
        if (cases[i].first_slides)
            first.window = (struct sequence_window){.n_blocks = 10};
        make_sequence(&second, 100, 10, cases[i].n_alike);
        make_sequence(&other, 100, 10, 0);
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
            scheduling_step(&rig);
            n_steps++;
            assert_int_equal(other.state, SEQUENCE_RUNNING); /* it is not kept up */
            if (cases[i].is_removed && n_steps == 1)
                scheduling_finish(&rig, &first);
        }
        if (n_steps != cases[i].n_steps || second.n_cached != cases[i].n_cached)
            fail_msg("%s: %zu steps, %zu tokens", cases[i].label, n_steps, second.n_cached);
        assert_int_equal(second.n_overtaken > 0, n_steps > 1 || cases[i].is_overtaken);
        if (!cases[i].is_removed)
            scheduling_finish(&rig, &first);
        scheduling_finish(&rig, &second);
        scheduling_finish(&rig, &other);
        scheduling_close(&rig);
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
        struct scheduling rig;

        scheduling_open(&rig, 40, 4);
        rig.scheduler.limits.step_tokens = cases[i].step_tokens;
        for (size_t b = 0; b < 2; b++) {
            make_sequence(&both[b], 90, 10, b == 0 ? 90 : 64);
            both[b].n_source = 75; /* five blocks */
            scheduler_add(&rig.scheduler, &both[b]);
        }
        scheduling_step(&rig);
        if (rig.plan.n_items != cases[i].n_items)
            fail_msg("%zu tokens a step: %zu sources", cases[i].step_tokens, rig.plan.n_items);
        assert_int_equal(both[0].n_computed, 80);
        while (both[1].n_computed < 90) {
            scheduling_step(&rig);
            assert_true(both[1].n_computed == 0 || both[1].n_computed >= 80);
        }
        assert_int_equal(both[1].n_cached, 0);
        for (size_t b = 0; b < 2; b++)
            scheduling_finish(&rig, &both[b]);
        scheduling_close(&rig);
    }
}

/* When blocks run out, the newest goes back and is computed again, out of the cache as far as that
 * still is there. */
static void the_newest_is_preempted(void **state)
{
    struct sequence old, new;
    struct scheduling rig;
    size_t n_shown = 0;

    (void)state;
    scheduling_open(&rig, 10, 4);
    make_sequence(&old, 60, 90, 60);
    make_sequence(&new, 60, 60, 0);
    scheduler_add(&rig.scheduler, &old);
    scheduler_add(&rig.scheduler, &new);
    while (new.n_preempted == 0) {
        n_shown = new.n_computed;
        scheduling_step(&rig);
        assert_int_equal(old.n_preempted, 0);
    }
    assert_int_equal(new.state, SEQUENCE_WAITING);
    assert_int_equal(new.table.n_blocks, 0);
    assert_int_equal(new.n_shown, n_shown);
    while (old.n_tokens < old.capacity || old.n_computed + 1 < old.capacity)
        scheduling_step(&rig);
    assert_int_equal(new.state, SEQUENCE_WAITING);
    scheduling_finish(&rig, &old);
    while (new.n_tokens < new.capacity) {
        size_t n_before = new.n_tokens;

        scheduling_step(&rig);
        /* no row is given twice */
        if (new.n_tokens == n_before && rig.plan.n_items > 0)
            assert_int_equal(rig.plan.items[0].n_rows, 0);
    }
    assert_int_equal(rig.scheduler.counts.n_preempted, 1);
    scheduling_finish(&rig, &new);
    scheduling_close(&rig);
}

static void priorities(void **state)
{
    struct sequence low[3], high;
    struct scheduling rig;

    (void)state;
    scheduling_open(&rig, 12, 2);
    for (size_t i = 0; i < 3; i++) {
        make_sequence(&low[i], 50, 20, 0);
        low[i].tokens[0] += (int32_t)i;
        scheduler_add(&rig.scheduler, &low[i]);
    }
    scheduling_step(&rig);
    assert_int_equal(rig.scheduler.running.n, 2);
    /* it goes before the one that waits, and the newest of those that run gives way */
    make_sequence(&high, 40, 20, 0);
    high.priority = 5;
    scheduler_add(&rig.scheduler, &high);
    assert_ptr_equal(rig.scheduler.waiting.first, &high);
    scheduling_step(&rig);
    assert_int_equal(high.state, SEQUENCE_RUNNING);
    assert_int_equal(low[0].state, SEQUENCE_RUNNING);
    assert_int_equal(low[1].state, SEQUENCE_WAITING);
    assert_ptr_equal(rig.scheduler.waiting.first, &low[1]);
    assert_ptr_equal(rig.scheduler.waiting.last, &low[2]);
    scheduler_remove(&rig.scheduler, &high);
    scheduling_step(&rig);
    assert_int_equal(low[1].state, SEQUENCE_RUNNING);
    for (size_t i = 0; i < 3; i++) {
        scheduler_remove(&rig.scheduler, &low[i]);
        sequence_clear(&low[i]);
    }
    sequence_clear(&high);
    scheduling_close(&rig);
}

/* However many of a higher priority come, one that waits has its turn. */
static void overtaking_is_bounded(void **state)
{
    struct sequence low, high[600];
    struct scheduling rig;
    size_t n_before = 0;

    (void)state;
    scheduling_open(&rig, 12, 1);
    for (size_t i = 0; i < COUNT(high); i++) {
        make_sequence(&high[i], 5, 1, 0);
        high[i].priority = 1;
    }
    make_sequence(&low, 5, 1, 0);
    scheduler_add(&rig.scheduler, &high[0]);
    scheduler_add(&rig.scheduler, &low);
    for (size_t i = 0; low.n_computed < 5; i++) {
        assert_true(i + 1 < COUNT(high));
        scheduler_add(&rig.scheduler, &high[i + 1]);
        scheduling_step(&rig);
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
    scheduling_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_taken_over),
        cmocka_unit_test(who_writes_has_a_copy),
        cmocka_unit_test(the_longest_free_are_evicted),
        cmocka_unit_test(followers_take_the_prompt),
        cmocka_unit_test(a_beginning_in_progress_is_waited_for),
        cmocka_unit_test(a_source_runs_whole),
        cmocka_unit_test(the_newest_is_preempted),
        cmocka_unit_test(priorities),
        cmocka_unit_test(overtaking_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
