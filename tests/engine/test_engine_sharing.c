/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine over the fake runner: samples of one prompt, cached prefixes, deadlines, and steps
 * that are cut short by a cancel.
 */
#include "test.h"

#include "base/queue.h"
#include "support_rig.h"

#include <string.h>
#include <unistd.h>

enum { N_PROMPT = 100 };

static int32_t prompt[N_PROMPT];

static void fill_prompt(int32_t seed)
{
    for (int32_t i = 0; i < N_PROMPT; i++)
        prompt[i] = (seed * 17 + i * 7) % 250;
}

static kvern_request_options make_options(size_t n_prompt, int32_t max_tokens)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = n_prompt;
    options.max_tokens = max_tokens;
    options.ignore_eos = true;
    return options;
}

/* The tokens that follow the prompt by the fake's rule. */
static void expect(size_t n_prompt, const int32_t *tokens, size_t n)
{
    int32_t history[2 * N_PROMPT];

    memcpy(history, prompt, n_prompt * sizeof *history);
    for (size_t i = 0; i < n; i++) {
        history[n_prompt + i] = fake_next(history, n_prompt + i);
        assert_int_equal(tokens[i], history[n_prompt + i]);
    }
}

static void samples_run_the_prompt_once(void **state)
{
    kvern_request *requests[5];
    kvern_request_options options = make_options(N_PROMPT, 20);
    kvern_engine_stats stats;
    struct rig rig;
    kvern_event event;
    int32_t tokens[20];

    (void)state;
    fill_prompt(1);
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){.prefill_chunk = 30});
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 5, requests, NULL), KVERN_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(rig_finish(requests[i], tokens, 20, &event), 20);
        assert_int_equal(event.n_cached_tokens, i > 0 ? N_PROMPT - 1 : 0);
        expect(N_PROMPT, tokens, 20);
        kvern_request_free(requests[i]);
    }
    kvern_engine_get_stats(rig.engine, &stats);
    assert_int_equal(stats.n_prefill_tokens, N_PROMPT + 4);
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 0, requests, NULL), KVERN_INVALID);
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 257, requests, NULL),
                     KVERN_INVALID);
    options.conversation = 3;
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 2, requests, NULL), KVERN_INVALID);
    rig_close(&rig, 0);
}

/* All or none: more than there are places for are refused, and nothing of them stays. */
static void samples_need_their_places(void **state)
{
    kvern_request *requests[8];
    kvern_request_options options = make_options(20, 2);
    struct rig rig;
    kvern_event event;

    (void)state;
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){.max_waiting = 3});
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 4, requests, NULL), KVERN_BUSY);
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 3, requests, NULL), KVERN_OK);
    for (size_t i = 0; i < 3; i++) {
        rig_finish(requests[i], NULL, 0, &event);
        kvern_request_free(requests[i]);
    }
    rig_close(&rig, 0);
}

static void prefixes_are_counted(void **state)
{
    static const struct {
        const char *cache_key;
        bool has_none;
        size_t n_cached; /* of the second request */
    } cases[] = {{NULL, false, 96}, {"somebody", false, 0}, {NULL, true, 0}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_engine_stats stats;
        struct rig rig;
        kvern_event event;

        fill_prompt((int32_t)i);
        rig_open(&rig, fake_runner_new(60),
                 (struct engine_limits){.has_no_prefix_cache = cases[i].has_none});
        for (size_t j = 0; j < 2; j++) {
            kvern_request_options options = make_options(N_PROMPT, 5);
            int32_t tokens[5];

            options.cache_key = j == 1 ? cases[i].cache_key : NULL;
            kvern_request *request = rig_submit(&rig, &options);
            rig_finish(request, tokens, 5, &event);
            expect(N_PROMPT, tokens, 5);
            assert_int_equal(event.n_cached_tokens, j == 1 ? cases[i].n_cached : 0);
            kvern_request_free(request);
        }
        kvern_engine_get_stats(rig.engine, &stats);
        assert_int_equal(stats.n_cache_hits, cases[i].n_cached > 0);
        assert_int_equal(stats.n_cached_tokens, cases[i].n_cached);
        rig_close(&rig, 0);
    }
}

/* One that waits, one that runs: their time is up at the next step. */
static void deadlines(void **state)
{
    struct rig rig;
    kvern_event event;
    kvern_error err = {0};

    (void)state;
    fill_prompt(2);
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){.max_sequences = 1});
    atomic_store(&rig.fake->n_gates, 1);
    kvern_request_options options = make_options(20, 50);
    options.timeout_ms = 30;
    kvern_request *running = rig_submit(&rig, &options);
    kvern_request *waiting = rig_submit(&rig, &options);
    options.timeout_ms = -1;
    assert_int_equal(kvern_submit(rig.engine, &options, &(kvern_request *){NULL}, &err),
                     KVERN_INVALID);
    usleep(60 * 1000);
    atomic_store(&rig.fake->n_gates, -1);
    int32_t tokens[50];
    size_t n = rig_finish(running, tokens, 50, &event);
    assert_int_equal(event.finish, KVERN_FINISH_TIMEOUT);
    assert_in_range(n, 1, 2);
    expect(20, tokens, n);
    assert_string_equal(kvern_finish_name(event.finish), "timeout");
    assert_int_equal(rig_finish(waiting, NULL, 0, &event), 0);
    assert_int_equal(event.finish, KVERN_FINISH_TIMEOUT);
    kvern_request_free(running);
    kvern_request_free(waiting);
    rig_close(&rig, 0);
}

/* Where KV is in values beside the blocks, a first prompt of 90 tokens is kept; the second begins
 * with some of them. Chunks of 16. */
static void prompts_are_kept_whole(void **state)
{
    static const struct {
        const char *label;
        size_t n_prompt, n_alike, cache_tokens;
        bool is_rigid, has_none;
        size_t n_cached;
        size_t n_kept; /* blocks of both prompts at the end */
    } cases[] = {
        {.label = "50 alike", .n_prompt = 80, .n_alike = 50, .n_cached = 48, .n_kept = 6 + 5},
        {.label = "the same", .n_prompt = 90, .n_alike = 90, .n_cached = 80, .n_kept = 6},
        {.label = "its beginning", .n_prompt = 48, .n_alike = 48, .n_cached = 32, .n_kept = 6},
        {.label = "longer", .n_prompt = 100, .n_alike = 90, .n_cached = 80, .n_kept = 6 + 7},
        {.label = "less than a chunk", .n_prompt = 80, .n_alike = 15, .n_kept = 6 + 5},
        {.label = "values of a device, 50 alike",
         .n_prompt = 80,
         .n_alike = 50,
         .is_rigid = true,
         .n_kept = 5 + 5},
        {.label = "values of a device, the same",
         .n_prompt = 90,
         .n_alike = 90,
         .is_rigid = true,
         .n_cached = 80,
         .n_kept = 5},
        {.label = "no cache", .n_prompt = 90, .n_alike = 90, .has_none = true},
        {.label = "a cache for one",
         .n_prompt = 80,
         .n_alike = 10,
         .cache_tokens = 112,
         .n_kept = 5},
        {.label = "a cache for none", .n_prompt = 90, .n_alike = 90, .cache_tokens = 64},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fake_runner *fake = fake_runner_new(40);
        kvern_request_options options = make_options(90, 5);
        struct rig rig;
        kvern_event event;
        int32_t tokens[5];

        fake->keeps_values = true;
        fake->is_rigid = cases[i].is_rigid;
        fake->runner.has_fixed_chunks = true;
        rig_open(&rig, fake,
                 (struct engine_limits){.prefill_chunk = 16,
                                        .prefix_cache_tokens = cases[i].cache_tokens,
                                        .has_no_prefix_cache = cases[i].has_none});
        fill_prompt(4);
        kvern_request *request = rig_submit(&rig, &options);
        rig_finish(request, tokens, 5, &event);
        kvern_request_free(request);
        for (size_t k = cases[i].n_alike; k < N_PROMPT; k++)
            prompt[k] = (int32_t)(k + 1);
        options.n_prompt = cases[i].n_prompt;
        request = rig_submit(&rig, &options);
        assert_int_equal(rig_finish(request, tokens, 5, &event), 5);
        if (event.n_cached_tokens != cases[i].n_cached)
            fail_msg("%s: %zu tokens", cases[i].label, event.n_cached_tokens);
        expect(cases[i].n_prompt, tokens, 5);
        kvern_request_free(request);
        rig_close(&rig, cases[i].n_kept);
    }
}

static void wait_until_running(const struct rig *rig, int n_running)
{
    kvern_engine_stats stats;

    for (int i = 0; i < 2000; i++) {
        kvern_engine_get_stats(rig->engine, &stats);
        if (stats.n_running >= n_running)
            break;
        usleep(1000);
    }
    usleep(20 * 1000); /* into the run, whose gate is closed */
}

/* A long step ends when a request in it is cancelled, nothing of the others is lost, and the step
 * after it runs to its end. */
static void a_cancel_cuts_a_long_step_short(void **state)
{
    struct rig rig;
    kvern_event event;
    int32_t tokens[10];

    (void)state;
    fill_prompt(3);
    rig_open(&rig, fake_runner_new(60),
             (struct engine_limits){.prefill_chunk = 20, .has_no_prefix_cache = true});
    atomic_store(&rig.fake->n_gates, 0);
    kvern_request_options options = make_options(N_PROMPT, 10);
    kvern_request *kept = rig_submit(&rig, &options);
    kvern_request *first = rig_submit(&rig, &options);
    kvern_request *second = rig_submit(&rig, &options);
    /* the first step may have been planned before all had come; the second has 40 tokens or more */
    wait_until_running(&rig, 1);
    atomic_store(&rig.fake->n_gates, 1);
    wait_until_running(&rig, 3);
    kvern_request_cancel(first);
    assert_int_equal(kvern_request_next(first, 5000, &event, NULL), KVERN_OK);
    assert_int_equal(event.finish, KVERN_FINISH_CANCELLED);
    assert_int_equal(atomic_load(&rig.fake->n_interrupted), 1);
    usleep(20 * 1000);
    kvern_request_cancel(second);
    assert_int_equal(kvern_request_next(second, 50, &event, NULL), KVERN_TIMEOUT);
    assert_int_equal(atomic_load(&rig.fake->n_interrupted), 1);
    atomic_store(&rig.fake->n_gates, -1);
    assert_int_equal(rig_finish(kept, tokens, 10, &event), 10);
    expect(N_PROMPT, tokens, 10);
    kvern_request_free(kept);
    kvern_request_free(first);
    kvern_request_free(second);
    rig_close(&rig, 0);
}

/* The same of a step that only reads a source. */
static void a_cancel_cuts_a_long_encode_short(void **state)
{
    struct fake_runner *fake = fake_runner_new(60);
    struct rig rig;
    kvern_event event;

    (void)state;
    fill_prompt(4);
    fake->runner.is_seq2seq = true;
    rig_open(&rig, fake, (struct engine_limits){.max_source = 512});
    atomic_store(&rig.fake->n_gates, 0);
    kvern_request_options options = make_options(N_PROMPT, 10);
    kvern_request *request = rig_submit(&rig, &options);
    wait_until_running(&rig, 1);
    kvern_request_cancel(request);
    assert_int_equal(kvern_request_next(request, 5000, &event, NULL), KVERN_OK);
    assert_int_equal(event.finish, KVERN_FINISH_CANCELLED);
    assert_int_equal(atomic_load(&rig.fake->n_interrupted), 1);
    assert_int_equal(atomic_load(&rig.fake->n_runs), 0);
    atomic_store(&rig.fake->n_gates, -1);
    kvern_request_free(request);
    rig_close(&rig, 0);
}

/* While a step runs that they are not in, requests are cancelled: one that runs, one that waits,
 * one that came during the step, of samples the one that the others would follow. */
static void a_cancel_outside_of_the_step_is_done_at_once(void **state)
{
    struct rig rig;
    kvern_event event;
    int32_t tokens[10];
    kvern_request *kept, *running, *samples[2];

    (void)state;
    fill_prompt(3);
    rig_open(&rig, fake_runner_new(60),
             (struct engine_limits){.step_tokens = 8, .max_sequences = 2});
    atomic_store(&rig.fake->n_gates, 0);
    kvern_request_options options = make_options(N_PROMPT, 10);
    kept = rig_submit(&rig, &options);
    options.cache_key = "others";
    running = rig_submit(&rig, &options);
    wait_until_running(&rig, 1);
    atomic_store(&rig.fake->n_gates, 1);
    wait_until_running(&rig, 2); /* the second step has all the tokens it can of the first prompt */
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 2, samples, NULL), KVERN_OK);
    kvern_request *cancelled[] = {running, samples[0], rig_submit(&rig, &options)};
    for (size_t i = 0; i < COUNT(cancelled); i++) {
        kvern_request_cancel(cancelled[i]);
        assert_int_equal(kvern_request_next(cancelled[i], 0, &event, NULL), KVERN_OK);
        assert_int_equal(event.finish, KVERN_FINISH_CANCELLED);
        kvern_request_cancel(cancelled[i]); /* again: nothing happens */
        kvern_request_free(cancelled[i]);
    }
    assert_int_equal(atomic_load(&rig.fake->n_runs), 1); /* the second is at its gate */
    assert_int_equal(atomic_load(&rig.fake->n_interrupted), 0);
    atomic_store(&rig.fake->n_gates, -1);
    assert_int_equal(rig_finish(kept, tokens, 10, &event), 10);
    expect(N_PROMPT, tokens, 10);
    assert_int_equal(rig_finish(samples[1], tokens, 10, &event), 10);
    expect(N_PROMPT, tokens, 10);
    kvern_request_free(kept);
    kvern_request_free(samples[1]);
    rig_close(&rig, 0);
}

/* Who has ended has nothing left to cancel: what it left behind stays. */
static void a_cancel_after_the_end_changes_nothing(void **state)
{
    struct rig rig;
    kvern_event event;

    (void)state;
    fill_prompt(3);
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){.has_no_prefix_cache = true});
    kvern_request_options options = make_options(N_PROMPT, 5);
    options.conversation = 3;
    for (size_t i = 0; i < 2; i++) {
        kvern_request *request = rig_submit(&rig, &options);

        assert_int_equal(rig_finish(request, NULL, 0, &event), 5);
        if (event.n_cached_tokens != (i > 0 ? N_PROMPT - 1 : 0))
            fail_msg("request %zu: %zu tokens", i, event.n_cached_tokens);
        kvern_request_cancel(request);
        kvern_request_free(request);
    }
    rig_close(&rig, kv_blocks_for_tokens(N_PROMPT + 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_run_the_prompt_once),
        cmocka_unit_test(samples_need_their_places),
        cmocka_unit_test(prefixes_are_counted),
        cmocka_unit_test(prompts_are_kept_whole),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(a_cancel_cuts_a_long_step_short),
        cmocka_unit_test(a_cancel_cuts_a_long_encode_short),
        cmocka_unit_test(a_cancel_outside_of_the_step_is_done_at_once),
        cmocka_unit_test(a_cancel_after_the_end_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
