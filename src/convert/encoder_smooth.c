/* SPDX-License-Identifier: Apache-2.0
 *
 * A forward pass in f32 over the checkpoint's own tensors, one tile of a matrix at a time, only to
 * see how large each channel of each norm gets.
 */
#include "convert/encoder_smooth.h"

#include "base/error.h"
#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_TEXTS = 32, TEXT_TOKENS = 4, N_TOKENS = N_TEXTS * TEXT_TOKENS };

struct trial {
    const struct encoder_plan *plan;
    const struct model_config *config;
    float *x;        /* [N_TOKENS, hidden]: the residual stream */
    float *added;    /* [N_TOKENS, hidden]: what is added to it next */
    float *wide;     /* [N_TOKENS, 3 hidden or intermediate] */
    float *attended; /* [N_TOKENS, hidden] */
    float *vectors;  /* [2, hidden] gamma and beta; or a bias, [3 hidden or intermediate] */
    float *strip;    /* [N_TOKENS, PACKED_TILE] */
    void *scratch;
    struct packed_attention_shape shape;
    kvern_error *err;
};

static size_t widest(const struct model_config *config)
{
    size_t three = 3 * config->hidden_size;

    return config->intermediate_size > three ? config->intermediate_size : three;
}

static kvern_status trial_init(struct trial *t, const struct encoder_plan *plan, kvern_error *err)
{
    const struct model_config *config = &plan->checkpoint->config;
    size_t hidden = config->hidden_size;
    size_t wide = widest(config);

    *t = (struct trial){
        .plan = plan,
        .config = config,
        .x = try_new_aligned(N_TOKENS * sizeof(float), hidden),
        .added = try_new_aligned(N_TOKENS * sizeof(float), hidden),
        .wide = try_new_aligned(N_TOKENS * sizeof(float), wide),
        .attended = try_new_aligned(N_TOKENS * sizeof(float), hidden),
        .vectors = try_new_aligned(sizeof(float), wide),
        .strip = try_new_aligned(N_TOKENS * sizeof(float), PACKED_TILE),
        .shape = {.n_heads = config->n_heads,
                  .n_kv_heads = config->n_kv_heads,
                  .head_size = config->head_size,
                  .scale = 1.0F / sqrtf((float)config->head_size),
                  .is_f32 = true},
        .err = err,
    };
    t->scratch = try_new_aligned(attention_portable.packed_scratch_bytes(&t->shape), 1);
    if (!t->x || !t->added || !t->wide || !t->attended || !t->vectors || !t->strip || !t->scratch)
        return fail(err, KVERN_MEMORY, "out of memory for a trial run of %d tokens of %zu values",
                    N_TOKENS, wide);
    return KVERN_OK;
}

static void trial_clear(struct trial *t)
{
    free(t->x);
    free(t->added);
    free(t->wide);
    free(t->attended);
    free(t->vectors);
    free(t->strip);
    free(t->scratch);
}

/* x = norm(x + added) */
static void run_norm(struct trial *t, const struct norm_plan *norm)
{
    size_t hidden = t->config->hidden_size;
    float *beta = t->vectors + hidden;

    tensor_read_row(norm->gamma, 0, t->vectors);
    tensor_read_row(norm->beta, 0, beta);
    row_portable.add_layer_norm(t->added, t->x, NULL, t->vectors, beta, t->config->norm_epsilon, 0,
                                N_TOKENS, hidden, t->x);
}

/* y [N_TOKENS, n] = x [N_TOKENS, k] times the matrix, plus bias, by tiles of 64 columns. */
static kvern_status run_linear(struct trial *t, const struct linear_plan *linear, const float *x,
                               float *y)
{
    struct pack_plan plan;
    float *bias = t->vectors;
    kvern_status status =
        pack_plan_make(&plan, linear->weight.parts, linear->weight.n_parts, WEIGHTS_F32, t->err);

    if (status != KVERN_OK)
        return status;
    for (size_t i = 0; i < plan.n_parts; i++) {
        tensor_read_row(linear->biases[i], 0, bias);
        bias += tensor_row_values(linear->biases[i]);
    }
    void *data = try_new_aligned(plan.tile_bytes, 1);
    if (!data)
        return fail(t->err, KVERN_MEMORY, "out of memory for a tile of %s (%zu bytes)",
                    plan.parts[0]->name, plan.tile_bytes);
    for (size_t tile = 0; tile < plan.n_tiles && status == KVERN_OK; tile++) {
        size_t first = tile * PACKED_TILE;
        size_t n = plan.n - first < PACKED_TILE ? plan.n - first : PACKED_TILE;
        struct packed_weight w = {
            .bits = 32, .n = n, .k = plan.k, .data = data, .bias = t->vectors + first};

        status = pack_write_tile(&plan, tile, data, NULL, NULL, t->err);
        if (status != KVERN_OK)
            break;
        linear_portable.multiply_f32(&w, x, 0, N_TOKENS, 0, PACKED_TILE / 16, t->strip);
        for (size_t row = 0; row < N_TOKENS; row++)
            memcpy(y + row * plan.n + first, t->strip + row * n, n * sizeof *y);
    }
    free(data);
    return status;
}

static enum activation activation_of(const struct model_config *config)
{
    switch (config->activation) {
    case MODEL_ACTIVATION_SILU:
        return ACTIVATION_SILU;
    case MODEL_ACTIVATION_GELU_TANH:
        return ACTIVATION_GELU_TANH;
    case MODEL_ACTIVATION_RELU:
        return ACTIVATION_RELU;
    case MODEL_ACTIVATION_GELU:
        break;
    }
    return ACTIVATION_GELU;
}

static void run_attention(struct trial *t)
{
    size_t hidden = t->config->hidden_size;

    for (size_t first = 0; first < N_TOKENS; first += TEXT_TOKENS) {
        for (size_t head = 0; head < t->shape.n_kv_heads; head++)
            attention_portable.attend_packed(&t->shape, t->wide + first * 3 * hidden, TEXT_TOKENS,
                                             0, TEXT_TOKENS, head, t->scratch,
                                             t->attended + first * hidden);
    }
}

static void run_embedding(struct trial *t)
{
    size_t hidden = t->config->hidden_size;
    uint64_t state = 1;

    for (size_t i = 0; i < N_TOKENS; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        size_t id = (size_t)(state >> 33) % t->config->vocab_size;
        size_t position = i % TEXT_TOKENS < t->config->max_positions ? i % TEXT_TOKENS : 0;

        tensor_read_row(t->plan->words.parts[0], id, t->x + i * hidden);
        tensor_read_row(t->plan->place_table, position, t->added + i * hidden);
    }
    run_norm(t, &t->plan->embedding_norm);
}

/* s of what stands in x: the square root of each channel's root mean square, which is never so
 * small that dividing by it would do harm. What is not finite gives scales that are not. */
static void measure(const struct trial *t, float *scales)
{
    size_t hidden = t->config->hidden_size;

    for (size_t i = 0; i < hidden; i++) {
        double sum = 0;

        for (size_t row = 0; row < N_TOKENS; row++)
            sum += (double)t->x[row * hidden + i] * t->x[row * hidden + i];
        double size = sqrt(sum / N_TOKENS);

        scales[i] = (float)sqrt(size < 1e-3 ? 1e-3 : size);
    }
}

static kvern_status run_layer(struct trial *t, const struct encoder_layer *layer,
                              float *after_attention)
{
    kvern_status status = run_linear(t, &layer->qkv, t->x, t->wide);

    if (status == KVERN_OK) {
        run_attention(t);
        status = run_linear(t, &layer->o, t->attended, t->added);
    }
    if (status != KVERN_OK)
        return status;
    run_norm(t, &layer->attention_norm);
    measure(t, after_attention);
    status = run_linear(t, &layer->up, t->x, t->wide);
    if (status == KVERN_OK) {
        size_t inner = t->config->intermediate_size;

        row_portable.activate(activation_of(t->config), t->wide, N_TOKENS, inner, inner, t->wide);
        status = run_linear(t, &layer->down, t->wide, t->added);
    }
    if (status == KVERN_OK)
        run_norm(t, &layer->output_norm);
    return status;
}

/* Integers that a source holds already are kept as they are: only floats are smoothed. */
static bool can_smooth(const struct pack_plan *plan)
{
    for (size_t i = 0; i < plan->n_parts; i++) {
        if (tensor_groups(plan->parts[i]).bits != 0)
            return false;
    }
    return plan->bits == 8;
}

static bool are_finite(const float *values, size_t n)
{
    bool is_finite = true;

    for (size_t i = 0; i < n; i++)
        is_finite = is_finite && isfinite(values[i]);
    return is_finite;
}

kvern_status encoder_smooth_make(struct encoder_smooth *smooth, const struct encoder_plan *plan,
                                 kvern_error *err)
{
    size_t n_layers = plan->checkpoint->config.n_layers;
    size_t hidden = plan->checkpoint->config.hidden_size;
    struct trial trial = {0};
    kvern_status status = KVERN_OK;

    *smooth = (struct encoder_smooth){.hidden = hidden};
    for (size_t i = 0; i < n_layers; i++) {
        if (!can_smooth(&plan->layers[i].qkv.weight) || !can_smooth(&plan->layers[i].up.weight))
            return KVERN_OK;
    }
    smooth->scales = try_new(2 * n_layers * sizeof *smooth->scales, hidden);
    if (!smooth->scales)
        return fail(err, KVERN_MEMORY, "out of memory for %zu scales of %zu values", 2 * n_layers,
                    hidden);
    status = trial_init(&trial, plan, err);
    if (status != KVERN_OK)
        goto done;
    run_embedding(&trial);
    for (size_t i = 0; i < n_layers && status == KVERN_OK; i++) {
        float *scales = smooth->scales + 2 * i * hidden;

        measure(&trial, scales);
        status = run_layer(&trial, &plan->layers[i], scales + hidden);
    }
done:
    trial_clear(&trial);
    if (status != KVERN_OK || !are_finite(smooth->scales, 2 * n_layers * hidden))
        encoder_smooth_clear(smooth);
    return status;
}

void encoder_smooth_clear(struct encoder_smooth *smooth)
{
    if (!smooth)
        return;
    free(smooth->scales);
    smooth->scales = NULL;
}

const float *encoder_smooth_of(const struct encoder_smooth *smooth, size_t norm, size_t n_layers)
{
    return smooth->scales && norm < 2 * n_layers ? smooth->scales + norm * smooth->hidden : NULL;
}
