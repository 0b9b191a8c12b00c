/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern as a user runs it, on a tiny random model: what each command prints, where, in which
 * shape, and with which exit status; Ctrl-C, a reader that goes away, a full disk.
 */
#include "system/support_command.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_PROMPTS = 30 };

static char command[2048];

/* "generate" and "a b" -> "generate -m <tiny model> a b", in a static buffer. */
static const char *with_model(const char *name, const char *arguments)
{
    snprintf(command, sizeof command, "%s -m %s %s", name, tiny_model(), arguments);
    return command;
}

static const char *text_of(const json_t *result)
{
    const char *text = json_string_value(json_object_get(result, "text"));

    assert_non_null(text);
    return text;
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

/* Every key of `keys` (blank-separated) is there, and nothing else. */
static void assert_keys(const json_t *object, const char *keys)
{
    char name[64];
    size_t n = 0;

    for (const char *c = keys; *c; n++) {
        size_t length = strcspn(c, " ");

        snprintf(name, sizeof name, "%.*s", (int)length, c);
        if (!json_object_get(object, name))
            fail_msg("there is no \"%s\"", name);
        c += length + strspn(c + length, " ");
    }
    assert_int_equal(json_object_size(object), n);
}

static void usage_errors_exit_2(void **state)
{
    static const struct {
        const char *command;
        const char *says;
    } cases[] = {
        {"frobnicate", "unknown command 'frobnicate'"},
        {"", "Usage: kvern"},
        {"generate --frobnicate hi", "unknown option '--frobnicate'"},
        {"generate hi --max-tokens", "--max-tokens needs a value (N)"},
        {"generate hi --max-tokens many", "--max-tokens takes a whole number"},
        {"generate hi --temperature -1", "--temperature takes a number from 0"},
        {"generate hi --json=1", "--json takes no value"},
        {"generate --prompts x.jsonl hi", "--prompts goes without"},
        {"generate hi --kv-memory 5Q", "--kv-memory takes a size"},
        {"convert", "convert takes one SOURCE"},
        {"convert ..", "-o DIR"},
        {"models smollm2", "kvern inspect smollm2"},
        {"eval", "eval takes one FILE"},
        {"bench --decode 5y", "LENGTHxBATCH"},
        {"chat hello", "chat takes no arguments"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {0};

        command_run(&run, cases[i].command);
        if (run.status != 2)
            fail_msg("kvern %s: exit status %d, not 2", cases[i].command, run.status);
        assert_contains(run.err, cases[i].says);
        assert_string_equal(run.out, "");
        command_clear(&run);
    }
}

static void failures_exit_1_with_advice(void **state)
{
    static const struct {
        const char *command;
        const char *says;
    } cases[] = {
        {"generate -m no-such-model hi", "kvern pull no-such-model"},
        {"generate --file /no/such/file hi", "cannot open /no/such/file"},
        {"generate --prompts /no/such/file", "cannot open /no/such/file"},
        {"generate hi --kv-type f8", "not f16 or f32"},
        {"generate hi --context 4", "over the context limit of 4"},
        {"generate hi --raw --system x", "leave out --raw"},
        {"generate --file /dev/zero", "the limit of one input"},
        {"eval /dev/null", "fewer than 2 tokens"},
        {"tokenize --tokenizer /dev/null hi", "/dev/null"},
        {"inspect /no/such/model", "no model '/no/such/model'"},
        {"convert /no/such.gguf", "/no/such.gguf"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {0};
        char environment[600];

        snprintf(environment, sizeof environment, "KVERN_MODEL=%s", tiny_model());
        run.environment = environment;
        command_run(&run, cases[i].command);
        if (run.status != 1)
            fail_msg("kvern %s: exit status %d, not 1: %s", cases[i].command, run.status, run.err);
        assert_contains(run.err, cases[i].says);
        assert_memory_equal(run.err, "kvern: ", 7);
        assert_string_equal(run.out, "");
        command_clear(&run);
    }
}

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
    assert_memory_equal(plain, text_of(result), strlen(plain) - 1);
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

static void a_bad_line_names_its_number(void **state)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"{\"prompt\": ", "not JSON"},
        {"[]", "not a JSON object"},
        {"{}", "needs either \"prompt\" or \"messages\""},
        {"{\"prompt\": 5}", "\"prompt\" must be a string"},
        {"{\"prompt\": \"a\\u0000b\"}", "not JSON"},
        {"{\"prompt\": \"a\", \"top_k\": 1.5}", "\"top_k\" must be a whole number"},
        {"{\"prompt\": \"a\", \"n\": 2}", "\"n\" is not supported"},
        {"{\"prompt\": \"a\", \"stop\": [5]}", "\"stop\" must hold strings only"},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}", "\"temperature\" must be a number"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "message 0 needs"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char input[200];
        struct command_run run = {.input = input};

        snprintf(input, sizeof input, "{\"prompt\": \"good\"}\n\n%s\n", cases[i].line);
        command_run(&run, with_model("generate", "--prompts - --json"));
        if (run.status != 1 || !strstr(run.err, "stdin: line 3: "))
            fail_msg("%s: status %d, %s", cases[i].line, run.status, run.err);
        assert_contains(run.err, cases[i].says);
        assert_string_equal(run.out, "");
        command_clear(&run);
    }
}

static void a_prompt_that_cannot_fit_fails_alone(void **state)
{
    struct command_run run = {.input = "{\"prompt\": \"a\"}\n{\"id\": \"b\", \"prompt\": \"a text "
                                       "that is far too long for the limit\"}\n{\"prompt\": "
                                       "\"c\"}\n"};

    (void)state;
    command_run(&run, with_model("generate", "-p - -n 3 --ignore-eos --context 40 --json"));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "prompt \"b\": the prompt has ");
    assert_int_equal(count_lines(run.out), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *result = json_line(run.out, i);

        assert_string_equal(json_string_value(json_object_get(result, "finish_reason")),
                            i == 1 ? "error" : "length");
        assert_int_equal(json_object_get(result, "error") != NULL, i == 1);
        json_decref(result);
    }
    command_clear(&run);
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

        assert_string_equal(text_of(a), text_of(b));
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
    const char *text = text_of(result);
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
    assert_int_equal(strlen(text_of(stopped)), at);
    assert_memory_equal(text_of(stopped), text, at);
    json_decref(stopped);
    json_decref(result);
    free(out);
    free(whole);
}

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

static void a_full_disk_is_an_error(void **state)
{
    static const char *const cases[] = {"generate hi -n 4 --ignore-eos",
                                        "generate hi -n 4 --ignore-eos --json",
                                        "generate hi -n 4 --ignore-eos --stream",
                                        "inspect",
                                        "inspect --json",
                                        "tokenize hi",
                                        "tokenize hi --json",
                                        "help",
                                        "generate --help",
                                        "--version"};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char environment[600];
        struct command_run run = {.output = "/dev/full", .environment = environment};

        snprintf(environment, sizeof environment, "KVERN_MODEL=%s", tiny_model());
        command_run(&run, cases[i]);
        if (run.status != 1)
            fail_msg("kvern %s: exit status %d on a full disk", cases[i], run.status);
        assert_contains(run.err, "cannot write to stdout: No space left on device");
        command_clear(&run);
    }
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
    assert_string_equal(text_of(turns[2]), text_of(turns[0]));
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

static int remove_models(void **state)
{
    char source[600];
    kvern_error err;

    (void)state;
    snprintf(source, sizeof source, "%s/..", tiny_model());
    char *real = realpath(source, NULL);
    int status = real && directory_remove(real, &err) == KVERN_OK ? 0 : -1;
    free(real);
    return status;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_errors_exit_2),
        cmocka_unit_test(failures_exit_1_with_advice),
        cmocka_unit_test(json_has_the_promised_shape),
        cmocka_unit_test(every_way_in_and_out_gives_the_same),
        cmocka_unit_test(prompts_keep_their_order_ids_and_fields),
        cmocka_unit_test(a_bad_line_names_its_number),
        cmocka_unit_test(a_prompt_that_cannot_fit_fails_alone),
        cmocka_unit_test(alone_or_together_the_answers_are_the_same),
        cmocka_unit_test(seeds_repeat_and_differ),
        cmocka_unit_test(stop_strings_end_the_answer),
        cmocka_unit_test(the_environment_sets_options),
        cmocka_unit_test(ctrl_c_prints_what_there_is),
        cmocka_unit_test(a_reader_that_goes_ends_it_quietly),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(chat_over_a_pipe),
        cmocka_unit_test(chat_over_a_terminal),
        cmocka_unit_test(tokenize_has_the_promised_shape),
        cmocka_unit_test(bench_has_the_promised_shape),
        cmocka_unit_test(eval_gives_a_perplexity),
        cmocka_unit_test(convert_refuses_to_replace_unless_told),
        cmocka_unit_test(models_and_inspect_agree),
        cmocka_unit_test(memory_stays_flat),
        cmocka_unit_test(memory_of_the_default_model),
    };

    return cmocka_run_group_tests(tests, NULL, remove_models);
}
