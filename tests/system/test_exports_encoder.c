/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder exports of tests/golden/exports, opened as they are: vectors against the hidden
 * states and embeddings that ONNX Runtime gave, a batch the same bits as single texts, and what a
 * graph that pools by itself cannot do. The export's pooled output is reached through a copy of it
 * whose other output has another name.
 */
#include "test.h"

#include "system/support_files.h"
#include "system/support_models.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 32, N_TEXTS = 3 };

static const struct subject {
    const char *name;
    kvern_pooling pooling; /* the makers' own */
    bool pools_itself;
} subjects[] = {
    {"bert-f32", KVERN_POOLING_MEAN, false},
    {"bert-sentence", KVERN_POOLING_MEAN, false},
    {"pooled", KVERN_POOLING_MODEL, true}, /* made of the one before */
};

static char *directory;

static char *path_of(const char *export, const char *file)
{
    struct buffer path = {0};

    if (strcmp(export, "pooled") == 0)
        buffer_add_format(&path, "%s/%s", directory, file);
    else
        buffer_add_format(&path, "%s/exports/%s/%s", KVERN_GOLDEN_DIR, export, file);
    return buffer_take(&path, NULL);
}

/* The graph with the same length of name everywhere, so that no length in it changes. */
static void rename_all(struct buffer *graph, const char *from, const char *to)
{
    size_t n = strlen(from);
    size_t n_found = 0;

    assert_int_equal(strlen(to), n);
    for (size_t i = 0; i + n <= graph->n_bytes; i++) {
        if (memcmp(graph->data + i, from, n) == 0) {
            memcpy(graph->data + i, to, n);
            n_found++;
        }
    }
    assert_true(n_found > 0);
}

static int make_pooled(void **state)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "ids.i32",     "lengths.i32",    "embedding.f32"};

    (void)state;
    directory = make_directory();
    for (size_t i = 0; i < COUNT(files); i++) {
        char *from = path_of("bert-sentence", files[i]);
        char *to = path_of("pooled", files[i]);

        copy_whole(from, to);
        free(from);
        free(to);
    }
    char *from = path_of("bert-sentence", "model.onnx");
    char *to = path_of("pooled", "model.onnx");
    struct buffer graph = read_whole(from);
    rename_all(&graph, "token_embeddings", "token_embeddinks");
    write_whole(to, graph.data, graph.n_bytes);
    buffer_clear(&graph);
    free(from);
    free(to);
    return 0;
}

static int remove_pooled(void **state)
{
    (void)state;
    bool is_gone = directory_remove(directory, NULL) == KVERN_OK;
    free(directory);
    return is_gone ? 0 : -1;
}

static struct buffer read_golden(const char *export, const char *file)
{
    char *path = path_of(export, file);
    struct buffer whole = read_whole(path);

    free(path);
    return whole;
}

static kvern_model *open_export(const char *export)
{
    kvern_model *model = NULL;
    kvern_error err = {0};
    char *path = path_of(export, "model.onnx");

    if (kvern_model_open(&model, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    free(path);
    return model;
}

static kvern_status submit(kvern_engine *engine, const int32_t *ids, size_t n,
                           kvern_pooling pooling, kvern_request **request, kvern_error *err)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = ids;
    options.n_prompt = n;
    options.embed = true;
    options.pooling = pooling;
    return kvern_submit(engine, &options, request, err);
}

static void finish(kvern_request *request, float *values)
{
    kvern_event event = {0};
    kvern_error err = {0};

    while (event.finish == KVERN_FINISH_NONE)
        assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
    if (event.finish != KVERN_FINISH_STOP)
        fail_msg("%s", event.error.message);
    assert_int_equal(event.n_embedding, HIDDEN);
    memcpy(values, event.embedding, HIDDEN * sizeof *values);
    kvern_request_free(request);
}

static void embed(kvern_engine *engine, const int32_t *ids, size_t n, kvern_pooling pooling,
                  float *values)
{
    kvern_request *request = NULL;
    kvern_error err = {0};

    if (submit(engine, ids, n, pooling, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    finish(request, values);
}

/* What the makers' pooling gives of the golden's hidden states [n, HIDDEN]. */
static void pool(const float *hidden, size_t n, kvern_pooling pooling, float *values)
{
    for (size_t v = 0; v < HIDDEN; v++) {
        double sum = 0;

        for (size_t row = 0; row < n; row++)
            sum += (double)hidden[row * HIDDEN + v];
        values[v] = pooling == KVERN_POOLING_CLS    ? hidden[v]
                    : pooling == KVERN_POOLING_LAST ? hidden[(n - 1) * HIDDEN + v]
                                                    : (float)(sum / (double)n);
    }
}

static void assert_close(const char *what, const float *values, const float *expected)
{
    for (size_t v = 0; v < HIDDEN; v++) {
        if (!(fabsf(values[v] - expected[v]) <= 1e-5F * (1 + fabsf(expected[v]))))
            fail_msg("%s: value %zu is %g, not %g", what, v, (double)values[v],
                     (double)expected[v]);
    }
}

static void vectors_are_the_goldens(void **state)
{
    static const kvern_pooling kinds[] = {KVERN_POOLING_MODEL, KVERN_POOLING_MEAN,
                                          KVERN_POOLING_CLS, KVERN_POOLING_LAST};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct subject *subject = &subjects[i];
        kvern_model *model = open_export(subject->name);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        struct buffer ids = read_golden(subject->name, "ids.i32");
        struct buffer lengths = read_golden(subject->name, "lengths.i32");
        struct buffer hidden = read_golden(subject->name, "hidden.f32");
        size_t begin = 0;

        for (size_t t = 0; t < N_TEXTS; t++) {
            size_t n = (size_t)((const int32_t *)lengths.data)[t];

            for (size_t k = 0; k < COUNT(kinds); k++) {
                float values[HIDDEN];
                float expected[HIDDEN];

                embed(engine, (const int32_t *)ids.data + begin, n, kinds[k], values);
                pool((const float *)hidden.data + begin * HIDDEN, n,
                     k == 0 ? subject->pooling : kinds[k], expected);
                assert_close(subject->name, values, expected);
            }
            begin += n;
        }
        buffer_clear(&ids);
        buffer_clear(&lengths);
        buffer_clear(&hidden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

static void its_own_pooling_is_the_golden(void **state)
{
    kvern_model *model = open_export("pooled");
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    struct buffer ids = read_golden("pooled", "ids.i32");
    struct buffer lengths = read_golden("pooled", "lengths.i32");
    struct buffer golden = read_golden("pooled", "embedding.f32");
    size_t begin = 0;

    (void)state;
    for (size_t t = 0; t < N_TEXTS; t++) {
        size_t n = (size_t)((const int32_t *)lengths.data)[t];
        float values[HIDDEN];

        embed(engine, (const int32_t *)ids.data + begin, n, KVERN_POOLING_MODEL, values);
        assert_close("pooled", values, (const float *)golden.data + t * HIDDEN);
        begin += n;
    }
    buffer_clear(&ids);
    buffer_clear(&lengths);
    buffer_clear(&golden);
    kvern_engine_close(engine);
    kvern_model_close(model);
}

static void a_batch_is_single_bit_for_bit(void **state)
{
    enum { N = 12 };

    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_export(subjects[i].name);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        int32_t texts[N][64];
        float alone[N][HIDDEN];
        float together[HIDDEN];
        kvern_request *requests[N];
        kvern_error err = {0};

        for (size_t t = 0; t < N; t++) {
            for (size_t j = 0; j < 64; j++)
                texts[t][j] = (int32_t)((t * 31 + j * 17 + j * j) % 160);
            embed(engine, texts[t], 1 + t * 23 % 64, KVERN_POOLING_MODEL, alone[t]);
        }
        for (size_t t = 0; t < N; t++)
            assert_int_equal(
                submit(engine, texts[t], 1 + t * 23 % 64, KVERN_POOLING_MODEL, &requests[t], &err),
                KVERN_OK);
        for (size_t t = 0; t < N; t++) {
            finish(requests[t], together);
            assert_memory_equal(together, alone[t], sizeof together);
        }
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

static void what_an_encoder_cannot_do_is_refused(void **state)
{
    static const struct {
        const char *export;
        kvern_pooling pooling;
        size_t n;
        kvern_status status;
        const char *names;
    } cases[] = {
        {"pooled", KVERN_POOLING_MEAN, 5, KVERN_UNSUPPORTED, "pools by itself"},
        {"pooled", KVERN_POOLING_CLS, 5, KVERN_UNSUPPORTED, "pools by itself"},
        {"bert-f32", KVERN_POOLING_LOGITS512, 5, KVERN_UNSUPPORTED, "logits"},
        {"bert-f32", KVERN_POOLING_MEAN, 65, KVERN_LIMIT, "context limit of 64"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_model *model = open_export(cases[i].export);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        kvern_request *request = NULL;
        kvern_session *session = NULL;
        kvern_error err = {0};
        int32_t ids[65] = {0};

        assert_int_equal(submit(engine, ids, cases[i].n, cases[i].pooling, &request, &err),
                         cases[i].status);
        check_message(cases[i].status, &err, cases[i].names);
        assert_int_equal(kvern_session_new(&session, engine, model, NULL, &err), KVERN_UNSUPPORTED);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

/* From text to vector: the makers' pooling, and the special tokens around the text. */
static void texts_become_vectors_of_length_one(void **state)
{
    static const char *const texts[] = {"a mill", "", "a mill grinds corn and a mill grinds"};

    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_export(subjects[i].name);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        kvern_embedding embeddings[COUNT(texts)];
        kvern_error err = {0};

        assert_int_equal(
            kvern_embed(engine, model, texts, NULL, COUNT(texts), NULL, embeddings, &err),
            KVERN_OK);
        for (size_t t = 0; t < COUNT(texts); t++) {
            double squares = 0;

            if (embeddings[t].error.status != KVERN_OK)
                fail_msg("%s: %s", subjects[i].name, embeddings[t].error.message);
            for (size_t v = 0; v < embeddings[t].n_values; v++)
                squares += (double)embeddings[t].values[v] * (double)embeddings[t].values[v];
            assert_true(fabs(squares - 1) < 1e-5);
            assert_true(embeddings[t].n_tokens >= 2);
            kvern_embedding_clear(&embeddings[t]);
        }
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_the_goldens),
        cmocka_unit_test(its_own_pooling_is_the_golden),
        cmocka_unit_test(a_batch_is_single_bit_for_bit),
        cmocka_unit_test(what_an_encoder_cannot_do_is_refused),
        cmocka_unit_test(texts_become_vectors_of_length_one),
    };

    return cmocka_run_group_tests(tests, make_pooled, remove_pooled);
}
