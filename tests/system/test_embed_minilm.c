/* SPDX-License-Identifier: Apache-2.0
 *
 * all-MiniLM-L6-v2 as its users know it, through the public header: the vectors of 1,000 sentences
 * against PyTorch's, f32 and q8; the same bits for a text alone and among others; the five best of
 * 200 paragraphs for each query; and what is said about a text that is too long.
 */
#include "test.h"

#include "base/file.h"
#include "system/support_files.h"
#include "system/support_models.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN KVERN_SOURCE_DIR "/tests/golden/embeddings/"

enum { SIZE = 384, GOLDEN_BYTES = 480, N_SENTENCES = 1000, N_PARAGRAPHS = 200, N_TOP = 5 };

/* Of the sentences: under ASan all would take two minutes. */
#ifdef __SANITIZE_ADDRESS__
enum { N_COMPARED = 100 };
#else
enum { N_COMPARED = N_SENTENCES };
#endif

static const char checkpoint[] = ".deps/models/all-MiniLM-L6-v2";

/* The member `key` of every line of a JSON Lines file; freed with kvern_strings_free. */
static char **read_texts(const char *name, const char *key, size_t n)
{
    struct buffer file = read_whole(name);
    char **texts = calloc(n, sizeof *texts);
    size_t n_read = 0;

    assert_non_null(texts);
    for (char *line = strtok(file.data, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(object, key));

        assert_non_null(text);
        assert_in_range(n_read, 0, n - 1);
        texts[n_read++] = strdup(text);
        json_decref(object);
    }
    assert_int_equal(n_read, n);
    buffer_clear(&file);
    return texts;
}

static void embed_all(kvern_engine *engine, const kvern_model *model, char *const *texts, size_t n,
                      kvern_embedding *embeddings)
{
    kvern_error err = {0};

    if (kvern_embed(engine, model, (const char *const *)texts, NULL, n, NULL, embeddings, &err) !=
        KVERN_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++) {
        if (embeddings[i].error.status != KVERN_OK)
            fail_msg("text %zu: %s", i, embeddings[i].error.message);
        assert_int_equal(embeddings[i].n_values, SIZE);
    }
}

static void clear_all(kvern_embedding *embeddings, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kvern_embedding_clear(&embeddings[i]);
}

/* In a text, kvern reads the name of a control token as text, where PyTorch's tokenizer makes it
 * the token: the vector is another one, on purpose. */
static const char control[] = "[MASK]";

/* A vector in 10 bits a value, whose length is not kept (make_embeddings.py). */
static void read_golden(const uint8_t *packed, float *values)
{
    for (size_t j = 0; j < SIZE; j++) {
        const uint8_t *at = packed + 10 * j / 8;

        values[j] = (float)(((at[0] | at[1] << 8) >> 10 * j % 8 & 1023) - 512);
    }
}

static void vectors_are_pytorchs(void **state)
{
    static const struct {
        const char *weights;
        double cosine;
    } cases[] = {{"f32", 0.9999}, {"q8", 0.999}};
    static kvern_embedding embeddings[N_COMPARED];
    char **texts = read_texts(GOLDEN "sentences.jsonl", "text", N_SENTENCES);
    struct buffer golden = read_whole(GOLDEN "sentences.i10");

    (void)state;
    assert_int_equal(golden.n_bytes, N_SENTENCES * GOLDEN_BYTES);
    for (size_t c = 0; c < COUNT(cases); c++) {
        kvern_model *model = open_test_model(checkpoint, cases[c].weights);
        kvern_engine *engine = open_test_engine(model, 0, 0, NULL);
        double worst = 2;
        double sum = 0;

        embed_all(engine, model, texts, N_COMPARED, embeddings);
        for (size_t i = 0; i < N_COMPARED; i++) {
            float expected[SIZE];

            read_golden((const uint8_t *)golden.data + i * GOLDEN_BYTES, expected);
            double cosine = kvern_cosine(embeddings[i].values, expected, SIZE);
            if (strstr(texts[i], control)) {
                assert_true(cosine < 0.9);
                cosine = 1;
            }
            sum += cosine;
            worst = fmin(worst, cosine);
            if (!(cosine >= cases[c].cosine))
                print_error("%s, sentence %zu: cosine %.6f\n", cases[c].weights, i, cosine);
        }
        printf("  %s: cosine to PyTorch %.6f on average, %.6f at worst\n", cases[c].weights,
               sum / N_COMPARED, worst);
        assert_true(worst >= cases[c].cosine);
        clear_all(embeddings, N_COMPARED);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
    buffer_clear(&golden);
    kvern_strings_free(texts, N_SENTENCES);
}

/* Every 29th sentence: some of each length. */
static void a_text_is_the_same_alone(void **state)
{
    enum { STEP = 29, N = (N_SENTENCES + STEP - 1) / STEP };
    static kvern_embedding together[N_SENTENCES];
    char **texts = read_texts(GOLDEN "sentences.jsonl", "text", N_SENTENCES);
    kvern_model *model = open_test_model(checkpoint, "q8");
    kvern_engine *engine = open_test_engine(model, 0, 0, NULL);
    kvern_engine *one_thread = open_test_engine(model, 1, 0, NULL);

    (void)state;
    for (size_t i = 0; i < N; i++) { /* the chosen ones come first */
        char *other = texts[i];

        texts[i] = texts[i * STEP];
        texts[i * STEP] = other;
    }
    embed_all(engine, model, texts, N, together);
    for (size_t i = 0; i < N; i++) {
        kvern_embedding alone[1];

        embed_all(i % 2 ? one_thread : engine, model, texts + i, 1, alone);
        assert_memory_equal(alone[0].values, together[i].values, SIZE * sizeof(float));
        clear_all(alone, 1);
    }
    clear_all(together, N);
    kvern_engine_close(one_thread);
    kvern_engine_close(engine);
    kvern_model_close(model);
    kvern_strings_free(texts, N_SENTENCES);
}

/* The indices of the N_TOP paragraphs of largest cosine to `query`, best first. */
static void rank(const kvern_embedding *paragraphs, const float *query, size_t top[N_TOP])
{
    double best[N_TOP];
    size_t n = 0;

    for (size_t i = 0; i < N_PARAGRAPHS; i++) {
        double cosine = kvern_cosine(paragraphs[i].values, query, SIZE);
        size_t place = n < N_TOP ? n++ : N_TOP;

        for (; place > 0 && best[place - 1] < cosine; place--) {
            if (place < N_TOP) {
                best[place] = best[place - 1];
                top[place] = top[place - 1];
            }
        }
        if (place < N_TOP) {
            best[place] = cosine;
            top[place] = i;
        }
    }
}

/* Checks one line of queries.jsonl. Rounding to 8 bit may swap neighbours: of the
 * expected five, those count that lead the sixth by
 * more than `close`. */
static void check_query(kvern_engine *engine, const kvern_model *model,
                        const kvern_embedding *paragraphs, const json_t *object, double close)
{
    const json_t *expected = json_object_get(object, "top");
    double sixth = json_number_value(json_array_get(json_array_get(expected, N_TOP), 1));
    char *text = strdup(json_string_value(json_object_get(object, "query")));
    kvern_embedding query[1];
    size_t top[N_TOP];

    embed_all(engine, model, &text, 1, query);
    rank(paragraphs, query[0].values, top);
    for (size_t i = 0; i < N_TOP; i++) {
        const json_t *pair = json_array_get(expected, i);
        size_t index = (size_t)json_integer_value(json_array_get(pair, 0));
        bool is_there = json_number_value(json_array_get(pair, 1)) - sixth <= close;

        for (size_t j = 0; j < N_TOP; j++)
            is_there = is_there || top[j] == index;
        if (!is_there)
            fail_msg("\"%s\": paragraph %zu is not among the best five", text, index);
    }
    clear_all(query, 1);
    free(text);
}

static void the_best_five_are_pytorchs(void **state)
{
    static const struct {
        const char *weights;
        double close; /* 0: a cosine apart at all */
    } cases[] = {{"f32", 0}, {"q8", 0.005}};
    static kvern_embedding paragraphs[N_PARAGRAPHS];
    char **texts = read_texts(GOLDEN "paragraphs.jsonl", "text", N_PARAGRAPHS);

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        struct buffer queries = read_whole(GOLDEN "queries.jsonl");
        kvern_model *model = open_test_model(checkpoint, cases[c].weights);
        kvern_engine *engine = open_test_engine(model, 0, 0, NULL);
        size_t n_queries = 0;

        embed_all(engine, model, texts, N_PARAGRAPHS, paragraphs);
        for (char *line = strtok(queries.data, "\n"); line; line = strtok(NULL, "\n")) {
            json_t *object = json_loads(line, 0, NULL);

            check_query(engine, model, paragraphs, object, cases[c].close);
            json_decref(object);
            n_queries++;
        }
        assert_in_range(n_queries, 5, 1000);
        clear_all(paragraphs, N_PARAGRAPHS);
        kvern_engine_close(engine);
        kvern_model_close(model);
        buffer_clear(&queries);
    }
    kvern_strings_free(texts, N_PARAGRAPHS);
}

/* 256 tokens are what the makers trained with, though the position table has 512. */
static void too_long_is_an_error(void **state)
{
    kvern_model *model = open_test_model(checkpoint, "q8");
    kvern_engine *engine = open_test_engine(model, 0, 0, NULL);
    kvern_embed_options options;
    kvern_embedding embedding[1];
    char text[4 * 300 + 1];
    const char *texts[] = {text};
    kvern_model_info info;

    (void)state;
    kvern_model_get_info(model, &info);
    assert_int_equal(info.max_tokens, 256);
    assert_string_equal(info.pooling, "mean");
    for (size_t i = 0; i < 300; i++)
        memcpy(text + 4 * i, "dog ", 5);
    assert_int_equal(kvern_embed(engine, model, texts, NULL, 1, NULL, embedding, NULL), KVERN_OK);
    assert_int_equal(embedding[0].error.status, KVERN_LIMIT);
    assert_non_null(strstr(embedding[0].error.message, "302 tokens, over the limit of 256"));
    clear_all(embedding, 1);
    kvern_embed_options_init(&options);
    options.truncate = true;
    assert_int_equal(kvern_embed(engine, model, texts, NULL, 1, &options, embedding, NULL),
                     KVERN_OK);
    assert_int_equal(embedding[0].error.status, KVERN_OK);
    assert_int_equal(embedding[0].n_tokens, 256);
    assert_int_equal(embedding[0].n_text_tokens, 302);
    clear_all(embedding, 1);
    kvern_engine_close(engine);
    kvern_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_pytorchs),
        cmocka_unit_test(a_text_is_the_same_alone),
        cmocka_unit_test(the_best_five_are_pytorchs),
        cmocka_unit_test(too_long_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
