/* SPDX-License-Identifier: Apache-2.0
 *
 * What build/kvern says when it cannot do as it is told: usage, missing files, bad prompts, prompts
 * that do not fit, a full disk. The exit status, one sentence on stderr, and nothing on stdout.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"

#include <math.h>
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
        {"generate hi --top-p 0", "--top-p takes a number from 1e-06 to 1, not '0'"},
        {"chat --top-p 0", "--top-p takes a number from 1e-06 to 1, not '0'"},
        {"generate hi --typical-p nan", "--typical-p takes a number from 1e-06 to 1, not 'nan'"},
        {"generate hi --presence-penalty 2.5", "takes a number from -2 to 2, not '2.5'"},
        {"generate hi --frequency-penalty inf", "takes a number from -2 to 2, not 'inf'"},
        {"generate hi --logit-bias 5", "--logit-bias takes ID=BIAS with a bias from -100 to 100"},
        {"generate hi --logit-bias -1=5", "takes ID=BIAS with a bias from -100 to 100, not '-1=5'"},
        {"generate hi --logit-bias 5=nan", "with a bias from -100 to 100, not '5=nan'"},
        {"generate hi --logit-bias 5=1 --logit-bias 5=2", "has token 5 more than once"},
        {"generate hi --stop-token-id x", "--stop-token-id takes a token id, not 'x'"},
        {"generate hi --min-tokens 300", "--min-tokens is 300, over --max-tokens, which is 256"},
        {"generate hi --logprobs 21 --json", "--logprobs takes a whole number from 0 to 20"},
        {"generate hi --logprobs 2", "--logprobs needs --json"},
        {"generate hi --logprobs-of both", "--logprobs-of takes model or sampled, not 'both'"},
        {"generate hi --num-beams 65", "--num-beams takes a whole number from 0 to 64"},
        {"generate hi --length-penalty 11", "--length-penalty takes a number from -10 to 10"},
        {"generate hi --early-stopping maybe", "takes false, true or never, not 'maybe'"},
        {"generate hi --no-repeat-ngram -1", "--no-repeat-ngram takes a whole number from 0"},
        {"session generate notes --logprobs 2", "--logprobs needs --json"},
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
    for (size_t i = 0; i < COUNT(cases); i++)
        command_refused(cases[i].command, NULL, 2, cases[i].says);
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
        {"generate hi --kv-type f8", "not f16, f32 or int8"},
        {"generate hi --context 4", "over the context limit of 4"},
        {"generate hi --raw --system x", "leave out --raw"},
        {"generate --file /dev/zero", "the limit of one input"},
        {"eval /dev/null", "fewer than 2 tokens"},
        {"tokenize --tokenizer /dev/null hi", "/dev/null"},
        {"inspect /no/such/model", "no model '/no/such/model'"},
        {"convert /no/such.gguf", "/no/such.gguf"},
    };

    char environment[600];

    (void)state;
    snprintf(environment, sizeof environment, "KVERN_MODEL=%s", tiny_model());
    for (size_t i = 0; i < COUNT(cases); i++)
        command_refused(cases[i].command, environment, 1, cases[i].says);
}

/* And stops no other. */
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
        {"{\"prompt\": [1, 2, 300]}", "\"prompt\" must be a string"}, /* ids are not taken */
        {"{\"prompt\": \"a\\u0000b\"}", "not JSON"},
        {"{\"prompt\": \"a\", \"top_k\": 1.5}", "\"top_k\" must be a whole number"},
        {"{\"prompt\": \"a\", \"best_of\": 2}", "\"best_of\" is not supported"},
        {"{\"prompt\": \"a\", \"stop\": [5]}", "\"stop\" must hold strings only"},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}", "\"temperature\" must be a number"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "message 0 needs"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char input[200];
        struct command_run run = {.input = input};

        snprintf(input, sizeof input, "{\"prompt\": \"good\"}\n\n%s\n{\"prompt\": \"b\"}\n",
                 cases[i].line);
        command_run(&run, with_model("generate", "--prompts - -n 2 --ignore-eos --json"));
        if (run.status != 1 || !strstr(run.err, "prompt 1: line 3: "))
            fail_msg("%s: status %d, %s", cases[i].line, run.status, run.err);
        assert_contains(run.err, cases[i].says);
        assert_int_equal(count_lines(run.out), 3);
        for (size_t j = 0; j < 3; j++) {
            json_t *result = json_line(run.out, j);

            assert_string_equal(json_string_value(json_object_get(result, "finish_reason")),
                                j == 1 ? "error" : "length");
            json_decref(result);
        }
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

/* The checkpoint that tiny_model() was made from; static. */
static const char *tiny_source(void)
{
    static char path[700];

    snprintf(path, sizeof path, "%s/..", tiny_model());
    return path;
}

/* Puts `value` at `index` of a tensor of that checkpoint; returns what was there. */
static float put_value(const char *tensor, size_t index, float value)
{
    char *path = path_join(tiny_source(), "model.safetensors");
    struct buffer file = read_whole(path);
    uint64_t n_header;
    float old;

    memcpy(&n_header, file.data, sizeof n_header);
    json_t *header = json_loadb(file.data + 8, n_header, 0, NULL);
    json_t *offsets = json_object_get(json_object_get(header, tensor), "data_offsets");
    assert_true(json_is_array(offsets));
    char *at = file.data + 8 + n_header + json_integer_value(json_array_get(offsets, 0)) +
               index * sizeof value;
    memcpy(&old, at, sizeof old);
    memcpy(at, &value, sizeof value);
    write_whole(path, file.data, file.n_bytes);
    json_decref(header);
    buffer_clear(&file);
    free(path);
    return old;
}

/* A checkpoint with a weight that is no number is refused by the tensor's name, whatever it would
 * become, and nothing is left. */
static void a_weight_that_is_no_number_is_refused(void **state)
{
    static const struct {
        const char *tensor;
        size_t index;
        float value;
        const char *weights;
        const char *says;
    } cases[] = {
        /* hidden size 96: index 300 is in row 3 */
        {"model.layers.1.mlp.up_proj.weight", 300, NAN, "q8",
         "row 3 of model.layers.1.mlp.up_proj.weight holds a value that is not finite"},
        {"model.layers.1.mlp.up_proj.weight", 300, NAN, "q4",
         "row 3 of model.layers.1.mlp.up_proj.weight holds a value that is not finite"},
        {"model.layers.1.mlp.up_proj.weight", 300, NAN, "f32",
         "row 3 of model.layers.1.mlp.up_proj.weight holds a value that is not finite"},
        {"model.layers.0.self_attn.v_proj.weight", 15 * 96, INFINITY, "f32",
         "row 15 of model.layers.0.self_attn.v_proj.weight holds a value that is not finite"},
        {"lm_head.weight", 257 * 96 + 95, -INFINITY, "f32",
         "row 257 of lm_head.weight holds a value that is not finite"},
        {"model.embed_tokens.weight", 0, -INFINITY, "q8",
         "row 0 of model.embed_tokens.weight holds a value that is not finite"},
        {"model.layers.0.input_layernorm.weight", 95, NAN, "q8",
         "model.layers.0.input_layernorm.weight holds a value that is not finite"},
        {"model.norm.weight", 1, INFINITY, "f32",
         "model.norm.weight holds a value that is not finite"},
    };
    char *before = list_directory(tiny_source());

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {0};
        char arguments[1600];
        char *after;
        float old = put_value(cases[i].tensor, cases[i].index, cases[i].value);

        snprintf(arguments, sizeof arguments, "convert %s -o %s/bad --weights %s", tiny_source(),
                 tiny_source(), cases[i].weights);
        command_run(&run, arguments);
        put_value(cases[i].tensor, cases[i].index, old);
        if (run.status != 1)
            fail_msg("%s, %s: exit status %d, not 1: %s", cases[i].tensor, cases[i].weights,
                     run.status, run.err);
        assert_contains(run.err, cases[i].says);
        assert_int_equal(count_lines(run.err), 1);
        assert_string_equal(run.out, "");
        after = list_directory(tiny_source());
        assert_string_equal(after, before);
        free(after);
        command_clear(&run);
    }
    free(before);
}

/* Weights that are numbers can still give logits that are none: here gate and up overflow. */
static void logits_that_are_no_numbers_end_the_request(void **state)
{
    static const struct {
        const char *arguments;
        const char *input;
        const char *says;
    } cases[] = {
        {"generate -m %s/bad -n 3 hello", NULL, "kvern: logits of token 24 are not finite\n"},
        {"generate -m %s/bad -n 3 --temperature 1 hello", NULL,
         "kvern: logits of token 24 are not finite\n"},
        {"generate -m %s/bad -n 3 --raw --stream hello", NULL,
         "kvern: logits of token 5 are not finite\n"},
        {"eval -m %s/bad -", "hello", "kvern: logits of token 1 are not finite\n"},
    };
    float old = put_value("model.layers.1.post_attention_layernorm.weight", 7, 3e38f);
    char arguments[1600];
    struct command_run run = {.input = "{\"prompt\": \"hello\"}\n{\"prompt\": \"hi\"}\n"};

    (void)state;
    snprintf(arguments, sizeof arguments, "convert %s -o %s/bad --weights f32", tiny_source(),
             tiny_source());
    free(command_output(arguments, NULL, 0));
    put_value("model.layers.1.post_attention_layernorm.weight", 7, old);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run one = {.input = cases[i].input};

        snprintf(arguments, sizeof arguments, cases[i].arguments, tiny_source());
        command_run(&one, arguments);
        if (one.status != 1 || strcmp(one.err, cases[i].says) != 0)
            fail_msg("kvern %s: exit status %d, %s", arguments, one.status, one.err);
        assert_string_equal(one.out, "");
        command_clear(&one);
    }
    snprintf(arguments, sizeof arguments, "generate -m %s/bad -n 3 -p - --json", tiny_source());
    command_run(&run, arguments);
    assert_int_equal(run.status, 1);
    assert_string_equal(run.err, "kvern: prompt 0: logits of token 24 are not finite\n"
                                 "kvern: prompt 1: logits of token 21 are not finite\n");
    assert_int_equal(count_lines(run.out), 2);
    for (size_t i = 0; i < 2; i++) {
        json_t *result = json_line(run.out, i);

        assert_string_equal(result_text(result), "");
        assert_string_equal(json_string_value(json_object_get(result, "finish_reason")), "error");
        assert_contains(json_string_value(json_object_get(result, "error")), "not finite");
        json_decref(result);
    }
    command_clear(&run);
}

/* "hello" in the template is 24 tokens: a limit of 24 takes it, with one token to come, and one of
 * 23 names both numbers. Without --context the limit is the model's own. */
static void the_context_limit_is_exact(void **state)
{
    enum { MODEL_CONTEXT = 1 << 17 };
    static char input[MODEL_CONTEXT + 2];
    struct command_run run = {0};
    struct command_run whole = {.input = input};

    (void)state;
    free(command_output(with_model("generate", "hello --context 24 -n 1 --ignore-eos"), NULL, 0));
    command_run(&run, with_model("generate", "hello --context 23 -n 1 --ignore-eos --json"));
    assert_int_equal(run.status, 1);
    assert_string_equal(run.err,
                        "kvern: the prompt has 24 tokens, over the context limit of 23 tokens\n");
    assert_contains(run.out, "\"finish_reason\":\"error\"");
    command_clear(&run);
    command_run(&run, with_model("generate", "hello --context 24 -n 2 --ignore-eos"));
    assert_int_equal(run.status, 1);
    assert_string_equal(run.err, "kvern: a prompt of 24 tokens with max_tokens 2 is over the "
                                 "context limit of 24 tokens\n");
    assert_string_equal(run.out, "");
    command_clear(&run);

    memset(input, 'a', MODEL_CONTEXT + 1);
    command_run(&whole, with_model("generate", "- --raw -n 1"));
    assert_int_equal(whole.status, 1);
    assert_string_equal(whole.err, "kvern: the prompt has 131073 tokens, over the context limit of "
                                   "131072 tokens\n");
    assert_string_equal(whole.out, "");
    command_clear(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_errors_exit_2),
        cmocka_unit_test(failures_exit_1_with_advice),
        cmocka_unit_test(a_bad_line_names_its_number),
        cmocka_unit_test(a_prompt_that_cannot_fit_fails_alone),
        cmocka_unit_test(the_context_limit_is_exact),
        cmocka_unit_test(a_weight_that_is_no_number_is_refused),
        cmocka_unit_test(logits_that_are_no_numbers_end_the_request),
        cmocka_unit_test(a_full_disk_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, remove_tiny_model);
}
