/* SPDX-License-Identifier: Apache-2.0
 *
 * A prompt of a generate run from text and from the fields of a line, on a small model: what a line
 * may hold, and how each wrong value is told.
 */
#include "cli/prompts.h"
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdlib.h>
#include <string.h>

/* Defaults unlike any of the fields in these tests. */
static struct prompt_settings settings(void)
{
    struct prompt_settings defaults = {0};

    kvern_request_options_init(&defaults.request);
    defaults.n = 2;
    defaults.request.max_tokens = 77;
    defaults.request.sampling.temperature = 0.75f;
    defaults.request.sampling.seed = 99;
    return defaults;
}

/* One line [n_bytes]: from JSON as prompt_file reads it. Cleared by the caller in any case. */
static kvern_status set_line(struct prompt *prompt, const char *line, size_t n_bytes,
                             kvern_error *err)
{
    struct prompt_settings defaults = settings();
    json_t *fields = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES, NULL);
    kvern_status status;

    prompt_init(prompt, &defaults);
    assert_non_null(fields);
    status = prompt_set_fields(prompt, small_model, &defaults, fields, err);
    json_decref(fields); /* the prompt's strings must outlive it */
    return status;
}

static void wrong_lines(void **state)
{
    static const struct {
        const char *line;
        kvern_status status;
        const char *message; /* the whole of it */
    } cases[] = {
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
        {"{\"prompt\": \"a\", \"priority\": -1}", KVERN_INVALID,
         "\"priority\" must be a whole number from 0 to 16777216, not -1"},
        {"{\"prompt\": \"a\", \"cache_key\": 5}", KVERN_INVALID,
         "\"cache_key\" must be a string, not 5"},
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
        {"{\"prompt\": \"a\", \"n\": 0}", KVERN_INVALID,
         "\"n\" must be a whole number from 1 to 256, not 0"},
        {"{\"prompt\": \"a\", \"n\": 257}", KVERN_INVALID,
         "\"n\" must be a whole number from 1 to 256, not 257"},
        {"{\"prompt\": \"a\", \"n\": \"x\"}", KVERN_INVALID,
         "\"n\" must be a whole number from 1 to 256, not \"x\""},
        {"{\"prompt\": \"a\", \"n\": 2.5}", KVERN_INVALID,
         "\"n\" must be a whole number from 1 to 256, not 2.5"},
        {"{\"prompt\": \"a\", \"n\": null}", KVERN_INVALID,
         "\"n\" must be a whole number from 1 to 256, not null"},
        {"{\"prompt\": \"a\", \"best_of\": 2}", KVERN_UNSUPPORTED,
         "\"best_of\" is not supported; leave it out"},
        {"{\"prompt\": \"a\", \"top_logprobs\": 2}", KVERN_UNSUPPORTED,
         "\"top_logprobs\" is not supported; leave it out"},
        {"{\"prompt\": \"a\", \"num_beams\": 65}", KVERN_INVALID,
         "\"num_beams\" must be a whole number from 0 to 64, not 65"},
        {"{\"prompt\": \"a\", \"length_penalty\": 11}", KVERN_INVALID,
         "\"length_penalty\" must be a number from -10 to 10, not 11"},
        {"{\"prompt\": \"a\", \"early_stopping\": \"true\"}", KVERN_INVALID,
         "\"early_stopping\" must be true, false or \"never\", not \"true\""},
        {"{\"prompt\": \"a\", \"no_repeat_ngram_size\": -1}", KVERN_INVALID,
         "\"no_repeat_ngram_size\" must be a whole number from 0 to 16777216, not -1"},
        {"{\"prompt\": \"a\", \"num_return_sequences\": 2}", KVERN_UNSUPPORTED,
         "\"num_return_sequences\" is not supported; leave it out"},
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
    };

    kvern_model_info info;
    (void)state;
    kvern_model_get_info(small_model, &info);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct prompt prompt;
        struct buffer message = {0};
        kvern_error err = {0};
        kvern_status status = set_line(&prompt, cases[i].line, strlen(cases[i].line), &err);

        for (const char *c = cases[i].message; *c; c++) {
            if (*c == '@') /* the last id of the vocabulary */
                buffer_add_format(&message, "%d", info.vocab_size - 1);
            else
                buffer_add_byte(&message, *c);
        }
        check_message(status, &err, "");
        if (status != cases[i].status || strcmp(err.message, message.data) != 0)
            fail_msg("%s: %s, \"%s\"", cases[i].line, kvern_status_name(status), err.message);
        prompt_clear(&prompt);
        buffer_clear(&message);
    }
}

static void set_right(struct prompt *prompt, const char *line)
{
    kvern_error err = {0};

    if (set_line(prompt, line, strlen(line), &err) != KVERN_OK)
        fail_msg("%s: %s", line, err.message);
    assert_ptr_equal(prompt->request.prompt, prompt->tokens.ids);
    assert_int_equal(prompt->request.n_prompt, prompt->tokens.n);
}

static void lines_that_are_right(void **state)
{
    struct prompt plain, full, chat, empty;

    (void)state;
    set_right(&plain, "{\"prompt\": \"ab\"}"); /* all defaults; the template's <s>, then "ab" */
    assert_int_equal(plain.tokens.n, 2);
    assert_int_equal(plain.tokens.ids[0], 0);
    assert_int_equal(plain.tokens.ids[1], 2);
    assert_true(plain.request.sampling.temperature == 0.75f && plain.request.sampling.top_p == 1);
    assert_int_equal(plain.request.sampling.seed, 99);
    assert_int_equal(plain.request.max_tokens, 77);
    assert_int_equal(plain.n, 2);
    assert_int_equal(plain.request.n_stop, 0);
    assert_false(plain.request.ignore_eos);

    set_right(
        &full,
        "{\"id\": [1], \"prompt\": \"abc\", \"temperature\": 0, \"top_k\": 5, \"top_p\": 0.5,"
        " \"min_p\": 0.25, \"repetition_penalty\": 2, \"max_tokens\": 0, \"seed\": 12,"
        " \"ignore_eos\": true, \"stop\": [\"x\", \"yz\"],"
        " \"typical_p\": 0.75, \"no_repeat_ngram_size\": 3, \"num_beams\": 64,"
        " \"length_penalty\": -0.5, \"early_stopping\": \"never\","
        " \"presence_penalty\": -2, \"frequency_penalty\": 0.5, \"min_tokens\": 9,"
        " \"stop_token_ids\": [3, 0], \"priority\": 7, \"timeout_ms\": 900, \"cache_key\": \"k\","
        " \"logit_bias\": {\"4\": -100, \"0\": 1.5},"
        " \"logprobs\": 3, \"logprobs_of\": \"sampled\", \"n\": 256,"
        " \"user\": {\"anything\": [null]}}");
    assert_int_equal(full.n, 256);
    assert_int_equal(full.tokens.ids[1], 3);
    assert_true(full.request.sampling.temperature == 0 && full.request.sampling.top_p == 0.5f &&
                full.request.sampling.min_p == 0.25f &&
                full.request.sampling.repetition_penalty == 2);
    assert_int_equal(full.request.sampling.top_k, 5);
    assert_int_equal(full.request.sampling.seed, 12);
    assert_int_equal(full.request.max_tokens, 0);
    assert_true(full.request.ignore_eos);
    assert_int_equal(full.request.n_stop, 2);
    assert_string_equal(full.request.stop[0], "x");
    assert_string_equal(full.request.stop[1], "yz");
    assert_true(full.request.sampling.typical_p == 0.75f);
    assert_int_equal(full.request.sampling.no_repeat_ngram_size, 3);
    assert_int_equal(full.request.num_beams, 64);
    assert_true(full.request.length_penalty == -0.5f);
    assert_int_equal(full.request.early_stopping, KVERN_EARLY_STOPPING_NEVER);
    assert_true(full.request.sampling.presence_penalty == -2);
    assert_true(full.request.sampling.frequency_penalty == 0.5f);
    assert_int_equal(full.request.min_tokens, 9);
    assert_int_equal(full.request.n_stop_token_ids, 2);
    assert_int_equal(full.request.stop_token_ids[0], 3);
    assert_int_equal(full.request.stop_token_ids[1], 0);
    assert_int_equal(full.request.sampling.n_logit_bias, 2);
    for (size_t i = 0; i < 2; i++) { /* in any order */
        const kvern_logit_bias *bias = &full.request.sampling.logit_bias[i];

        assert_true(bias->id == 4 ? bias->bias == -100 : bias->id == 0 && bias->bias == 1.5f);
    }
    assert_int_equal(full.request.logprobs, KVERN_LOGPROBS_SAMPLED);
    assert_int_equal(full.request.top_logprobs, 3);
    assert_int_equal(full.request.priority, 7);
    assert_int_equal(full.request.timeout_ms, 900);
    assert_string_equal(full.request.cache_key, "k");

    /* the same tokens as its text has as a prompt */
    set_right(&chat,
              "{\"stop\": \"c\", \"messages\": [{\"role\": \"user\", \"content\": \"ab\"}]}");
    assert_int_equal(chat.tokens.n, 2);
    assert_memory_equal(chat.tokens.ids, plain.tokens.ids, 2 * sizeof(int32_t));
    assert_int_equal(chat.request.n_stop, 1);
    assert_string_equal(chat.request.stop[0], "c");

    set_right(&empty, "{\"id\": null, \"prompt\": \"\"}");
    assert_int_equal(empty.tokens.n, 1); /* <s> */
    prompt_clear(&plain);
    prompt_clear(&full);
    prompt_clear(&chat);
    prompt_clear(&empty);
}

static void a_line_of_a_megabyte(void **state)
{
    enum { LONG = 1 << 20 };
    struct buffer text = {0};
    struct prompt prompt;
    kvern_error err = {0};

    (void)state;
    buffer_add_string(&text, "{\"prompt\": \"");
    for (int i = 0; i < LONG; i++)
        buffer_add_byte(&text, 'a');
    buffer_add_string(&text, "\"}");
    if (set_line(&prompt, text.data, text.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(prompt.tokens.n, LONG + 1);
    prompt_clear(&prompt);
    buffer_clear(&text);
}

static void large_lists_end(void **state)
{
    struct buffer text = {0};
    struct prompt prompt;
    kvern_error err = {0};

    (void)state;
    buffer_add_string(&text, "{\"messages\": [0");
    for (int i = 0; i < 1024; i++)
        buffer_add_string(&text, ",0");
    buffer_add_string(&text, "]}");
    assert_int_equal(set_line(&prompt, text.data, text.n_bytes, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "\"messages\" has 1025 messages, over the limit of 1024");
    prompt_clear(&prompt);
    buffer_clear(&text);
}

static void plain_text(void **state)
{
    struct prompt_settings defaults = settings();
    struct prompt prompts[3];
    kvern_error err = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(prompts); i++)
        prompt_init(&prompts[i], &defaults);
    assert_int_equal(prompt_set_text(&prompts[0], small_model, &defaults, "ab", &err), KVERN_OK);
    defaults.is_raw = true;
    assert_int_equal(prompt_set_text(&prompts[1], small_model, &defaults, "{\"prompt\": 5}", &err),
                     KVERN_OK); /* text is text */
    assert_int_equal(prompts[0].tokens.n, 2);
    assert_int_equal(prompts[0].request.max_tokens, 77);
    assert_null(prompts[0].fields);
    defaults.system = "be brief";
    assert_int_equal(prompt_set_text(&prompts[2], small_model, &defaults, "ab", &err),
                     KVERN_INVALID);
    check_message(KVERN_INVALID, &err, "leave out --raw");
    for (size_t i = 0; i < COUNT(prompts); i++)
        prompt_clear(&prompts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_lines),          cmocka_unit_test(lines_that_are_right),
        cmocka_unit_test(a_line_of_a_megabyte), cmocka_unit_test(large_lists_end),
        cmocka_unit_test(plain_text),
    };

    return cmocka_run_group_tests(tests, open_small_model, close_small_model);
}
