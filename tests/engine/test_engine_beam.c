/* SPDX-License-Identifier: Apache-2.0
 *
 * Beam search in the engine, over the fake runner: the answers are those of the search run by hand,
 * bit for bit, whatever else runs, however prompts are cut, and with so few blocks or places that
 * beams are pre-empted all the time. A search ends as one: by a cancel, a deadline, an error.
 */
#include "test.h"

#include "engine/beam.h"
#include "engine/sampler.h"
#include "support_rig.h"

#include <string.h>
#include <unistd.h>

enum { N_PROMPT = 70, MOST = 40 };

static const int32_t stops[] = {7, 33, 90, 128, 200, 251};
static int32_t prompt[N_PROMPT];

static void fill_prompt(int32_t seed)
{
    for (int32_t i = 0; i < N_PROMPT; i++)
        prompt[i] = (seed * 17 + i * 7) % 250;
}

struct setting {
    int32_t num_beams, max_tokens, min_tokens, ngram;
    float length_penalty, repetition;
    kvern_early_stopping early_stopping;
};

/* So many tokens that beams run over the ends of blocks. */
static const struct setting settings[] = {
    {2, 3, 0, 0, 1, 1, KVERN_EARLY_STOPPING_FALSE},
    {4, MOST, 0, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER},
    {4, 30, 8, 2, 2, 1.2F, KVERN_EARLY_STOPPING_FALSE},
    {3, 25, 0, 1, 0, 1, KVERN_EARLY_STOPPING_TRUE},
    {5, MOST, 20, 0, -1, 1, KVERN_EARLY_STOPPING_NEVER},
};

static kvern_request_options make_options(const struct setting *setting, size_t n_prompt)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = n_prompt;
    options.max_tokens = setting->max_tokens;
    options.min_tokens = setting->min_tokens;
    options.num_beams = setting->num_beams;
    options.length_penalty = setting->length_penalty;
    options.early_stopping = setting->early_stopping;
    options.sampling.no_repeat_ngram_size = setting->ngram;
    options.sampling.repetition_penalty = setting->repetition;
    options.stop_token_ids = stops;
    options.n_stop_token_ids = COUNT(stops);
    return options;
}

/* One answer; enough of it to compare. */
struct answer {
    float score;
    size_t n;
    int32_t tokens[MOST];
    kvern_finish finish;
};

static void show_beam(const kvern_request_options *options, struct sampler *sampler,
                      struct beam_search *search, size_t beam, const int32_t *ends)
{
    static float logits[FAKE_VOCAB];
    int32_t history[N_PROMPT + MOST];
    size_t n = options->n_prompt + search->n_tokens;
    bool is_early = search->n_tokens < (size_t)options->min_tokens;
    const struct sampler_place place = {.logits = logits,
                                        .history = history,
                                        .n_history = n,
                                        .n_prompt = options->n_prompt,
                                        .barred = ends,
                                        .n_barred = is_early ? COUNT(stops) + 1 : 0};
    const float *log_probs;

    memcpy(history, options->prompt, options->n_prompt * sizeof *history);
    beam_search_read(search, search->beams[beam].node, search->n_tokens,
                     history + options->n_prompt);
    fake_logits(history, n, logits);
    assert_int_equal(sampler_log_softmax(sampler, &options->sampling, &place, &log_probs, NULL),
                     KVERN_OK);
    beam_search_see(search, beam, log_probs);
}

/* What the answers are, without an engine. */
static void expect(const kvern_request_options *options, struct answer *answers)
{
    int32_t ends[COUNT(stops) + 1] = {FAKE_STOP_ID};
    const struct beam_options of_search = {.n_beams = (size_t)options->num_beams,
                                           .length_penalty = options->length_penalty,
                                           .early_stopping = options->early_stopping,
                                           .max_tokens = (size_t)options->max_tokens,
                                           .end_ids = ends,
                                           .n_end_ids = COUNT(ends),
                                           .vocab_size = FAKE_VOCAB};
    struct beam_search search;
    struct sampler sampler;

    memcpy(ends + 1, stops, sizeof stops);
    assert_int_equal(sampler_init(&sampler, FAKE_VOCAB, NULL), KVERN_OK);
    assert_int_equal(beam_search_init(&search, &of_search, NULL), KVERN_OK);
    while (!search.is_done) {
        for (size_t i = 0; i < (search.n_tokens == 0 ? 1 : of_search.n_beams); i++)
            show_beam(options, &sampler, &search, i, ends);
        assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
    }
    for (size_t i = 0; i < of_search.n_beams; i++) {
        struct answer *answer = &answers[i];

        answer->score = search.answers[i].score;
        answer->n = search.answers[i].n_tokens;
        beam_search_read(&search, search.answers[i].node, answer->n, answer->tokens);
        answer->finish = KVERN_FINISH_LENGTH;
        for (size_t j = 0; j < COUNT(ends); j++) {
            if (answer->tokens[answer->n - 1] == ends[j])
                answer->finish = KVERN_FINISH_STOP;
        }
    }
    beam_search_clear(&search);
    sampler_clear(&sampler);
}

static void check_answer(kvern_request *request, const kvern_request_options *options,
                         const struct answer *expected)
{
    int32_t tokens[MOST];
    kvern_event event;
    size_t n = rig_finish(request, tokens, MOST, &event);

    assert_string_equal(event.error.message, "");
    assert_int_equal(event.finish, expected->finish);
    assert_int_equal(n, expected->n);
    assert_memory_equal(tokens, expected->tokens, n * sizeof *tokens);
    assert_memory_equal(&event.score, &expected->score, sizeof event.score);
    assert_int_equal(event.n_completion_tokens, n);
    assert_int_equal(event.n_prompt_tokens, options->n_prompt);
}

/* Where a search runs: with what room, and with `n_others` greedy ones beside it. */
struct circumstance {
    size_t n_blocks, chunk, max_sequences, step_tokens, n_others;
    bool keeps_values, has_no_prefix_cache;
    size_t least_preempted;
};

static const struct circumstance circumstances[] = {
    {200, 0, 0, 0, 0, false, false, 0},
    {200, 7, 0, 0, 0, false, false, 0},
    {200, 0, 0, 5, 6, false, false, 0}, /* fewer tokens than beams */
    {200, 16, 5, 16, 9, false, false, 0},
    {7, 0, 0, 0, 0, false, false, 20}, /* as much as one beam needs at its longest */
    {7, 5, 0, 0, 0, false, true, 20},
    {12, 0, 0, 0, 3, false, true, 1},
    {200, 30, 0, 0, 4, true, false, 0},
    {35, 30, 5, 0, 4, true, false, 0}, /* five of seven blocks: they are promised all at once */
};

static void check_search(const struct rig *rig, const struct circumstance *where,
                         const struct setting *setting)
{
    const struct setting greedy = {.max_tokens = 20, .length_penalty = 1, .repetition = 1};
    kvern_request_options options = make_options(setting, N_PROMPT);
    kvern_request_options other = make_options(&greedy, N_PROMPT / 2);
    kvern_request *requests[5], *others[10];
    struct answer answers[5];
    size_t n = (size_t)setting->num_beams;

    expect(&options, answers);
    for (size_t i = 0; i < where->n_others / 2; i++)
        others[i] = rig_submit(rig, &other);
    assert_int_equal(kvern_submit_samples(rig->engine, &options, n, requests, NULL), KVERN_OK);
    for (size_t i = where->n_others / 2; i < where->n_others; i++)
        others[i] = rig_submit(rig, &other);
    for (size_t i = 0; i < n; i++) {
        check_answer(requests[i], &options, &answers[i]);
        kvern_request_free(requests[i]);
    }
    assert_int_equal(kvern_submit_samples(rig->engine, &options, 1, requests, NULL), KVERN_OK);
    check_answer(requests[0], &options, &answers[0]);
    kvern_request_free(requests[0]);
    for (size_t i = 0; i < where->n_others; i++) {
        kvern_event event;

        rig_finish(others[i], NULL, 0, &event);
        kvern_request_free(others[i]);
    }
}

static void answers_are_the_same_everywhere(void **state)
{
    (void)state;
    for (size_t c = 0; c < COUNT(circumstances); c++) {
        const struct circumstance *where = &circumstances[c];
        struct fake_runner *fake = fake_runner_new(where->n_blocks);
        kvern_engine_stats stats;
        struct rig rig;

        fake->keeps_values = where->keeps_values;
        rig_open(&rig, fake,
                 (struct engine_limits){.prefill_chunk = where->chunk,
                                        .step_tokens = where->step_tokens,
                                        .max_sequences = where->max_sequences,
                                        .has_no_prefix_cache = where->has_no_prefix_cache});
        for (size_t i = 0; i < COUNT(settings); i++) {
            fill_prompt((int32_t)(1 + i));
            check_search(&rig, where, &settings[i]);
        }
        kvern_engine_get_stats(rig.engine, &stats);
        if ((size_t)stats.n_preemptions < where->least_preempted)
            fail_msg("circumstance %zu: %lld pre-emptions", c, (long long)stats.n_preemptions);
        rig_close(&rig, fake->keeps_values ? (size_t)stats.n_kv_blocks_used : 0);
    }
}

/* Three searches at once in the room of one beam, or of one search where beams cannot be
 * pre-empted: none waits for ever. */
static void searches_share_little_room(void **state)
{
    static const struct {
        size_t n_blocks, max_sequences;
        bool keeps_values;
    } cases[] = {{7, 5, false}, {9, 5, false}, {15, 5, false}, {24, 12, true}, {30, 12, true}};
    const struct setting setting = {4, 20, 0, 0, 1, 1, KVERN_EARLY_STOPPING_FALSE};

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        kvern_request_options options = make_options(&setting, N_PROMPT);
        kvern_request *requests[3];
        struct answer answers[3][4];
        struct rig rig;

        struct fake_runner *fake = fake_runner_new(cases[c].n_blocks);

        fake->keeps_values = cases[c].keeps_values;
        rig_open(&rig, fake,
                 (struct engine_limits){.max_sequences = cases[c].max_sequences,
                                        .prefill_chunk = 20,
                                        .has_no_prefix_cache = true});
        for (size_t i = 0; i < 3; i++) {
            fill_prompt((int32_t)(40 + i));
            options.priority = (int32_t)(i % 2); /* the second one makes its way */
            expect(&options, answers[i]);
            requests[i] = rig_submit(&rig, &options);
        }
        for (size_t i = 0; i < 3; i++) {
            check_answer(requests[i], &options, &answers[i][0]);
            kvern_request_free(requests[i]);
        }
        rig_close(&rig, 0);
    }
}

/* The prompt runs once, and the first token of all beams comes of one row. */
static void prompt_runs_once(void **state)
{
    const struct setting setting = {4, 5, 0, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER};
    kvern_request_options options = make_options(&setting, N_PROMPT);
    kvern_engine_stats stats;
    struct rig rig;
    kvern_event event;

    (void)state;
    fill_prompt(3);
    options.n_stop_token_ids = 0;
    options.ignore_eos = true;
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){0});
    kvern_request *request = rig_submit(&rig, &options);
    assert_int_equal(rig_finish(request, NULL, 0, &event), 5);
    assert_int_equal(event.finish, KVERN_FINISH_LENGTH);
    kvern_engine_get_stats(rig.engine, &stats);
    assert_int_equal(stats.n_prefill_tokens, N_PROMPT);
    assert_int_equal(stats.n_decode_tokens, 4 * 4);
    assert_int_equal(stats.n_steps, 5);
    kvern_request_free(request);
    rig_close(&rig, 0);
}

/* The cancel of one, of any, ends them all, before the next step or at once. */
static void one_cancel_ends_all(void **state)
{
    const struct setting setting = {3, MOST, MOST, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER};

    (void)state;
    fill_prompt(4);
    for (size_t n_gates = 0; n_gates < 4; n_gates++) {
        for (size_t who = 0; who < 2; who++) {
            kvern_request_options options = make_options(&setting, N_PROMPT);
            kvern_request *requests[2];
            struct rig rig;

            rig_open(&rig, fake_runner_new(60), (struct engine_limits){.prefill_chunk = 40});
            atomic_store(&rig.fake->n_gates, (int)n_gates);
            assert_int_equal(kvern_submit_samples(rig.engine, &options, 2, requests, NULL),
                             KVERN_OK);
            while (atomic_load(&rig.fake->n_gates) > 0)
                usleep(100);
            kvern_request_cancel(requests[who]);
            atomic_store(&rig.fake->n_gates, -1);
            for (size_t i = 0; i < 2; i++) {
                kvern_event event;

                assert_int_equal(rig_finish(requests[i], NULL, 0, &event), 0);
                assert_int_equal(event.finish, KVERN_FINISH_CANCELLED);
                assert_int_equal(event.n_completion_tokens, 0);
                kvern_request_free(requests[i]);
            }
            rig_close(&rig, 0);
        }
    }
}

/* A deadline; the engine's end; requests that are freed as they run. */
static void other_ends(void **state)
{
    const struct setting setting = {3, MOST, MOST, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER};
    kvern_request_options options = make_options(&setting, N_PROMPT);
    kvern_request *requests[3];
    struct rig rig;
    kvern_event event;

    (void)state;
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){0});
    atomic_store(&rig.fake->n_gates, 2);
    options.timeout_ms = 20;
    requests[0] = rig_submit(&rig, &options);
    usleep(40 * 1000);
    atomic_store(&rig.fake->n_gates, -1);
    rig_finish(requests[0], NULL, 0, &event);
    assert_int_equal(event.finish, KVERN_FINISH_TIMEOUT);
    kvern_request_free(requests[0]);
    options.timeout_ms = 0;
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 3, requests, NULL), KVERN_OK);
    for (size_t i = 0; i < 3; i++)
        kvern_request_free(requests[i]);
    rig_close(&rig, 0);
}

/* A row that is not finite, or a step that fails, ends the search and nobody else. */
static void errors_end_the_search_alone(void **state)
{
    static const struct {
        int32_t id; /* forced as the first token */
        const char *message;
    } cases[] = {{FAKE_NAN, "logits of token 71 are not finite"},
                 {FAKE_POISON, "token 298 is poison"}};
    const struct setting setting = {3, MOST, 0, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER};
    const struct setting greedy = {.max_tokens = 20, .length_penalty = 1, .repetition = 1};

    (void)state;
    fill_prompt(6);
    for (size_t c = 0; c < COUNT(cases); c++) {
        kvern_request_options options = make_options(&setting, N_PROMPT);
        kvern_request_options other = make_options(&greedy, N_PROMPT / 2);
        const kvern_logit_bias bias = {cases[c].id, 25};
        kvern_request *requests[3];
        struct rig rig;
        kvern_event event;

        rig_open(&rig, fake_runner_new(60), (struct engine_limits){0});
        kvern_request *beside = rig_submit(&rig, &other);
        options.sampling.logit_bias = &bias;
        options.sampling.n_logit_bias = 1;
        assert_int_equal(kvern_submit_samples(rig.engine, &options, 3, requests, NULL), KVERN_OK);
        for (size_t i = 0; i < 3; i++) {
            rig_finish(requests[i], NULL, 0, &event);
            assert_int_equal(event.finish, KVERN_FINISH_ERROR);
            assert_string_equal(event.error.message, cases[c].message);
            kvern_request_free(requests[i]);
        }
        rig_finish(beside, NULL, 0, &event);
        assert_int_equal(event.finish, KVERN_FINISH_LENGTH);
        kvern_request_free(beside);
        rig_close(&rig, 0);
    }
}

/* A step has failed and its requests run alone: while one does, another has ended and is freed, and
 * a third is cancelled. */
static void a_cancel_while_a_failed_step_runs_again(void **state)
{
    const struct setting greedy = {.max_tokens = 1, .length_penalty = 1, .repetition = 1};
    const struct setting beams = {3, MOST, 0, 0, 1, 1, KVERN_EARLY_STOPPING_NEVER};
    kvern_request_options options = make_options(&greedy, 5);
    kvern_request_options of_search = make_options(&beams, 5);
    const int32_t poison[] = {1, FAKE_POISON};
    struct rig rig;
    kvern_event event;

    (void)state;
    fill_prompt(7);
    rig_open(&rig, fake_runner_new(60), (struct engine_limits){0});
    atomic_store(&rig.fake->n_gates, 0);
    kvern_request *first = rig_submit(&rig, &options);
    usleep(20 * 1000); /* into its run, so that the next two share a step */
    kvern_request *ended = rig_submit(&rig, &options);
    options.prompt = poison;
    options.n_prompt = 2;
    kvern_request *failed = rig_submit(&rig, &options);
    atomic_store(&rig.fake->n_gates, 3); /* theirs, and one more for the first of them alone */
    rig_finish(ended, NULL, 0, &event);
    assert_int_equal(event.finish, KVERN_FINISH_LENGTH);
    kvern_request_free(ended);
    kvern_request *cancelled = rig_submit(&rig, &of_search);
    kvern_request_cancel(cancelled);
    assert_int_equal(kvern_request_next(cancelled, 0, &event, NULL), KVERN_OK);
    assert_int_equal(event.finish, KVERN_FINISH_CANCELLED);
    atomic_store(&rig.fake->n_gates, -1);
    rig_finish(failed, NULL, 0, &event);
    assert_int_equal(event.finish, KVERN_FINISH_ERROR);
    kvern_request_free(first);
    kvern_request_free(failed);
    kvern_request_free(cancelled);
    rig_close(&rig, 0);
}

static void what_cannot_be_is_refused(void **state)
{
    struct setting setting = {6, MOST, 0, 0, 1, 1, KVERN_EARLY_STOPPING_FALSE};
    kvern_request_options options = make_options(&setting, N_PROMPT);
    kvern_request *requests[7];
    kvern_error err = {0};
    struct fake_runner *fake = fake_runner_new(20);
    struct rig rig;

    (void)state;
    fake->keeps_values = true;
    rig_open(&rig, fake, (struct engine_limits){.max_sequences = 5});
    assert_int_equal(kvern_submit_samples(rig.engine, &options, 7, requests, &err), KVERN_INVALID);
    assert_string_equal(err.message, "7 answers of 6 beams; there can be at most one a beam");
    assert_int_equal(kvern_submit(rig.engine, &options, requests, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "num_beams is 6, over the limit of 5 sequences at once");
    options.num_beams = 3;
    assert_int_equal(kvern_submit(rig.engine, &options, requests, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "3 beams of 7 KV blocks each are over the limit of 20 blocks");
    options.sampling.temperature = 1;
    assert_int_equal(kvern_submit(rig.engine, &options, requests, &err), KVERN_UNSUPPORTED);
    rig_close(&rig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same_everywhere),
        cmocka_unit_test(searches_share_little_room),
        cmocka_unit_test(prompt_runs_once),
        cmocka_unit_test(one_cancel_ends_all),
        cmocka_unit_test(other_ends),
        cmocka_unit_test(errors_end_the_search_alone),
        cmocka_unit_test(a_cancel_while_a_failed_step_runs_again),
        cmocka_unit_test(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
