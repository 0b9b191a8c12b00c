/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes the decoder graph: the residual stream runs through AddRmsNorm (sum and norm in one op),
 * every matrix through Linear. Weights are streamed tile by tile, so the peak of memory is the
 * scales of one matrix. In the last layer everything after attention runs on the rows that are
 * wanted only: nothing else reads the other rows. Of those the output layer runs on the ones whose
 * logits are wanted, so that an embedding does not pay for a vocabulary.
 */
#include "convert/graph_decoder.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DOMAIN[] = "ai.kvern";

enum {
    MAX_NAME = 128,
    FORGET_TILES = 32, /* source pages are given back after this many tiles */
};

struct name {
    char text[MAX_NAME];
};

struct writer {
    const struct decoder_plan *plan;
    const struct model_config *config;
    struct onnx_file *file;
    struct graph_progress *progress;
    char what[64]; /* shown by progress */
    kvern_error *err;
};

/* "model.layers.3.<part>" */
static struct name layer_name(size_t layer, const char *part)
{
    struct name name;

    snprintf(name.text, sizeof name.text, "model.layers.%zu.%s", layer, part);
    return name;
}

/* All names are our own and short; the precisions say so to the compiler. */
static struct name join(const char *prefix, const char *suffix)
{
    struct name name;

    snprintf(name.text, sizeof name.text, "%.95s.%.31s", prefix, suffix);
    return name;
}

static kvern_status report(struct writer *writer, size_t n_bytes)
{
    struct graph_progress *progress = writer->progress;

    progress->done_bytes += (int64_t)n_bytes;
    if (progress->fn && !progress->fn(writer->what, progress->done_bytes, progress->total_bytes,
                                      progress->user_data))
        return fail(writer->err, KVERN_CANCELLED, "the conversion was cancelled");
    return KVERN_OK;
}

/* Vectors, one after the other, as one f32 initializer. */
static kvern_status put_vectors(struct writer *writer, const char *name,
                                const struct tensor *const *parts, size_t n_parts)
{
    int64_t n = 0;
    float *values;
    kvern_status status;

    for (size_t i = 0; i < n_parts; i++)
        n += (int64_t)tensor_row_values(parts[i]);
    values = try_new((size_t)n, sizeof *values);
    if (!values)
        return fail(writer->err, KVERN_MEMORY, "out of memory for %s (%lld values)", name,
                    (long long)n);
    float *at = values;
    for (size_t i = 0; i < n_parts; i++) {
        tensor_read_row(parts[i], 0, at);
        at += tensor_row_values(parts[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            status = fail(writer->err, KVERN_FORMAT, "%s holds a value that is not finite",
                          parts[0]->name);
            goto done;
        }
    }
    status = onnx_file_small_tensor(writer->file, name, ONNX_F32, &n, 1, values,
                                    (size_t)n * sizeof *values, writer->err);
done:
    free(values);
    return status;
}

static void forget_parts(const struct pack_plan *plan)
{
    for (size_t i = 0; i < plan->n_parts; i++)
        tensor_forget_rows(plan->parts[i], 0, tensor_n_rows(plan->parts[i]));
}

/* The data of all tiles goes out as it is made; scales and mins are kept in `scales`, `mins`. */
static kvern_status put_tiles(struct writer *writer, const struct pack_plan *plan, uint16_t *scales,
                              uint16_t *mins)
{
    void *tile_data = try_new_aligned(plan->tile_bytes, 1);
    kvern_status status = KVERN_OK;

    if (!tile_data)
        return fail(writer->err, KVERN_MEMORY, "out of memory for a tile of %s (%zu bytes)",
                    plan->parts[0]->name, plan->tile_bytes);
    for (size_t tile = 0; tile < plan->n_tiles && status == KVERN_OK; tile++) {
        size_t at = tile * plan->tile_scales;

        status = pack_write_tile(plan, tile, tile_data, scales ? scales + at : NULL,
                                 mins ? mins + at : NULL, writer->err);
        if (status == KVERN_OK)
            status = onnx_file_put(writer->file, tile_data, plan->tile_bytes, writer->err);
        if (status == KVERN_OK)
            status = report(writer, plan->tile_bytes);
        if ((tile + 1) % FORGET_TILES == 0)
            forget_parts(plan);
    }
    forget_parts(plan);
    free(tile_data);
    return status;
}

static kvern_status put_halves(struct writer *writer, const struct pack_plan *plan,
                               const char *name, const uint16_t *halves)
{
    const int64_t dims[] = {(int64_t)plan->n_tiles, (int64_t)(plan->k / plan->group), PACKED_TILE};
    kvern_status status =
        onnx_file_begin_tensor(writer->file, name, ONNX_F16, dims, 3, writer->err);

    if (status == KVERN_OK)
        status = onnx_file_put(writer->file, halves, plan->scales_bytes, writer->err);
    if (status == KVERN_OK)
        status = onnx_file_end_tensor(writer->file, writer->err);
    if (status == KVERN_OK)
        status = report(writer, plan->scales_bytes);
    return status;
}

/* Writes NAME.data and, where the plan has them, NAME.scales and NAME.mins. */
static kvern_status put_matrix(struct writer *writer, const char *name,
                               const struct pack_plan *plan)
{
    const int64_t bytes_dims[] = {(int64_t)plan->data_bytes};
    const int64_t float_dims[] = {(int64_t)plan->n_tiles, (int64_t)plan->k, PACKED_TILE};
    size_t n_scales = plan->n_tiles * plan->tile_scales;
    bool is_f32 = plan->bits == 32;
    uint16_t *scales = is_f32 ? NULL : try_new(n_scales, sizeof *scales);
    uint16_t *mins = plan->has_mins ? try_new(n_scales, sizeof *mins) : NULL;
    kvern_status status;

    if ((!is_f32 && !scales) || (plan->has_mins && !mins)) {
        status = fail(writer->err, KVERN_MEMORY, "out of memory for the scales of %s", name);
        goto done;
    }
    status =
        onnx_file_begin_tensor(writer->file, join(name, "data").text, is_f32 ? ONNX_F32 : ONNX_U8,
                               is_f32 ? float_dims : bytes_dims, is_f32 ? 3 : 1, writer->err);
    if (status == KVERN_OK)
        status = put_tiles(writer, plan, scales, mins);
    if (status == KVERN_OK)
        status = onnx_file_end_tensor(writer->file, writer->err);
    if (status == KVERN_OK && scales)
        status = put_halves(writer, plan, join(name, "scales").text, scales);
    if (status == KVERN_OK && mins)
        status = put_halves(writer, plan, join(name, "mins").text, mins);
done:
    free(scales);
    free(mins);
    return status;
}

static void add_weight_inputs(struct onnx_node *node, const char *name,
                              const struct pack_plan *plan)
{
    onnx_node_input(node, join(name, "data").text);
    onnx_node_input(node, plan->bits == 32 ? "" : join(name, "scales").text);
    onnx_node_input(node, plan->has_mins ? join(name, "mins").text : "");
}

static void add_weight_attributes(struct onnx_node *node, const struct pack_plan *plan)
{
    onnx_node_int(node, "K", (int64_t)plan->k);
    onnx_node_int(node, "N", (int64_t)plan->n);
    onnx_node_int(node, "bits", plan->bits);
    onnx_node_int(node, "group", (int64_t)plan->group);
}

/* A Linear node `name` on packed weights `weight` that are in the file already. */
static void add_linear(struct writer *writer, const char *name, const char *weight,
                       const struct pack_plan *plan, const char *bias, const char *x,
                       const char *output)
{
    struct onnx_node *node = onnx_file_node(writer->file, DOMAIN, "Linear", name);

    onnx_node_input(node, x);
    add_weight_inputs(node, weight, plan);
    onnx_node_input(node, bias);
    onnx_node_output(node, output);
    add_weight_attributes(node, plan);
}

/* Weights, bias and node of one Linear called `name`; its output is NAME.out. */
static kvern_status write_linear(struct writer *writer, const char *name,
                                 const struct linear_plan *linear, const char *x)
{
    struct name weight = join(name, "weight");
    struct name bias = join(name, "bias");
    bool has_bias = linear->biases[0] != NULL;
    kvern_status status = put_matrix(writer, weight.text, &linear->weight);

    if (status == KVERN_OK && has_bias)
        status = put_vectors(writer, bias.text, linear->biases, linear->weight.n_parts);
    if (status == KVERN_OK)
        add_linear(writer, name, weight.text, &linear->weight, has_bias ? bias.text : "", x,
                   join(name, "out").text);
    return status;
}

/* output = RMS norm of x (+ skip); with a skip, NAME.sum is the new residual stream. */
static kvern_status write_norm(struct writer *writer, const char *name, const struct tensor *weight,
                               const char *x, const char *skip, const char *output)
{
    struct name weight_name = join(name, "weight");
    kvern_status status = put_vectors(writer, weight_name.text, &weight, 1);
    struct onnx_node *node;

    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, DOMAIN, skip ? "AddRmsNorm" : "RmsNorm", name);
    onnx_node_input(node, x);
    if (skip)
        onnx_node_input(node, skip);
    onnx_node_input(node, weight_name.text);
    onnx_node_output(node, output);
    if (skip)
        onnx_node_output(node, join(name, "sum").text);
    onnx_node_float(node, "epsilon", writer->config->norm_epsilon);
    return KVERN_OK;
}

/* NAME.out: the rows of `x` that the graph input `rows` names. */
static void add_gather(struct writer *writer, const char *name, const char *x, const char *rows)
{
    struct onnx_node *node = onnx_file_node(writer->file, "", "Gather", name);

    onnx_node_input(node, x);
    onnx_node_input(node, rows);
    onnx_node_output(node, join(name, "out").text);
    onnx_node_int(node, "axis", 0);
}

static kvern_status write_attention(struct writer *writer, size_t index, const char *name,
                                    const char *qkv)
{
    const struct model_config *config = writer->config;
    const struct decoder_layer *layer = &writer->plan->layers[index];
    struct name q_norm = join(name, "q_norm.weight");
    struct name k_norm = join(name, "k_norm.weight");
    kvern_status status = KVERN_OK;
    struct onnx_node *node;

    if (layer->q_norm)
        status = put_vectors(writer, q_norm.text, &layer->q_norm, 1);
    if (status == KVERN_OK && layer->k_norm)
        status = put_vectors(writer, k_norm.text, &layer->k_norm, 1);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, DOMAIN, "PagedAttention", name);
    onnx_node_input(node, qkv);
    onnx_node_input(node, "rope");
    onnx_node_input(node, "kv_pool");
    onnx_node_input(node, "block_table");
    onnx_node_input(node, "query_start");
    onnx_node_input(node, "context_len");
    onnx_node_input(node, layer->q_norm ? q_norm.text : "");
    onnx_node_input(node, layer->k_norm ? k_norm.text : "");
    onnx_node_output(node, join(name, "out").text);
    onnx_node_int(node, "n_heads", (int64_t)config->n_heads);
    onnx_node_int(node, "n_kv_heads", (int64_t)config->n_kv_heads);
    onnx_node_int(node, "head_size", (int64_t)config->head_size);
    onnx_node_int(node, "layer", (int64_t)index);
    onnx_node_float(node, "scale", 1.0f / sqrtf((float)config->head_size));
    onnx_node_int(node, "window", (int64_t)config->sliding_window);
    onnx_node_float(node, "soft_cap", 0.0f);
    onnx_node_float(node, "norm_epsilon", config->norm_epsilon);
    return KVERN_OK;
}

/* One layer. *x is what the layers before added last and *residual the stream without it (empty in
 * layer 0, where *x is the embedding); both are moved on. */
static kvern_status write_layer(struct writer *writer, size_t index, struct name *x,
                                struct name *residual)
{
    const struct decoder_layer *layer = &writer->plan->layers[index];
    struct name input_norm = layer_name(index, "input_norm");
    struct name qkv = layer_name(index, "attn.qkv");
    struct name attention = layer_name(index, "attn.paged");
    struct name o = layer_name(index, "attn.o");
    struct name post_norm = layer_name(index, "post_norm");
    struct name gate_up = layer_name(index, "mlp.gate_up");
    struct name activation = layer_name(index, "mlp.act");
    struct name down = layer_name(index, "mlp.down");
    bool is_first = residual->text[0] == '\0';
    struct name attended = join(attention.text, "out");
    struct onnx_node *node;
    kvern_status status;

    snprintf(writer->what, sizeof writer->what, "packing layer %zu of %zu", index + 1,
             writer->config->n_layers);
    status = write_norm(writer, input_norm.text, layer->input_norm, x->text,
                        is_first ? NULL : residual->text, join(input_norm.text, "out").text);
    if (!is_first)
        *x = join(input_norm.text, "sum");
    if (status == KVERN_OK)
        status = write_linear(writer, qkv.text, &layer->qkv, join(input_norm.text, "out").text);
    if (status == KVERN_OK)
        status = write_attention(writer, index, attention.text, join(qkv.text, "out").text);
    if (status == KVERN_OK && index + 1 == writer->config->n_layers) {
        add_gather(writer, "output_rows.attn", attended.text, "output_rows");
        add_gather(writer, "output_rows.residual", x->text, "output_rows");
        attended = join("output_rows.attn", "out");
        *x = join("output_rows.residual", "out");
    }
    if (status == KVERN_OK)
        status = write_linear(writer, o.text, &layer->o, attended.text);
    if (status == KVERN_OK)
        status = write_norm(writer, post_norm.text, layer->post_norm, join(o.text, "out").text,
                            x->text, join(post_norm.text, "out").text);
    if (status == KVERN_OK)
        status =
            write_linear(writer, gate_up.text, &layer->gate_up, join(post_norm.text, "out").text);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, DOMAIN, "GatedActivation", activation.text);
    onnx_node_input(node, join(gate_up.text, "out").text);
    onnx_node_output(node, join(activation.text, "out").text);
    onnx_node_string(node, "activation",
                     writer->config->activation == MODEL_ACTIVATION_GELU_TANH ? "gelu" : "silu");
    *residual = join(post_norm.text, "sum");
    *x = join(down.text, "out");
    return write_linear(writer, down.text, &layer->down, join(activation.text, "out").text);
}

static void add_inputs(struct writer *writer)
{
    struct onnx_file *file = writer->file;
    const struct onnx_dim tokens = {.name = "n_tokens"};
    const struct onnx_dim sequences = {.name = "n_sequences"};
    const struct onnx_dim starts = {.name = "n_sequences_plus_1"};
    const struct onnx_dim rows = {.name = "n_output_rows"};
    const struct onnx_dim logit_rows = {.name = "n_logit_rows"};
    const struct onnx_dim table[] = {sequences, {.name = "n_blocks_per_sequence"}};
    const struct onnx_dim pool[] = {
        {.size = (int64_t)writer->config->n_layers}, {.name = "n_blocks"}, {.name = "block_bytes"}};
    const struct onnx_dim hidden[] = {rows, {.size = (int64_t)writer->config->hidden_size}};
    const struct onnx_dim logits[] = {logit_rows, {.size = (int64_t)writer->config->vocab_size}};

    onnx_file_input(file, "input_ids", ONNX_I64, &tokens, 1);
    onnx_file_input(file, "positions", ONNX_I64, &tokens, 1);
    onnx_file_input(file, "query_start", ONNX_I32, &starts, 1);
    onnx_file_input(file, "context_len", ONNX_I32, &sequences, 1);
    onnx_file_input(file, "block_table", ONNX_I32, table, 2);
    onnx_file_input(file, "output_rows", ONNX_I64, &rows, 1);
    onnx_file_input(file, "logit_rows", ONNX_I64, &logit_rows, 1);
    onnx_file_input(file, "kv_pool", ONNX_U8, pool, 3);
    onnx_file_output(file, "hidden", ONNX_F32, hidden, 2);
    onnx_file_output(file, "logits", ONNX_F32, logits, 2);
}

/* The rotary table and the embedding: what stands before the layers. */
static kvern_status write_front(struct writer *writer)
{
    const struct pack_plan *table = &writer->plan->embedding;
    int64_t n_frequencies = (int64_t)writer->config->head_size / 2;
    float frequencies[CONFIG_MAX_HEAD_SIZE / 2];
    struct onnx_node *node;
    kvern_status status;

    config_rotary_frequencies(writer->config, frequencies);
    status = onnx_file_small_tensor(writer->file, "model.rotary.inv_freq", ONNX_F32, &n_frequencies,
                                    1, frequencies, (size_t)n_frequencies * sizeof *frequencies,
                                    writer->err);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, DOMAIN, "RotaryTable", "model.rotary");
    onnx_node_input(node, "positions");
    onnx_node_input(node, "model.rotary.inv_freq");
    onnx_node_output(node, "rope");

    snprintf(writer->what, sizeof writer->what, "packing the embedding");
    status = put_matrix(writer, "model.embed.weight", table);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, DOMAIN, "Embedding", "model.embed");
    onnx_node_input(node, "input_ids");
    add_weight_inputs(node, "model.embed.weight", table);
    onnx_node_output(node, "model.embed.out");
    add_weight_attributes(node, table);
    return KVERN_OK;
}

kvern_status graph_decoder_write(const struct decoder_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err)
{
    struct writer writer = {.plan = plan,
                            .config = &plan->checkpoint->config,
                            .file = file,
                            .progress = progress,
                            .err = err};
    struct name x = {"model.embed.out"};
    struct name residual = {""};
    bool is_tied = writer.config->is_tied;
    kvern_status status;

    onnx_file_import(file, "", 17);
    onnx_file_import(file, DOMAIN, 1);
    add_inputs(&writer);
    status = write_front(&writer);
    for (size_t i = 0; i < writer.config->n_layers && status == KVERN_OK; i++)
        status = write_layer(&writer, i, &x, &residual);
    if (status == KVERN_OK)
        status =
            write_norm(&writer, "model.norm", plan->final_norm, x.text, residual.text, "hidden");
    add_gather(&writer, "logit_rows.hidden", "hidden", "logit_rows");
    snprintf(writer.what, sizeof writer.what, "packing the output layer");
    if (status == KVERN_OK && !is_tied)
        status = put_matrix(&writer, "lm_head.weight", &plan->lm_head);
    if (status == KVERN_OK)
        add_linear(&writer, "lm_head", is_tied ? "model.embed.weight" : "lm_head.weight",
                   is_tied ? &plan->embedding : &plan->lm_head, "", "logit_rows.hidden.out",
                   "logits");
    return status;
}
