/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern generate --n as a user runs it, on a tiny random model: several answers to one
 * prompt are those of as many requests, in every way out, over a resumed file and after Ctrl-C.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With --temperature 1 and one seed; a random model makes any two seeds differ soon. */
static const char drawn[] = "-n 24 --ignore-eos --temperature 1";

static json_t *answers_of(const json_t *result)
{
    json_t *answers = json_object_get(result, "answers");

    assert_true(json_is_array(answers));
    return answers;
}

static const char *answer_text(const json_t *result, size_t i)
{
    return result_text(json_array_get(answers_of(result), i));
}

static int64_t usage_of(const json_t *result, const char *name)
{
    const json_t *value = json_object_get(json_object_get(result, "usage"), name);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static json_t *run_json(const char *arguments, const char *input)
{
    char *out = command_output(with_model("generate", arguments), input, 0);
    json_t *result = json_line(out, 0);

    assert_int_equal(count_lines(out), 1);
    free(out);
    return result;
}

static void json_has_the_promised_shape(void **state)
{
    json_t *result = run_json("hello -n 7 --ignore-eos --json --n 3 --logprobs 1", NULL);
    json_t *one = run_json("hello -n 7 --ignore-eos --json --n 1 --logprobs 1", NULL);

    (void)state;
    assert_keys(result, "id answers usage timings");
    assert_keys(json_object_get(result, "usage"), "prompt_tokens completion_tokens cached_tokens");
    assert_keys(json_object_get(result, "timings"), "wait_ms prefill_ms decode_ms");
    assert_int_equal(json_array_size(answers_of(result)), 3);
    assert_int_equal(usage_of(result, "prompt_tokens"), usage_of(one, "prompt_tokens"));
    assert_int_equal(usage_of(result, "completion_tokens"), 3 * 7);
    assert_int_equal(usage_of(result, "cached_tokens"), 0); /* it ran once, but it ran */
    assert_keys(one, "id text finish_reason usage timings logprobs");
    for (size_t i = 0; i < 3; i++) {
        const json_t *answer = json_array_get(answers_of(result), i);

        assert_keys(answer, "text finish_reason logprobs");
        assert_string_equal(json_string_value(json_object_get(answer, "finish_reason")), "length");
        assert_string_equal(result_text(answer), result_text(one)); /* greedy */
        assert_true(
            json_equal(json_object_get(answer, "logprobs"), json_object_get(one, "logprobs")));
    }
    json_decref(one);
    json_decref(result);
}

/* However they are asked for: answer i is the answer of seed + i. */
static void samples_are_the_answers_of_their_seeds(void **state)
{
    enum { N = 3, SEED = 40 };
    static const struct {
        const char *arguments;
        const char *input;
    } ways[] = {
        {"'a question' --n 3 --seed 40", NULL},
        {"--prompts - --n 3 --seed 40", "{\"prompt\": \"a question\"}\n"},
        {"--prompts - --seed 1", "{\"prompt\": \"a question\", \"n\": 3, \"seed\": 40}\n"},
        {"'a question' --n 3 --seed 40 --sequences 1 --no-prefix-cache -t 1", NULL},
    };
    json_t *alone[N];
    char arguments[200];

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(arguments, sizeof arguments, "'a question' %s --json --seed %d", drawn, SEED + i);
        alone[i] = run_json(arguments, NULL);
        if (i > 0)
            assert_string_not_equal(result_text(alone[i]), result_text(alone[i - 1]));
    }
    for (size_t w = 0; w < COUNT(ways); w++) {
        snprintf(arguments, sizeof arguments, "%s %s --json", ways[w].arguments, drawn);
        json_t *result = run_json(arguments, ways[w].input);

        assert_int_equal(json_array_size(answers_of(result)), N);
        for (size_t i = 0; i < N; i++)
            assert_string_equal(answer_text(result, i), result_text(alone[i]));
        json_decref(result);
    }
    for (int i = 0; i < N; i++)
        json_decref(alone[i]);
}

static void texts_have_headings(void **state)
{
    static const char input[] = "{\"id\": \"x\", \"prompt\": \"hi\", \"n\": 2}\n"
                                "{\"id\": \"y\", \"prompt\": \"hi\", \"n\": 1}\n";
    char *one = command_output(with_model("generate", "hi -n 5 --ignore-eos"), NULL, 0);
    char *three =
        command_output(with_model("generate", "hi -n 5 --ignore-eos --n 3 --stream"), NULL, 0);
    char *lines = command_output(with_model("generate", "--prompts - -n 5 --ignore-eos"), input, 0);
    char expected[1000];

    (void)state;
    snprintf(expected, sizeof expected, "--- 0 1/3\n%s--- 0 2/3\n%s--- 0 3/3\n%s", one, one, one);
    assert_string_equal(three, expected);
    snprintf(expected, sizeof expected, "--- \"x\" 1/2\n%s--- \"x\" 2/2\n%s--- \"y\"\n%s", one, one,
             one);
    assert_string_equal(lines, expected);
    free(lines);
    free(three);
    free(one);
}

/* Best first, each with its score, by flags and by fields; without beams there is no score. */
static void beams_have_scores(void **state)
{
    json_t *flags = run_json("'a question' -n 12 --json --n 3 --num-beams 4 --length-penalty 0.5 "
                             "--early-stopping never --no-repeat-ngram 2",
                             NULL);
    json_t *fields = run_json("--prompts - -n 12 --json --n 3",
                              "{\"prompt\": \"a question\", \"num_beams\": 4, "
                              "\"length_penalty\": 0.5, \"early_stopping\": \"never\", "
                              "\"no_repeat_ngram_size\": 2}\n");
    json_t *best = run_json("'a question' -n 12 --json --num-beams 4 --length-penalty 0.5 "
                            "--early-stopping never --no-repeat-ngram 2",
                            NULL);
    double last = 0;

    (void)state;
    assert_true(json_equal(answers_of(flags), answers_of(fields)));
    for (size_t i = 0; i < 3; i++) {
        const json_t *answer = json_array_get(answers_of(flags), i);
        double score = json_number_value(json_object_get(answer, "score"));

        assert_keys(answer, "text finish_reason score");
        assert_true(score < last);
        last = score;
    }
    assert_keys(best, "id text finish_reason score usage timings");
    assert_string_equal(result_text(best), answer_text(flags, 0));
    json_decref(best);
    json_decref(fields);
    json_decref(flags);
    command_refused(with_model("generate", "hi --num-beams 2 --n 3"), NULL, 1,
                    "3 answers of 2 beams; there can be at most one a beam");
    command_refused(with_model("generate", "hi --num-beams 2 --temperature 1"), NULL, 1,
                    "num_beams takes the likeliest answers, so temperature must be 0");
}

static void many_prompts_with_many_answers(void **state)
{
    enum { N_PROMPTS = 12, N_MAX = 100 };
    struct buffer input = {0};
    size_t n_answers[N_PROMPTS];

    (void)state;
    for (size_t i = 0; i < N_PROMPTS; i++) {
        n_answers[i] = i % 3 == 0 ? N_MAX : i;
        buffer_add_format(&input, "{\"prompt\": \"question %zu\", \"n\": %zu, \"seed\": %zu}\n", i,
                          n_answers[i], 1000 * i);
    }
    char *out = command_output(
        with_model("generate", "--prompts - -n 3 --ignore-eos --temperature 1 --json"), input.data,
        0);
    assert_int_equal(count_lines(out), N_PROMPTS);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        json_t *result = json_line(out, i);

        assert_int_equal(json_integer_value(json_object_get(result, "id")), i);
        if (n_answers[i] > 1)
            assert_int_equal(json_array_size(answers_of(result)), n_answers[i]);
        else
            assert_keys(result, "id text finish_reason usage timings");
        assert_int_equal(usage_of(result, "completion_tokens"), 3 * n_answers[i]);
        json_decref(result);
    }
    free(out);
    buffer_clear(&input);
}

/* A wrong line and one that is too long: every answer has the error, and the line too. */
static void failures_are_told_once(void **state)
{
    struct command_run run = {.input = "{\"prompt\": \"a\", \"n\": 0}\n"
                                       "{\"prompt\": \"a\", \"n\": 2, \"max_tokens\": 5000}\n"
                                       "{\"prompt\": \"a\"}\n"};

    (void)state;
    command_run(&run, with_model("generate", "--prompts - --n 3 -n 2 --context 100 --json"));
    assert_int_equal(run.status, 1);
    assert_int_equal(count_lines(run.err), 2);
    assert_contains(
        run.err,
        "kvern: prompt 0: line 1: \"n\" must be a whole number from 1 to 256, not 0\nkvern: "
        "prompt 1: ");
    for (size_t i = 0; i < 3; i++) {
        json_t *result = json_line(run.out, i);
        const json_t *error = json_object_get(result, "error");

        assert_int_equal(json_array_size(answers_of(result)), i == 1 ? 2 : 3);
        for (size_t j = 0; j < json_array_size(answers_of(result)); j++) {
            const json_t *answer = json_array_get(answers_of(result), j);

            assert_keys(answer, i < 2 ? "text finish_reason error" : "text finish_reason");
            if (i < 2)
                assert_true(json_equal(json_object_get(answer, "error"), error));
        }
        assert_int_equal(error != NULL, i < 2);
        json_decref(result);
    }
    command_clear(&run);
}

static void wrong_numbers_are_told(void **state)
{
    static const char *const values[] = {"0", "257", "x", "2.5", "-1"};

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        char arguments[100];
        char says[100];

        snprintf(arguments, sizeof arguments, "hi --n %s", values[i]);
        snprintf(says, sizeof says, "--n takes a whole number from 1 to 256, not '%s'", values[i]);
        command_refused(with_model("generate", arguments), NULL, 2, says);
    }
    command_refused(with_model("generate", "hi"), "KVERN_N=300", 2,
                    "KVERN_N takes a whole number from 1 to 256, not '300'");
}

/* Another number of answers is another question; the same one is not asked again. */
static void a_file_goes_on(void **state)
{
    static const struct {
        const char *more;
        const char *says;
        size_t n_answers; /* of the first line; the second says so itself */
    } cases[] = {
        {"--n 3", "2 prompts done:", 3},
        {"--n 3", "0 prompts done, 2 resumed", 3},
        {"--n 4", "2 prompts done:", 4},
        {"--n 4 --sequences 2", "0 prompts done, 2 resumed", 4},
        {"--n 4 --num-beams 4", "2 prompts done:", 4},
    };
    char *directory = make_directory();
    char path[600];

    (void)state;
    snprintf(path, sizeof path, "%s/results.jsonl", directory);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {.input = "{\"prompt\":\"a\"}\n{\"prompt\":\"b\",\"n\":2}\n"};
        char arguments[900];

        snprintf(arguments, sizeof arguments, "--prompts - -n 4 -o %s --resume --stats %s", path,
                 cases[i].more);
        command_run(&run, with_model("generate", arguments));
        if (run.status != 0 || !strstr(run.err, cases[i].says))
            fail_msg("%s: status %d, %s", cases[i].more, run.status, run.err);
        struct buffer file = read_whole(path);
        json_t *first = json_line(file.data, 0);
        json_t *second = json_line(file.data, 1);
        assert_int_equal(count_lines(file.data), 2);
        assert_keys(first, "id answers usage timings fingerprint");
        assert_int_equal(json_array_size(answers_of(first)), cases[i].n_answers);
        assert_int_equal(json_array_size(answers_of(second)), 2);
        json_decref(second);
        json_decref(first);
        buffer_clear(&file);
        command_clear(&run);
    }
    assert_int_equal(directory_remove(directory, NULL), KVERN_OK);
    free(directory);
}

static void ctrl_c_ends_all_answers(void **state)
{
    struct command_run run = {.interrupt = "0 %", .is_terminal = true};

    (void)state;
    command_run(&run, with_model("generate", "a -n 0 --ignore-eos --json --n 70"));
    assert_int_equal(run.status, 130);
    const char *line = strstr(run.out, "{\"id\":0");
    assert_non_null(line);
    json_t *result = json_line(line, 0);
    assert_int_equal(json_array_size(answers_of(result)), 70);
    for (size_t i = 0; i < 70; i++) {
        const json_t *answer = json_array_get(answers_of(result), i);

        assert_string_equal(json_string_value(json_object_get(answer, "finish_reason")),
                            "cancelled");
    }
    assert_null(json_object_get(result, "error"));
    json_decref(result);
    command_clear(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_the_promised_shape),
        cmocka_unit_test(samples_are_the_answers_of_their_seeds),
        cmocka_unit_test(texts_have_headings),
        cmocka_unit_test(beams_have_scores),
        cmocka_unit_test(many_prompts_with_many_answers),
        cmocka_unit_test(failures_are_told_once),
        cmocka_unit_test(wrong_numbers_are_told),
        cmocka_unit_test(a_file_goes_on),
        cmocka_unit_test(ctrl_c_ends_all_answers),
    };

    return cmocka_run_group_tests(tests, NULL, remove_tiny_model);
}
