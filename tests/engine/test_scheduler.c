/* SPDX-License-Identifier: Apache-2.0
 *
 * The scheduler without an engine: budget, shares, order, and that nobody starves.
 */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N_SEQUENCES = 60 };

static const struct sequence_window no_window;

static struct scheduler make_scheduler(struct scheduler_limits limits, size_t n_blocks)
{
    struct scheduler scheduler;
    kvern_error err = {0};

    if (!limits.scoring_rows)
        limits.scoring_rows = 1000;
    if (scheduler_init(&scheduler, &limits, n_blocks, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return scheduler;
}

static void add(struct scheduler *scheduler, struct sequence *sequence, size_t n_prompt,
                size_t max_tokens)
{
    static const int32_t prompt[4096];

    assert_int_equal(scheduler_accepts(scheduler, n_prompt, max_tokens, &no_window, NULL),
                     KVERN_OK);
    assert_int_equal(sequence_init(sequence, prompt, n_prompt, max_tokens, NULL), KVERN_OK);
    scheduler_add(scheduler, sequence);
}

/* What the engine's commit does to a planned sequence; true when it has ended. */
static bool commit(struct scheduler *scheduler, const struct plan_item *item)
{
    struct sequence *sequence = item->sequence;

    scheduler_advance(scheduler, sequence, item->n_tokens);
    if (sequence->n_computed < sequence->n_tokens)
        return false;
    sequence_append(sequence, 7);
    if (sequence->n_tokens < sequence->capacity)
        return false;
    scheduler_remove(scheduler, sequence);
    return true;
}

static size_t tokens_of(const struct plan *plan, bool of_decodes)
{
    size_t n = 0;

    for (size_t i = 0; i < plan->n_items; i++) {
        if (sequence_is_decoding(plan->items[i].sequence) == of_decodes)
            n += plan->items[i].n_tokens;
    }
    return n;
}

/* 60 requests of all lengths through a small engine: each step keeps its limits, every sequence
 * ends and no running one waits longer than a bounded number of steps. */
static void test_everything_ends(void **state)
{
    static const struct scheduler_limits cases[] = {
        {.step_tokens = 2, .max_running = 3, .max_context = 1000},
        {.step_tokens = 5, .max_running = 16, .max_context = 1000, .prefill_chunk = 3},
        {.step_tokens = 64, .max_running = 8, .max_context = 1000},
        {.step_tokens = 512, .max_running = 64, .max_context = 1000, .prefill_chunk = 1},
    };
    (void)state;

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct scheduler scheduler = make_scheduler(cases[c], 40);
        struct sequence sequences[N_SEQUENCES];
        struct plan plan;
        size_t n_left = N_SEQUENCES;
        size_t n_steps = 0;
        kvern_error err = {0};

        plan_init(&plan, cases[c].max_running, NULL);
        for (size_t i = 0; i < N_SEQUENCES; i++)
            add(&scheduler, &sequences[i], 1 + i * 97 % 300, 1 + i * 31 % 60);
        for (; n_left > 0; n_steps++) {
            assert_true(n_steps < 20000);
            scheduler_plan(&scheduler, &plan);
            assert_true(plan.n_items > 0);
            assert_true(tokens_of(&plan, true) + tokens_of(&plan, false) <= cases[c].step_tokens);
            assert_true(scheduler.running.n <= cases[c].max_running);
            for (size_t i = 0; i < plan.n_items; i++)
                n_left -= commit(&scheduler, &plan.items[i]);
            if (scheduler_check(&scheduler, &err) != KVERN_OK)
                fail_msg("%s", err.message);
        }
        assert_int_equal(kv_blocks_available(&scheduler.blocks), 40);
        for (size_t i = 0; i < N_SEQUENCES; i++) {
            assert_int_equal(sequences[i].n_tokens, sequences[i].capacity);
            sequence_clear(&sequences[i]);
        }
        plan_clear(&plan);
        scheduler_clear(&scheduler);
    }
}

/* With more decoding sequences than tokens each gets its turn, and a prompt its quarter. */
static void test_shares(void **state)
{
    struct scheduler scheduler = make_scheduler(
        (struct scheduler_limits){.step_tokens = 8, .max_running = 32, .max_context = 4000}, 500);
    struct sequence decoding[20];
    struct sequence late;
    struct plan plan;
    (void)state;

    plan_init(&plan, 32, NULL);
    for (size_t i = 0; i < 20; i++)
        add(&scheduler, &decoding[i], 1, 200);
    for (size_t step = 0; step < 10; step++) {
        scheduler_plan(&scheduler, &plan);
        for (size_t i = 0; i < plan.n_items; i++)
            commit(&scheduler, &plan.items[i]);
    }
    add(&scheduler, &late, 200, 2);
    for (size_t step = 0; step < 60; step++) {
        scheduler_plan(&scheduler, &plan);
        assert_int_equal(tokens_of(&plan, true), 6);
        assert_int_equal(tokens_of(&plan, false), 2);
        for (size_t i = 0; i < plan.n_items; i++)
            commit(&scheduler, &plan.items[i]);
    }
    assert_int_equal(late.n_computed, 120);
    for (size_t i = 1; i < 20; i++) {
        int difference = (int)decoding[i].n_tokens - (int)decoding[0].n_tokens;

        assert_in_range(difference + 4, 0, 8);
    }
    scheduler_remove(&scheduler, &late);
    sequence_clear(&late);
    for (size_t i = 0; i < 20; i++) {
        scheduler_remove(&scheduler, &decoding[i]);
        sequence_clear(&decoding[i]);
    }
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

/* Where nothing can be pre-empted, the worst case is promised: a large request waits for blocks,
 * and a small one behind it waits too. */
static void test_admission_in_order(void **state)
{
    struct scheduler scheduler = make_scheduler((struct scheduler_limits){.step_tokens = 64,
                                                                          .max_running = 8,
                                                                          .max_context = 1000,
                                                                          .has_fixed_chunks = true,
                                                                          .counts_blocks = true},
                                                10);
    struct sequence sequences[3];
    struct plan plan;
    (void)state;

    plan_init(&plan, 8, NULL);
    add(&scheduler, &sequences[0], 10, 87); /* 6 blocks */
    add(&scheduler, &sequences[1], 80, 1);  /* 5 blocks */
    add(&scheduler, &sequences[2], 5, 5);   /* 1 block */
    scheduler_plan(&scheduler, &plan);
    assert_int_equal(plan.n_items, 1);
    assert_int_equal(scheduler.waiting.n, 2);
    assert_int_equal(sequences[0].table.n_blocks, 1);
    scheduler_remove(&scheduler, &sequences[0]);
    scheduler_plan(&scheduler, &plan);
    assert_int_equal(scheduler.waiting.n, 0);
    assert_ptr_equal(plan.items[0].sequence, &sequences[1]);
    assert_int_equal(plan.items[0].n_tokens, 64);
    assert_int_equal(plan.items[0].n_rows, 0);
    for (size_t i = 1; i < 3; i++)
        scheduler_remove(&scheduler, &sequences[i]);
    for (size_t i = 0; i < 3; i++)
        sequence_clear(&sequences[i]);
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

static void test_limits(void **state)
{
    struct scheduler scheduler = make_scheduler(
        (struct scheduler_limits){.step_tokens = 64, .max_running = 8, .max_context = 100}, 10);
    static const struct {
        size_t n_prompt, max_tokens;
        kvern_status status;
    } cases[] = {
        {100, 1, KVERN_OK},    {101, 1, KVERN_LIMIT},       {1, 100, KVERN_OK},
        {1, 101, KVERN_LIMIT}, {50, SIZE_MAX, KVERN_LIMIT}, {SIZE_MAX, 1, KVERN_LIMIT},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            scheduler_accepts(&scheduler, cases[i].n_prompt, cases[i].max_tokens, &no_window, NULL),
            cases[i].status);
    scheduler_clear(&scheduler);
    assert_int_equal(
        scheduler_init(&scheduler,
                       &(struct scheduler_limits){
                           .step_tokens = 1, .max_running = 1, .max_context = 1, .scoring_rows = 1},
                       10, NULL),
        KVERN_INVALID);
}

/* Sequences that want every row share a bound of rows, whatever the token budget. */
static void test_scoring_rows(void **state)
{
    struct scheduler scheduler = make_scheduler(
        (struct scheduler_limits){
            .step_tokens = 64, .max_running = 8, .max_context = 100, .scoring_rows = 10},
        20);
    struct sequence a;
    struct sequence b;
    struct plan plan;
    (void)state;

    plan_init(&plan, 8, NULL);
    add(&scheduler, &a, 8, 1);
    add(&scheduler, &b, 8, 1);
    a.wants_all_rows = b.wants_all_rows = true;
    scheduler_plan(&scheduler, &plan);
    assert_int_equal(plan.n_items, 2);
    assert_int_equal(plan.items[0].n_rows, 8);
    assert_int_equal(plan.items[1].n_rows, 2);
    assert_int_equal(plan.items[1].n_tokens, 2);
    scheduler_remove(&scheduler, &a);
    scheduler_remove(&scheduler, &b);
    sequence_clear(&a);
    sequence_clear(&b);
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

/* Where has_fixed_chunks cuts a prompt depends on nothing but the prompt: a step may pass its
 * budget by a chunk, but no decoding sequence waits for it. */
static void test_fixed_chunks(void **state)
{
    static const struct {
        size_t step_tokens, prefill_chunk, n_decoding;
    } cases[] = {{8, 32, 0}, {8, 32, 6}, {64, 32, 3}, {2, 7, 1}, {16, 100, 10}};
    (void)state;

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct scheduler scheduler =
            make_scheduler((struct scheduler_limits){.step_tokens = cases[c].step_tokens,
                                                     .prefill_chunk = cases[c].prefill_chunk,
                                                     .has_fixed_chunks = true,
                                                     .max_running = 32,
                                                     .max_context = 4000},
                           2000);
        struct sequence decoding[10];
        struct sequence prompts[3];
        struct plan plan;

        plan_init(&plan, 32, NULL);
        for (size_t i = 0; i < cases[c].n_decoding; i++)
            add(&scheduler, &decoding[i], 1, 500);
        for (size_t step = 0; step < cases[c].n_decoding; step++) {
            scheduler_plan(&scheduler, &plan);
            for (size_t i = 0; i < plan.n_items; i++)
                commit(&scheduler, &plan.items[i]);
        }
        for (size_t i = 0; i < 3; i++)
            add(&scheduler, &prompts[i], 90 + i, 400);
        for (size_t step = 0; step < 60; step++) {
            size_t n_tokens = 0;

            scheduler_plan(&scheduler, &plan);
            for (size_t i = 0; i < plan.n_items; i++) {
                const struct plan_item *item = &plan.items[i];
                const struct sequence *sequence = item->sequence;
                size_t n_pending = sequence->n_tokens - sequence->n_computed;

                n_tokens += item->n_tokens;
                if (!sequence_is_decoding(sequence)) {
                    assert_int_equal(sequence->n_computed % cases[c].prefill_chunk, 0);
                    assert_true(item->n_tokens == n_pending ||
                                item->n_tokens == cases[c].prefill_chunk);
                }
            }
            assert_true(n_tokens <= scheduler_max_step_tokens(&scheduler));
            for (size_t i = 0; i < plan.n_items; i++)
                commit(&scheduler, &plan.items[i]);
        }
        for (size_t i = 0; i < cases[c].n_decoding; i++) {
            assert_true(decoding[i].n_tokens > 5);
            scheduler_remove(&scheduler, &decoding[i]);
            sequence_clear(&decoding[i]);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_true(prompts[i].n_computed >= prompts[i].n_prompt);
            scheduler_remove(&scheduler, &prompts[i]);
            sequence_clear(&prompts[i]);
        }
        plan_clear(&plan);
        scheduler_clear(&scheduler);
    }
}

/* Encoders: no blocks, whole texts, and no limit of blocks on their length. */
static void test_no_kv(void **state)
{
    struct scheduler scheduler = make_scheduler((struct scheduler_limits){.step_tokens = 50,
                                                                          .prefill_chunk = 300,
                                                                          .has_fixed_chunks = true,
                                                                          .has_no_kv = true,
                                                                          .max_running = 8,
                                                                          .max_context = 300},
                                                1);
    static const size_t lengths[] = {20, 20, 20, 300, 1};
    static const size_t steps[] = {3, 1, 1}; /* texts of each step: the one past 50 is the last */
    struct sequence texts[5];
    struct plan plan;
    size_t next = 0;
    (void)state;

    plan_init(&plan, 8, NULL);
    for (size_t i = 0; i < 5; i++) {
        add(&scheduler, &texts[i], lengths[i], 1);
        texts[i].conversation = 3;
    }
    for (size_t step = 0; step < 3; step++) {
        scheduler_plan(&scheduler, &plan);
        assert_int_equal(plan.n_items, steps[step]);
        for (size_t i = 0; i < plan.n_items; i++, next++) {
            assert_ptr_equal(plan.items[i].sequence, &texts[next]);
            assert_int_equal(plan.items[i].n_tokens, lengths[next]);
            texts[next].n_computed = lengths[next];
            scheduler_retire(&scheduler, &texts[next]);
            sequence_clear(&texts[next]);
        }
        assert_int_equal(kv_blocks_available(&scheduler.blocks), 1);
        assert_int_equal(scheduler.kept.n, 0);
    }
    assert_int_equal(next, 5);
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

/* A window takes no more blocks than it has, whatever runs through it, and each chunk ends where it
 * slides. */
static void test_windows(void **state)
{
    static const struct {
        struct sequence_window window;
        size_t n_prompt, max_tokens, n_blocks;
    } cases[] = {
        {{2, 0}, 500, 20, 2}, {{4, 1}, 500, 100, 4}, {{5, 3}, 33, 400, 5}, {{30, 2}, 100, 20, 8}};
    (void)state;

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct scheduler scheduler = make_scheduler(
            (struct scheduler_limits){.step_tokens = 512, .max_running = 2, .max_context = 100000},
            cases[c].n_blocks < 30 && cases[c].window.n_blocks < 30 ? cases[c].n_blocks : 30);
        struct sequence sequence;
        struct plan plan;
        kvern_error err = {0};
        static const int32_t prompt[500];

        plan_init(&plan, 2, NULL);
        assert_int_equal(scheduler_accepts(&scheduler, cases[c].n_prompt, cases[c].max_tokens,
                                           &cases[c].window, NULL),
                         KVERN_OK);
        assert_int_equal(
            sequence_init(&sequence, prompt, cases[c].n_prompt, cases[c].max_tokens, NULL),
            KVERN_OK);
        sequence.window = cases[c].window;
        scheduler_add(&scheduler, &sequence);
        for (bool is_over = false; !is_over;) {
            scheduler_plan(&scheduler, &plan);
            assert_int_equal(plan.n_items, 1);
            size_t n_end = sequence.n_computed + plan.items[0].n_tokens;
            assert_int_equal(sequence.table.n_dropped,
                             sequence_window_dropped(&cases[c].window, n_end));
            assert_true(sequence.table.n_blocks <= cases[c].n_blocks);
            assert_int_equal(kv_blocks_for_tokens(sequence_n_held(&sequence, n_end)),
                             sequence.table.n_blocks);
            if (scheduler_check(&scheduler, &err) != KVERN_OK)
                fail_msg("%s", err.message);
            is_over = commit(&scheduler, &plan.items[0]);
        }
        assert_int_equal(sequence.n_tokens, sequence.capacity);
        sequence_clear(&sequence);
        plan_clear(&plan);
        scheduler_clear(&scheduler);
    }
    struct scheduler scheduler = make_scheduler(
        (struct scheduler_limits){.step_tokens = 8, .max_running = 2, .max_context = 100}, 4);
    assert_int_equal(
        scheduler_accepts(&scheduler, 5000, 5000, &(struct sequence_window){4, 1}, NULL), KVERN_OK);
    assert_int_equal(scheduler_accepts(&scheduler, 1, 1, &(struct sequence_window){5, 1}, NULL),
                     KVERN_LIMIT);
    scheduler_clear(&scheduler);
}

/* A source that comes while two answers are in progress waits until one has ended; the plan runs
 * the sources of one wave in steps one after the other, beside decoding. */
static void test_source_waves(void **state)
{
    enum { SOURCE = 16, N = 3 };
    static const int32_t prompt[SOURCE + 1];
    static const char *const expected = "1100010000"; /* sources of each step */
    struct scheduler scheduler = make_scheduler(
        (struct scheduler_limits){.step_tokens = 20, .max_running = 4, .max_context = 100}, 30);
    struct sequence sequences[N];
    struct plan plan;

    (void)state;
    plan_init(&plan, 4, NULL);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(sequence_init(&sequences[i], prompt, SOURCE + 1, 4, NULL), KVERN_OK);
        sequences[i].n_source = SOURCE;
    }
    scheduler_add(&scheduler, &sequences[0]);
    scheduler_add(&scheduler, &sequences[1]);
    for (size_t step = 0; expected[step]; step++) {
        size_t n_sources = 0;

        if (step == 3)
            scheduler_add(&scheduler, &sequences[2]);
        scheduler_plan(&scheduler, &plan);
        for (size_t i = 0; i < plan.n_items; i++)
            n_sources += sequence_is_encoding(plan.items[i].sequence);
        if (n_sources != (size_t)(expected[step] - '0'))
            fail_msg("step %zu runs %zu sources", step, n_sources);
        for (size_t i = 0; i < plan.n_items; i++)
            commit(&scheduler, &plan.items[i]);
    }
    for (size_t i = 0; i < N; i++)
        sequence_clear(&sequences[i]);
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_ends),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_admission_in_order),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_scoring_rows),
        cmocka_unit_test(test_fixed_chunks),
        cmocka_unit_test(test_no_kv),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_source_waves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
