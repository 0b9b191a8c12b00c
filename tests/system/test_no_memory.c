/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation that can fail, made to fail in turn: what is done then fails with KVERN_MEMORY,
 * or gives just what it gives otherwise. And the memory a conversion takes: a bound that loading a
 * whole checkpoint would break.
 */
#include "test.h"

#include "base/file.h"
#include "base/memory.h"
#include "support/tiny_checkpoint.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char *directory, *gguf, *model, *encoder;
static char *place, *target; /* target lies in place */

static int set_up(void **state)
{
    struct tiny_options tiny = tiny_options("bert");

    (void)state;
    tiny.n_layers = 1;
    tiny.hidden_size = tiny.intermediate_size = 32;
    tiny.n_heads = 2;
    directory = make_directory();
    encoder = path_join(directory, "encoder");
    tiny_checkpoint_write(encoder, &tiny);
    gguf = path_join(directory, "small.gguf");
    model = path_join(directory, "small");
    place = path_join(directory, "place");
    target = path_join(place, "model");
    make_small_model(gguf, model);
    return directory_make(place, NULL) == KVERN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(directory_remove(directory, NULL), KVERN_OK);
    free(target);
    free(place);
    free(model);
    free(encoder);
    free(gguf);
    free(directory);
    return 0;
}

/* What came of all that a program does with a model. */
struct outcome {
    int32_t ids[32], chat_ids[32];
    size_t n_ids, n_chat_ids;
    char text[32];
    struct small_answer greedy, sampled;
    char files[8][65]; /* sha256 of each, in the order of their names */
    size_t n_files;
};

static size_t keep_ids(int32_t ids[32], const kvern_tokens *tokens)
{
    assert_in_range(tokens->n, 1, 32);
    memcpy(ids, tokens->ids, tokens->n * sizeof *ids);
    return tokens->n;
}

static kvern_status use_text(const kvern_model *opened, struct outcome *outcome, kvern_error *err)
{
    static const char text[] = "abc <s> ab\xff-ba\n";
    const kvern_message message = {"user", "abca"};
    kvern_tokens tokens = {0};
    char *back = NULL;
    size_t n_bytes = 0;
    kvern_status status =
        kvern_tokenize(opened, text, sizeof text - 1, KVERN_TOKENIZE_CONTROL, &tokens, err);

    if (status != KVERN_OK)
        return status;
    outcome->n_ids = keep_ids(outcome->ids, &tokens);
    status = kvern_detokenize(opened, tokens.ids, tokens.n, false, &back, &n_bytes, err);
    kvern_tokens_clear(&tokens);
    if (status != KVERN_OK)
        return status;
    snprintf(outcome->text, sizeof outcome->text, "%.*s", (int)n_bytes, back);
    kvern_free(back);
    status = kvern_chat_tokenize(opened, &message, 1, true, &tokens, err);
    if (status == KVERN_OK)
        outcome->n_chat_ids = keep_ids(outcome->chat_ids, &tokens);
    kvern_tokens_clear(&tokens);
    return status;
}

static kvern_status use_engine(const kvern_model *opened, struct outcome *outcome, kvern_error *err)
{
    static const char *const stop[] = {"never", "ever"};
    kvern_request_options options;
    kvern_status status = run_small_model(opened, NULL, &outcome->greedy, err);

    if (status != KVERN_OK)
        return status;
    kvern_request_options_init(&options);
    options.sampling.temperature = 1;
    options.sampling.top_k = 9;
    options.sampling.top_p = 0.9f;
    options.sampling.repetition_penalty = 1.5f;
    options.sampling.seed = 5;
    options.logprobs = KVERN_LOGPROBS_SAMPLED;
    options.top_logprobs = 3;
    options.stop = stop;
    options.n_stop = COUNT(stop);
    options.conversation = 1;
    options.score_prompt = true;
    return run_small_model(opened, &options, &outcome->sampled, err);
}

static kvern_status use_model(struct outcome *outcome, kvern_error *err)
{
    kvern_model *opened = NULL;
    kvern_status status = kvern_model_open(&opened, model, err);

    if (status == KVERN_OK)
        status = use_text(opened, outcome, err);
    if (status == KVERN_OK)
        status = use_engine(opened, outcome, err);
    kvern_model_close(opened);
    return status;
}

static void look_at_nothing(struct outcome *outcome, kvern_status status)
{
    (void)outcome;
    (void)status;
}

static kvern_status convert(struct outcome *outcome, kvern_error *err)
{
    kvern_convert_options options;

    (void)outcome;
    kvern_convert_options_init(&options);
    options.source = gguf;
    options.target = target;
    options.weights = "q4";
    return kvern_convert(&options, err);
}

static kvern_status convert_encoder(struct outcome *outcome, kvern_error *err)
{
    kvern_convert_options options;

    (void)outcome;
    kvern_convert_options_init(&options);
    options.source = encoder;
    options.target = target;
    return kvern_convert(&options, err);
}

/* Nothing is left of a conversion that failed; of one that did not, its files. */
static void look_at_files(struct outcome *outcome, kvern_status status)
{
    char *names = list_directory(place);

    assert_string_equal(names, status == KVERN_OK ? "model\n" : "");
    free(names);
    if (status != KVERN_OK)
        return;
    names = list_directory(target);
    for (char *name = strtok(names, "\n"); name; name = strtok(NULL, "\n")) {
        char *path = path_join(target, name);

        assert_in_range(outcome->n_files, 0, COUNT(outcome->files) - 1);
        assert_int_equal(file_sha256(path, outcome->files[outcome->n_files++], NULL), KVERN_OK);
        free(path);
    }
    free(names);
    directory_remove(target, NULL);
}

/* Lets one allocation after the other fail in `act`, until there is none more. */
static void fail_each(const char *what,
                      kvern_status (*act)(struct outcome *outcome, kvern_error *err),
                      void (*look)(struct outcome *outcome, kvern_status status))
{
    struct outcome expected = {0};
    kvern_error err = {0};
    int n = 0;
    int n_failed = 0;

    if (act(&expected, &err) != KVERN_OK)
        fail_msg("%s: %s", what, err.message);
    look(&expected, KVERN_OK);
    for (bool has_come = true; has_come; n++) {
        struct outcome outcome = {0};
        kvern_status status;

        err = (kvern_error){0};
        memory_fail_after(n);
        status = act(&outcome, &err);
        has_come = memory_fail_after(-1);
        look(&outcome, status);
        if (status == KVERN_OK) {
            if (memcmp(&outcome, &expected, sizeof outcome) != 0)
                fail_msg("%s: another result without allocation %d", what, n);
            continue;
        }
        n_failed++;
        if (status != KVERN_MEMORY || !has_come)
            fail_msg("%s without allocation %d: %s: %s", what, n, kvern_status_name(status),
                     err.message);
        check_message(status, &err, "memory");
    }
    print_message("%s: %d of %d allocations are needed\n", what, n_failed, n - 1);
    assert_in_range(n_failed, 20, n - 1);
}

static void test_using_a_model(void **state)
{
    (void)state;
    fail_each("using a model", use_model, look_at_nothing);
}

static void test_converting_one(void **state)
{
    (void)state;
    fail_each("converting", convert, look_at_files);
    fail_each("converting an encoder", convert_encoder, look_at_files);
}

/* 4 layers of about 19 MB each in f32: all of it is over the bound, its largest tensor is 6 MB. */
static void test_conversion_memory(void **state)
{
    enum { LARGEST_MIB = 6, SPARE_MIB = 40 };
    struct tiny_options tiny = tiny_options("llama");
    char *source = path_join(directory, "large");
    struct rusage before;
    struct rusage after;
    int exit_status = -1;
    pid_t child;

    (void)state;
    tiny.n_layers = 4;
    tiny.hidden_size = 1024;
    tiny.intermediate_size = 1536;
    tiny_checkpoint_write(source, &tiny);
    child = fork();
    if (child == 0) {
        kvern_convert_options options;

        getrusage(RUSAGE_SELF, &before);
        kvern_convert_options_init(&options);
        options.source = source;
        options.target = target;
        options.weights = "q8";
        if (kvern_convert(&options, NULL) != KVERN_OK)
            _exit(255);
        getrusage(RUSAGE_SELF, &after);
        _exit((int)((after.ru_maxrss - before.ru_maxrss) / 1024));
    }
    assert_int_equal(waitpid(child, &exit_status, 0), child);
    assert_true(WIFEXITED(exit_status));
    print_message("conversion took %d MiB more\n", WEXITSTATUS(exit_status));
    assert_in_range(WEXITSTATUS(exit_status), 0, 2 * LARGEST_MIB + SPARE_MIB);
    directory_remove(source, NULL);
    directory_remove(target, NULL);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversion_memory),
        cmocka_unit_test(test_using_a_model),
        cmocka_unit_test(test_converting_one),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
