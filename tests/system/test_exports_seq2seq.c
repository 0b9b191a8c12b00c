/* SPDX-License-Identifier: Apache-2.0
 *
 * optimum's exports of tiny T5 models (tests/golden/t5-exports), opened as they are, against what
 * PyTorch gave for their checkpoints: logits, greedy answers, many requests at once, and one that
 * fails among them.
 */
#include "test.h"

#include "system/support_files.h"
#include "system/support_models.h"
#include "system/support_rows.h"

#include "base/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_VOCAB = 320, N_INPUTS = 4, N_ROWS = 8, N_STEPS = 32, MOST_DECODER = 160 };

static const double tolerance = 1e-4; /* of the logits' range */

#define GOLDEN KVERN_SOURCE_DIR "/tests/golden/"

/* A folder is made of these: without tokenizer files, as ids are all that is tested. */
static const struct subject {
    const char *name, *encoder, *decoder, *golden;
    bool is_split;
} subjects[] = {
    {"split", "t5-exports/codet5-split", "t5-exports/codet5-split", "t5/codet5", true},
    {"merged", "t5-exports/t5-v1.1-merged", "t5-exports/t5-v1.1-merged",
     "t5-exports/t5-v1.1-merged", false},
};

/* Its encoder's table has 160 tokens, its decoders' 288: a source with a token in between cannot be
 * run. */
static const struct subject patchwork = {"patchwork", "t5-exports/t5-v1.1-merged",
                                         "t5-exports/codet5-split", "t5/codet5", true};

enum { FIRST_POISON = 160 };

static void copy_file(const char *folder, const char *from, const char *file)
{
    char source[1024];
    char target[1024];

    snprintf(source, sizeof source, GOLDEN "%s/%s", from, file);
    snprintf(target, sizeof target, "%s/%s", folder, file);
    copy_whole(source, target);
}

static kvern_model *open_subject(const struct subject *subject)
{
    char *folder = make_directory();
    kvern_model *model = NULL;
    kvern_error err = {0};

    copy_file(folder, subject->encoder, "encoder_model.onnx");
    copy_file(folder, subject->decoder, "config.json");
    copy_file(folder, subject->decoder, "generation_config.json");
    if (subject->is_split) {
        copy_file(folder, subject->decoder, "decoder_model.onnx");
        copy_file(folder, subject->decoder, "decoder_with_past_model.onnx");
    } else {
        copy_file(folder, subject->decoder, "decoder_model_merged.onnx");
    }
    if (kvern_model_open(&model, folder, &err) != KVERN_OK)
        fail_msg("%s: %s", subject->name, err.message);
    free(folder);
    return model;
}

/* An open model keeps its folder; both go. */
static void close_subject(kvern_model *model)
{
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    char *folder = strdup(info.directory);

    assert_non_null(folder);
    kvern_model_close(model);
    assert_int_equal(directory_remove(folder, NULL), KVERN_OK);
    free(folder);
}

/* ---- goldens ---- */

struct input {
    const char *name;
    int32_t ids[256];
    size_t n_ids;
    size_t n_decoder; /* tokens its rows are of */
    double range;
    int32_t greedy[N_STEPS];
    const float *rows; /* [N_ROWS, n_vocab] */
};

struct golden {
    json_t *json;
    struct buffer logits;
    size_t n_vocab;
    int32_t decoder_ids[MOST_DECODER]; /* the first is the start token */
    struct input inputs[N_INPUTS];
};

static size_t read_ids(const json_t *array, int32_t *ids, size_t capacity)
{
    assert_true(json_is_array(array) && json_array_size(array) <= capacity);
    for (size_t i = 0; i < json_array_size(array); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return json_array_size(array);
}

static struct golden *read_golden(const struct subject *subject)
{
    struct golden *golden = calloc(1, sizeof *golden);
    char path[1024];

    assert_non_null(golden);
    snprintf(path, sizeof path, GOLDEN "%s/golden.json", subject->golden);
    golden->json = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, GOLDEN "%s/logits.f32", subject->golden);
    golden->logits = read_whole(path);
    golden->n_vocab = (size_t)json_integer_value(json_object_get(golden->json, "n_vocab"));
    assert_true(golden->n_vocab > 0 && golden->n_vocab <= MOST_VOCAB);
    assert_int_equal(golden->logits.n_bytes, N_INPUTS * N_ROWS * golden->n_vocab * sizeof(float));
    assert_int_equal(
        read_ids(json_object_get(golden->json, "decoder_ids"), golden->decoder_ids, MOST_DECODER),
        MOST_DECODER);
    for (size_t i = 0; i < N_INPUTS; i++) {
        const json_t *from = json_array_get(json_object_get(golden->json, "inputs"), i);
        struct input *input = &golden->inputs[i];

        input->name = json_string_value(json_object_get(from, "name"));
        input->n_ids = read_ids(json_object_get(from, "ids"), input->ids, COUNT(input->ids));
        input->n_decoder = (size_t)json_integer_value(json_object_get(from, "n_decoder"));
        input->range = json_number_value(json_object_get(from, "range"));
        assert_int_equal(read_ids(json_object_get(from, "greedy"), input->greedy, N_STEPS),
                         N_STEPS);
        input->rows = (const float *)golden->logits.data + i * N_ROWS * golden->n_vocab;
    }
    return golden;
}

static void free_golden(struct golden *golden)
{
    json_decref(golden->json);
    buffer_clear(&golden->logits);
    free(golden);
}

/* ---- requests ---- */

/* Logits of one request, by the decoder's position. */
struct rows {
    float values[MOST_DECODER][MOST_VOCAB];
    bool is_there[MOST_DECODER];
};

static struct rows *new_rows(void)
{
    struct rows *rows = calloc(1, sizeof *rows);

    assert_non_null(rows);
    return rows;
}

static void see_logits(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    struct rows *rows = user_data;

    if (vocab_size > MOST_VOCAB || position >= MOST_DECODER)
        return;
    memcpy(rows->values[position], logits, vocab_size * sizeof *logits);
    rows->is_there[position] = true;
}

static kvern_request_options options_for(const int32_t *ids, size_t n_ids, size_t max_tokens,
                                         struct rows *rows)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = ids;
    options.n_prompt = n_ids;
    options.max_tokens = (int32_t)max_tokens;
    options.ignore_eos = true;
    options.on_logits = rows ? see_logits : NULL;
    options.on_logits_data = rows;
    return options;
}

static kvern_request *submit(kvern_engine *engine, const kvern_request_options *options)
{
    kvern_request *request = NULL;
    kvern_error err = {0};

    if (kvern_submit(engine, options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

/* ---- tests ---- */

/* The rows after a given beginning of the answer, which is run in chunks; the worst of them. */
static double run_rows(const kvern_model *model, const struct golden *golden,
                       const struct input *input, int32_t chunk)
{
    kvern_engine *engine = open_test_engine(model, 1, chunk, NULL);
    size_t every = input->n_decoder / N_ROWS;
    double worst = 0;

    for (size_t r = 0; r < N_ROWS; r++) {
        size_t last = every * (r + 1) - 1;
        struct rows *rows = new_rows();
        kvern_request_options options = options_for(input->ids, input->n_ids, 1, rows);

        options.decoder_prompt = golden->decoder_ids + 1;
        options.n_decoder_prompt = last;
        assert_int_equal(finish_request(submit(engine, &options), NULL, 0), 0);
        assert_true(rows->is_there[last]);
        worst = fmax(worst, most_apart(rows->values[last], input->rows + r * golden->n_vocab,
                                       golden->n_vocab));
        free(rows);
    }
    kvern_engine_close(engine);
    return worst / input->range;
}

static void logits_are_pytorchs(void **state)
{
    static const int32_t chunks[] = {0, 5, 1};

    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_subject(&subjects[i]);
        struct golden *golden = read_golden(&subjects[i]);

        for (size_t k = 0; k < N_INPUTS; k++) {
            for (size_t c = 0; c < COUNT(chunks); c++) {
                double worst = run_rows(model, golden, &golden->inputs[k], chunks[c]);

                printf("  %s, %s, chunks of %d: %.2g of range\n", subjects[i].name,
                       golden->inputs[k].name, chunks[c], worst);
                assert_true(worst <= tolerance);
            }
        }
        free_golden(golden);
        close_subject(model);
    }
}

static void greedy_answers_are_pytorchs(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_subject(&subjects[i]);
        kvern_engine *engine = open_test_engine(model, 2, 0, NULL);
        struct golden *golden = read_golden(&subjects[i]);

        for (size_t k = 0; k < N_INPUTS; k++) {
            const struct input *input = &golden->inputs[k];
            kvern_request_options options = options_for(input->ids, input->n_ids, N_STEPS, NULL);
            int32_t tokens[N_STEPS];

            assert_int_equal(finish_request(submit(engine, &options), tokens, N_STEPS), N_STEPS);
            for (size_t t = 0; t < N_STEPS; t++) {
                if (tokens[t] != input->greedy[t])
                    fail_msg("%s, %s: token %zu is %d, PyTorch's %d", subjects[i].name, input->name,
                             t, tokens[t], input->greedy[t]);
            }
        }
        free_golden(golden);
        kvern_engine_close(engine);
        close_subject(model);
    }
}

/* Source `number`: 1 to 331 tokens below `most`. */
static size_t make_source(size_t number, int32_t most, int32_t *ids)
{
    size_t n = 1 + number * 30;

    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((number * 71 + i * 13 + i * i) % (size_t)most);
    return n;
}

enum { N_SOURCES = 12, MOST_SOURCE = 1 + 30 * N_SOURCES };

/* Alone, and all at once with few places and small steps, so that sources and answers share them.
 */
static void a_batch_is_single_bit_for_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_subject(&subjects[i]);
        kvern_engine *engines[2] = {open_test_engine(model, 1, 0, NULL), NULL};
        struct rows *rows[2][N_SOURCES];
        kvern_request *requests[N_SOURCES];
        kvern_engine_options engine_options;
        kvern_error err = {0};

        kvern_engine_options_init(&engine_options);
        engine_options.max_sequences = 5;
        engine_options.step_tokens = 64;
        assert_int_equal(kvern_engine_open(&engines[1], model, &engine_options, &err), KVERN_OK);
        for (size_t e = 0; e < 2; e++) {
            for (size_t p = 0; p < N_SOURCES; p++) {
                int32_t ids[MOST_SOURCE];
                size_t n = make_source(p, 160, ids);

                rows[e][p] = new_rows();
                kvern_request_options options = options_for(ids, n, 8 + p, rows[e][p]);
                requests[p] = submit(engines[e], &options);
                if (e == 0)
                    finish_request(requests[p], NULL, 0);
            }
            for (size_t p = 0; e == 1 && p < N_SOURCES; p++)
                finish_request(requests[p], NULL, 0);
        }
        for (size_t p = 0; p < N_SOURCES; p++) {
            assert_true(rows[0][p]->is_there[8 + p - 1]);
            if (memcmp(rows[0][p], rows[1][p], sizeof *rows[0][p]) != 0)
                fail_msg("%s, source %zu: other bytes in a batch", subjects[i].name, p);
            free(rows[0][p]);
            free(rows[1][p]);
        }
        kvern_engine_close(engines[0]);
        kvern_engine_close(engines[1]);
        close_subject(model);
    }
}

static void samples_are_those_of_as_many_requests(void **state)
{
    enum { N_SAMPLES = 4 };

    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_subject(&subjects[i]);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        kvern_request *requests[N_SAMPLES];
        int32_t ids[MOST_SOURCE], tokens[N_SAMPLES][N_STEPS], own[N_STEPS];
        size_t n = make_source(3, 160, ids);
        kvern_request_options options = options_for(ids, n, N_STEPS, NULL);
        kvern_error err = {0};

        options.sampling.temperature = 1;
        options.sampling.seed = 7;
        assert_int_equal(kvern_submit_samples(engine, &options, N_SAMPLES, requests, &err),
                         KVERN_OK);
        for (size_t s = 0; s < N_SAMPLES; s++)
            assert_int_equal(finish_request(requests[s], tokens[s], N_STEPS), N_STEPS);
        for (size_t s = 0; s < N_SAMPLES; s++, options.sampling.seed++) {
            assert_int_equal(finish_request(submit(engine, &options), own, N_STEPS), N_STEPS);
            assert_memory_equal(own, tokens[s], sizeof own);
        }
        assert_memory_not_equal(tokens[0], tokens[1], sizeof tokens[0]);
        kvern_engine_close(engine);
        close_subject(model);
    }
}

/* Every other one is cancelled, at different times; those beside it answer as if alone. */
static void a_cancel_leaves_the_others_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        kvern_model *model = open_subject(&subjects[i]);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        kvern_request *requests[2][N_SOURCES];
        int32_t ids[MOST_SOURCE], tokens[N_STEPS], own[N_STEPS];

        for (size_t p = 0; p < N_SOURCES; p++) {
            kvern_request_options options =
                options_for(ids, make_source(p, 160, ids), N_STEPS, NULL);

            requests[0][p] = submit(engine, &options);
            requests[1][p] = submit(engine, &options);
            if (p % 3 == 0)
                kvern_request_cancel(requests[1][p]);
        }
        for (size_t p = 0; p < N_SOURCES; p++) {
            kvern_request_options options =
                options_for(ids, make_source(p, 160, ids), N_STEPS, NULL);

            kvern_request_cancel(requests[1][p]);
            assert_int_equal(finish_request(requests[0][p], tokens, N_STEPS), N_STEPS);
            finish_request(requests[1][p], NULL, 0);
            finish_request(submit(engine, &options), own, N_STEPS);
            assert_memory_equal(own, tokens, sizeof own);
        }
        kvern_engine_close(engine);
        close_subject(model);
    }
}

/* Sources that the encoder cannot run fail alone, whatever runs in the same step. */
static void a_poisoned_request_harms_no_other(void **state)
{
    kvern_model *model = open_subject(&patchwork);
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    kvern_request *requests[N_SOURCES];
    int32_t ids[MOST_SOURCE], tokens[N_STEPS], own[N_STEPS];

    (void)state;
    for (size_t p = 0; p < N_SOURCES; p++) {
        size_t n = make_source(p, FIRST_POISON, ids);

        if (p % 3 == 1)
            ids[n / 2] = FIRST_POISON + (int32_t)p;
        kvern_request_options options = options_for(ids, n, N_STEPS, NULL);
        requests[p] = submit(engine, &options);
    }
    for (size_t p = 0; p < N_SOURCES; p++) {
        size_t n = make_source(p, FIRST_POISON, ids);
        kvern_request_options options = options_for(ids, n, N_STEPS, NULL);
        kvern_event event = {0};
        kvern_error err = {0};

        if (p % 3 != 1) {
            assert_int_equal(finish_request(requests[p], tokens, N_STEPS), N_STEPS);
            assert_int_equal(finish_request(submit(engine, &options), own, N_STEPS), N_STEPS);
            assert_memory_equal(own, tokens, sizeof own);
            continue;
        }
        while (event.finish == KVERN_FINISH_NONE)
            assert_int_equal(kvern_request_next(requests[p], -1, &event, &err), KVERN_OK);
        assert_int_equal(event.finish, KVERN_FINISH_ERROR);
        assert_int_equal(event.error.status, KVERN_RUNTIME);
        assert_true(strlen(event.error.message) > 0);
        kvern_request_free(requests[p]);
    }
    kvern_engine_close(engine);
    close_subject(model);
}

/* Without max_tokens an answer is as long as the memory lets it be. */
static void an_answer_fits_the_memory(void **state)
{
    kvern_model *model = open_subject(&subjects[0]);
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    int32_t ids[8] = {5};
    kvern_request_options options = options_for(ids, COUNT(ids), 0, NULL);
    kvern_engine_options small;
    kvern_engine_stats stats;
    int32_t tokens[64];

    (void)state;
    kvern_engine_get_stats(engine, &stats);
    kvern_engine_close(engine);
    kvern_engine_options_init(&small);
    small.kv_memory_bytes = 4 * (size_t)(stats.kv_bytes / stats.n_kv_blocks);
    assert_int_equal(kvern_engine_open(&engine, model, &small, NULL), KVERN_OK);
    /* a block of source, the start token */
    assert_int_equal(finish_request(submit(engine, &options), tokens, COUNT(tokens)), 64 - 17);
    kvern_engine_close(engine);
    close_subject(model);
}

/* What such a model does not do is said in one sentence. */
static void what_it_cannot_do_is_told(void **state)
{
    kvern_model *model = open_subject(&subjects[0]);
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    int32_t ids[600] = {5};
    kvern_request_options options[3] = {options_for(ids, 8, 4, NULL), options_for(ids, 8, 4, NULL),
                                        options_for(ids, 513, 4, NULL)};
    static const char *const messages[] = {"embeds no texts", "no window", "limit of 512 tokens"};

    (void)state;
    options[0].embed = true;
    options[1].window = 64;
    for (size_t i = 0; i < COUNT(options); i++) {
        kvern_request *request = NULL;
        kvern_error err = {0};
        kvern_status status = kvern_submit(engine, &options[i], &request, &err);

        assert_int_not_equal(status, KVERN_OK);
        check_message(status, &err, messages[i]);
    }
    kvern_engine_close(engine);
    close_subject(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_pytorchs),
        cmocka_unit_test(greedy_answers_are_pytorchs),
        cmocka_unit_test(a_batch_is_single_bit_for_bit),
        cmocka_unit_test(samples_are_those_of_as_many_requests),
        cmocka_unit_test(a_cancel_leaves_the_others_alone),
        cmocka_unit_test(a_poisoned_request_harms_no_other),
        cmocka_unit_test(an_answer_fits_the_memory),
        cmocka_unit_test(what_it_cannot_do_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
