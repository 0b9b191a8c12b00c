/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern as a user runs it, on a tiny random model: what chat, tokenize, bench, eval, convert,
 * models and inspect print, and in which shape. test_command_generate.c has generate,
 * test_command_errors.c what goes wrong.
 */
#include "system/support_command.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static void the_environment_sets_options(void **state)
{
    struct command_run run = {.environment = "KVERN_MAX_TOKENS=3"};

    (void)state;
    command_run(&run, with_model("generate", "hi --ignore-eos --json"));
    assert_int_equal(run.status, 0);
    assert_contains(run.out, "\"completion_tokens\":3");
    command_clear(&run);
    command_run(&run, with_model("generate", "hi --ignore-eos --json -n 4"));
    assert_contains(run.out, "\"completion_tokens\":4");
    command_clear(&run);
    run.environment = "KVERN_JSON=perhaps";
    command_run(&run, with_model("generate", "hi"));
    assert_int_equal(run.status, 2);
    assert_contains(run.err, "KVERN_JSON takes 1 or 0, not 'perhaps'");
    command_clear(&run);
}

static void chat_over_a_pipe(void **state)
{
    char *out = command_output(with_model("chat", "-n 6 --json"),
                               "hello\nhello\n/reset\n/what\nhello\n/quit\nnever\n", 0);
    json_t *turns[3];

    (void)state;
    assert_int_equal(count_lines(out), 3);
    for (size_t i = 0; i < 3; i++) {
        turns[i] = json_line(out, i);
        assert_keys(turns[i], "text finish_reason usage timings");
    }
#define PROMPT_TOKENS(turn)                                                                        \
    json_integer_value(json_object_get(json_object_get(turn, "usage"), "prompt_tokens"))
    assert_true(PROMPT_TOKENS(turns[1]) > PROMPT_TOKENS(turns[0]) + 20);
    assert_int_equal(PROMPT_TOKENS(turns[2]), PROMPT_TOKENS(turns[0]));
    assert_string_equal(result_text(turns[2]), result_text(turns[0]));
    for (size_t i = 0; i < 3; i++)
        json_decref(turns[i]);
    free(out);
}

static void chat_over_a_terminal(void **state)
{
    struct command_run run = {.is_terminal = true, .input = "hello\nagain\n/reset\n/quit\n"};

    (void)state;
    command_run(&run, with_model("chat", "-n 6 --ignore-eos"));
    assert_int_equal(run.status, 2); /* chat has no --ignore-eos */
    command_clear(&run);
    command_run(&run, with_model("chat", "-n 6"));
    assert_int_equal(run.status, 0);
    assert_contains(run.out, "/reset forgets the conversation");
    assert_contains(run.out, "> ");
    assert_contains(run.out, "[24 tokens");
    command_clear(&run);
}

static void tokenize_has_the_promised_shape(void **state)
{
    char *out = command_output(with_model("tokenize", "--json"), "a\xc3\xa9 <|im_end|>", 0);
    json_t *result = json_line(out, 0);

    (void)state;
    assert_keys(result, "ids pieces offsets");
    /* user text never becomes a control token */
    assert_int_equal(json_array_size(json_object_get(result, "ids")), 14);
    assert_int_equal(json_array_size(json_object_get(result, "pieces")), 14);
    assert_int_equal(json_array_size(json_object_get(result, "offsets")), 14);
    json_decref(result);
    free(out);
    out = command_output(with_model("tokenize", "--control --json '<|im_end|>'"), NULL, 0);
    assert_string_equal(out, "{\"ids\":[257],\"pieces\":[\"<|im_end|>\"],\"offsets\":[[0,10]]}\n");
    free(out);
}

static void bench_has_the_promised_shape(void **state)
{
    char *out = command_output(
        with_model("bench", "--prefill 8 --decode 4x2 --tokens 100 --repeats 1 --json"), NULL, 0);
    json_t *result = json_line(out, 0);
    const json_t *results = json_object_get(result, "results");

    (void)state;
    assert_keys(result, "model weights threads isa results limits");
    assert_keys(json_object_get(result, "limits"), "read_gb_s int8_gop_s f32_gflop_s");
    assert_int_equal(json_array_size(results), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(results, i);

        assert_keys(item, "name batch length tokens_per_s samples");
        assert_true(json_real_value(json_object_get(item, "tokens_per_s")) > 0);
    }
    json_decref(result);
    free(out);
}

static void eval_gives_a_perplexity(void **state)
{
    char *out = command_output(with_model("eval", "- --json --window 16"),
                               "Some text that a random model finds surprising.", 0);
    json_t *result = json_line(out, 0);

    (void)state;
    assert_keys(result, "model weights window tokens perplexity seconds");
    assert_int_equal(json_integer_value(json_object_get(result, "tokens")), 44);
    assert_true(json_real_value(json_object_get(result, "perplexity")) > 10);
    json_decref(result);
    free(out);
}

static void convert_refuses_to_replace_unless_told(void **state)
{
    char arguments[1400];
    char source[650];
    struct command_run run = {0};

    (void)state;
    snprintf(source, sizeof source, "%s/..", tiny_model());
    snprintf(arguments, sizeof arguments, "convert %s -o %s/again --json", source, source);
    char *out = command_output(arguments, NULL, 0);
    json_t *result = json_line(out, 0);
    assert_keys(result, "directory");
    json_decref(result);
    free(out);
    command_run(&run, arguments);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "--overwrite");
    command_clear(&run);
    strcat(arguments, " --overwrite");
    free(command_output(arguments, NULL, 0));
}

static void models_and_inspect_agree(void **state)
{
    char *out = command_output(with_model("inspect", "--json"), NULL, 0);
    json_t *result = json_line(out, 0);

    (void)state;
    assert_string_equal(json_string_value(json_object_get(result, "name")), "tiny");
    assert_int_equal(json_integer_value(json_object_get(result, "vocab_size")), 258);
    assert_string_equal(json_string_value(json_object_get(result, "directory")), tiny_model());
    json_decref(result);
    free(out);
    out = command_output(with_model("inspect", ""), NULL, 0);
    assert_contains(out, "vocabulary       258\n");
    free(out);
    /* the cache of the tests is empty */
    out = command_output("models --json", NULL, 0);
    assert_string_equal(out, "");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_sets_options),
        cmocka_unit_test(chat_over_a_pipe),
        cmocka_unit_test(chat_over_a_terminal),
        cmocka_unit_test(tokenize_has_the_promised_shape),
        cmocka_unit_test(bench_has_the_promised_shape),
        cmocka_unit_test(eval_gives_a_perplexity),
        cmocka_unit_test(convert_refuses_to_replace_unless_told),
        cmocka_unit_test(models_and_inspect_agree),
    };

    return cmocka_run_group_tests(tests, NULL, remove_tiny_model);
}
