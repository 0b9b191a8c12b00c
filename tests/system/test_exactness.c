/* SPDX-License-Identifier: Apache-2.0
 *
 * Promise 1: the bytes of a request's logits, prompt positions included, are the same alone and
 * among strangers, with the prompt whole and in chunks, with 1 and 2 threads; for every instruction
 * set of this machine, over f16 and int8 KV, on tiny models of each family and on the default
 * model.
 */
#include "system/support_models.h"
#include "test.h"

#include "ops/kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { MAX_REQUESTS = 32, MAX_PROMPT = 200, N_DECODED = 5 };

static size_t n_cases; /* (request, way of running) pairs compared */

struct request_case {
    int32_t prompt[MAX_PROMPT];
    size_t n_prompt;
    uint64_t seed;
};

/* Every logit of every position goes into one hash, in order. */
struct trace {
    XXH64_hash_t hash;
    size_t n_positions;
    size_t last_position;
};

static void add_to_trace(const float *logits, size_t vocab_size, size_t position, void *data)
{
    struct trace *trace = data;

    trace->hash = XXH64(logits, vocab_size * sizeof *logits, trace->hash ^ position);
    trace->last_position = position;
    trace->n_positions++;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static kvern_request *submit(kvern_engine *engine, const struct request_case *item,
                             struct trace *trace)
{
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_error err = {0};

    *trace = (struct trace){0};
    kvern_request_options_init(&options);
    options.prompt = item->prompt;
    options.n_prompt = item->n_prompt;
    options.max_tokens = N_DECODED;
    options.ignore_eos = true;
    options.all_logits = true;
    options.on_logits = add_to_trace;
    options.on_logits_data = trace;
    options.sampling.temperature = item->seed % 2 ? 0.9f : 0.0f;
    options.sampling.seed = item->seed;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

static void compare(const struct trace *seen, const int32_t *tokens, const struct trace *expected,
                    const int32_t *expected_tokens, const char *label, const char *isa, size_t i)
{
    n_cases++;
    assert_int_equal(seen->n_positions, expected->n_positions);
    assert_memory_equal(tokens, expected_tokens, N_DECODED * sizeof *tokens);
    if (seen->hash != expected->hash)
        fail_msg("%s, %s: the logits of request %zu differ from those it has alone", isa, label, i);
}

static const struct {
    const char *label;
    int32_t n_threads;
    int32_t prefill_chunk;
    bool is_together;
} ways[] = {
    {"alone, 2 threads", 2, 0, false},
    {"together, 1 thread", 1, 0, true},
    {"together, 2 threads", 2, 0, true},
    {"alone, chunks of 7", 1, 7, false},
    {"together, chunks of at most 64", 2, 64, true},
    {"alone, token by token", 2, 1, false},
};

static void check_model(const char *source, const char *weights, const char *kv_type,
                        const char *isa, size_t n_requests, size_t max_prompt)
{
    static struct request_case cases[MAX_REQUESTS];
    struct trace expected[MAX_REQUESTS];
    int32_t expected_tokens[MAX_REQUESTS][N_DECODED];
    uint64_t random = 0x853c49e6748fea9bu;
    kvern_model *model = open_test_model(source, weights);
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    for (size_t i = 0; i < n_requests; i++) {
        cases[i].n_prompt = 1 + next_random(&random) % max_prompt;
        cases[i].seed = i;
        for (size_t j = 0; j < cases[i].n_prompt; j++)
            cases[i].prompt[j] = (int32_t)(next_random(&random) % (uint64_t)info.vocab_size);
    }
    kvern_engine *engine = open_test_engine(model, 1, 0, kv_type);
    for (size_t i = 0; i < n_requests; i++) {
        kvern_request *request = submit(engine, &cases[i], &expected[i]);

        assert_int_equal(finish_request(request, expected_tokens[i], N_DECODED), N_DECODED);
        assert_int_equal(expected[i].n_positions, cases[i].n_prompt + N_DECODED - 1);
    }
    kvern_engine_close(engine);

    for (size_t way = 0; way < COUNT(ways); way++) {
        kvern_request *requests[MAX_REQUESTS];
        struct trace seen[MAX_REQUESTS];
        int32_t tokens[N_DECODED];

        engine = open_test_engine(model, ways[way].n_threads, ways[way].prefill_chunk, kv_type);
        for (size_t i = 0; ways[way].is_together && i < n_requests; i++)
            requests[i] = submit(engine, &cases[i], &seen[i]);
        for (size_t i = 0; i < n_requests; i++) {
            if (!ways[way].is_together)
                requests[i] = submit(engine, &cases[i], &seen[i]);
            assert_int_equal(finish_request(requests[i], tokens, N_DECODED), N_DECODED);
            compare(&seen[i], tokens, &expected[i], expected_tokens[i], ways[way].label, isa, i);
        }
        kvern_engine_close(engine);
    }
    kvern_model_close(model);
}

/* The big model under ASan takes minutes and meets no code that the tiny ones do not. */
#ifdef __SANITIZE_ADDRESS__
static const bool is_sanitized = true;
#else
static const bool is_sanitized = false;
#endif

static void logits_never_depend_on_company(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, COUNT(sets));

    (void)state;
    assert_true(n_sets > 0);
    for (size_t i = 0; i < n_sets; i++) {
        bool is_slow = strcmp(sets[i]->name, "portable") == 0;

        setenv("KVERN_ISA", sets[i]->name, 1);
        check_model("tests/golden/tiny/llama-f32", "q4", "f16", sets[i]->name, 32, 100);
        check_model("tests/golden/tiny/llama-f32", "q4", "int8", sets[i]->name, 16, 100);
        check_model("tests/golden/tiny/qwen2-f16-sharded", "q8", "f16", sets[i]->name, 16, 100);
        check_model("tests/golden/tiny/qwen3-bf16", "q4", "f16", sets[i]->name, 16, 100);
        check_model("tests/golden/tiny/qwen3-bf16", "q4", "int8", sets[i]->name, 16, 100);
        check_model("tests/golden/tiny/llama3-rope-bf16", "f32", "f16", sets[i]->name, 8, 100);
        if (is_sanitized)
            continue;
        check_model(smollm2_gguf, NULL, "f16", sets[i]->name, is_slow ? 3 : 8, is_slow ? 20 : 80);
        if (!is_slow)
            check_model(smollm2_gguf, NULL, "int8", sets[i]->name, 4, 80);
    }
    unsetenv("KVERN_ISA");
    printf("  %zu cases\n", n_cases);
    assert_true(n_cases >= 200);
}

/* Three turns of a conversation: each prompt begins with what was said. Its KV is kept, so few
 * tokens run, and yet every logit is the one of the whole prompt run afresh. */
static void kept_conversations_change_nothing(void **state)
{
    enum { N_TURNS = 3, TURN = 21 };
    kvern_model *model = open_test_model("tests/golden/tiny/llama-f32", "q4");
    kvern_engine *engine = open_test_engine(model, 2, 0, "f16");
    int32_t prompt[N_TURNS * (TURN + N_DECODED)];
    size_t n_prompt = 0;
    uint64_t random = 42;

    (void)state;
    for (size_t turn = 0; turn < N_TURNS; turn++) {
        struct trace traces[2] = {{0}};
        int32_t answers[2][N_DECODED];

        for (size_t i = 0; i < TURN; i++)
            prompt[n_prompt++] = (int32_t)(next_random(&random) % 203);
        for (uint64_t conversation = 0; conversation < 2; conversation++) {
            kvern_request_options options;
            kvern_request *request = NULL;
            kvern_event event;
            kvern_error err = {0};

            kvern_request_options_init(&options);
            options.prompt = prompt;
            options.n_prompt = n_prompt;
            options.max_tokens = N_DECODED;
            options.ignore_eos = true;
            options.conversation = conversation;
            options.on_logits = add_to_trace;
            options.on_logits_data = &traces[conversation];
            assert_int_equal(kvern_submit(engine, &options, &request, &err), KVERN_OK);
            do {
                assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
                for (size_t i = 0; i < event.n_tokens; i++)
                    answers[conversation][event.n_completion_tokens - event.n_tokens + i] =
                        event.tokens[i];
            } while (event.finish == KVERN_FINISH_NONE);
            /* the last token of an answer was never run */
            assert_int_equal(event.n_cached_tokens,
                             conversation && turn > 0 ? n_prompt - TURN - 1 : 0);
            kvern_request_free(request);
        }
        assert_memory_equal(answers[0], answers[1], sizeof answers[0]);
        assert_int_equal(traces[0].n_positions, traces[1].n_positions);
        assert_true(traces[0].hash == traces[1].hash);
        memcpy(prompt + n_prompt, answers[0], sizeof answers[0]);
        n_prompt += N_DECODED;
    }
    kvern_engine_close(engine);
    kvern_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_conversations_change_nothing),
        cmocka_unit_test(logits_never_depend_on_company),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
