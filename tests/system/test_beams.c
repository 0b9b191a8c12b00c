/* SPDX-License-Identifier: Apache-2.0
 *
 * Beams of a real model: the answers of transformers' generate(), and their scores, in one batch of
 * all cases (golden by tests/golden/make_model_beams.py).
 */
#include "system/support_models.h"
#include "test.h"

#include <jansson.h>
#include <math.h>

enum { MOST_CASES = 64, MOST_TOKENS = 64 };

/* json_int_t into int32_t [MOST_TOKENS]. */
static size_t read_ids(const json_t *list, int32_t *ids)
{
    size_t n = json_array_size(list);

    assert_in_range(n, 1, MOST_TOKENS);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static void submit(kvern_engine *engine, const json_t *item, kvern_request **requests)
{
    int32_t prompt[MOST_TOKENS], ends[MOST_TOKENS];
    kvern_request_options options;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = read_ids(json_object_get(item, "prompt"), prompt);
    options.stop_token_ids = ends;
    options.n_stop_token_ids = read_ids(json_object_get(item, "ends"), ends);
    options.ignore_eos = true;
    options.num_beams = (int32_t)json_integer_value(json_object_get(item, "num_beams"));
    options.length_penalty = (float)json_number_value(json_object_get(item, "length_penalty"));
    assert_true(kvern_early_stopping_from_name(
        json_string_value(json_object_get(item, "early_stopping")), &options.early_stopping));
    options.sampling.no_repeat_ngram_size =
        (int32_t)json_integer_value(json_object_get(item, "no_repeat_ngram_size"));
    options.sampling.repetition_penalty =
        (float)json_number_value(json_object_get(item, "repetition_penalty"));
    options.min_tokens = (int32_t)json_integer_value(json_object_get(item, "min_tokens"));
    options.max_tokens = (int32_t)json_integer_value(json_object_get(item, "max_tokens"));
    if (kvern_submit_samples(engine, &options, (size_t)options.num_beams, requests, &err) !=
        KVERN_OK)
        fail_msg("%s", err.message);
}

static void check_answer(kvern_request *request, const json_t *answer, size_t number, size_t rank)
{
    double score = json_number_value(json_object_get(answer, "score"));
    const json_t *expected = json_object_get(answer, "tokens");
    int32_t tokens[MOST_TOKENS];
    kvern_event event = {0};
    size_t n = 0;

    while (event.finish == KVERN_FINISH_NONE) {
        assert_int_equal(kvern_request_next(request, -1, &event, NULL), KVERN_OK);
        for (size_t i = 0; i < event.n_tokens; i++)
            tokens[n++] = event.tokens[i];
    }
    assert_true(event.has_score);
    if (!(fabs((double)event.score - score) <= 1e-4 * fmax(1, fabs(score))))
        fail_msg("case %zu, answer %zu: score %.9g, transformers has %.9g", number, rank,
                 (double)event.score, score);
    assert_int_equal(n, json_array_size(expected));
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("case %zu, answer %zu: token %zu is %d, transformers has %d", number, rank, i,
                     tokens[i], (int)json_integer_value(json_array_get(expected, i)));
    }
    kvern_request_free(request);
}

static void answers_are_those_of_transformers(void **state)
{
    static kvern_request *requests[MOST_CASES][8];
    json_error_t problem;
    json_t *golden = json_load_file(KVERN_SOURCE_DIR "/tests/golden/model_beams.json", 0, &problem);
    const json_t *cases = json_object_get(golden, "cases");
    kvern_model *model = open_test_model("tests/golden/tiny/llama-f32", "f32");
    kvern_engine *engine = open_test_engine(model, 2, 0, "f32");

    (void)state;
    assert_in_range(json_array_size(cases), 20, MOST_CASES);
    for (size_t i = 0; i < json_array_size(cases); i++)
        submit(engine, json_array_get(cases, i), requests[i]);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *answers = json_object_get(json_array_get(cases, i), "answers");

        for (size_t j = 0; j < json_array_size(answers); j++)
            check_answer(requests[i][j], json_array_get(answers, j), i, j);
    }
    kvern_engine_close(engine);
    kvern_model_close(model);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_are_those_of_transformers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
