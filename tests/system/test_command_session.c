/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern session as a user runs it: every command is a process of its own, so what they see of
 * each other went through the files. On a paged model and on an export with a KV cache of its own.
 */
#include "system/support_session.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The values of a vector's text. */
static size_t read_vector(const char *text, float *values, size_t capacity)
{
    char *at = strchr(text, '[') + 1;
    size_t n = 0;

    while (n < capacity && *at) {
        char *end;

        values[n] = strtof(at, &end);
        if (end == at)
            break;
        n++;
        at = *end == ',' ? end + 1 : end;
    }
    return n;
}

/* Vectors of the paged model are the same bit for bit; an export's up to what its kernels do. */
static void assert_same_vector(const char *a, const char *b, bool is_exact)
{
    float first[512];
    float second[512];

    if (is_exact) {
        assert_string_equal(a, b);
        return;
    }
    size_t n = read_vector(a, first, 512);
    assert_int_equal(read_vector(b, second, 512), n);
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(first[i] - second[i]) < 1e-4f))
            fail_msg("value %zu is %g, not %g", i, (double)second[i], (double)first[i]);
    }
}

static void three_appends_are_one_context(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(session_models); m++) {
        create_session("grow", session_models[m], "");
        char *out = session_output("embed grow 'return the name' --json");
        json_t *first = json_line(out, 0);
        char *first_vector = vector_text(out);
        int64_t n_first = json_integer_value(json_object_get(first, "context_length"));

        assert_keys(first, "id embedding tokens truncated context_length tokens_run tokens_reused "
                           "drift");
        assert_int_equal(json_integer_value(json_object_get(first, "tokens")), n_first);
        assert_int_equal(json_integer_value(json_object_get(first, "tokens_run")), n_first);
        assert_int_equal(json_integer_value(json_object_get(first, "tokens_reused")), 0);
        assert_true(json_is_null(json_object_get(first, "drift")));
        json_decref(first);
        free(out);

        int64_t n_second = session_number("append grow ' of the value' --json", "tokens");
        out = session_output("append grow ' and self' --json");
        json_t *third = json_line(out, 0);
        int64_t n_third = json_integer_value(json_object_get(third, "tokens"));
        assert_keys(third, "context_length tokens_run tokens_reused drift tokens");
        assert_true(n_second > 0 && n_third > 0);
        assert_int_equal(json_integer_value(json_object_get(third, "context_length")),
                         n_first + n_second + n_third);
        assert_int_equal(json_integer_value(json_object_get(third, "tokens_run")), n_third);
        assert_int_equal(json_integer_value(json_object_get(third, "tokens_reused")),
                         n_first + n_second);
        double drift = json_number_value(json_object_get(third, "drift"));
        assert_true(drift > -1.001 && drift < 1.001);
        json_decref(third);
        free(out);

        /* the same as all of it at once, and after going back */
        char *grown = session_vector("grow");
        char command[1500];
        snprintf(command, sizeof command, "append whole 'return the name' --file - --json");
        create_session("whole", session_models[m], "");
        struct command_run run = run_session(command, " of the value", 0);
        command_clear(&run);
        do_session("append whole ' and self'");
        char *whole = session_vector("whole");
        assert_same_vector(grown, whole, m == 0);
        snprintf(command, sizeof command, "rewind grow %d --json", (int)n_first);
        assert_int_equal(session_number(command, "context_length"), n_first);
        char *back = session_vector("grow");
        assert_same_vector(first_vector, back, m == 0);

        assert_int_equal(session_number("reset grow --json", "context_length"), 0);
        out = session_output("embed grow 'return the name' --json");
        char *again = vector_text(out);
        assert_string_equal(again, first_vector);
        do_session("delete grow whole");
        free(again);
        free(out);
        free(back);
        free(whole);
        free(grown);
        free(first_vector);
    }
}

static void embed_has_the_session_too(void **state)
{
    struct command_run run = {.environment = session_environment,
                              .input = "{\"id\": \"x\", \"text\": \"the name\"}\n\" of self\"\n"};
    struct command_run failing = {.environment = session_environment,
                                  .input = "\" more\"\nnonsense\n"};

    (void)state;
    create_session("rows", session_models[0], "--dimensions 5");
    setenv("KVERN_MODEL", "another", 1); /* is not the session's matter */
    command_run(&run, "embed --session rows --input - --json");
    assert_int_equal(run.status, 0);
    unsetenv("KVERN_MODEL");
    assert_int_equal(count_lines(run.out), 2);
    json_t *first = json_line(run.out, 0);
    json_t *second = json_line(run.out, 1);
    assert_string_equal(json_string_value(json_object_get(first, "id")), "x");
    assert_int_equal(json_array_size(json_object_get(first, "embedding")), 5);
    assert_int_equal(json_integer_value(json_object_get(second, "context_length")), 16);
    assert_int_equal(json_integer_value(json_object_get(second, "tokens_run")), 8);
    assert_int_equal(json_integer_value(json_object_get(second, "tokens_reused")), 8);

    /* all of the texts or none */
    command_run(&failing, "embed --session rows --input - --json");
    assert_int_equal(failing.status, 1);
    assert_contains(failing.err, "nothing was appended");
    assert_string_equal(failing.out, "");
    assert_int_equal(session_number("show rows --json", "position"), 16);
    do_session("delete rows");
    json_decref(second);
    json_decref(first);
    command_clear(&failing);
    command_clear(&run);
}

static void forks_and_files(void **state)
{
    char command[1500];
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/saved", session_home);
    for (size_t m = 0; m < COUNT(session_models); m++) {
        create_session("one", session_models[m], "");
        do_session("append one 'return the name of the value'");
        char *before = session_vector("one");
        do_session("fork one two");
        int64_t n = session_number("show two --json", "position");
        char *out = session_output("embed two ' or not' --json");
        json_t *result = json_line(out, 0);
        char *longer = vector_text(out);
        assert_int_equal(json_integer_value(json_object_get(result, "tokens_reused")), n);
        json_decref(result);
        free(out);
        char *after = session_vector("one");
        assert_string_equal(before, after);

        snprintf(command, sizeof command, "save one %s", path);
        do_session(command);
        refuse_session("fork one two", 1, "there is a session 'two'");
        snprintf(command, sizeof command, "restore two %s", path);
        refuse_session(command, 1, "--overwrite");
        snprintf(command, sizeof command, "restore two %s --overwrite", path);
        do_session(command);
        snprintf(command, sizeof command, "restore three %s -m %s", path, session_models[m]);
        do_session(command);
        char *out_three = session_output("embed three ' or not' --json");
        char *restored = vector_text(out_three);
        assert_string_equal(restored, longer);
        char *two = session_vector("two");
        assert_string_equal(two, before);

        snprintf(command, sizeof command, "restore four %s -m %s", path, session_models[1 - m]);
        refuse_session(command, 1, "of another model");
        refuse_session("show four", 1, "there is no session 'four'");
        do_session("delete one two three");
        unlink(path);
        free(two);
        free(restored);
        free(out_three);
        free(after);
        free(longer);
        free(before);
    }
}

static void generating_goes_on(void **state)
{
    (void)state;
    create_session("story", session_models[0], "");
    create_session("twin", session_models[0], "");
    char *out = session_output("generate story 'once' -n 6 --ignore-eos --json");
    json_t *result = json_line(out, 0);

    assert_keys(result, "id text finish_reason usage timings context_length tokens_run "
                        "tokens_reused drift");
    assert_string_equal(json_string_value(json_object_get(result, "id")), "story");
    assert_int_equal(json_integer_value(json_object_get(result, "context_length")), 10);
    json_decref(result);
    free(out);
    /* in two commands what one gives */
    out = session_output("generate story -n 6 --ignore-eos -q");
    char *whole = session_output("generate twin 'once' -n 12 --ignore-eos -q");
    assert_int_equal(session_number("show twin --json", "position"), 16);
    assert_int_equal(session_number("show story --json", "position"), 16);
    assert_true(strlen(whole) > strlen(out));
    char *a = session_vector("story");
    char *b = session_vector("twin");
    assert_string_equal(a, b);
    do_session("delete story twin");
    free(b);
    free(a);
    free(whole);
    free(out);
}

static void window_policies(void **state)
{
    char text[200] = "append %s '";
    char command[400];

    (void)state;
    for (int i = 0; i < 5; i++)
        strcat(text, "twenty characters, so");
    strcat(text, "' --json"); /* 105 tokens */
    create_session("strict", session_models[0], "--context 64");
    create_session("cut", session_models[0], "--context 64 --window-policy truncate");
    create_session("slide", session_models[0],
                   "--context 64 --window-policy sliding --window 32 --sinks 16");
    snprintf(command, sizeof command, "append strict 'short'");
    do_session(command);
    snprintf(command, sizeof command, text, "strict");
    refuse_session(command, 1, "over the context limit of 64");
    assert_int_equal(session_number("show strict --json", "position"), 5);

    snprintf(command, sizeof command, text, "cut");
    struct command_run run = run_session(command, NULL, 0);
    json_t *result = json_line(run.out, 0);
    assert_contains(run.err, "41 tokens did not fit");
    assert_int_equal(json_integer_value(json_object_get(result, "left_out")), 41);
    assert_int_equal(json_integer_value(json_object_get(result, "context_length")), 64);
    json_decref(result);
    command_clear(&run);

    snprintf(command, sizeof command, text, "slide");
    int64_t length = session_number(command, "context_length");
    assert_true(length <= 64 && length >= 32);
    assert_int_equal(session_number("show slide --json", "position"), 105);
    do_session("delete strict cut slide");

    refuse_session("create x --window 5", 2, "--window-policy sliding");
    refuse_session("create x --window-policy none", 2, "not 'none'");
    snprintf(command, sizeof command, "create x -m %s --pooling mean", session_models[0]);
    refuse_session(command, 1, "last and logits512 go");
    refuse_session("show x", 1, "there is no session 'x'");
}

static void encoders_have_no_state(void **state)
{
    char command[1200];

    (void)state;
    snprintf(command, sizeof command, "create enc -m %s/exports/bert-f32", KVERN_GOLDEN_DIR);
    refuse_session(command, 1, "has no state to keep");
    char *out = session_output("list --json");
    assert_string_equal(out, "");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_appends_are_one_context),
        cmocka_unit_test(embed_has_the_session_too),
        cmocka_unit_test(forks_and_files),
        cmocka_unit_test(generating_goes_on),
        cmocka_unit_test(window_policies),
        cmocka_unit_test(encoders_have_no_state),
    };

    return cmocka_run_group_tests(tests, make_session_home, remove_session_home);
}
