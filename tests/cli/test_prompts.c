/* SPDX-License-Identifier: Apache-2.0
 *
 * The prompts of a generate run from text and from JSON Lines, on a small model: what a line may
 * hold, and how each wrong one is told, by its number and its value.
 */
#include "cli/prompts.h"
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdlib.h>
#include <string.h>

static char *directory;
static kvern_model *model;

static int set_up(void **state)
{
    (void)state;
    model = open_small_model(&directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return close_small_model(model, directory);
}

/* Defaults unlike any of the fields in these tests. */
static struct prompt_settings settings(void)
{
    struct prompt_settings defaults = {0};

    kvern_request_options_init(&defaults.request);
    defaults.request.max_tokens = 77;
    defaults.request.sampling.temperature = 0.75f;
    defaults.request.sampling.seed = 99;
    return defaults;
}

static kvern_status add_lines(struct prompts *prompts, const char *text, size_t n_bytes,
                              kvern_error *err)
{
    struct prompt_settings defaults = settings();
    /* a block of just these bytes: an overread is seen */
    char *copy = malloc(n_bytes ? n_bytes : 1);
    kvern_status status;

    assert_non_null(copy);
    memcpy(copy, text, n_bytes);
    status = prompts_add_jsonl(prompts, model, &defaults, copy, n_bytes, err);
    free(copy);
    return status;
}

static void wrong_lines(void **state)
{
    static const struct {
        const char *line;
        kvern_status status;
        const char *message; /* after "line 3: "; the whole of it */
    } cases[] = {
        {"{\"prompt\": ", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\"", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\"} x", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\"}{\"prompt\": \"b\"}", KVERN_FORMAT, NULL},
        {"{'prompt': 'a'}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\xff\"}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\\ud800\"}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\\u0000\"}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\", \"seed\": 18446744073709551616}", KVERN_FORMAT, NULL},
        {"{\"prompt\": \"a\", \"top_p\": 1e999}", KVERN_FORMAT, NULL},
        {"hello", KVERN_FORMAT, NULL},
        {"[]", KVERN_FORMAT, "not a JSON object: []"},
        {"[{\"prompt\": \"a\"}]", KVERN_FORMAT, "not a JSON object: [{\"prompt\":\"a\"}]"},
        {"{}", KVERN_INVALID, "needs either \"prompt\" or \"messages\", and has none"},
        {"{\"text\": \"a\"}", KVERN_INVALID,
         "needs either \"prompt\" or \"messages\", and has none"},
        {"{\"prompt\": \"a\", \"messages\": []}", KVERN_INVALID,
         "needs either \"prompt\" or \"messages\", not both"},
        {"{\"prompt\": 5}", KVERN_INVALID, "\"prompt\" must be a string, not 5"},
        {"{\"prompt\": null}", KVERN_INVALID, "\"prompt\" must be a string, not null"},
        {"{\"prompt\": [1, 2]}", KVERN_INVALID, "\"prompt\" must be a string, not [1,2]"},
        {"{\"prompt\": [\"0123456789012345678901234567890123456789012345678\"]}", KVERN_INVALID,
         "\"prompt\" must be a string, not [\"012345678901234567890123456789012345678901..."},
        {"{\"prompt\": [\"01234567890123456789012345678901234567890\u00e9\u00e9\u00e9\u00e9\"]}",
         KVERN_INVALID,
         "\"prompt\" must be a string, not [\"01234567890123456789012345678901234567890..."},
        {"{\"messages\": \"a\"}", KVERN_INVALID,
         "\"messages\" must be a list of 1 to 1024 messages, not \"a\""},
        {"{\"messages\": []}", KVERN_INVALID,
         "\"messages\" must be a list of 1 to 1024 messages, not []"},
        {"{\"messages\": {\"role\": \"user\"}}", KVERN_INVALID,
         "\"messages\" must be a list of 1 to 1024 messages, not {\"role\":\"user\"}"},
        {"{\"messages\": [5]}", KVERN_INVALID,
         "message 0 needs the strings \"role\" and \"content\"; it is 5"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": 1}]}", KVERN_INVALID,
         "message 1 needs the strings \"role\" and \"content\"; it is {\"role\":1}"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": []}]}", KVERN_INVALID,
         "message 0 needs the strings \"role\" and \"content\"; it is "
         "{\"role\":\"user\",\"content\":[]}"},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}", KVERN_INVALID,
         "\"temperature\" must be a number from 0 to 100, not \"hot\""},
        {"{\"prompt\": \"a\", \"temperature\": -0.5}", KVERN_INVALID,
         "\"temperature\" must be a number from 0 to 100, not -0.5"},
        {"{\"prompt\": \"a\", \"temperature\": null}", KVERN_INVALID,
         "\"temperature\" must be a number from 0 to 100, not null"},
        {"{\"prompt\": \"a\", \"top_p\": 0}", KVERN_INVALID,
         "\"top_p\" must be a number from 1e-06 to 1, not 0"},
        {"{\"prompt\": \"a\", \"top_p\": 2}", KVERN_INVALID,
         "\"top_p\" must be a number from 1e-06 to 1, not 2"},
        {"{\"prompt\": \"a\", \"min_p\": true}", KVERN_INVALID,
         "\"min_p\" must be a number from 0 to 1, not true"},
        {"{\"prompt\": \"a\", \"repetition_penalty\": 0}", KVERN_INVALID,
         "\"repetition_penalty\" must be a number from 0.01 to 100, not 0"},
        {"{\"prompt\": \"a\", \"top_k\": 1.5}", KVERN_INVALID,
         "\"top_k\" must be a whole number from 0 to 16777216, not 1.5"},
        {"{\"prompt\": \"a\", \"max_tokens\": -1}", KVERN_INVALID,
         "\"max_tokens\" must be a whole number from 0 to 16777216, not -1"},
        {"{\"prompt\": \"a\", \"max_tokens\": 16777217}", KVERN_INVALID,
         "\"max_tokens\" must be a whole number from 0 to 16777216, not 16777217"},
        {"{\"prompt\": \"a\", \"seed\": \"7\"}", KVERN_INVALID,
         "\"seed\" must be a whole number from 0 to 9007199254740992, not \"7\""},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}", KVERN_INVALID,
         "\"ignore_eos\" must be true or false, not 1"},
        {"{\"prompt\": \"a\", \"stop\": []}", KVERN_INVALID,
         "\"stop\" must be a string or 1 to 16 strings, not []"},
        {"{\"prompt\": \"a\", \"stop\": 5}", KVERN_INVALID,
         "\"stop\" must be a string or 1 to 16 strings, not 5"},
        {"{\"prompt\": \"a\", \"stop\": [\"a\", null]}", KVERN_INVALID,
         "\"stop\" must hold strings only, not null"},
        {"{\"prompt\": \"a\", \"stop\": "
         "[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
         KVERN_INVALID,
         "\"stop\" must be a string or 1 to 16 strings, not "
         "[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"..."},
        {"{\"prompt\": \"a\", \"n\": 2}", KVERN_UNSUPPORTED,
         "\"n\" is not supported; leave it out"},
        {"{\"prompt\": \"a\", \"top_logprobs\": 2}", KVERN_UNSUPPORTED,
         "\"top_logprobs\" is not supported; leave it out"},
        {"{\"prompt\": \"a\", \"typical_p\": 0}", KVERN_INVALID,
         "\"typical_p\" must be a number from 1e-06 to 1, not 0"},
        {"{\"prompt\": \"a\", \"presence_penalty\": 2.5}", KVERN_INVALID,
         "\"presence_penalty\" must be a number from -2 to 2, not 2.5"},
        {"{\"prompt\": \"a\", \"frequency_penalty\": -3}", KVERN_INVALID,
         "\"frequency_penalty\" must be a number from -2 to 2, not -3"},
        {"{\"prompt\": \"a\", \"min_tokens\": -1}", KVERN_INVALID,
         "\"min_tokens\" must be a whole number from 0 to 16777216, not -1"},
        {"{\"prompt\": \"a\", \"min_tokens\": 78}", KVERN_INVALID,
         "\"min_tokens\" is 78, over \"max_tokens\", which is 77"},
        {"{\"prompt\": \"a\", \"logprobs\": true}", KVERN_INVALID,
         "\"logprobs\" must be a whole number from 0 to 20, not true"},
        {"{\"prompt\": \"a\", \"logprobs\": 21}", KVERN_INVALID,
         "\"logprobs\" must be a whole number from 0 to 20, not 21"},
        {"{\"prompt\": \"a\", \"logprobs_of\": \"model\"}", KVERN_INVALID,
         "\"logprobs_of\" needs \"logprobs\" beside it"},
        {"{\"prompt\": \"a\", \"logprobs\": 0, \"logprobs_of\": \"none\"}", KVERN_INVALID,
         "\"logprobs_of\" must be \"model\" or \"sampled\", not \"none\""},
        {"{\"prompt\": \"a\", \"logprobs\": 0, \"logprobs_of\": 1}", KVERN_INVALID,
         "\"logprobs_of\" must be \"model\" or \"sampled\", not 1"},
        {"{\"prompt\": \"a\", \"stop_token_ids\": 2}", KVERN_INVALID,
         "\"stop_token_ids\" must be a list of at most 64 token ids, not 2"},
        {"{\"prompt\": \"a\", \"stop_token_ids\": [2, \"3\"]}", KVERN_INVALID,
         "\"stop_token_ids\" must hold whole numbers from 0 to @, not \"3\""},
        {"{\"prompt\": \"a\", \"stop_token_ids\": [4294967298]}", KVERN_INVALID,
         "\"stop_token_ids\" must hold whole numbers from 0 to @, not 4294967298"},
        {"{\"prompt\": \"a\", \"logit_bias\": [1]}", KVERN_INVALID,
         "\"logit_bias\" must be an object of at most 1024 members \"ID\": BIAS, not [1]"},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"01\": 1}}", KVERN_INVALID,
         "\"logit_bias\" must have names from \"0\" to \"@\", not \"01\""},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"9999999999\": 1}}", KVERN_INVALID,
         "\"logit_bias\" must have names from \"0\" to \"@\", not \"9999999999\""},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"-1\": 1}}", KVERN_INVALID,
         "\"logit_bias\" must have names from \"0\" to \"@\", not \"-1\""},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": 101}}", KVERN_INVALID,
         "\"logit_bias\" of token 1 must be a number from -100 to 100, not 101"},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": null}}", KVERN_INVALID,
         "\"logit_bias\" of token 1 must be a number from -100 to 100, not null"},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": 1, \"1\": 2}}", KVERN_FORMAT, NULL},
    };

    kvern_model_info info;
    (void)state;
    kvern_model_get_info(model, &info);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct prompts prompts = {0};
        struct buffer text = {0};
        struct buffer message = {0};
        kvern_error err = {0};
        kvern_status status;

        for (const char *c = cases[i].message; c && *c; c++) {
            if (*c == '@') /* the last id of the vocabulary */
                buffer_add_format(&message, "%d", info.vocab_size - 1);
            else
                buffer_add_byte(&message, *c);
        }
        buffer_add_format(&text, "{\"prompt\": \"a\"}\n \t\r\n%s\n{\"prompt\": \"b\"}\n",
                          cases[i].line);
        status = add_lines(&prompts, text.data, text.n_bytes, &err);
        check_message(status, &err, "line 3: ");
        if (status != cases[i].status || strncmp(err.message, "line 3: ", 8) != 0 ||
            (cases[i].message ? strcmp(err.message + 8, message.data) != 0
                              : strncmp(err.message + 8, "not JSON: ", 10) != 0))
            fail_msg("%s: %s, \"%s\"", cases[i].line, kvern_status_name(status), err.message);
        prompts_clear(&prompts);
        buffer_clear(&text);
        buffer_clear(&message);
    }
}

static void lines_that_are_right(void **state)
{
    static const char text[] =
        "\n"
        "{\"prompt\": \"ab\"}\r\n"
        "   \t \n"
        "{\"id\": [1], \"prompt\": \"abc\", \"temperature\": 0, \"top_k\": 5, \"top_p\": 0.5,"
        " \"min_p\": 0.25, \"repetition_penalty\": 2, \"max_tokens\": 0, \"seed\": 12,"
        " \"ignore_eos\": true, \"stop\": [\"x\", \"yz\"], \"typical_p\": 0.75,"
        " \"presence_penalty\": -2, \"frequency_penalty\": 0.5, \"min_tokens\": 9,"
        " \"stop_token_ids\": [3, 0], \"logit_bias\": {\"4\": -100, \"0\": 1.5},"
        " \"logprobs\": 3, \"logprobs_of\": \"sampled\", \"user\": {\"anything\": [null]}}\n"
        "\n"
        " {\"stop\": \"c\", \"messages\": [{\"role\": \"user\", \"content\": \"ab\"}]} \n"
        "{\"id\": null, \"prompt\": \"\"}"; /* no newline at the end */
    struct prompts prompts = {0};
    kvern_error err = {0};
    const struct prompt *p;

    (void)state;
    if (add_lines(&prompts, text, sizeof text - 1, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(prompts.n, 4);
    for (size_t i = 0; i < prompts.n; i++) {
        p = &prompts.items[i];
        assert_ptr_equal(p->request.prompt, p->tokens.ids);
        assert_int_equal(p->request.n_prompt, p->tokens.n);
    }

    p = &prompts.items[0]; /* all defaults; the template's <s>, then "ab" */
    assert_int_equal(json_integer_value(p->id), 0);
    assert_int_equal(p->tokens.n, 2);
    assert_int_equal(p->tokens.ids[0], 0);
    assert_int_equal(p->tokens.ids[1], 2);
    assert_true(p->request.sampling.temperature == 0.75f && p->request.sampling.top_p == 1);
    assert_int_equal(p->request.sampling.seed, 99);
    assert_int_equal(p->request.max_tokens, 77);
    assert_int_equal(p->request.n_stop, 0);
    assert_false(p->request.ignore_eos);
    assert_true(p->request.sampling.typical_p == 1);
    assert_int_equal(p->request.n_stop_token_ids, 0);
    assert_int_equal(p->request.sampling.n_logit_bias, 0);
    assert_int_equal(p->request.logprobs, KVERN_LOGPROBS_NONE);

    p = &prompts.items[1]; /* every field */
    assert_int_equal(json_integer_value(json_array_get(p->id, 0)), 1);
    assert_int_equal(p->tokens.ids[1], 3);
    assert_true(p->request.sampling.temperature == 0 && p->request.sampling.top_p == 0.5f &&
                p->request.sampling.min_p == 0.25f && p->request.sampling.repetition_penalty == 2);
    assert_int_equal(p->request.sampling.top_k, 5);
    assert_int_equal(p->request.sampling.seed, 12);
    assert_int_equal(p->request.max_tokens, 0);
    assert_true(p->request.ignore_eos);
    assert_int_equal(p->request.n_stop, 2);
    assert_string_equal(p->request.stop[0], "x");
    assert_string_equal(p->request.stop[1], "yz");
    assert_true(p->request.sampling.typical_p == 0.75f);
    assert_true(p->request.sampling.presence_penalty == -2);
    assert_true(p->request.sampling.frequency_penalty == 0.5f);
    assert_int_equal(p->request.min_tokens, 9);
    assert_int_equal(p->request.n_stop_token_ids, 2);
    assert_int_equal(p->request.stop_token_ids[0], 3);
    assert_int_equal(p->request.stop_token_ids[1], 0);
    assert_int_equal(p->request.sampling.n_logit_bias, 2);
    for (size_t i = 0; i < 2; i++) { /* in any order */
        const kvern_logit_bias *bias = &p->request.sampling.logit_bias[i];

        assert_true(bias->id == 4 ? bias->bias == -100 : bias->id == 0 && bias->bias == 1.5f);
    }
    assert_int_equal(p->request.logprobs, KVERN_LOGPROBS_SAMPLED);
    assert_int_equal(p->request.top_logprobs, 3);

    p = &prompts.items[2]; /* the same tokens as its text has as a prompt */
    assert_int_equal(json_integer_value(p->id), 2);
    assert_int_equal(p->tokens.n, 2);
    assert_memory_equal(p->tokens.ids, prompts.items[0].tokens.ids, 2 * sizeof(int32_t));
    assert_int_equal(p->request.n_stop, 1);
    assert_string_equal(p->request.stop[0], "c");

    p = &prompts.items[3];
    assert_true(json_is_null(p->id));
    assert_int_equal(p->tokens.n, 1); /* <s> */
    prompts_clear(&prompts);
    assert_int_equal(prompts.n, 0);
}

static void no_lines_are_no_prompts(void **state)
{
    static const char *const texts[] = {"", "\n", "\r\n\r\n", "  \t  ", "\n\n\n"};

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct prompts prompts = {0};

        assert_int_equal(add_lines(&prompts, texts[i], strlen(texts[i]), NULL), KVERN_OK);
        assert_int_equal(prompts.n, 0);
        prompts_clear(&prompts);
    }
}

/* A megabyte in one line, twice, and more lines than the list first has room for. */
static void long_lines_and_many(void **state)
{
    enum { LONG = 1 << 20, MANY = 100 };
    struct prompts prompts = {0};
    struct buffer text = {0};
    kvern_error err = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        buffer_add_string(&text, "{\"prompt\": \"");
        for (int j = 0; j < LONG; j++)
            buffer_add_byte(&text, 'a');
        buffer_add_string(&text, i ? "\"}" : "\"}\n");
    }
    if (add_lines(&prompts, text.data, text.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(prompts.n, 2);
    assert_int_equal(prompts.items[0].tokens.n, LONG + 1);
    assert_int_equal(prompts.items[1].tokens.n, LONG + 1);
    prompts_clear(&prompts);

    buffer_truncate(&text, 0);
    for (int i = 0; i < MANY; i++)
        buffer_add_format(&text, "{\"prompt\": \"a\", \"seed\": %d}\n", i);
    assert_int_equal(add_lines(&prompts, text.data, text.n_bytes, &err), KVERN_OK);
    assert_int_equal(prompts.n, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(json_integer_value(prompts.items[i].id), i);
        assert_int_equal(prompts.items[i].request.sampling.seed, i);
        assert_ptr_equal(prompts.items[i].request.prompt, prompts.items[i].tokens.ids);
    }
    prompts_clear(&prompts);
    buffer_clear(&text);
}

static void deep_and_large_lists_end(void **state)
{
    struct prompts prompts = {0};
    struct buffer text = {0};
    kvern_error err = {0};

    (void)state;
    buffer_add_string(&text, "{\"prompt\": ");
    for (int i = 0; i < 100000; i++)
        buffer_add_byte(&text, '[');
    assert_int_equal(add_lines(&prompts, text.data, text.n_bytes, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "line 1: not JSON: "));
    prompts_clear(&prompts);

    buffer_truncate(&text, 0);
    buffer_add_string(&text, "{\"messages\": [0");
    for (int i = 0; i < 1024; i++)
        buffer_add_string(&text, ",0");
    buffer_add_string(&text, "]}");
    assert_int_equal(add_lines(&prompts, text.data, text.n_bytes, &err), KVERN_LIMIT);
    assert_string_equal(err.message,
                        "line 1: \"messages\" has 1025 messages, over the limit of 1024");
    prompts_clear(&prompts);
    buffer_clear(&text);
}

static void plain_text(void **state)
{
    struct prompt_settings defaults = settings();
    struct prompts prompts = {0};
    kvern_error err = {0};

    (void)state;
    assert_int_equal(prompts_add_text(&prompts, model, &defaults, "ab", &err), KVERN_OK);
    defaults.is_raw = true;
    assert_int_equal(prompts_add_text(&prompts, model, &defaults, "{\"prompt\": 5}", &err),
                     KVERN_OK); /* text is text */
    assert_int_equal(prompts.n, 2);
    assert_int_equal(json_integer_value(prompts.items[1].id), 1);
    assert_int_equal(prompts.items[0].tokens.n, 2);
    assert_int_equal(prompts.items[0].request.max_tokens, 77);
    assert_null(prompts.items[0].fields);
    defaults.system = "be brief";
    assert_int_equal(prompts_add_text(&prompts, model, &defaults, "ab", &err), KVERN_INVALID);
    check_message(KVERN_INVALID, &err, "leave out --raw");
    prompts_clear(&prompts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_lines),
        cmocka_unit_test(lines_that_are_right),
        cmocka_unit_test(no_lines_are_no_prompts),
        cmocka_unit_test(long_lines_and_many),
        cmocka_unit_test(deep_and_large_lists_end),
        cmocka_unit_test(plain_text),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
