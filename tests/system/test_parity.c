/* SPDX-License-Identifier: Apache-2.0
 *
 * Promise: with f32 weights and KV, logits agree with transformers (goldens by
 * tests/golden/make_logits.py and make_tiny.py) within 2e-3 of their range, and 64 greedy tokens
 * are equal.
 */
#include "system/support_models.h"
#include "test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_GREEDY = 64, MAX_PROMPT = 4096 };

static const double TOLERANCE = 2e-3; /* of the logits' range */

struct capture {
    float *logits; /* [vocab_size], of the first call */
    size_t vocab_size;
};

static void capture_first(const float *logits, size_t vocab_size, size_t position, void *data)
{
    struct capture *capture = data;

    (void)position;
    if (capture->logits)
        return;
    capture->logits = malloc(vocab_size * sizeof *capture->logits);
    assert_non_null(capture->logits);
    memcpy(capture->logits, logits, vocab_size * sizeof *capture->logits);
    capture->vocab_size = vocab_size;
}

/* The largest |ours - theirs| over `ids` (NULL: all), as a share of the range. */
static double worst_difference(const struct capture *capture, const json_t *prompt,
                               const json_t *ids)
{
    const json_t *logits = json_object_get(prompt, "logits");
    double range = json_number_value(json_object_get(prompt, "range"));
    double worst = 0;

    assert_true(json_array_size(logits) > 200);
    assert_true(range > 1);
    for (size_t i = 0; i < json_array_size(logits); i++) {
        size_t id = ids ? (size_t)json_integer_value(json_array_get(ids, i)) : i;
        double difference =
            fabs(json_number_value(json_array_get(logits, i)) - (double)capture->logits[id]);

        assert_true(id < capture->vocab_size);
        if (!(difference <= worst))
            worst = difference;
    }
    return worst / range;
}

static void check_prompt(kvern_engine *engine, const json_t *prompt, const json_t *logit_ids,
                         const char *label)
{
    const json_t *ids = json_object_get(prompt, "ids");
    const json_t *greedy = json_object_get(prompt, "greedy");
    const char *name = json_string_value(json_object_get(prompt, "name"));
    static int32_t tokens[MAX_PROMPT];
    int32_t answer[N_GREEDY];
    struct capture capture = {0};
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_error err = {0};

    assert_in_range(json_array_size(ids), 1, MAX_PROMPT);
    assert_int_equal(json_array_size(greedy), N_GREEDY);
    for (size_t i = 0; i < json_array_size(ids); i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    kvern_request_options_init(&options);
    options.prompt = tokens;
    options.n_prompt = json_array_size(ids);
    options.max_tokens = N_GREEDY;
    options.ignore_eos = true;
    options.on_logits = capture_first;
    options.on_logits_data = &capture;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(finish_request(request, answer, N_GREEDY), N_GREEDY);

    double worst = worst_difference(&capture, prompt, logit_ids);
    printf("  %-10s %-12s %4zu tokens: worst logit off by %.1e of the range\n", label, name,
           options.n_prompt, worst);
    if (!(worst <= TOLERANCE))
        fail_msg("%s: logits of '%s' are off by %g of their range", label, name, worst);
    for (size_t i = 0; i < N_GREEDY; i++) {
        if (answer[i] != json_integer_value(json_array_get(greedy, i)))
            fail_msg("%s: greedy token %zu of '%s' is %d, transformers has %d", label, i, name,
                     answer[i], (int)json_integer_value(json_array_get(greedy, i)));
    }
    free(capture.logits);
}

static void check_model(const char *source, const char *golden_path, const char *label)
{
    char path[1024];
    json_error_t problem;
    kvern_model *model = open_test_model(source, "f32");
    kvern_engine *engine = open_test_engine(model, 2, 0, "f32");

    snprintf(path, sizeof path, "%s/%s", KVERN_SOURCE_DIR, golden_path);
    json_t *golden = json_load_file(path, 0, &problem);
    if (!golden)
        fail_msg("%s: %s", path, problem.text);
    const json_t *prompts = json_object_get(golden, "prompts");
    assert_true(json_array_size(prompts) >= 3);
    for (size_t i = 0; i < json_array_size(prompts); i++)
        check_prompt(engine, json_array_get(prompts, i), json_object_get(golden, "logit_ids"),
                     label);
    json_decref(golden);
    kvern_engine_close(engine);
    kvern_model_close(model);
}

static void smollm2_agrees_with_transformers(void **state)
{
    (void)state;
    check_model(smollm2_gguf, "tests/golden/logits/smollm2-135m.json", "smollm2");
}

static void tiny_models_agree_with_transformers(void **state)
{
    static const char *const names[] = {"llama-f32", "llama3-rope-bf16", "qwen2-f16-sharded",
                                        "qwen3-bf16"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        char source[256];
        char golden[300];

        snprintf(source, sizeof source, "tests/golden/tiny/%s", names[i]);
        snprintf(golden, sizeof golden, "%s/golden.json", source);
        check_model(source, golden, names[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models_agree_with_transformers),
        cmocka_unit_test(smollm2_agrees_with_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
