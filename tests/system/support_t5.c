/* SPDX-License-Identifier: Apache-2.0
 *
 * See support_t5.h.
 */
#include "system/support_t5.h"

#include "test.h"

#include "base/memory.h"
#include "model/model.h"
#include "ort/session.h"
#include "support_files.h"
#include "support_models.h"
#include "support_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEARCHES = 64 };

static size_t read_ids(const json_t *list, int32_t *ids, size_t capacity)
{
    size_t n = json_array_size(list);

    assert_true(n > 0 && n <= capacity);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static size_t size_of(const json_t *object, const char *member)
{
    return (size_t)json_integer_value(json_object_get(object, member));
}

static void read_input(const json_t *from, struct t5_input *input)
{
    const json_t *leads = json_object_get(from, "lead");

    input->n_ids = read_ids(json_object_get(from, "ids"), input->ids, T5_MAX_SOURCE);
    input->encoder_stride = size_of(from, "encoder_stride");
    input->n_decoder = size_of(from, "n_decoder");
    assert_in_range(input->n_decoder, T5_ROWS, T5_FORCED);
    input->range = json_number_value(json_object_get(from, "range"));
    assert_int_equal(read_ids(json_object_get(from, "best"), input->best, T5_FORCED),
                     input->n_decoder);
    assert_int_equal(json_array_size(leads), input->n_decoder);
    for (size_t i = 0; i < input->n_decoder; i++)
        input->leads[i] = json_number_value(json_array_get(leads, i));
    assert_int_equal(read_ids(json_object_get(from, "greedy"), input->greedy, T5_STEPS), T5_STEPS);
}

struct t5_golden t5_golden_read(const char *variant)
{
    struct t5_golden golden = {0};
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/tests/golden/t5/%s/", KVERN_SOURCE_DIR, variant);

    snprintf(path + n, sizeof path - (size_t)n, "golden.json");
    json_t *object = json_load_file(path, 0, NULL);
    const json_t *inputs = json_object_get(object, "inputs");
    assert_non_null(object);
    golden.n_vocab = size_of(object, "n_vocab");
    golden.d_model = size_of(object, "d_model");
    golden.logit_stride = size_of(object, "logit_stride");
    assert_true(golden.logit_stride > 0);
    golden.n_columns = (golden.n_vocab + golden.logit_stride - 1) / golden.logit_stride;
    assert_int_equal(
        read_ids(json_object_get(object, "decoder_ids"), golden.decoder_ids, T5_FORCED), T5_FORCED);
    golden.n_inputs = json_array_size(inputs);
    assert_in_range(golden.n_inputs, 4, T5_MAX_INPUTS);
    for (size_t i = 0; i < golden.n_inputs; i++)
        read_input(json_array_get(inputs, i), &golden.inputs[i]);
    golden.document = object;
    snprintf(path + n, sizeof path - (size_t)n, "encoder.f32");
    golden.encoder = read_whole(path);
    snprintf(path + n, sizeof path - (size_t)n, "logits.f32");
    golden.logits = read_whole(path);
    assert_int_equal(golden.logits.n_bytes,
                     golden.n_inputs * T5_ROWS * golden.n_columns * sizeof(float));
    return golden;
}

void t5_golden_clear(struct t5_golden *golden)
{
    json_decref(golden->document);
    buffer_clear(&golden->encoder);
    buffer_clear(&golden->logits);
}

kvern_model *t5_open(const char *variant, const char *weights)
{
    char source[256];

    snprintf(source, sizeof source, "tests/golden/t5/%s", variant);
    return open_test_model(source, weights);
}

size_t t5_block_bytes(const kvern_model *model, size_t value_bytes)
{
    const struct model_config *config = &model->manifest.config;

    return 2 * config->n_layers * config->n_kv_heads * T5_BLOCK * config->head_size * value_bytes;
}

/* ---- the encoder alone ---- */

/* Runs the graph with one source and no decoder token. */
static void run_encoder(const kvern_model *model, const struct t5_input *input, float *rows)
{
    const struct model_config *config = &model->manifest.config;
    const struct session_options options = {.n_threads = 1};
    size_t n = input->n_ids;
    size_t n_blocks = (n + T5_BLOCK - 1) / T5_BLOCK;
    size_t layer_bytes = t5_block_bytes(model, sizeof(float)) / config->n_layers;
    size_t pool_bytes = n_blocks * t5_block_bytes(model, sizeof(float));
    void *pool = try_new_aligned(pool_bytes, 1);
    struct session session = {0};
    int64_t ids[T5_MAX_SOURCE];
    int32_t start[2] = {0, (int32_t)n}, zero[1] = {0}, table[T5_MAX_SOURCE / T5_BLOCK];
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

double t5_encoder_gap(const kvern_model *model, const struct t5_golden *golden)
{
    const float *expected = (const float *)golden->encoder.data;
    double range = range_of(expected, golden->encoder.n_bytes / sizeof(float));
    float *rows = new_or_abort(T5_MAX_SOURCE * golden->d_model * sizeof *rows);
    double worst = 0;

    for (size_t i = 0; i < golden->n_inputs; i++) {
        const struct t5_input *input = &golden->inputs[i];

        run_encoder(model, input, rows);
        for (size_t row = 0; row < input->n_ids; row += input->encoder_stride) {
            worst =
                fmax(worst, most_apart(rows + row * golden->d_model, expected, golden->d_model));
            expected += golden->d_model;
        }
    }
    assert_ptr_equal(expected, golden->encoder.data + golden->encoder.n_bytes);
    free(rows);
    return worst / range;
}

/* ---- through the engine ---- */

struct t5_seen t5_seen_new(const struct t5_golden *golden)
{
    return (struct t5_seen){
        .rows = new_or_abort(T5_FORCED * golden->n_vocab * sizeof(float)),
        .n_vocab = golden->n_vocab,
    };
}

static void see(const float *logits, size_t n_vocab, size_t position, void *data)
{
    struct t5_seen *seen = data;

    assert_true(position < T5_FORCED && n_vocab == seen->n_vocab);
    memcpy(seen->rows + position * n_vocab, logits, n_vocab * sizeof *logits);
    seen->n_rows++;
}

kvern_request *t5_submit(kvern_engine *engine, const struct t5_input *input,
                         const int32_t *decoder_prompt, size_t n_decoder_prompt, size_t max_tokens,
                         struct t5_seen *seen)
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
    options.on_logits = seen ? see : NULL;
    options.on_logits_data = seen;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

double t5_logits_gap(kvern_engine *engine, const struct t5_golden *golden)
{
    const float *expected = (const float *)golden->logits.data;
    struct t5_seen seen = t5_seen_new(golden);
    double worst = 0;

    for (size_t i = 0; i < golden->n_inputs; i++) {
        const struct t5_input *input = &golden->inputs[i];

        for (size_t row = 0; row < T5_ROWS; row++) {
            size_t last = (row + 1) * input->n_decoder / T5_ROWS - 1;
            const float *made = seen.rows + last * golden->n_vocab;

            finish_request(t5_submit(engine, input, golden->decoder_ids + 1, last, 1, &seen), NULL,
                           0);
            for (size_t token = 0; token < golden->n_vocab; token += golden->logit_stride)
                worst = fmax(worst, most_apart(made + token, expected++, 1) / input->range);
        }
    }
    assert_ptr_equal(expected, golden->logits.data + golden->logits.n_bytes);
    free(seen.rows);
    return worst;
}

void t5_check_greedy(kvern_engine *engine, const char *variant, const struct t5_golden *golden)
{
    for (size_t i = 0; i < golden->n_inputs; i++) {
        const struct t5_input *input = &golden->inputs[i];
        int32_t tokens[T5_STEPS];

        assert_int_equal(
            finish_request(t5_submit(engine, input, NULL, 0, T5_STEPS, NULL), tokens, T5_STEPS),
            T5_STEPS);
        if (memcmp(tokens, input->greedy, sizeof tokens) != 0)
            fail_msg("%s, input %zu: another greedy answer", variant, i);
    }
}

void t5_count_agreement(kvern_engine *engine, const struct t5_golden *golden,
                        struct t5_agreement *agreements, size_t n_agreements)
{
    for (size_t i = 0; i < golden->n_inputs; i++) {
        const struct t5_input *input = &golden->inputs[i];
        kvern_request *requests[T5_FORCED];

        for (size_t at = 0; at < input->n_decoder; at++)
            requests[at] = t5_submit(engine, input, golden->decoder_ids + 1, at, 1, NULL);
        for (size_t at = 0; at < input->n_decoder; at++) {
            int32_t token;

            assert_int_equal(finish_request(requests[at], &token, 1), 1);
            for (size_t k = 0; k < n_agreements; k++) {
                if (input->leads[at] < agreements[k].lead)
                    continue;
                agreements[k].n++;
                agreements[k].n_same += token == input->best[at];
            }
        }
    }
}

/* ---- beams ---- */

/* The four best answers of one setting. */
struct search {
    const json_t *expected;
    kvern_request *requests[T5_BEAMS];
};

static void start_search(struct search *search, kvern_engine *engine, const struct t5_input *input,
                         const json_t *expected)
{
    const json_t *early = json_object_get(expected, "early_stopping");
    kvern_request_options options;
    kvern_error err = {0};

    search->expected = expected;
    kvern_request_options_init(&options);
    options.prompt = input->ids;
    options.n_prompt = input->n_ids;
    options.max_tokens = T5_STEPS;
    options.num_beams = T5_BEAMS;
    options.length_penalty = (float)json_number_value(json_object_get(expected, "length_penalty"));
    options.early_stopping = json_is_string(early) ? KVERN_EARLY_STOPPING_NEVER
                             : json_is_true(early) ? KVERN_EARLY_STOPPING_TRUE
                                                   : KVERN_EARLY_STOPPING_FALSE;
    options.sampling.no_repeat_ngram_size =
        (int32_t)json_integer_value(json_object_get(expected, "no_repeat_ngram_size"));
    if (kvern_submit_samples(engine, &options, T5_BEAMS, search->requests, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* Answers come with their end token, as transformers' do. The largest difference of a score. */
static double end_search(struct search *search, const char *variant)
{
    double worst = 0;

    for (size_t b = 0; b < T5_BEAMS; b++) {
        const json_t *ids = json_array_get(json_object_get(search->expected, "sequences"), b);
        const json_t *score = json_array_get(json_object_get(search->expected, "scores"), b);
        int32_t tokens[T5_STEPS + 1];
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

size_t t5_check_beams(kvern_engine *engine, const char *variant, const struct t5_golden *golden,
                      double *worst)
{
    static struct search searches[MAX_SEARCHES];
    const json_t *inputs = json_object_get(golden->document, "inputs");
    size_t n = 0;

    for (size_t i = 0; i < golden->n_inputs; i++) {
        const json_t *settings = json_object_get(json_array_get(inputs, i), "beams");

        for (size_t k = 0; k < json_array_size(settings); k++) {
            assert_true(n < MAX_SEARCHES);
            start_search(&searches[n++], engine, &golden->inputs[i], json_array_get(settings, k));
        }
    }
    *worst = 0;
    for (size_t k = 0; k < n; k++)
        *worst = fmax(*worst, end_search(&searches[k], variant));
    return n;
}
