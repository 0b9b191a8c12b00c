/* SPDX-License-Identifier: Apache-2.0
 *
 * The vectors of build/kvern embed, on tiny models of all three contracts: every format says the
 * same, texts alone and together give the same, kinds, cosines and ranks are what they say.
 */
#include "system/support_command.h"
#include "system/support_embed.h"
#include "system/support_files.h"
#include "test.h"

#include "kvern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_TEXTS = 40, SIZE = EMBED_SIZE, HIDDEN = 96 /* of tiny_model() */ };

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
    char *out = embed_output(embed_encoder, "'the value' --json", NULL, 0);
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
    char *lines = embed_output(embed_encoder, "--lines -", texts, 0);
    char *array = embed_output(embed_encoder, "--lines - --format json", texts, 0);
    char *csv = embed_output(embed_encoder, "--lines - --format csv", texts, 0);
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
    snprintf(path, sizeof path, "%s/out.npy", embed_directory);
    snprintf(arguments, sizeof arguments, "--lines - -o %s", path);
    free(embed_output(embed_encoder, arguments, texts, 0));
    struct buffer npy = read_whole(path);
    assert_int_equal(npy.n_bytes, 128 + sizeof rows);
    assert_memory_equal(npy.data, "\x93NUMPY\x01\x00", 8);
    assert_contains(npy.data + 10, "'shape': (3, 32), }");
    assert_memory_equal(npy.data + 128, rows, sizeof rows);

    struct command_run run = {.input = texts, .output = path};
    snprintf(arguments, sizeof arguments, "embed -m %s --lines - --format npy", embed_encoder);
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
    snprintf(command, sizeof command, "embed -m %s 'the name' self", embed_encoder);
    command_run(&run, command);
    assert_int_equal(run.status, 0);
    assert_contains(run.out, "TOKENS");
    assert_contains(run.out, " ...");
    assert_int_equal(count_lines(run.out), 3);
    command_clear(&run);
    snprintf(command, sizeof command, "embed -m %s self --format npy", embed_encoder);
    command_run(&npy, command);
    assert_int_equal(npy.status, 2);
    assert_contains(npy.out, "not for a terminal");
    command_clear(&npy);
}

/* The same bytes, whatever runs beside a text and however many threads there are. */
static void alone_or_together_the_vectors_are_the_same(void **state)
{
    const char *models[] = {embed_encoder, tiny_model(), embed_export};
    char lines[N_TEXTS * 160] = "";

    (void)state;
    for (int i = 0; i < N_TEXTS; i++)
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines),
                 "{\"id\": %d, \"text\": \"the value of object %.*s is %d\"}\n", i, i % 23,
                 "a name, or the object it", i * 7919);
    for (size_t m = 0; m < COUNT(models); m++) {
        char *together = embed_output(models[m], "--input -", lines, 0);
        const char *line = lines;
        const char *result = together;

        assert_int_equal(count_lines(together), N_TEXTS);
        for (int i = 0; i < N_TEXTS; i++) {
            const char *end = strchr(line, '\n');
            size_t n_result = strcspn(result, "\n");

            if (i % 8 == 0) {
                char *input = strndup(line, (size_t)(end - line));
                char *alone = embed_output(models[m], "--input - -t 1", input, 0);

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
        char *out = embed_output(tiny_model(), cases[i].arguments, NULL, 0);
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
    free(embed_output(tiny_model(), "x --dimensions 97", NULL, 1));
    free(embed_output(embed_encoder, "x --prompt nosuch", NULL, 1));
}

/* --similarity and --query are the cosines of the vectors themselves. */
static void comparing_and_ranking(void **state)
{
    static const char texts[] = "{\"id\": \"a\", \"text\": \"the name of the object\"}\n"
                                "{\"id\": \"b\", \"text\": \"if not self\"}\n"
                                "{\"id\": \"c\", \"text\": \"the name of the\\nvalue\"}\n";
    char *vectors = embed_output(embed_encoder, "--input -", texts, 0);
    char *query = embed_output(embed_encoder, "'the name of it'", NULL, 0);
    char *matrix = embed_output(embed_encoder, "--input - --similarity --json", texts, 0);
    char *ranked =
        embed_output(embed_encoder, "--input - --query 'the name of it' --json", texts, 0);
    char *best =
        embed_output(embed_encoder, "--input - --query 'the name of it' --top 1 --json", texts, 0);
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

    char *table = embed_output(embed_encoder, "--input - --query 'the name of it'", texts, 0);
    assert_contains(table, "RANK    SCORE  ID  TEXT\n");
    assert_int_equal(count_lines(table), 4);
    char *square = embed_output(embed_encoder, "--input - --similarity", texts, 0);
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

static void bench_counts_texts(void **state)
{
    static const char ids[] = "{\"ids\": [2, 5, 3]}\n[2, 6, 7, 8, 3]\n";
    char path[200];
    char command[2048];

    (void)state;
    snprintf(path, sizeof path, "%s/ids.jsonl", embed_directory);
    write_whole(path, ids, strlen(ids));
    snprintf(command, sizeof command,
             "bench -m %s --embed 8x3 --embed-file %s --repeats 2 --no-limits --json",
             embed_encoder, path);
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
        cmocka_unit_test(bench_counts_texts),
    };

    return cmocka_run_group_tests(tests, make_embed_models, remove_embed_models);
}
