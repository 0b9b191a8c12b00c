/* SPDX-License-Identifier: Apache-2.0
 *
 * What build/kvern says when it cannot do as it is told: usage, missing files, bad prompts, prompts
 * that do not fit, a full disk. The exit status, one sentence on stderr, and nothing on stdout.
 */
#include "system/support_command.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_errors_exit_2),
        cmocka_unit_test(failures_exit_1_with_advice),
        cmocka_unit_test(a_bad_line_names_its_number),
        cmocka_unit_test(a_prompt_that_cannot_fit_fails_alone),
        cmocka_unit_test(a_full_disk_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, remove_tiny_model);
}
