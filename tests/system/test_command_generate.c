/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern generate as a user runs it, on a tiny random model: every way in and out, batches,
 * seeds, stop strings, Ctrl-C, a reader that goes away, and the memory it takes.
 */
#include "system/support_command.h"
#include "system/support_models.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_PROMPTS = 30 };

static void json_has_the_promised_shape(void **state)
{
    char *out = command_output(with_model("generate", "hello -n 7 --ignore-eos --json"), NULL, 0);
    json_t *result = json_line(out, 0);
    const json_t *usage = json_object_get(result, "usage");

    (void)state;
    assert_int_equal(count_lines(out), 1);
    assert_keys(result, "id text finish_reason usage timings");
    assert_keys(usage, "prompt_tokens completion_tokens cached_tokens");
    assert_keys(json_object_get(result, "timings"), "wait_ms prefill_ms decode_ms");
    assert_int_equal(json_integer_value(json_object_get(result, "id")), 0);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 7);
    /* <|im_start|> "user\nhello" <|im_end|> "\n" <|im_start|> "assistant\n" */
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 24);
    assert_string_equal(json_string_value(json_object_get(result, "finish_reason")), "length");
    json_decref(result);
    free(out);
}

/* The likeliest of the model's own are the greedy answer; a line may ask for less than the option.
 */
static void logprobs_are_in_the_json(void **state)
{
    static const char lines[] =
        "{\"prompt\": \"hello\"}\n"
        "{\"prompt\": \"hello\", \"logprobs\": 0}\n"
        "{\"prompt\": \"hello\", \"logprobs_of\": \"sampled\", \"stop_token_ids\": [7]}\n";
    static const size_t n_top[] = {3, 0, 1};
    char *out = command_output(
        with_model("generate", "--prompts - -n 7 --ignore-eos --json --logprobs 3"), lines, 0);

    (void)state;
    assert_int_equal(count_lines(out), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *result = json_line(out, i);
        const json_t *list = json_object_get(result, "logprobs");

        assert_keys(result, "id text finish_reason usage timings logprobs");
        assert_true(json_array_size(list) > 0);
        for (size_t j = 0; j < json_array_size(list); j++) {
            const json_t *token = json_array_get(list, j);
            const json_t *top = json_object_get(token, "top");
            double logprob = json_number_value(json_object_get(token, "logprob"));

            assert_keys(token, n_top[i] ? "token id logprob top" : "token id logprob");
            assert_true(json_is_string(json_object_get(token, "token")));
            assert_int_equal(json_array_size(top), n_top[i]);
            assert_true(i == 2 ? logprob == 0 : logprob < 0);
            if (n_top[i] == 0)
                continue;
            assert_keys(json_array_get(top, 0), "token id logprob");
            assert_true(json_equal(json_object_get(token, "id"),
                                   json_object_get(json_array_get(top, 0), "id")));
        }
        json_decref(result);
    }
    free(out);
}

/* Arguments, stdin, a file, a stream and JSON give one and the same answer. */
static void every_way_in_and_out_gives_the_same(void **state)
{
    static const char *const ways[] = {"'tell me' %s", "- %s", "%s", "--file - %s",
                                       "'tell me' --stream %s"};
    char *plain = command_output(with_model("generate", "'tell me' -n 24 --ignore-eos"), NULL, 0);
    char *json =
        command_output(with_model("generate", "'tell me' -n 24 --ignore-eos --json"), NULL, 0);
    json_t *result = json_line(json, 0);

    (void)state;
    assert_true(strlen(plain) > 10);
    assert_memory_equal(plain, result_text(result), strlen(plain) - 1);
    for (size_t i = 0; i < COUNT(ways); i++) {
        char arguments[100];

        /* a file goes after an empty line: the same as stdin with one before */
        bool is_file = strstr(ways[i], "--file") != NULL;
        snprintf(arguments, sizeof arguments, ways[i], "-n 24 --ignore-eos");
        char *other = command_output(with_model("generate", arguments), "tell me", 0);
        char *expected =
            is_file ? command_output(with_model("generate", "- -n 24 --ignore-eos"), "\ntell me", 0)
                    : strdup(plain);
        if (strcmp(other, expected) != 0)
            fail_msg("kvern generate %s gives '%s', not '%s'", arguments, other, expected);
        free(expected);
        free(other);
    }
    json_decref(result);
    free(json);
    free(plain);
}

static void prompts_keep_their_order_ids_and_fields(void **state)
{
    static const char lines[] =
        "{\"id\": \"long\", \"prompt\": \"first\", \"max_tokens\": 40}\n"
        "\n"
        "{\"prompt\": \"second\", \"max_tokens\": 2, \"note\": \"left alone\"}\r\n"
        "{\"id\": {\"a\": [1]}, \"messages\": [{\"role\": \"user\", \"content\": \"third\"}]}\n"
        "{\"id\": null, \"prompt\": \"fourth\", \"temperature\": 1, \"seed\": 5}";
    static const char *const ids[] = {"\"long\"", "1", "{\"a\":[1]}", "null"};
    static const int n_tokens[] = {40, 2, 9, 9};
    char *out =
        command_output(with_model("generate", "--prompts - -n 9 --ignore-eos --json"), lines, 0);

    (void)state;
    assert_int_equal(count_lines(out), COUNT(ids));
    for (size_t i = 0; i < COUNT(ids); i++) {
        json_t *result = json_line(out, i);
        char *id = json_dumps(json_object_get(result, "id"), JSON_ENCODE_ANY | JSON_COMPACT);
        const json_t *usage = json_object_get(result, "usage");

        assert_string_equal(id, ids[i]);
        assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")),
                         n_tokens[i]);
        free(id);
        json_decref(result);
    }
    free(out);
}

static void alone_or_together_the_answers_are_the_same(void **state)
{
    char lines[N_PROMPTS * 120] = "";

    (void)state;
    for (int i = 0; i < N_PROMPTS; i++)
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines),
                 "{\"prompt\": \"question %d\", \"temperature\": %d, \"seed\": %d}\n", i * 7919,
                 i % 2, i);
    char *together =
        command_output(with_model("generate", "--prompts - -n 12 --ignore-eos --json"), lines, 0);
    char *one_by_one = command_output(
        with_model("generate", "--prompts - -n 12 --ignore-eos --json --sequences 1 -t 1"), lines,
        0);

    assert_int_equal(count_lines(together), N_PROMPTS);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        json_t *a = json_line(together, i);
        json_t *b = json_line(one_by_one, i);

        assert_string_equal(result_text(a), result_text(b));
        json_decref(a);
        json_decref(b);
    }
    free(one_by_one);
    free(together);
}

static void seeds_repeat_and_differ(void **state)
{
    char *outputs[3];
    static const char *const seeds[] = {"7", "7", "8"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char arguments[100];

        snprintf(arguments, sizeof arguments, "hi -n 30 --ignore-eos --temperature 1 --seed %s",
                 seeds[i]);
        outputs[i] = command_output(with_model("generate", arguments), NULL, 0);
    }
    assert_string_equal(outputs[0], outputs[1]);
    assert_string_not_equal(outputs[0], outputs[2]);
    for (size_t i = 0; i < 3; i++)
        free(outputs[i]);
}

/* A stop string taken from the answer itself ends it right before. */
static void stop_strings_end_the_answer(void **state)
{
    char *whole = command_output(with_model("generate", "hi -n 40 --ignore-eos --json"), NULL, 0);
    json_t *result = json_line(whole, 0);
    const char *text = result_text(result);
    char input[200] = "";
    size_t at = 0;

    (void)state;
    /* two ASCII letters in a row that stand nowhere before */
    for (at = 1; text[at]; at++) {
        char pair[3] = {text[at], text[at + 1], '\0'};

        if (text[at] > ' ' && text[at] != '"' && text[at] != '\\' && text[at + 1] > ' ' &&
            text[at + 1] != '"' && text[at + 1] != '\\' && strstr(text, pair) == text + at)
            break;
    }
    assert_true(text[at] != '\0');
    snprintf(input, sizeof input, "{\"prompt\": \"hi\", \"stop\": \"%.2s\"}", text + at);
    char *out =
        command_output(with_model("generate", "--prompts - -n 40 --ignore-eos --json"), input, 0);
    json_t *stopped = json_line(out, 0);
    assert_string_equal(json_string_value(json_object_get(stopped, "finish_reason")), "stop");
    assert_int_equal(strlen(result_text(stopped)), at);
    assert_memory_equal(result_text(stopped), text, at);
    json_decref(stopped);
    json_decref(result);
    free(out);
    free(whole);
}

static void ctrl_c_prints_what_there_is(void **state)
{
    /* several prompts show progress, on a terminal at once: then it is running */
    struct command_run run = {.interrupt = "0 %", .is_terminal = true};
    struct command_run stream = {.interrupt = "e"}; /* a random byte, soon there */

    (void)state;
    command_run(&run, with_model("generate", "a b -n 0 --ignore-eos --json"));
    assert_int_equal(run.status, 130);
    const char *line = strstr(run.out, "{\"id\":0");
    assert_non_null(line);
    json_t *result = json_line(line, 0);
    assert_string_equal(json_string_value(json_object_get(result, "finish_reason")), "cancelled");
    json_decref(result);
    command_clear(&run);

    command_run(&stream, with_model("generate", "a -n 0 --ignore-eos --stream --temperature 1"));
    assert_int_equal(stream.status, 130);
    assert_true(strlen(stream.out) > 0);
    command_clear(&stream);
}

static void a_reader_that_goes_ends_it_quietly(void **state)
{
    struct command_run run = {.closes_early = true};

    (void)state;
    command_run(&run, with_model("generate", "a -n 0 --ignore-eos --stream"));
    assert_int_equal(run.status, 1);
    assert_string_equal(run.err, "");
    command_clear(&run);
}

/* Memory must not grow with the tokens generated: steps give back what they take. */
static void memory_stays_flat(void **state)
{
    enum { MAX_GROWTH_KIB = 8 << 10 };
    static const char *const n_tokens[] = {"500", "8000"};
    long rss_kib[2];

    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* freed memory is kept in quarantine there */
#endif
    for (size_t i = 0; i < 2; i++) {
        struct command_run run = {0};
        char arguments[100];

        snprintf(arguments, sizeof arguments, "hi --ignore-eos --json -n %s", n_tokens[i]);
        command_run(&run, with_model("generate", arguments));
        assert_int_equal(run.status, 0);
        rss_kib[i] = run.max_rss_kib;
        command_clear(&run);
    }
    printf("  peak memory after 500 tokens %ld KiB, after 8000 %ld KiB\n", rss_kib[0], rss_kib[1]);
    assert_in_range(rss_kib[1], 0, rss_kib[0] + MAX_GROWTH_KIB);
}

/* The bar of the project: 250 MB for the default model. */
static void memory_of_the_default_model(void **state)
{
    kvern_model *model = open_test_model(smollm2_gguf, NULL);
    kvern_model_info info;
    struct command_run run = {0};
    char command[2048];

    (void)state;
    kvern_model_get_info(model, &info);
    snprintf(command, sizeof command, "generate -m %s 'What is a hand mill?' -n 64 --ignore-eos",
             info.directory);
    kvern_model_close(model);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    printf("  peak memory %ld KiB\n", run.max_rss_kib);
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(run.max_rss_kib, 0, 250L * 1000 * 1000 / 1024);
#endif
    command_clear(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_the_promised_shape),
        cmocka_unit_test(logprobs_are_in_the_json),
        cmocka_unit_test(every_way_in_and_out_gives_the_same),
        cmocka_unit_test(prompts_keep_their_order_ids_and_fields),
        cmocka_unit_test(alone_or_together_the_answers_are_the_same),
        cmocka_unit_test(seeds_repeat_and_differ),
        cmocka_unit_test(stop_strings_end_the_answer),
        cmocka_unit_test(ctrl_c_prints_what_there_is),
        cmocka_unit_test(a_reader_that_goes_ends_it_quietly),
        cmocka_unit_test(memory_stays_flat),
        cmocka_unit_test(memory_of_the_default_model),
    };

    return cmocka_run_group_tests(tests, NULL, remove_tiny_model);
}
