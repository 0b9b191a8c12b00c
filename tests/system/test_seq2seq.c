/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiny T5 models of each variant, converted, against what transformers gave for them
 * (tests/golden/make_t5.py): encoder rows, logits, greedy answers; and one request's bytes whatever
 * runs beside it and however its engine is made.
 */
#include "test.h"

#include "base/memory.h"
#include "model/model.h"
#include "ort/session.h"
#include "support_files.h"
#include "support_models.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_ROWS = 8,
    N_STEPS = 32,
    N_FORCED = 160,
    MAX_SOURCE = 512,
    MAX_VOCAB = 512,
    MAX_INPUTS = 8,
    BLOCK = 16
};

static const char *const variants[] = {"t5", "t5-v1.1", "mt5", "codet5", "codet5p"};

struct input {
    int32_t ids[MAX_SOURCE];
    size_t n_ids;
    size_t encoder_stride;
    size_t n_decoder; /* tokens of decoder_ids that were run */
    double range;     /* of the logits */
    int32_t greedy[N_STEPS];
};

struct golden {
    size_t n_vocab;
    size_t d_model;
    int32_t decoder_ids[N_FORCED]; /* the first is the start token */
    struct input inputs[MAX_INPUTS];
    size_t n_inputs;
    json_t *document;      /* owned */
    struct buffer encoder; /* f32 */
    struct buffer logits;
};

static size_t read_ids(const json_t *list, int32_t *ids, size_t capacity)
{
    size_t n = json_array_size(list);

    assert_true(n > 0 && n <= capacity);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static struct golden read_golden(const char *variant)
{
    struct golden golden = {0};
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/tests/golden/t5/%s/", KVERN_SOURCE_DIR, variant);

    snprintf(path + n, sizeof path - (size_t)n, "golden.json");
    json_t *object = json_load_file(path, 0, NULL);
    const json_t *inputs = json_object_get(object, "inputs");
    assert_non_null(object);
    golden.n_vocab = (size_t)json_integer_value(json_object_get(object, "n_vocab"));
    golden.d_model = (size_t)json_integer_value(json_object_get(object, "d_model"));
    assert_int_equal(read_ids(json_object_get(object, "decoder_ids"), golden.decoder_ids, N_FORCED),
                     N_FORCED);
    golden.n_inputs = json_array_size(inputs);
    assert_in_range(golden.n_inputs, 4, MAX_INPUTS);
    for (size_t i = 0; i < golden.n_inputs; i++) {
        const json_t *from = json_array_get(inputs, i);
        struct input *input = &golden.inputs[i];

        input->n_ids = read_ids(json_object_get(from, "ids"), input->ids, MAX_SOURCE);
        input->encoder_stride = (size_t)json_integer_value(json_object_get(from, "encoder_stride"));
        input->n_decoder = (size_t)json_integer_value(json_object_get(from, "n_decoder"));
        assert_in_range(input->n_decoder, N_ROWS, N_FORCED);
        input->range = json_number_value(json_object_get(from, "range"));
        assert_int_equal(read_ids(json_object_get(from, "greedy"), input->greedy, N_STEPS),
                         N_STEPS);
    }
    golden.document = object;
    snprintf(path + n, sizeof path - (size_t)n, "encoder.f32");
    golden.encoder = read_whole(path);
    snprintf(path + n, sizeof path - (size_t)n, "logits.f32");
    golden.logits = read_whole(path);
    assert_int_equal(golden.logits.n_bytes,
                     golden.n_inputs * N_ROWS * golden.n_vocab * sizeof(float));
    return golden;
}

static void golden_clear(struct golden *golden)
{
    json_decref(golden->document);
    buffer_clear(&golden->encoder);
    buffer_clear(&golden->logits);
}

static kvern_model *open_variant(const char *variant, const char *weights)
{
    char source[256];

    snprintf(source, sizeof source, "tests/golden/t5/%s", variant);
    return open_test_model(source, weights);
}

/* Of all layers. */
static size_t block_bytes(const struct model_config *config, size_t value_bytes)
{
    return 2 * config->n_layers * config->n_kv_heads * BLOCK * config->head_size * value_bytes;
}

/* ---- the encoder alone ---- */

/* Runs the graph with one source and no decoder token. */
static void run_encoder(const kvern_model *model, const struct input *input, float *rows)
{
    const struct model_config *config = &model->manifest.config;
    const struct session_options options = {.n_threads = 1};
    size_t n = input->n_ids;
    size_t n_blocks = (n + BLOCK - 1) / BLOCK;
    size_t layer_bytes = block_bytes(config, sizeof(float)) / config->n_layers;
    size_t pool_bytes = n_blocks * block_bytes(config, sizeof(float));
    void *pool = try_new_aligned(pool_bytes, 1);
    struct session session = {0};
    int64_t ids[MAX_SOURCE];
    int32_t start[2] = {0, (int32_t)n}, zero[1] = {0}, table[MAX_SOURCE / BLOCK];
    kvern_error err = {0};

    for (size_t i = 0; i < n; i++)
        ids[i] = input->ids[i];
    for (size_t i = 0; i < n_blocks; i++)
        table[i] = (int32_t)i;
    const struct session_tensor inputs[] = {
        {"source_ids", SESSION_I64, ids, n * 8, {(int64_t)n}, 1},
        {"source_start", SESSION_I32, start, 8, {2}, 1},
        {"source_table", SESSION_I32, table, n_blocks * 4, {1, (int64_t)n_blocks}, 2},
        {"input_ids", SESSION_I64, ids, 0, {0}, 1},
        {"query_start", SESSION_I32, zero, 4, {1}, 1},
        {"context_len", SESSION_I32, zero, 0, {0}, 1},
        {"block_table", SESSION_I32, table, 0, {0, 1}, 2},
        {"cross_table", SESSION_I32, table, 0, {0, 1}, 2},
        {"source_len", SESSION_I32, zero, 0, {0}, 1},
        {"output_rows", SESSION_I64, ids, 0, {0}, 1},
        {"logit_rows", SESSION_I64, ids, 0, {0}, 1},
        {"kv_pool",
         SESSION_U8,
         pool,
         pool_bytes,
         {(int64_t)config->n_layers, (int64_t)n_blocks, (int64_t)layer_bytes},
         3},
    };
    const struct session_tensor output = {"last_hidden_state",
                                          SESSION_F32,
                                          rows,
                                          n * config->hidden_size * sizeof(float),
                                          {(int64_t)n, (int64_t)config->hidden_size},
                                          2};
    assert_non_null(pool);
    if (session_open(&session, model->graph, &options, &err) != KVERN_OK ||
        session_run(&session, inputs, COUNT(inputs), &output, 1, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    session_close(&session);
    free(pool);
}

static double range_of(const float *values, size_t n)
{
    float low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        low = fminf(low, values[i]);
        high = fmaxf(high, values[i]);
    }
    return (double)(high - low);
}

static double most_apart(const float *a, const float *b, size_t n)
{
    float worst = 0;

    for (size_t i = 0; i < n; i++)
        worst = isfinite(a[i]) ? fmaxf(worst, fabsf(a[i] - b[i])) : INFINITY;
    return (double)worst;
}

static void encoder_rows_are_the_goldens(void **state)
{
    static float rows[MAX_SOURCE * 128];

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = open_variant(variants[v], "f32");
        struct golden golden = read_golden(variants[v]);
        const float *expected = (const float *)golden.encoder.data;
        double range = range_of(expected, golden.encoder.n_bytes / sizeof(float));
        double worst = 0;

        for (size_t i = 0; i < golden.n_inputs; i++) {
            const struct input *input = &golden.inputs[i];

            run_encoder(model, input, rows);
            for (size_t row = 0; row < input->n_ids; row += input->encoder_stride) {
                worst =
                    fmax(worst,
                         most_apart(rows + row * golden.d_model, expected, golden.d_model) / range);
                expected += golden.d_model;
            }
        }
        assert_ptr_equal(expected, golden.encoder.data + golden.encoder.n_bytes);
        printf("  %s: encoder rows within %.2g of their range\n", variants[v], worst);
        assert_true(worst < 2e-5);
        golden_clear(&golden);
        kvern_model_close(model);
    }
}

/* ---- through the engine ---- */

struct seen {
    float rows[N_FORCED][MAX_VOCAB]; /* by position of the decoder */
    size_t n_rows;
};

static void see(const float *logits, size_t n_vocab, size_t position, void *data)
{
    struct seen *seen = data;

    assert_true(position < N_FORCED && n_vocab <= MAX_VOCAB);
    memcpy(seen->rows[position], logits, n_vocab * sizeof *logits);
    seen->n_rows++;
}

static kvern_request *submit(kvern_engine *engine, const struct input *input,
                             const int32_t *decoder_prompt, size_t n_decoder_prompt,
                             size_t max_tokens, struct seen *seen)
{
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = input->ids;
    options.n_prompt = input->n_ids;
    options.decoder_prompt = decoder_prompt;
    options.n_decoder_prompt = n_decoder_prompt;
    options.max_tokens = (int32_t)max_tokens;
    options.ignore_eos = true;
    options.on_logits = see;
    options.on_logits_data = seen;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

static size_t find_best(const float *row, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

/* How far the best of a row is before all others. */
static double lead_of(const float *row, size_t n)
{
    size_t best = find_best(row, n);
    float second = -INFINITY;

    for (size_t i = 0; i < n; i++)
        second = i != best ? fmaxf(second, row[i]) : second;
    return (double)(row[best] - second);
}

static void logits_and_greedy_answers_are_the_goldens(void **state)
{
    static struct seen seen;

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = open_variant(variants[v], "f32");
        kvern_engine *engine = open_test_engine(model, 1, 0, "f32");
        struct golden golden = read_golden(variants[v]);
        const float *expected = (const float *)golden.logits.data;
        double worst = 0;

        for (size_t i = 0; i < golden.n_inputs; i++) {
            const struct input *input = &golden.inputs[i];
            int32_t tokens[N_STEPS];

            for (size_t row = 0; row < N_ROWS; row++, expected += golden.n_vocab) {
                size_t last = (row + 1) * input->n_decoder / N_ROWS - 1;

                finish_request(submit(engine, input, golden.decoder_ids + 1, last, 1, &seen), NULL,
                               0);
                worst = fmax(worst,
                             most_apart(seen.rows[last], expected, golden.n_vocab) / input->range);
            }
            assert_int_equal(
                finish_request(submit(engine, input, NULL, 0, N_STEPS, &seen), tokens, N_STEPS),
                N_STEPS);
            if (memcmp(tokens, input->greedy, sizeof tokens) != 0)
                fail_msg("%s, input %zu: another greedy answer", variants[v], i);
        }
        printf("  %s: logits within %.2g of their range\n", variants[v], worst);
        assert_true(worst < 2e-5);
        golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

/* In 8 bit: the best token, where it leads. Random weights attend so sharply that 8 bits move
 * logits by 2 to 6 % of their range at the median; a lead below that is a tie. */
static void eight_bits_choose_as_f32_does(void **state)
{
    static const double leads[] = {0.01, 0.07}; /* of the range */
    static struct seen seen;
    size_t n_rows[2] = {0}, n_same[2] = {0};

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = open_variant(variants[v], "q8");
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        struct golden golden = read_golden(variants[v]);
        const float *expected = (const float *)golden.logits.data;

        for (size_t i = 0; i < golden.n_inputs; i++) {
            const struct input *input = &golden.inputs[i];

            for (size_t row = 0; row < N_ROWS; row++, expected += golden.n_vocab) {
                size_t last = (row + 1) * input->n_decoder / N_ROWS - 1;

                finish_request(submit(engine, input, golden.decoder_ids + 1, last, 1, &seen), NULL,
                               0);
                for (size_t k = 0; k < 2; k++) {
                    if (lead_of(expected, golden.n_vocab) < leads[k] * input->range)
                        continue;
                    n_rows[k]++;
                    n_same[k] += find_best(seen.rows[last], golden.n_vocab) ==
                                 find_best(expected, golden.n_vocab);
                }
            }
        }
        golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
    for (size_t k = 0; k < 2; k++)
        printf("  q8: %zu of %zu best tokens that lead by %.0f %% of the range are those of f32\n",
               n_same[k], n_rows[k], 100 * leads[k]);
    assert_true(n_rows[0] > 100 && n_rows[1] > 30);
    assert_true(100 * n_same[0] >= 80 * n_rows[0]);
    assert_true(100 * n_same[1] >= 99 * n_rows[1]);
}

/* Alone in one engine, or all at once, some twice, in engines that step, share and give way. */
static void no_engine_changes_a_byte(void **state)
{
    enum { N_COPIES = 2 };
    static const struct {
        int32_t n_threads, step_tokens, max_sequences;
        size_t n_kv_blocks;
    } engines[] = {{1, 0, 64, 1000}, {2, 0, 64, 1000}, {2, 16, 3, 1000}, {1, 64, 64, 20}};
    static struct seen alone[MAX_INPUTS], together[N_COPIES * MAX_INPUTS];
    int64_t n_preempted = 0;

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = open_variant(variants[v], NULL);
        struct golden golden = read_golden(variants[v]);
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);

        memset(alone, 0, sizeof alone);
        for (size_t i = 0; i < golden.n_inputs; i++)
            finish_request(submit(engine, &golden.inputs[i], NULL, 0, N_STEPS, &alone[i]), NULL, 0);
        kvern_engine_close(engine);
        for (size_t e = 0; e < COUNT(engines); e++) {
            kvern_request *requests[N_COPIES * MAX_INPUTS];
            size_t n = N_COPIES * golden.n_inputs;
            kvern_engine_options options;
            kvern_engine_stats stats;
            kvern_error err = {0};

            kvern_engine_options_init(&options);
            options.n_threads = engines[e].n_threads;
            options.step_tokens = engines[e].step_tokens;
            options.max_sequences = engines[e].max_sequences;
            options.kv_memory_bytes =
                engines[e].n_kv_blocks * block_bytes(&model->manifest.config, 2);
            if (kvern_engine_open(&engine, model, &options, &err) != KVERN_OK)
                fail_msg("%s", err.message);
            memset(together, 0, sizeof together);
            for (size_t k = 0; k < n; k++)
                requests[k] = submit(engine, &golden.inputs[k % golden.n_inputs], NULL, 0, N_STEPS,
                                     &together[k]);
            for (size_t k = 0; k < n; k++)
                finish_request(requests[k], NULL, 0);
            for (size_t k = 0; k < n; k++) {
                assert_true(together[k].n_rows >= N_STEPS);
                if (memcmp(alone[k % golden.n_inputs].rows, together[k].rows,
                           sizeof together[k].rows) != 0)
                    fail_msg("%s, input %zu, engine %zu: other bytes", variants[v],
                             k % golden.n_inputs, e);
            }
            kvern_engine_get_stats(engine, &stats);
            n_preempted += stats.n_preemptions;
            kvern_engine_close(engine);
        }
        golden_clear(&golden);
        kvern_model_close(model);
    }
    printf("  %lld sequences were computed anew on the way\n", (long long)n_preempted);
    assert_true(n_preempted > 0);
}

/* ---- beams ---- */

enum { N_BEAMS = 4, MAX_SETTINGS = 64 };

/* The four best answers of one setting. */
struct search {
    const json_t *expected;
    kvern_request *requests[N_BEAMS];
};

static void start_search(struct search *search, kvern_engine *engine, const struct input *input,
                         const json_t *expected)
{
    const json_t *early = json_object_get(expected, "early_stopping");
    kvern_request_options options;
    kvern_error err = {0};

    search->expected = expected;
    kvern_request_options_init(&options);
    options.prompt = input->ids;
    options.n_prompt = input->n_ids;
    options.max_tokens = N_STEPS;
    options.num_beams = N_BEAMS;
    options.length_penalty = (float)json_number_value(json_object_get(expected, "length_penalty"));
    options.early_stopping = json_is_string(early) ? KVERN_EARLY_STOPPING_NEVER
                             : json_is_true(early) ? KVERN_EARLY_STOPPING_TRUE
                                                   : KVERN_EARLY_STOPPING_FALSE;
    options.sampling.no_repeat_ngram_size =
        (int32_t)json_integer_value(json_object_get(expected, "no_repeat_ngram_size"));
    if (kvern_submit_samples(engine, &options, N_BEAMS, search->requests, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* Answers come with their end token, as transformers' do. The largest difference of a score. */
static double end_search(struct search *search, const char *variant)
{
    double worst = 0;

    for (size_t b = 0; b < N_BEAMS; b++) {
        const json_t *ids = json_array_get(json_object_get(search->expected, "sequences"), b);
        const json_t *score = json_array_get(json_object_get(search->expected, "scores"), b);
        int32_t tokens[N_STEPS + 1];
        size_t n = 0;
        kvern_event event = {0};
        kvern_error err = {0};

        while (event.finish == KVERN_FINISH_NONE) {
            if (kvern_request_next(search->requests[b], -1, &event, &err) != KVERN_OK)
                fail_msg("%s", err.message);
            for (size_t i = 0; i < event.n_tokens; i++)
                tokens[n++] = event.tokens[i];
        }
        assert_true(event.has_score);
        worst = fmax(worst, fabs((double)event.score - json_number_value(score)));
        if (n != json_array_size(ids))
            fail_msg("%s: answer %zu has %zu tokens, not %zu", variant, b, n, json_array_size(ids));
        for (size_t i = 0; i < n; i++) {
            if (tokens[i] != json_integer_value(json_array_get(ids, i)))
                fail_msg("%s: token %zu of answer %zu is another", variant, i, b);
        }
        kvern_request_free(search->requests[b]);
    }
    return worst;
}

/* All settings of a variant at once. */
static void beams_are_the_goldens(void **state)
{
    static struct search searches[MAX_SETTINGS];

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = open_variant(variants[v], "f32");
        kvern_engine *engine = open_test_engine(model, 2, 0, "f32");
        struct golden golden = read_golden(variants[v]);
        size_t n = 0;
        double worst = 0;

        for (size_t i = 0; i < golden.n_inputs; i++) {
            const json_t *settings = json_object_get(
                json_array_get(json_object_get(golden.document, "inputs"), i), "beams");

            for (size_t k = 0; k < json_array_size(settings); k++) {
                assert_true(n < MAX_SETTINGS);
                start_search(&searches[n++], engine, &golden.inputs[i],
                             json_array_get(settings, k));
            }
        }
        for (size_t k = 0; k < n; k++)
            worst = fmax(worst, end_search(&searches[k], variants[v]));
        printf("  %s: %zu searches, scores within %.2g\n", variants[v], n, worst);
        assert_true(n >= 20);
        assert_true(worst < 1e-3);
        golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

/* What an encoder-decoder cannot do is refused by name. */
static void what_it_cannot_do_is_told(void **state)
{
    kvern_model *model = open_variant("t5", "q8");
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    int32_t ids[600];

    (void)state;
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = 5;
    for (int what = 0; what < 6; what++) {
        static const struct {
            kvern_status status;
            const char *words;
        } expected[] = {{KVERN_UNSUPPORTED, "it embeds no texts"},
                        {KVERN_UNSUPPORTED, "no scores of its source"},
                        {KVERN_UNSUPPORTED, "keeps no conversations"},
                        {KVERN_UNSUPPORTED, "no window that slides"},
                        {KVERN_LIMIT, "600 tokens, over the model's limit of 512"},
                        {KVERN_INVALID, "decoder_prompt token 0 is -4"}};
        static const int32_t bad[] = {-4};
        kvern_request_options options;
        kvern_request *request = NULL;
        kvern_error err = {0};

        kvern_request_options_init(&options);
        options.prompt = ids;
        options.n_prompt = what == 4 ? 600 : 20;
        options.embed = what == 0;
        options.score_prompt = what == 1;
        options.conversation = what == 2 ? 7 : 0;
        options.window = what == 3 ? 64 : 0;
        options.decoder_prompt = what == 5 ? bad : NULL;
        options.n_decoder_prompt = what == 5;
        assert_int_equal(kvern_submit(engine, &options, &request, &err), expected[what].status);
        if (!strstr(err.message, expected[what].words))
            fail_msg("%s", err.message);
    }
    kvern_engine_close(engine);
    kvern_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_rows_are_the_goldens),
        cmocka_unit_test(logits_and_greedy_answers_are_the_goldens),
        cmocka_unit_test(eight_bits_choose_as_f32_does),
        cmocka_unit_test(no_engine_changes_a_byte),
        cmocka_unit_test(beams_are_the_goldens),
        cmocka_unit_test(what_it_cannot_do_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
