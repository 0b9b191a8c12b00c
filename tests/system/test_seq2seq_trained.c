/* SPDX-License-Identifier: Apache-2.0
 *
 * A tiny T5 that was trained (tests/golden/train_t5.py) to find and copy the name of the function
 * that a snippet defines: from text to text, kvern's answers are PyTorch's, in f32, 8 and 4 bit,
 * and as often right.
 */
#include "test.h"

#include "base/buffer.h"
#include "support_models.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EXAMPLES = 100 };

static const char *text_of(const json_t *example, const char *name)
{
    const char *text = json_string_value(json_object_get(example, name));

    assert_non_null(text);
    return text;
}

/* For as many tokens as PyTorch's answer has: its length was bounded. */
static kvern_request *ask(kvern_engine *engine, const kvern_model *model, const json_t *example)
{
    const char *text = text_of(example, "text");
    const json_t *ids = json_object_get(example, "ids");
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_tokens tokens;
    kvern_error err = {0};

    if (kvern_tokenize(model, text, strlen(text), KVERN_TOKENIZE_SPECIAL, &tokens, &err) !=
        KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(tokens.n, json_array_size(ids));
    for (size_t i = 0; i < tokens.n; i++)
        assert_int_equal(tokens.ids[i], json_integer_value(json_array_get(ids, i)));
    kvern_request_options_init(&options);
    options.prompt = tokens.ids;
    options.n_prompt = tokens.n;
    options.max_tokens = (int32_t)json_array_size(json_object_get(example, "greedy"));
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_tokens_clear(&tokens);
    return request;
}

static char *read_answer(kvern_request *request)
{
    struct buffer text = {0};
    kvern_event event = {0};
    kvern_error err = {0};

    while (event.finish == KVERN_FINISH_NONE) {
        if (kvern_request_next(request, -1, &event, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        buffer_add(&text, event.text, event.n_text);
    }
    assert_true(event.finish == KVERN_FINISH_STOP || event.finish == KVERN_FINISH_LENGTH);
    kvern_request_free(request);
    return buffer_take(&text, NULL);
}

/* All examples at once. */
static void answers_are_pytorchs(void **state)
{
    static const struct {
        const char *weights, *kv_type;
        size_t n_apart; /* answers that roundings may change */
    } cases[] = {{"f32", "f32", 0}, {"q8", "f16", 1}, {"q8", "int8", 1}, {"q4", "f16", 2}};
    char path[1024];

    (void)state;
    snprintf(path, sizeof path, "%s/tests/golden/t5-trained/examples.json", KVERN_SOURCE_DIR);
    json_t *document = json_load_file(path, 0, NULL);
    const json_t *examples = json_object_get(document, "examples");
    size_t n = json_array_size(examples);
    assert_in_range(n, 50, MAX_EXAMPLES);
    for (size_t w = 0; w < COUNT(cases); w++) {
        kvern_model *model = open_test_model("tests/golden/t5-trained", cases[w].weights);
        kvern_engine *engine = open_test_engine(model, 2, 0, cases[w].kv_type);
        kvern_request *requests[MAX_EXAMPLES];
        size_t n_right = 0, n_right_there = 0, n_same = 0;

        for (size_t i = 0; i < n; i++)
            requests[i] = ask(engine, model, json_array_get(examples, i));
        for (size_t i = 0; i < n; i++) {
            const json_t *example = json_array_get(examples, i);
            const char *there = text_of(example, "greedy_text");
            const char *right = text_of(example, "answer");
            char *answer = read_answer(requests[i]);

            if (strcmp(answer, there) != 0)
                printf("  '%s' where PyTorch has '%s', by %.2f\n", answer, there,
                       json_number_value(json_object_get(example, "margin")));
            n_same += strcmp(answer, there) == 0;
            n_right += strcmp(answer, right) == 0;
            n_right_there += strcmp(there, right) == 0;
            free(answer);
        }
        printf("  %s, KV %s: %zu of %zu answers are PyTorch's; %zu are right, of PyTorch's %zu\n",
               cases[w].weights, cases[w].kv_type, n_same, n, n_right, n_right_there);
        assert_true(n_same + cases[w].n_apart >= n);
        assert_true(n_right + cases[w].n_apart >= n_right_there);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
    json_decref(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_are_pytorchs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
