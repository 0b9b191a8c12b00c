/* SPDX-License-Identifier: Apache-2.0
 *
 * What build/kvern embed makes of its input: texts that fail or are too long, files and stdin,
 * wrong arguments, a full disk, no tokenizer, many lines, Ctrl-C.
 */
#include "system/support_command.h"
#include "system/support_embed.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_GROWTH_KIB = 8192 };

/* Sets an error's text in a line of results; the others are there all the same. */
static void texts_fail_alone(void **state)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"{\"id\": \"bad\", \"text\": \"\"}", "the text is empty"},
        {"nonsense", "line 2: not JSON"},
        {"{\"id\": \"bad\"}", "needs a string"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {0};
        char input[300];
        char command[2048];

        snprintf(input, sizeof input, "\"first\"\n%s\n\"last\"\n", cases[i].line);
        snprintf(command, sizeof command, "embed -m %s --input -", embed_export);
        run.input = input;
        command_run(&run, command);
        assert_int_equal(run.status, 1);
        assert_int_equal(count_lines(run.out), 3);
        json_t *result = json_line(run.out, 1);
        assert_keys(result, "id error");
        assert_contains(json_string_value(json_object_get(result, "error")), cases[i].says);
        assert_contains(run.err, cases[i].says);
        json_decref(result);
        result = json_line(run.out, 2);
        assert_keys(result, "id embedding tokens truncated");
        json_decref(result);
        command_clear(&run);
    }
}

static void too_long_is_an_error_or_cut_and_told(void **state)
{
    struct command_run run = {0};
    char input[400] = "";
    char command[2048];
    char path[200];

    (void)state;
    for (int i = 0; i < 90; i++)
        strcat(input, "the ");
    run.input = input;
    snprintf(path, sizeof path, "%s/none.npy", embed_directory);
    snprintf(command, sizeof command, "embed -m %s --format npy -o %s", embed_encoder, path);
    command_run(&run, command);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "92 tokens, over the limit of 64");
    assert_contains(run.err, "(--truncate)");
    assert_false(file_exists(path));
    assert_string_equal(run.out, "");
    command_clear(&run);

    snprintf(command, sizeof command, "embed -m %s --truncate", embed_encoder);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    assert_contains(run.err, "1 text was over the limit and cut");
    json_t *result = json_line(run.out, 0);
    assert_true(json_is_true(json_object_get(result, "truncated")));
    assert_int_equal(json_integer_value(json_object_get(result, "tokens")), 64);
    json_decref(result);
    command_clear(&run);
}

static void files_and_stdin(void **state)
{
    char path[200];
    char arguments[1000];

    (void)state;
    snprintf(path, sizeof path, "%s/text", embed_directory);
    write_whole(path, "the name", 8);
    snprintf(arguments, sizeof arguments, "self --file %s --file /no/such/file -", path);
    char *out = embed_output(embed_encoder, arguments, "the name", 1);
    assert_int_equal(count_lines(out), 4);
    json_t *from_stdin = json_line(out, 1);
    json_t *from_file = json_line(out, 2);
    json_t *absent = json_line(out, 3);
    assert_string_equal(json_string_value(json_object_get(from_file, "id")), path);
    assert_true(json_equal(json_object_get(from_file, "embedding"),
                           json_object_get(from_stdin, "embedding")));
    assert_contains(json_string_value(json_object_get(absent, "error")), "No such file");
    json_decref(absent);
    json_decref(from_file);
    json_decref(from_stdin);
    free(out);
}

static void usage_errors_exit_2(void **state)
{
    static const struct {
        const char *arguments;
        const char *says;
    } cases[] = {
        {"x --query y --similarity", "do not go together"},
        {"x --query y -o z", "leave out --format and -o"},
        {"x --query-prompt y", "needs --query"},
        {"x --top 3", "--top needs --query"},
        {"x --query ''", "--query takes a text"},
        {"x --format xml", "table, json, jsonl, csv or npy, not 'xml'"},
        {"x --json --format csv", "do not go together"},
        {"x --pooling max", "not 'max'"},
        {"--input - --lines -", "cannot both be stdin"},
        {"x --session y --pooling last", "a session keeps the --pooling"},
        {"x --session y --similarity", "leave out --query and --similarity"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char command[2048];

        snprintf(command, sizeof command, "embed %s", cases[i].arguments);
        command_refused(command, NULL, 2, cases[i].says);
    }
    command_refused("embed x -m no-such-model", NULL, 1, "kvern pull no-such-model");
}

/* One sentence, not one for every text. */
static void what_no_text_can_have_is_told_once(void **state)
{
    static const struct {
        const char *arguments;
        const char *says;
    } cases[] = {
        {"--lines /dev/null", "there is no text to embed"},
        {"--lines /dev/null --query x", "there is no text to embed"},
        {"a b c -d 33", "--dimensions is 33, but the vectors of"},
        {"a --pooling logits512 -d 513", "have 512 values"},
        {"a -o /tmp", "cannot write /tmp: it is a directory"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char command[1024];

        snprintf(command, sizeof command, "embed -m %s %s", embed_encoder, cases[i].arguments);
        command_refused(command, NULL, 1, cases[i].says);
    }
}

/* A full disk leaves no file, and an old one as it was. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    struct command_run run = {.max_file_bytes = 100};
    char path[200];
    char command[2048];

    (void)state;
    snprintf(path, sizeof path, "%s/kept.csv", embed_directory);
    write_whole(path, "old", 3);
    snprintf(command, sizeof command, "embed -m %s self -o %s", embed_encoder, path);
    command_run(&run, command);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "kept.csv");
    command_clear(&run);
    struct buffer kept = read_whole(path);
    assert_string_equal(kept.data, "old");
    buffer_clear(&kept);
    unlink(path);
    char *names = list_directory(embed_directory);
    assert_null(strstr(names, ".tmp"));
    free(names);
}

/* An export without a tokenizer takes bytes, and says so in every result. */
static void bytes_for_tokens_are_told(void **state)
{
    static const char *const files[] = {"config.json", "model.onnx"};
    char model[200];
    char command[2048];
    kvern_error err;

    (void)state;
    snprintf(model, sizeof model, "%s/bare", embed_directory);
    assert_int_equal(directory_make(model, &err), KVERN_OK);
    for (size_t i = 0; i < COUNT(files); i++) {
        char from[1024];
        char to[700];

        snprintf(from, sizeof from, "%s/%s", embed_export, files[i]);
        snprintf(to, sizeof to, "%s/%s", model, files[i]);
        copy_whole(from, to);
    }
    struct command_run run = {0};
    snprintf(command, sizeof command, "embed -m %s abc --json", model);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    json_t *result = json_line(run.out, 0);
    assert_keys(result, "id embedding tokens truncated tokenizer");
    assert_string_equal(json_string_value(json_object_get(result, "tokenizer")), "bytes");
    assert_int_equal(json_integer_value(json_object_get(result, "tokens")), 3);
    assert_true(strlen(run.err) > 0);
    json_decref(result);
    command_clear(&run);
    snprintf(command, sizeof command, "generate -m %s abc --raw --max-tokens 1 --json", model);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    result = json_line(run.out, 0);
    assert_string_equal(json_string_value(json_object_get(result, "tokenizer")), "bytes");
    json_decref(result);
    command_clear(&run);
    assert_int_equal(directory_remove(model, &err), KVERN_OK);
}

/* What a model says of itself for embedding, to people and to programs. */
static void prompts_are_shown(void **state)
{
    static const char prompts[] = "{\"prompts\": {\"query\": \"find:\\n\", \"document\": \"\"}}";
    static const char *const files[] = {"config.json", "model.onnx", "tokenizer.json"};
    char model[200];
    char path[700];
    char command[300];
    kvern_error err;

    (void)state;
    snprintf(model, sizeof model, "%s/prompted", embed_directory);
    assert_int_equal(directory_make(model, &err), KVERN_OK);
    for (size_t i = 0; i < COUNT(files); i++) {
        char from[1024];

        snprintf(from, sizeof from, "%s/exports/bert-f32/%s", KVERN_GOLDEN_DIR, files[i]);
        snprintf(path, sizeof path, "%s/%s", model, files[i]);
        copy_whole(from, path);
    }
    snprintf(path, sizeof path, "%s/config_sentence_transformers.json", model);
    write_whole(path, prompts, strlen(prompts));
    snprintf(command, sizeof command, "inspect %s", model);
    char *shown = command_output(command, NULL, 0);
    assert_contains(shown, "query: \"find:\\n\"\n");
    assert_contains(shown, "document: \"\"\n");
    snprintf(command, sizeof command, "inspect %s --json", model);
    char *out = command_output(command, NULL, 0);
    json_t *json = json_line(out, 0);
    json_t *expected = json_loads(prompts, 0, NULL);
    assert_true(json_equal(json_object_get(json, "prompts"), json_object_get(expected, "prompts")));
    assert_int_equal(directory_remove(model, &err), KVERN_OK);
    json_decref(expected);
    json_decref(json);
    free(out);
    free(shown);
}

/* A file of `n` lines. */
static void write_lines(const char *path, int n)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    for (int i = 0; i < n; i++)
        fprintf(file, "the value of object %d\n", i);
    assert_int_equal(fclose(file), 0);
}

/* Texts are read, embedded and written in slices: many take no more memory than some. */
static void memory_does_not_grow_with_the_lines(void **state)
{
    static const int n_lines[] = {3000, 30000};
    long rss_kib[2];

    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* freed memory is kept in quarantine there */
#endif
    for (size_t i = 0; i < 2; i++) {
        struct command_run run = {0};
        char path[200];
        char command[2048];

        snprintf(path, sizeof path, "%s/lines", embed_directory);
        write_lines(path, n_lines[i]);
        snprintf(command, sizeof command, "embed -m %s --lines %s -o %s.npy -q", embed_encoder,
                 path, path);
        command_run(&run, command);
        assert_int_equal(run.status, 0);
        rss_kib[i] = run.max_rss_kib;
        command_clear(&run);
    }
    printf("  peak memory of 3,000 texts %ld KiB, of 30,000 %ld KiB\n", rss_kib[0], rss_kib[1]);
    assert_in_range(rss_kib[1], 0, rss_kib[0] + MAX_GROWTH_KIB);
}

/* What was printed before Ctrl-C are whole lines, in order. */
static void ctrl_c_ends_between_texts(void **state)
{
    struct command_run run = {.interrupt = "{\"id\":20,"};
    char path[200];
    char command[2048];

    (void)state;
    snprintf(path, sizeof path, "%s/lines", embed_directory);
    write_lines(path, 200000);
    snprintf(command, sizeof command, "embed -m %s --lines %s -d 2", embed_encoder, path);
    command_run(&run, command);
    assert_int_equal(run.status, 130);
    assert_contains(run.err, "interrupted");
    size_t n = count_lines(run.out);
    assert_true(n > 20 && n < 200000);
    json_t *last = json_line(run.out, n - 1);
    assert_int_equal(json_integer_value(json_object_get(last, "id")), n - 1);
    json_decref(last);
    command_clear(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_fail_alone),
        cmocka_unit_test(too_long_is_an_error_or_cut_and_told),
        cmocka_unit_test(files_and_stdin),
        cmocka_unit_test(usage_errors_exit_2),
        cmocka_unit_test(what_no_text_can_have_is_told_once),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(bytes_for_tokens_are_told),
        cmocka_unit_test(prompts_are_shown),
        cmocka_unit_test(memory_does_not_grow_with_the_lines),
        cmocka_unit_test(ctrl_c_ends_between_texts),
    };

    return cmocka_run_group_tests(tests, make_embed_models, remove_embed_models);
}
