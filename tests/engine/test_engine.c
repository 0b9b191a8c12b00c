/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine over the fake runner: answers do not depend on neighbours or chunks, cancel works in
 * each state, failures stay with the guilty, limits are told.
 */
#include "support_fake_runner.h"

#include "base/memory.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct answer {
    int32_t tokens[256];
    size_t n_tokens;
    char text[1024];
    kvern_event last;
};

struct rig {
    struct fake_runner *fake;
    kvern_engine *engine;
};

static struct rig open_rig(size_t n_blocks, struct engine_limits limits)
{
    static const int32_t stop_id = FAKE_STOP_ID;
    struct rig rig = {.fake = fake_runner_new(n_blocks)};
    kvern_error err = {0};

    limits.checks_blocks = true;
    if (engine_new(&rig.engine, &rig.fake->runner, &limits, &fake_decoder,
                   (struct stop_ids){&stop_id, 1}, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return rig;
}

static void close_rig(struct rig *rig)
{
    kvern_engine_stats stats;

    kvern_engine_get_stats(rig->engine, &stats);
    assert_int_equal(stats.n_kv_blocks_used, 0);
    assert_int_equal(stats.n_waiting, 0);
    kvern_engine_close(rig->engine);
    assert_true(atomic_load(&rig->fake->is_freed));
    assert_int_equal(atomic_load(&rig->fake->n_bad_reads), 0);
    fake_runner_destroy(rig->fake);
}

static kvern_request_options options_for(const int32_t *prompt, size_t n, int32_t max_tokens)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = n;
    options.max_tokens = max_tokens;
    return options;
}

static kvern_request *submit(kvern_engine *engine, const kvern_request_options *options)
{
    kvern_request *request = NULL;
    kvern_error err = {0};

    if (kvern_submit(engine, options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

static void read_answer(kvern_request *request, struct answer *answer)
{
    size_t n_text = 0;

    memset(answer, 0, sizeof *answer);
    do {
        assert_int_equal(kvern_request_next(request, 20000, &answer->last, NULL), KVERN_OK);
        for (size_t i = 0; i < answer->last.n_tokens; i++)
            answer->tokens[answer->n_tokens + i] = answer->last.tokens[i];
        answer->n_tokens += answer->last.n_tokens;
        memcpy(answer->text + n_text, answer->last.text, answer->last.n_text);
        n_text += answer->last.n_text;
    } while (answer->last.finish == KVERN_FINISH_NONE);
}

static void run(kvern_engine *engine, const kvern_request_options *options, struct answer *answer)
{
    kvern_request *request = submit(engine, options);

    read_answer(request, answer);
    kvern_request_free(request);
}

static size_t make_prompt(unsigned seed, int32_t *prompt)
{
    size_t n = 1 + seed * 37 % 150;

    for (size_t i = 0; i < n; i++)
        prompt[i] = (int32_t)((seed * 131 + i * i * 17 + i) % 256);
    return n;
}

static void check_greedy(const int32_t *prompt, size_t n, const struct answer *answer,
                         size_t n_expected)
{
    int32_t history[512];

    assert_int_equal(answer->last.finish, KVERN_FINISH_LENGTH);
    assert_int_equal(answer->n_tokens, n_expected);
    assert_int_equal(answer->last.n_completion_tokens, n_expected);
    assert_int_equal(answer->last.n_prompt_tokens, n);
    memcpy(history, prompt, n * sizeof *prompt);
    for (size_t i = 0; i < n_expected; i++) {
        history[n + i] = fake_next(history, n + i);
        assert_int_equal(answer->tokens[i], history[n + i]);
    }
}

/* 24 prompts at once, under budgets and chunks that cut them in many ways: each answer is the one
 * its own history gives. */
static void test_batches_and_chunks(void **state)
{
    static const struct engine_limits cases[] = {
        {.max_sequences = 1},
        {.max_sequences = 32},
        {.max_sequences = 32, .prefill_chunk = 1},
        {.max_sequences = 32, .prefill_chunk = 7},
        {.max_sequences = 7, .prefill_chunk = 64, .step_tokens = 33},
        {.max_sequences = 5, .step_tokens = 2},
    };
    enum { N = 24 };
    static int32_t prompts[N][256];
    (void)state;

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct rig rig = open_rig(64, cases[c]);
        kvern_request *requests[N];
        size_t lengths[N];

        for (unsigned i = 0; i < N; i++) {
            lengths[i] = make_prompt(i, prompts[i]);
            kvern_request_options options =
                options_for(prompts[i], lengths[i], 1 + (int32_t)(i * 13 % 40));
            requests[i] = submit(rig.engine, &options);
        }
        for (unsigned i = 0; i < N; i++) {
            struct answer answer;

            read_answer(requests[i], &answer);
            check_greedy(prompts[i], lengths[i], &answer, 1 + i * 13 % 40);
            kvern_request_free(requests[i]);
        }
        if (cases[c].step_tokens)
            assert_true(atomic_load(&rig.fake->widest) <= cases[c].step_tokens);
        close_rig(&rig);
    }
}

/* Sampled answers: the seed decides, not the neighbours. */
static void test_seeds(void **state)
{
    struct rig rig = open_rig(64, (struct engine_limits){.max_sequences = 16});
    int32_t prompt[256];
    size_t n = make_prompt(3, prompt);
    kvern_request_options options = options_for(prompt, n, 40);
    kvern_request *beside[6];
    struct answer alone;
    struct answer again;
    struct answer other;
    (void)state;

    options.sampling.temperature = 2;
    options.sampling.top_p = 0.95F;
    options.sampling.seed = 42;
    run(rig.engine, &options, &alone);
    for (size_t i = 0; i < 6; i++) {
        kvern_request_options stranger = options;

        stranger.sampling.seed = i;
        beside[i] = submit(rig.engine, &stranger);
    }
    run(rig.engine, &options, &again);
    assert_int_equal(alone.n_tokens, 40);
    assert_memory_equal(alone.tokens, again.tokens, sizeof alone.tokens);
    read_answer(beside[1], &other);
    assert_true(memcmp(alone.tokens, other.tokens, sizeof alone.tokens) != 0);
    for (size_t i = 0; i < 6; i++)
        kvern_request_free(beside[i]);
    close_rig(&rig);
}

static void wait_for_runs(struct rig *rig, int n)
{
    while (atomic_load(&rig->fake->n_runs) < n)
        sched_yield();
}

/* One request is cancelled while decoding, prefilling or waiting; the other is unharmed. */
static void test_cancel(void **state)
{
    (void)state;
    for (int when = 0; when < 3; when++) {
        struct rig rig = open_rig(
            64, (struct engine_limits){.max_sequences = when == 2 ? 1 : 2, .prefill_chunk = 16});
        int32_t prompt[256];
        int32_t long_prompt[200] = {0};
        size_t n = make_prompt(0, prompt);
        kvern_request_options options = options_for(prompt, n, 60);
        kvern_request_options victim_options =
            options_for(when == 0 ? prompt : long_prompt, when == 0 ? n : 200, 60);
        struct answer answer;

        atomic_store(&rig.fake->n_gates, 0);
        kvern_request *survivor = submit(rig.engine, &options);
        kvern_request *victim = submit(rig.engine, &victim_options);
        atomic_store(&rig.fake->n_gates, 4);
        wait_for_runs(&rig, 4);
        kvern_request_cancel(victim);
        kvern_request_cancel(victim);
        int n_runs = atomic_load(&rig.fake->n_runs);
        atomic_store(&rig.fake->n_gates, 2);
        read_answer(victim, &answer);
        assert_int_equal(answer.last.finish, KVERN_FINISH_CANCELLED);
        assert_true(atomic_load(&rig.fake->n_runs) <= n_runs + 2);
        if (when == 0)
            assert_true(answer.n_tokens > 0);
        else
            assert_int_equal(answer.n_tokens, 0);
        atomic_store(&rig.fake->n_gates, -1);
        read_answer(survivor, &answer);
        check_greedy(prompt, n, &answer, 60);
        kvern_request_free(survivor);
        kvern_request_free(victim);
        close_rig(&rig);
    }
}

/* Stop strings taken out of the answer itself, over token borders (each token is one byte). */
static void test_stop_strings(void **state)
{
    struct rig rig = open_rig(64, (struct engine_limits){.max_sequences = 4});
    (void)state;

    for (unsigned seed = 0; seed < 40; seed++) {
        int32_t prompt[256];
        size_t n = make_prompt(seed, prompt);
        kvern_request_options options = options_for(prompt, n, 90);
        struct answer whole;
        struct answer cut;
        size_t at = 0;
        char stop[3] = {0};

        run(rig.engine, &options, &whole);
        for (at = 4; at + 1 < whole.n_tokens; at++) {
            if (whole.tokens[at] > 0 && whole.tokens[at] < 128 && whole.tokens[at + 1] > 0 &&
                whole.tokens[at + 1] < 128)
                break;
        }
        if (at + 1 >= whole.n_tokens)
            continue;
        stop[0] = (char)whole.tokens[at];
        stop[1] = (char)whole.tokens[at + 1];
        const char *stops[] = {"never in there", stop};
        options.stop = stops;
        options.n_stop = 2;
        run(rig.engine, &options, &cut);
        assert_int_equal(cut.last.finish, KVERN_FINISH_STOP);
        assert_true(cut.n_tokens <= at + 2);
        assert_null(strstr(cut.text, stop));
        assert_memory_equal(cut.tokens, whole.tokens, cut.n_tokens * sizeof(int32_t));
        /* a byte of the answer each, but for the two of the stop string */
        for (size_t i = 0; i + 2 < cut.n_tokens; i++)
            assert_int_equal((unsigned char)cut.text[i], cut.tokens[i]);
        assert_int_equal(cut.text[cut.n_tokens - 2], 0);
    }
    close_rig(&rig);
}

static void test_errors_stay_alone(void **state)
{
    struct rig rig = open_rig(64, (struct engine_limits){.max_sequences = 8});
    int32_t good[256];
    const int32_t poison[] = {1, FAKE_POISON, 2};
    const int32_t nan[] = {1, 2, FAKE_NAN};
    size_t n = make_prompt(5, good);
    kvern_request_options options[3] = {options_for(good, n, 30), options_for(poison, 3, 30),
                                        options_for(nan, 3, 30)};
    kvern_request *requests[9];
    (void)state;

    atomic_store(&rig.fake->n_gates, 0);
    for (size_t i = 0; i < 9; i++)
        requests[i] = submit(rig.engine, &options[i % 3]);
    atomic_store(&rig.fake->n_gates, -1);
    for (size_t i = 0; i < 9; i++) {
        struct answer answer;

        read_answer(requests[i], &answer);
        if (i % 3 == 0) {
            check_greedy(good, n, &answer, 30);
        } else {
            assert_int_equal(answer.last.finish, KVERN_FINISH_ERROR);
            assert_int_equal(answer.last.error.status, KVERN_RUNTIME);
            assert_string_equal(answer.last.error.message,
                                i % 3 == 1 ? "token 298 is poison"
                                           : "logits of token 3 are not finite");
        }
        kvern_request_free(requests[i]);
    }
    close_rig(&rig);
}

static void test_refusals(void **state)
{
    struct rig rig = open_rig(4, (struct engine_limits){.max_sequences = 1, .max_waiting = 2});
    int32_t prompt[128] = {0};
    const int32_t outside = FAKE_VOCAB;
    const char *empty_stop = "";
    struct {
        kvern_request_options options;
        kvern_status status;
        const char *names;
    } cases[] = {
        {options_for(prompt, 0, 1), KVERN_INVALID, "prompt is empty"},
        {options_for(prompt, 65, 1), KVERN_LIMIT, "context limit of 64"},
        {options_for(prompt, 10, 56), KVERN_LIMIT, "context limit of 64"},
        {options_for(prompt, 10, -1), KVERN_INVALID, "max_tokens is -1"},
        {options_for(&outside, 1, 1), KVERN_INVALID, "vocabulary has 300"},
        {options_for(prompt, 1, 1), KVERN_INVALID, "top_p is 2"},
        {options_for(prompt, 1, 1), KVERN_INVALID, "stop string 0 is empty"},
    };
    kvern_request *requests[3];
    kvern_request *extra = NULL;
    kvern_error err = {0};
    struct answer answer;
    (void)state;

    cases[5].options.sampling.top_p = 2;
    cases[6].options.stop = &empty_stop;
    cases[6].options.n_stop = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_status status = kvern_submit(rig.engine, &cases[i].options, &extra, &err);

        assert_int_equal(status, cases[i].status);
        assert_non_null(strstr(err.message, cases[i].names));
    }
    /* one runs, two wait, the fourth is refused */
    kvern_request_options options = options_for(prompt, 10, 55);
    atomic_store(&rig.fake->n_gates, 1);
    requests[0] = submit(rig.engine, &options);
    wait_for_runs(&rig, 1);
    requests[1] = submit(rig.engine, &options);
    requests[2] = submit(rig.engine, &options);
    assert_int_equal(kvern_submit(rig.engine, &options, &extra, &err), KVERN_BUSY);
    atomic_store(&rig.fake->n_gates, -1);
    for (size_t i = 0; i < 3; i++) {
        read_answer(requests[i], &answer);
        check_greedy(prompt, 10, &answer, 55);
        kvern_request_free(requests[i]);
    }
    options.max_tokens = 0;
    run(rig.engine, &options, &answer);
    check_greedy(prompt, 10, &answer, 54);
    close_rig(&rig);
}

struct shown {
    size_t n;
    size_t positions[256];
    int32_t prompt[256];
    bool is_wrong;
};

static void on_logits(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    struct shown *shown = user_data;
    float expected[FAKE_VOCAB];

    if (position < 150) {
        fake_logits(shown->prompt, position + 1, expected);
        shown->is_wrong |= memcmp(expected, logits, vocab_size * sizeof *logits) != 0;
    }
    shown->positions[shown->n++] = position;
}

static void test_scores_and_logits(void **state)
{
    struct rig rig = open_rig(64, (struct engine_limits){.prefill_chunk = 7});
    static struct shown shown;
    kvern_request_options options;
    kvern_request *request;
    struct answer answer;
    (void)state;

    for (size_t i = 0; i < 150; i++)
        shown.prompt[i] = (int32_t)(i * 7 % 256);
    options = options_for(shown.prompt, 150, 3);
    options.score_prompt = true;
    options.all_logits = true;
    options.on_logits = on_logits;
    options.on_logits_data = &shown;
    request = submit(rig.engine, &options);
    read_answer(request, &answer);
    assert_int_equal(answer.last.n_prompt_logprobs, 149);
    for (size_t i = 0; i < 149; i++)
        assert_true(answer.last.prompt_logprobs[i] < 0 && answer.last.prompt_logprobs[i] > -50);
    assert_int_equal(shown.n, 152);
    for (size_t i = 0; i < 152; i++)
        assert_int_equal(shown.positions[i], i);
    assert_false(shown.is_wrong);
    kvern_request_free(request);
    close_rig(&rig);
}

static void *open_gates_soon(void *fake)
{
    usleep(50 * 1000);
    atomic_store(&((struct fake_runner *)fake)->n_gates, -1);
    return NULL;
}

/* Who runs and who waits, cancelled or not, ends with the engine. */
static void test_close_while_running(void **state)
{
    struct rig rig = open_rig(64, (struct engine_limits){.max_sequences = 2});
    int32_t prompt[256];
    size_t n = make_prompt(1, prompt);
    kvern_request_options options = options_for(prompt, n, 200);
    kvern_request *requests[5];
    pthread_t thread;
    (void)state;

    atomic_store(&rig.fake->n_gates, 10);
    for (size_t i = 0; i < 5; i++)
        requests[i] = submit(rig.engine, &options);
    wait_for_runs(&rig, 10);
    for (size_t i = 0; i < 5; i += 3)
        kvern_request_cancel(requests[i]);
    assert_int_equal(pthread_create(&thread, NULL, open_gates_soon, rig.fake), 0);
    kvern_engine_close(rig.engine);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < 5; i++) {
        struct answer answer;

        read_answer(requests[i], &answer);
        assert_int_equal(answer.last.finish, KVERN_FINISH_CANCELLED);
        kvern_request_free(requests[i]);
    }
    fake_runner_destroy(rig.fake);
}

/* The reader runs out of memory: told at once, and again by every later call. */
static void test_no_memory_for_events(void **state)
{
    static const int32_t prompt[] = {5, 6, 7};
    struct rig rig = open_rig(32, (struct engine_limits){.max_sequences = 1});
    const kvern_request_options options = options_for(prompt, 3, 4);
    kvern_request *request = submit(rig.engine, &options);
    struct answer after;
    kvern_event event = {0};
    kvern_error err = {0};
    (void)state;

    run(rig.engine, &options, &after); /* one at a time: all of the first has been delivered */
    memory_fail_after(0);
    assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_MEMORY);
    assert_true(memory_fail_after(-1));
    assert_int_equal(err.status, KVERN_MEMORY);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
        assert_int_equal(event.finish, KVERN_FINISH_ERROR);
        assert_int_equal(event.error.status, KVERN_MEMORY);
        assert_string_equal(event.error.message, err.message);
        assert_int_equal(event.n_text, 0);
    }
    kvern_request_free(request);
    close_rig(&rig);
}

struct client {
    kvern_engine *engine;
    unsigned seed;
    size_t n_wrong;
};

static void *run_client(void *argument)
{
    struct client *client = argument;

    for (unsigned i = 0; i < 25; i++) {
        int32_t history[512];
        size_t n = make_prompt(client->seed * 100 + i, history);
        kvern_request_options options = options_for(history, n, 12);
        kvern_request *request = NULL;
        kvern_event event = {0};

        if (kvern_submit(client->engine, &options, &request, NULL) != KVERN_OK) {
            client->n_wrong++;
            continue;
        }
        if (i % 5 == 4)
            kvern_request_cancel(request);
        while (i % 5 != 3 && event.finish == KVERN_FINISH_NONE) {
            if (kvern_request_next(request, 20000, &event, NULL) != KVERN_OK)
                break;
            for (size_t t = 0; t < event.n_tokens; t++) {
                client->n_wrong += event.tokens[t] != fake_next(history, n);
                history[n++] = event.tokens[t];
            }
        }
        kvern_request_free(request);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    enum { N = 8 };
    struct rig rig = open_rig(128, (struct engine_limits){.max_sequences = 6, .step_tokens = 64});
    struct client clients[N];
    pthread_t threads[N];
    (void)state;

    for (unsigned i = 0; i < N; i++) {
        clients[i] = (struct client){.engine = rig.engine, .seed = i};
        pthread_create(&threads[i], NULL, run_client, &clients[i]);
    }
    for (unsigned i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].n_wrong, 0);
    }
    close_rig(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_chunks),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_errors_stay_alone),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_scores_and_logits),
        cmocka_unit_test(test_close_while_running),
        cmocka_unit_test(test_no_memory_for_events),
        cmocka_unit_test(test_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
