/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern embed as a user runs it, on tiny models of all three contracts: every way in and out,
 * texts alone and together, comparing and ranking, and texts that fail.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { N_TEXTS = 40, SIZE = 32, HIDDEN = 96 /* of tiny_model() */, MAX_GROWTH_KIB = 8192 };

static char encoder[512]; /* of BERT's family, vectors of SIZE values, 64 tokens at most */
static const char *const export = KVERN_SOURCE_DIR "/tests/golden/exports/qwen2-f32";
static char *directory;

static int make_models(void **state)
{
    kvern_model *model = open_test_model("tests/golden/exports/bert-checkpoint", "f32");
    kvern_model_info info;

    (void)state;
    kvern_model_get_info(model, &info);
    snprintf(encoder, sizeof encoder, "%s", info.directory);
    kvern_model_close(model);
    directory = make_directory();
    return 0;
}

static int remove_models(void **state)
{
    kvern_error err;
    int status = directory_remove(directory, &err) == KVERN_OK ? 0 : -1;

    free(directory);
    return remove_tiny_model(state) == 0 ? status : -1;
}

/* "kvern embed -m <model> <arguments>", its exit status, and stdout (free it). */
static char *embed(const char *model, const char *arguments, const char *input, int status)
{
    char command[2048];

    snprintf(command, sizeof command, "embed -m %s %s", model, arguments);
    return command_output(command, input, status);
}

/* The vector of a line of JSON; returns its size. */
static size_t vector_of(const char *out, size_t line, float *values, size_t capacity)
{
    json_t *result = json_line(out, line);
    const json_t *vector = json_object_get(result, "embedding");
    size_t n = json_array_size(vector);

    assert_true(n > 0 && n <= capacity);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)json_number_value(json_array_get(vector, i));
    json_decref(result);
    return n;
}

static double length_of(const float *values, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

static void json_has_the_promised_shape(void **state)
{
    char *out = embed(encoder, "'the value' --json", NULL, 0);
    json_t *result = json_line(out, 0);
    float values[SIZE];

    (void)state;
    assert_int_equal(count_lines(out), 1);
    assert_keys(result, "id embedding tokens truncated");
    assert_int_equal(json_integer_value(json_object_get(result, "id")), 0);
    assert_int_equal(json_integer_value(json_object_get(result, "tokens")), 4);
    assert_true(json_is_false(json_object_get(result, "truncated")));
    assert_int_equal(vector_of(out, 0, values, SIZE), SIZE);
    assert_true(fabs(length_of(values, SIZE) - 1) < 1e-6);
    json_decref(result);
    free(out);
}

static void every_format_says_the_same(void **state)
{
    static const char texts[] = "the name\nthe value of it\nself\n";
    char path[200];
    char arguments[1000];
    float rows[3][SIZE];
    char *lines = embed(encoder, "--lines -", texts, 0);
    char *array = embed(encoder, "--lines - --format json", texts, 0);
    char *csv = embed(encoder, "--lines - --format csv", texts, 0);
    json_t *all = json_loads(array, 0, NULL);

    (void)state;
    assert_int_equal(json_array_size(all), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *line = json_line(lines, i);

        assert_true(json_equal(line, json_array_get(all, i)));
        json_decref(line);
        assert_int_equal(vector_of(lines, i, rows[i], SIZE), SIZE);
    }
    char *at = strchr(csv, '\n') + 1;
    assert_int_equal(strncmp(csv, "id,tokens,truncated,0,1,2,", 26), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(strtol(at, &at, 10), i);
        assert_true(strtol(at + 1, &at, 10) >= 3);
        assert_int_equal(strncmp(at, ",false", 6), 0);
        at += 6;
        for (size_t j = 0; j < SIZE; j++)
            assert_true(strtof(at + 1, &at) == rows[i][j]);
        assert_int_equal(*at++, '\n');
    }
    /* a file by its name, and a pipe */
    snprintf(path, sizeof path, "%s/out.npy", directory);
    snprintf(arguments, sizeof arguments, "--lines - -o %s", path);
    free(embed(encoder, arguments, texts, 0));
    struct buffer npy = read_whole(path);
    assert_int_equal(npy.n_bytes, 128 + sizeof rows);
    assert_memory_equal(npy.data, "\x93NUMPY\x01\x00", 8);
    assert_contains(npy.data + 10, "'shape': (3, 32), }");
    assert_memory_equal(npy.data + 128, rows, sizeof rows);

    struct command_run run = {.input = texts, .output = path};
    snprintf(arguments, sizeof arguments, "embed -m %s --lines - --format npy", encoder);
    command_run(&run, arguments);
    assert_int_equal(run.status, 0);
    struct buffer piped = read_whole(path);
    assert_int_equal(piped.n_bytes, npy.n_bytes);
    assert_memory_equal(piped.data, npy.data, npy.n_bytes);
    command_clear(&run);
    buffer_clear(&piped);
    buffer_clear(&npy);
    unlink(path);
    json_decref(all);
    free(csv);
    free(array);
    free(lines);
}

/* A short table for people; npy would only ring their bells. */
static void terminals(void **state)
{
    struct command_run run = {.is_terminal = true};
    struct command_run npy = {.is_terminal = true};
    char command[2048];

    (void)state;
    snprintf(command, sizeof command, "embed -m %s 'the name' self", encoder);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    assert_contains(run.out, "TOKENS");
    assert_contains(run.out, " ...");
    assert_int_equal(count_lines(run.out), 3);
    command_clear(&run);
    snprintf(command, sizeof command, "embed -m %s self --format npy", encoder);
    command_run(&npy, command);
    assert_int_equal(npy.status, 2);
    assert_contains(npy.out, "not for a terminal");
    command_clear(&npy);
}

/* The same bytes, whatever runs beside a text and however many threads there are. */
static void alone_or_together_the_vectors_are_the_same(void **state)
{
    const char *models[] = {encoder, tiny_model(), export};
    char lines[N_TEXTS * 160] = "";

    (void)state;
    for (int i = 0; i < N_TEXTS; i++)
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines),
                 "{\"id\": %d, \"text\": \"the value of object %.*s is %d\"}\n", i, i % 23,
                 "a name, or the object it", i * 7919);
    for (size_t m = 0; m < COUNT(models); m++) {
        char *together = embed(models[m], "--input -", lines, 0);
        const char *line = lines;
        const char *result = together;

        assert_int_equal(count_lines(together), N_TEXTS);
        for (int i = 0; i < N_TEXTS; i++) {
            const char *end = strchr(line, '\n');
            size_t n_result = strcspn(result, "\n");

            if (i % 8 == 0) {
                char *input = strndup(line, (size_t)(end - line));
                char *alone = embed(models[m], "--input - -t 1", input, 0);

                if (strncmp(alone, result, n_result + 1) != 0)
                    fail_msg("%s: text %d alone: %s, together: %s", models[m], i, alone, result);
                free(alone);
                free(input);
            }
            line = end + 1;
            result += n_result + 1;
        }
        free(together);
    }
}

static void kinds_of_vectors(void **state)
{
    static const struct {
        const char *arguments;
        size_t n_values;
        bool is_normalized;
    } cases[] = {
        {"'the name' --pooling last", HIDDEN, true},
        {"'the name' --pooling mean", HIDDEN, true},
        {"'the name' --pooling cls", HIDDEN, true},
        {"'the name' --pooling last --no-normalize", HIDDEN, false},
        {"'the name' --pooling last --dimensions 7", 7, true},
    };
    float vectors[COUNT(cases)][512];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *out = embed(tiny_model(), cases[i].arguments, NULL, 0);
        size_t n = vector_of(out, 0, vectors[i], 512);
        double length = length_of(vectors[i], n);

        if (n != cases[i].n_values || (fabs(length - 1) < 1e-6) != cases[i].is_normalized)
            fail_msg("%s: %zu values of length %g", cases[i].arguments, n, length);
        for (size_t j = 0; j < i && n == HIDDEN; j++) {
            if (memcmp(vectors[i], vectors[j], HIDDEN * sizeof(float)) == 0)
                fail_msg("%s is the same as %s", cases[i].arguments, cases[j].arguments);
        }
        free(out);
    }
    free(embed(tiny_model(), "x --dimensions 97", NULL, 1));
    free(embed(encoder, "x --prompt nosuch", NULL, 1));
}

/* --similarity and --query are the cosines of the vectors themselves. */
static void comparing_and_ranking(void **state)
{
    static const char texts[] = "{\"id\": \"a\", \"text\": \"the name of the object\"}\n"
                                "{\"id\": \"b\", \"text\": \"if not self\"}\n"
                                "{\"id\": \"c\", \"text\": \"the name of the\\nvalue\"}\n";
    char *vectors = embed(encoder, "--input -", texts, 0);
    char *query = embed(encoder, "'the name of it'", NULL, 0);
    char *matrix = embed(encoder, "--input - --similarity --json", texts, 0);
    char *ranked = embed(encoder, "--input - --query 'the name of it' --json", texts, 0);
    char *best = embed(encoder, "--input - --query 'the name of it' --top 1 --json", texts, 0);
    float rows[4][SIZE];
    double last = 2;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        vector_of(vectors, i, rows[i], SIZE);
    vector_of(query, 0, rows[3], SIZE);
    for (size_t i = 0; i < 3; i++) {
        json_t *row = json_line(matrix, i);
        const json_t *cosines = json_object_get(row, "similarity");

        assert_keys(row, "id similarity");
        assert_int_equal(json_array_size(cosines), 3);
        for (size_t j = 0; j < 3; j++)
            assert_true(fabs(json_number_value(json_array_get(cosines, j)) -
                             kvern_cosine(rows[i], rows[j], SIZE)) < 1e-6);
        json_decref(row);
    }
    assert_int_equal(count_lines(ranked), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *row = json_line(ranked, i);
        size_t which = (size_t)(*json_string_value(json_object_get(row, "id")) - 'a');
        double score = json_number_value(json_object_get(row, "score"));

        assert_keys(row, "rank score id text");
        assert_int_equal(json_integer_value(json_object_get(row, "rank")), i + 1);
        assert_true(fabs(score - kvern_cosine(rows[3], rows[which], SIZE)) < 1e-6);
        assert_true(score <= last);
        last = score;
        if (which == 2)
            assert_string_equal(result_text(row), "the name of the value");
        json_decref(row);
    }
    assert_int_equal(count_lines(best), 1);
    assert_memory_equal(best, ranked, strlen(best));

    char *table = embed(encoder, "--input - --query 'the name of it'", texts, 0);
    assert_contains(table, "RANK    SCORE  ID  TEXT\n");
    assert_int_equal(count_lines(table), 4);
    char *square = embed(encoder, "--input - --similarity", texts, 0);
    assert_contains(square, "a   1.0000 ");
    assert_int_equal(count_lines(square), 4);
    free(square);
    free(table);
    free(best);
    free(ranked);
    free(matrix);
    free(query);
    free(vectors);
}

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
        snprintf(command, sizeof command, "embed -m %s --input -", export);
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
    snprintf(path, sizeof path, "%s/none.npy", directory);
    snprintf(command, sizeof command, "embed -m %s --format npy -o %s", encoder, path);
    command_run(&run, command);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "92 tokens, over the limit of 64");
    assert_contains(run.err, "(--truncate)");
    assert_false(file_exists(path));
    assert_string_equal(run.out, "");
    command_clear(&run);

    snprintf(command, sizeof command, "embed -m %s --truncate", encoder);
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
    snprintf(path, sizeof path, "%s/text", directory);
    write_whole(path, "the name", 8);
    snprintf(arguments, sizeof arguments, "self --file %s --file /no/such/file -", path);
    char *out = embed(encoder, arguments, "the name", 1);
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
        {"x --format xml", "table, json, jsonl, csv or npy, not 'xml'"},
        {"x --json --format csv", "do not go together"},
        {"x --pooling max", "not 'max'"},
        {"--input - --lines -", "cannot both be stdin"},
        {"x --session y --pooling last", "a session keeps the --pooling"},
        {"x --session y --similarity", "leave out --query and --similarity"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {0};
        char command[2048];

        snprintf(command, sizeof command, "embed %s", cases[i].arguments);
        command_run(&run, command);
        if (run.status != 2)
            fail_msg("kvern %s: exit status %d, not 2", command, run.status);
        assert_contains(run.err, cases[i].says);
        assert_string_equal(run.out, "");
        command_clear(&run);
    }
    struct command_run none = {0};
    command_run(&none, "embed x -m no-such-model");
    assert_int_equal(none.status, 1);
    assert_contains(none.err, "kvern pull no-such-model");
    command_clear(&none);
}

/* A full disk leaves no file, and an old one as it was. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    struct rlimit before;
    char path[200];
    char command[2048];

    (void)state;
    snprintf(path, sizeof path, "%s/kept.csv", directory);
    write_whole(path, "old", 3);
    snprintf(command, sizeof command, "embed -m %s self -o %s", encoder, path);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, before.rlim_max}), 0);
    struct command_run run = {0};
    command_run(&run, command);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "kept.csv");
    command_clear(&run);
    struct buffer kept = read_whole(path);
    assert_string_equal(kept.data, "old");
    buffer_clear(&kept);
    unlink(path);
    char *names = list_directory(directory);
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
    snprintf(model, sizeof model, "%s/bare", directory);
    assert_int_equal(directory_make(model, &err), KVERN_OK);
    for (size_t i = 0; i < COUNT(files); i++) {
        char from[1024];
        char to[700];

        snprintf(from, sizeof from, "%s/%s", export, files[i]);
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

        snprintf(path, sizeof path, "%s/lines", directory);
        write_lines(path, n_lines[i]);
        snprintf(command, sizeof command, "embed -m %s --lines %s -o %s.npy -q", encoder, path,
                 path);
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
    snprintf(path, sizeof path, "%s/lines", directory);
    write_lines(path, 200000);
    snprintf(command, sizeof command, "embed -m %s --lines %s -d 2", encoder, path);
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

static void bench_counts_texts(void **state)
{
    static const char ids[] = "{\"ids\": [2, 5, 3]}\n[2, 6, 7, 8, 3]\n";
    char path[200];
    char command[2048];

    (void)state;
    snprintf(path, sizeof path, "%s/ids.jsonl", directory);
    write_whole(path, ids, strlen(ids));
    snprintf(command, sizeof command,
             "bench -m %s --embed 8x3 --embed-file %s --repeats 2 --no-limits --json", encoder,
             path);
    char *out = command_output(command, NULL, 0);
    json_t *bench = json_line(out, 0);
    const json_t *results = json_object_get(bench, "results");
    assert_int_equal(json_array_size(results), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(results, i);
        double texts = json_number_value(json_object_get(row, "texts_per_s"));
        double tokens = json_number_value(json_object_get(row, "tokens_per_s"));

        assert_keys(row, "name batch length tokens_per_s samples texts_per_s");
        assert_string_equal(json_string_value(json_object_get(row, "name")), "embed");
        assert_int_equal(json_integer_value(json_object_get(row, "batch")), i == 0 ? 3 : 2);
        assert_true(texts > 0 && fabs(tokens / texts - (i == 0 ? 8 : 4)) < 1e-6);
    }
    json_decref(bench);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_the_promised_shape),
        cmocka_unit_test(every_format_says_the_same),
        cmocka_unit_test(terminals),
        cmocka_unit_test(alone_or_together_the_vectors_are_the_same),
        cmocka_unit_test(kinds_of_vectors),
        cmocka_unit_test(comparing_and_ranking),
        cmocka_unit_test(texts_fail_alone),
        cmocka_unit_test(too_long_is_an_error_or_cut_and_told),
        cmocka_unit_test(files_and_stdin),
        cmocka_unit_test(usage_errors_exit_2),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(bytes_for_tokens_are_told),
        cmocka_unit_test(memory_does_not_grow_with_the_lines),
        cmocka_unit_test(ctrl_c_ends_between_texts),
        cmocka_unit_test(bench_counts_texts),
    };

    return cmocka_run_group_tests(tests, make_models, remove_models);
}
