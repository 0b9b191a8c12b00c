/* SPDX-License-Identifier: Apache-2.0
 *
 * Sampling fields through the engine, over the fake runner: what ends an answer and what may not
 * yet, log-probabilities in events, and that with every field in use neighbours change nothing.
 */
#include "support_rig.h"
#include "test.h"

#include "engine/logits.h"

#include <math.h>
#include <string.h>

enum { MOST_TOKENS = 64, N_TOP = 5, N_BESIDE = 20 };

struct answer {
    int32_t tokens[MOST_TOKENS];
    float logprobs[MOST_TOKENS];
    kvern_logprob top[MOST_TOKENS][N_TOP];
    size_t n_tokens;
    char text[4 * MOST_TOKENS];
    size_t n_text;
    kvern_finish finish;
};

static const int32_t hello[] = {'h', 'e', 'l', 'l', 'o'};

static kvern_request_options options_of(int32_t max_tokens)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = hello;
    options.n_prompt = COUNT(hello);
    options.max_tokens = max_tokens;
    return options;
}

/* Reads to the end, and frees. */
static struct answer read_answer(kvern_request *request)
{
    struct answer answer = {0};
    kvern_event event;

    do {
        assert_int_equal(kvern_request_next(request, 20000, &event, NULL), KVERN_OK);
        assert_true(answer.n_tokens + event.n_tokens <= MOST_TOKENS);
        assert_true(event.n_top_logprobs <= N_TOP);
        for (size_t i = 0; i < event.n_tokens; i++) {
            size_t at = answer.n_tokens + i;

            answer.tokens[at] = event.tokens[i];
            answer.logprobs[at] = event.logprobs ? event.logprobs[i] : NAN;
            for (size_t j = 0; j < event.n_top_logprobs; j++)
                answer.top[at][j] = event.top_logprobs[i * event.n_top_logprobs + j];
        }
        answer.n_tokens += event.n_tokens;
        memcpy(answer.text + answer.n_text, event.text, event.n_text);
        answer.n_text += event.n_text;
    } while (event.finish == KVERN_FINISH_NONE);
    answer.finish = event.finish;
    kvern_request_free(request);
    return answer;
}

static struct answer run(const struct rig *rig, const kvern_request_options *options)
{
    return read_answer(rig_submit(rig, options));
}

/* A bias of 100 makes every token an 'a', or whatever else is given. */
static void what_ends_an_answer(void **state)
{
    static const struct {
        int32_t favourite;
        int32_t stop_token; /* -1: none */
        const char *stop;   /* NULL: none */
        int32_t min_tokens;
        bool ignore_eos;
        size_t n_tokens;
        kvern_finish finish;
        const char *text; /* NULL: not looked at */
    } cases[] = {
        {'a', -1, NULL, 0, false, 12, KVERN_FINISH_LENGTH, "aaaaaaaaaaaa"},
        {FAKE_STOP_ID, -1, NULL, 0, false, 1, KVERN_FINISH_STOP, ""},
        {FAKE_STOP_ID, -1, NULL, 0, true, 12, KVERN_FINISH_LENGTH, "++++++++++++"},
        {FAKE_STOP_ID, -1, NULL, 7, false, 8, KVERN_FINISH_STOP, NULL},
        {FAKE_STOP_ID, -1, NULL, 12, false, 12, KVERN_FINISH_LENGTH, NULL},
        {FAKE_STOP_ID, -1, NULL, 7, true, 12, KVERN_FINISH_LENGTH, "++++++++++++"},
        {'a', 'a', NULL, 0, false, 1, KVERN_FINISH_STOP, ""},
        {'a', 'a', NULL, 0, true, 1, KVERN_FINISH_STOP, ""},
        {'a', 'a', NULL, 4, true, 5, KVERN_FINISH_STOP, NULL},
        {'a', -1, "aa", 0, false, 2, KVERN_FINISH_STOP, ""},
        {'a', -1, "aaa", 0, false, 3, KVERN_FINISH_STOP, ""},
        {'a', -1, "aa", 4, false, 4, KVERN_FINISH_STOP, "aa"},
        {'a', -1, "aa", 5, false, 6, KVERN_FINISH_STOP, "aaaa"},
        {'a', -1, "aa", 11, false, 12, KVERN_FINISH_STOP, "aaaaaaaaaa"},
        {'a', -1, "aa", 12, false, 12, KVERN_FINISH_STOP, "aaaaaaaaaa"},
        {'a', -1, "ab", 12, false, 12, KVERN_FINISH_LENGTH, "aaaaaaaaaaaa"},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig, fake_runner_new(64), (struct engine_limits){.max_sequences = 4});
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_request_options options = options_of(12);
        kvern_logit_bias bias = {cases[i].favourite, 100};

        options.sampling.logit_bias = &bias;
        options.sampling.n_logit_bias = 1;
        options.stop_token_ids = &cases[i].stop_token;
        options.n_stop_token_ids = cases[i].stop_token >= 0;
        options.stop = &cases[i].stop;
        options.n_stop = cases[i].stop != NULL;
        options.min_tokens = cases[i].min_tokens;
        options.ignore_eos = cases[i].ignore_eos;

        struct answer answer = run(&rig, &options);
        if (answer.n_tokens != cases[i].n_tokens || answer.finish != cases[i].finish ||
            (cases[i].text && strcmp(answer.text, cases[i].text) != 0))
            fail_msg("case %zu: %zu tokens, %s, \"%s\"", i, answer.n_tokens,
                     kvern_finish_name(answer.finish), answer.text);
        for (size_t j = 0; j + 1 < answer.n_tokens; j++) {
            assert_int_not_equal(answer.tokens[j], cases[i].stop_token);
            assert_true(cases[i].ignore_eos || answer.tokens[j] != FAKE_STOP_ID);
        }
        assert_true(isnan(answer.logprobs[0]));
    }
    rig_close(&rig, 0);
}

/* Greedy answers: the model's own log-probabilities are those of the fake's logits. */
static void logprobs_of_the_model(void **state)
{
    struct rig rig;
    kvern_request_options options = options_of(30);
    int32_t history[COUNT(hello) + 30];
    float logits[FAKE_VOCAB];

    (void)state;
    memcpy(history, hello, sizeof hello);
    rig_open(&rig, fake_runner_new(64), (struct engine_limits){.max_sequences = 4});
    options.logprobs = KVERN_LOGPROBS_MODEL;
    options.top_logprobs = N_TOP;
    options.sampling.repetition_penalty = 1.5F; /* which they do not see */

    struct answer answer = run(&rig, &options);
    assert_int_equal(answer.n_tokens, 30);
    for (size_t i = 0; i < answer.n_tokens; i++) {
        size_t n = COUNT(hello) + i;
        int32_t best = fake_next(history, n);

        fake_logits(history, n, logits);
        assert_true(answer.logprobs[i] == log_probability(logits, FAKE_VOCAB, answer.tokens[i]));
        assert_int_equal(answer.top[i][0].id, best);
        for (size_t j = 0; j < N_TOP; j++) {
            const kvern_logprob *top = &answer.top[i][j];

            assert_true(top->logprob == log_probability(logits, FAKE_VOCAB, top->id));
            assert_true(j == 0 || top->logprob <= top[-1].logprob);
        }
        history[n] = answer.tokens[i];
    }
    options.top_logprobs = 0;
    struct answer bare = run(&rig, &options);
    assert_memory_equal(bare.tokens, answer.tokens, sizeof bare.tokens);
    assert_memory_equal(bare.logprobs, answer.logprobs, sizeof bare.logprobs);
    rig_close(&rig, 0);
}

/* Every field in use; `seed` varies what neighbours ask. */
static kvern_request_options everything(uint64_t seed)
{
    static const kvern_logit_bias biases[] = {{'a', 3}, {'b', -4}, {FAKE_STOP_ID, 20}};
    static const int32_t stop_tokens[] = {'c', 'd'};
    static const char *const stops[] = {"zz", "yx"};
    kvern_request_options options = options_of(60);

    options.sampling = (kvern_sampling){
        .repetition_penalty = 1.1F + .1F * (float)(seed % 3),
        .presence_penalty = .3F,
        .frequency_penalty = .2F,
        .logit_bias = biases,
        .n_logit_bias = COUNT(biases),
        .temperature = 1.3F + .2F * (float)(seed % 5),
        .top_k = 150 + (int32_t)seed,
        .top_p = .98F,
        .min_p = .001F,
        .typical_p = .97F,
        .seed = seed,
    };
    options.stop_token_ids = stop_tokens;
    options.n_stop_token_ids = COUNT(stop_tokens);
    options.stop = stops;
    options.n_stop = COUNT(stops);
    options.min_tokens = 20 + (int32_t)(seed % 7);
    options.logprobs = seed % 2 ? KVERN_LOGPROBS_MODEL : KVERN_LOGPROBS_SAMPLED;
    options.top_logprobs = N_TOP;
    return options;
}

static void neighbours_change_nothing(void **state)
{
    struct answer alone[N_BESIDE];
    kvern_request *requests[N_BESIDE];
    struct rig rig;
    size_t n_different = 0;

    (void)state;
    rig_open(&rig, fake_runner_new(256), (struct engine_limits){.max_sequences = 1});
    for (size_t i = 0; i < N_BESIDE; i++) {
        kvern_request_options options = everything(i);

        alone[i] = run(&rig, &options);
        assert_true(alone[i].n_tokens >= (size_t)options.min_tokens);
        n_different += memcmp(alone[i].tokens, alone[0].tokens, sizeof alone[i].tokens) != 0;
    }
    rig_close(&rig, 0);
    assert_int_equal(n_different, N_BESIDE - 1);

    rig_open(&rig, fake_runner_new(256),
             (struct engine_limits){.max_sequences = 32, .prefill_chunk = 16});
    for (size_t i = 0; i < N_BESIDE; i++) {
        kvern_request_options options = everything(i);

        requests[i] = rig_submit(&rig, &options);
    }
    for (size_t i = 0; i < N_BESIDE; i++) {
        struct answer among = read_answer(requests[i]);

        if (memcmp(&among, &alone[i], sizeof among) != 0)
            fail_msg("request %zu differs from itself alone", i);
    }
    rig_close(&rig, 0);
}

/* What is refused is refused at submit, and the engine goes on. */
static void bad_values_are_refused(void **state)
{
    struct rig rig;
    kvern_request *request = NULL;
    kvern_error err = {0};
    kvern_logit_bias bias = {FAKE_VOCAB, 1};
    kvern_request_options options = options_of(5);

    (void)state;
    rig_open(&rig, fake_runner_new(64), (struct engine_limits){.max_sequences = 4});
    options.min_tokens = 6;
    assert_int_equal(kvern_submit(rig.engine, &options, &request, &err), KVERN_INVALID);
    assert_string_equal(err.message, "min_tokens is 6; it must be at most the 5 tokens that the "
                                     "answer may have");
    options.min_tokens = 0;
    options.sampling.logit_bias = &bias;
    options.sampling.n_logit_bias = 1;
    assert_int_equal(kvern_submit(rig.engine, &options, &request, &err), KVERN_INVALID);
    assert_string_equal(err.message, "logit_bias has token 300; the vocabulary has 300");
    bias.id = 0;
    assert_int_equal(run(&rig, &options).n_tokens, 5);
    rig_close(&rig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_ends_an_answer),
        cmocka_unit_test(logprobs_of_the_model),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(bad_values_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
