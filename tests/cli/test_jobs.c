/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts on their way through a small engine whose queue has few places: several answers to one
 * prompt, prompts that never fit, cancels, and what is told of all answers together.
 */
#include "cli/job_result.h"
#include "cli/jobs.h"
#include "test.h"

#include "system/support_files.h"
#include "system/support_small.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_WAITING = 4, MAX_POLLS = 2000 };

static void open_jobs(struct jobs *jobs)
{
    kvern_engine_options options;
    kvern_error err;

    *jobs = (struct jobs){0};
    kvern_engine_options_init(&options);
    options.n_threads = 1;
    options.max_sequences = 2;
    options.max_waiting = MAX_WAITING;
    if (kvern_engine_open(&jobs->engine, small_model, &options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static void close_jobs(struct jobs *jobs)
{
    kvern_engine *engine = jobs->engine;

    jobs_clear(jobs);
    kvern_engine_close(engine);
}

static struct job *add(struct jobs *jobs, int id, size_t n, int max_tokens)
{
    struct prompt_settings settings = {.n = n, .is_raw = true};
    kvern_error err;

    kvern_request_options_init(&settings.request);
    settings.request.max_tokens = max_tokens;
    settings.request.ignore_eos = true;
    struct job *job = jobs_add(jobs, &settings);
    job->prompt.id = json_integer(id);
    if (prompt_set_text(&job->prompt, small_model, &settings, "ab", &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return job;
}

/* The first that is done, with everything that can be submitted, submitted. */
static struct job *take(struct jobs *jobs)
{
    for (int i = 0; i < MAX_POLLS; i++) {
        struct job *job = jobs_take(jobs, true);
        kvern_error err;

        if (job)
            return job;
        if (jobs_submit(jobs, &err) != KVERN_OK || jobs_poll(jobs, 10, &err) != KVERN_OK)
            fail_msg("%s", err.message);
    }
    fail_msg("no job is done after %d polls", MAX_POLLS);
    return NULL;
}

/* Each waits until it has all its places; one that needs more than there are fails alone. */
static void all_get_their_turn(void **state)
{
    static const size_t n_answers[] = {3, 1, MAX_WAITING, MAX_WAITING + 1, 1, 256, 2};
    struct jobs jobs;

    (void)state;
    open_jobs(&jobs);
    for (size_t i = 0; i < COUNT(n_answers); i++)
        add(&jobs, (int)i, n_answers[i], 5);
    for (size_t i = 0; i < COUNT(n_answers); i++) {
        struct job *job = take(&jobs);
        struct job_totals total = job_total(job);
        bool fits = n_answers[i] <= MAX_WAITING;

        assert_int_equal(json_integer_value(job->prompt.id), i);
        assert_int_equal(job->n_answers, n_answers[i]);
        assert_int_equal(total.n_failed, fits ? 0 : n_answers[i]);
        assert_int_equal(total.n_cut, fits ? n_answers[i] : 0);
        assert_int_equal(total.n_completion_tokens, fits ? 5 * n_answers[i] : 0);
        assert_int_equal(total.n_prompt_tokens, 2); /* counted once; <s> and "ab" */
        if (fits)
            assert_int_equal(total.error.status, KVERN_OK);
        else
            check_message(total.error.status, &total.error,
                          "answers to one prompt are more than the engine's queue takes");
        job_free(job);
    }
    assert_int_equal(jobs.n_answers, 0);
    assert_int_equal(jobs.n_in_engine, 0);
    close_jobs(&jobs);
}

static atomic_bool is_held;

static void hold_engine(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    (void)logits, (void)vocab_size, (void)position, (void)user_data;
    while (atomic_load(&is_held))
        usleep(1000);
}

static void a_cancel_ends_all_answers(void **state)
{
    struct jobs jobs;
    kvern_error err;

    (void)state;
    open_jobs(&jobs);
    atomic_store(&is_held, true);
    add(&jobs, 0, 3, 0)->prompt.request.on_logits = hold_engine; /* two run, one waits */
    add(&jobs, 1, MAX_WAITING, 0);
    assert_int_equal(jobs_submit(&jobs, &err), KVERN_OK);
    assert_int_equal(jobs.n_in_engine, 3);
    atomic_store(&is_held, false);
    jobs_cancel(&jobs);
    assert_false(jobs_have_room(&jobs));
    for (size_t i = 0; i < 2; i++) {
        struct job *job = take(&jobs);
        struct job_totals total = job_total(job);

        /* the engine may have been at the limit first */
        assert_int_equal(total.n_cancelled + total.n_cut, 3 + i);
        assert_true(i == 0 || total.n_cut == 0);
        assert_int_equal(job->n_answers, 3 + i);
        job_free(job);
    }
    close_jobs(&jobs);
}

/* What waits for its turn is bounded by its answers, not by its prompts. */
static void room_is_counted_in_answers(void **state)
{
    const kvern_error error = {KVERN_INVALID, "none of it"};
    struct jobs jobs = {0};
    size_t n = 0;

    (void)state;
    for (; jobs_have_room(&jobs); n++) {
        struct job *job = add(&jobs, (int)n, 256, 5);

        assert_false(jobs_have_room(&jobs)); /* the last one is not submitted yet */
        jobs_refuse(&jobs, job, &error);
    }
    assert_int_equal(n, 4);
    assert_int_equal(jobs_count_done(&jobs), 4);
    job_free(jobs_take(&jobs, true));
    assert_true(jobs_have_room(&jobs));
    jobs_clear(&jobs);
}

/* Answers that no engine made: one of three failed. */
static void one_failed_answer_is_told(void **state)
{
    struct jobs jobs = {0};
    struct job *job = add(&jobs, 7, 3, 5);
    const kvern_error error = {KVERN_RUNTIME, "the kernel is broken"};

    (void)state;
    jobs_refuse(&jobs, job, &error);
    job = jobs_take(&jobs, true);
    for (size_t i = 0; i < 3; i += 2) {
        job->answers[i].event = (kvern_event){.finish = KVERN_FINISH_STOP,
                                              .n_prompt_tokens = 2,
                                              .n_completion_tokens = 4 + i,
                                              .n_cached_tokens = i / 2,
                                              .wait_ms = 1 + (double)i,
                                              .prefill_ms = 2 + (double)i,
                                              .decode_ms = 3 + (double)i};
        buffer_add_string(&job->answers[i].text, "some");
    }
    json_t *result = job_json(job, small_model);
    json_t *expected =
        json_pack("{s:i s:[{s:s s:s} {s:s s:s s:s} {s:s s:s}] s:{s:i s:i s:i} s:{s:f s:f s:f} s:s}",
                  "id", 7, "answers", "text", "some", "finish_reason", "stop", "text", "",
                  "finish_reason", "error", "error", "the kernel is broken", "text", "some",
                  "finish_reason", "stop", "usage", "prompt_tokens", 2, "completion_tokens", 4 + 6,
                  "cached_tokens", 0, "timings", "wait_ms", 1.0, "prefill_ms", 2.0, "decode_ms",
                  5.0, "error", "1 of 3 answers failed: the kernel is broken");
    assert_non_null(expected);
    if (!json_equal(result, expected)) {
        char *got = json_dumps(result, 0);
        fail_msg("it is %s", got);
    }
    assert_false(job_is_empty(job));
    json_decref(expected);
    json_decref(result);
    job_free(job);
    jobs_clear(&jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_get_their_turn),
        cmocka_unit_test(a_cancel_ends_all_answers),
        cmocka_unit_test(room_is_counted_in_answers),
        cmocka_unit_test(one_failed_answer_is_told),
    };

    return cmocka_run_group_tests(tests, open_small_model, close_small_model);
}
