/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams matrices and vectors into an ONNX file and adds the nodes that read them. Pages of the
 * source are given back to the OS on the way.
 */
#include "convert/graph_writer.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char graph_domain[] = "ai.kvern";

enum { FORGET_TILES = 32 }; /* source pages are given back after this many tiles */

/* All names are our own and short; the precisions say so to the compiler. */
struct graph_name graph_name_join(const char *prefix, const char *suffix)
{
    struct graph_name name;

    snprintf(name.text, sizeof name.text, "%.95s.%.31s", prefix, suffix);
    return name;
}

struct graph_name graph_name_in_layer(size_t layer, const char *part)
{
    struct graph_name name;

    snprintf(name.text, sizeof name.text, "model.layers.%zu.%s", layer, part);
    return name;
}

const char *graph_activation_name(enum model_activation activation)
{
    switch (activation) {
    case MODEL_ACTIVATION_SILU:
        return "silu";
    case MODEL_ACTIVATION_GELU_TANH:
        return "gelu_tanh";
    case MODEL_ACTIVATION_RELU:
        return "relu";
    case MODEL_ACTIVATION_GELU:
        break;
    }
    return "gelu";
}

static kvern_status report(struct graph_writer *writer, size_t n_bytes)
{
    struct graph_progress *progress = writer->progress;

    progress->done_bytes += (int64_t)n_bytes;
    if (progress->fn && !progress->fn(writer->what, progress->done_bytes, progress->total_bytes,
                                      progress->user_data))
        return fail(writer->err, KVERN_CANCELLED, "the conversion was cancelled");
    return KVERN_OK;
}

static kvern_status put_scaled(struct graph_writer *writer, const char *name,
                               const struct tensor *const *parts, size_t n_parts, float factor)
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
        values[i] *= factor;
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

kvern_status graph_writer_put_vectors(struct graph_writer *writer, const char *name,
                                      const struct tensor *const *parts, size_t n_parts)
{
    return put_scaled(writer, name, parts, n_parts, 1);
}

kvern_status graph_writer_put_norm(struct graph_writer *writer, const char *name,
                                   const struct tensor *weight, float factor, float epsilon,
                                   const char *x, const char *skip, const char *output)
{
    struct graph_name weight_name = graph_name_join(name, "weight");
    kvern_status status = put_scaled(writer, weight_name.text, &weight, 1, factor);
    struct onnx_node *node;

    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->file, graph_domain, skip ? "AddRmsNorm" : "RmsNorm", name);
    onnx_node_input(node, x);
    if (skip)
        onnx_node_input(node, skip);
    onnx_node_input(node, weight_name.text);
    onnx_node_output(node, output);
    if (skip)
        onnx_node_output(node, graph_name_join(name, "sum").text);
    onnx_node_float(node, "epsilon", epsilon);
    return KVERN_OK;
}

void graph_writer_add_gather(struct graph_writer *writer, const char *name, const char *x,
                             const char *rows)
{
    struct onnx_node *node = onnx_file_node(writer->file, "", "Gather", name);

    onnx_node_input(node, x);
    onnx_node_input(node, rows);
    onnx_node_output(node, graph_name_join(name, "out").text);
    onnx_node_int(node, "axis", 0);
}

static void forget_parts(const struct pack_plan *plan)
{
    for (size_t i = 0; i < plan->n_parts; i++)
        tensor_forget_rows(plan->parts[i], 0, tensor_n_rows(plan->parts[i]));
}

/* The data of all tiles goes out as it is made; scales and mins are kept in `scales`, `mins`. */
static kvern_status put_tiles(struct graph_writer *writer, const struct pack_plan *plan,
                              uint16_t *scales, uint16_t *mins)
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

static kvern_status put_halves(struct graph_writer *writer, const struct pack_plan *plan,
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

kvern_status graph_writer_put_matrix(struct graph_writer *writer, const char *name,
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
    status = onnx_file_begin_tensor(writer->file, graph_name_join(name, "data").text,
                                    is_f32 ? ONNX_F32 : ONNX_U8, is_f32 ? float_dims : bytes_dims,
                                    is_f32 ? 3 : 1, writer->err);
    if (status == KVERN_OK)
        status = put_tiles(writer, plan, scales, mins);
    if (status == KVERN_OK)
        status = onnx_file_end_tensor(writer->file, writer->err);
    if (status == KVERN_OK && scales)
        status = put_halves(writer, plan, graph_name_join(name, "scales").text, scales);
    if (status == KVERN_OK && mins)
        status = put_halves(writer, plan, graph_name_join(name, "mins").text, mins);
done:
    free(scales);
    free(mins);
    return status;
}

static void add_weight_inputs(struct onnx_node *node, const char *name,
                              const struct pack_plan *plan)
{
    onnx_node_input(node, graph_name_join(name, "data").text);
    onnx_node_input(node, plan->bits == 32 ? "" : graph_name_join(name, "scales").text);
    onnx_node_input(node, plan->has_mins ? graph_name_join(name, "mins").text : "");
}

static void add_weight_attributes(struct onnx_node *node, const struct pack_plan *plan)
{
    onnx_node_int(node, "K", (int64_t)plan->k);
    onnx_node_int(node, "N", (int64_t)plan->n);
    onnx_node_int(node, "bits", plan->bits);
    onnx_node_int(node, "group", (int64_t)plan->group);
}

struct onnx_node *graph_writer_add_linear(struct graph_writer *writer, const char *name,
                                          const char *weight, const struct pack_plan *plan,
                                          const char *bias, const char *x, const char *output)
{
    struct onnx_node *node = onnx_file_node(writer->file, graph_domain, "Linear", name);

    onnx_node_input(node, x);
    add_weight_inputs(node, weight, plan);
    onnx_node_input(node, bias);
    onnx_node_output(node, output);
    add_weight_attributes(node, plan);
    return node;
}

kvern_status graph_writer_put_linear(struct graph_writer *writer, const char *name,
                                     const struct linear_plan *linear, const char *x,
                                     struct onnx_node **node)
{
    struct graph_name weight = graph_name_join(name, "weight");
    struct graph_name bias = graph_name_join(name, "bias");
    bool has_bias = linear->biases[0] != NULL;
    kvern_status status = graph_writer_put_matrix(writer, weight.text, &linear->weight);
    struct onnx_node *added;

    if (status == KVERN_OK && has_bias)
        status =
            graph_writer_put_vectors(writer, bias.text, linear->biases, linear->weight.n_parts);
    if (status != KVERN_OK)
        return status;
    added =
        graph_writer_add_linear(writer, name, weight.text, &linear->weight,
                                has_bias ? bias.text : "", x, graph_name_join(name, "out").text);
    if (node)
        *node = added;
    return KVERN_OK;
}

void graph_writer_add_embedding(struct graph_writer *writer, const char *name, const char *weight,
                                const struct pack_plan *table, const char *ids)
{
    struct onnx_node *node = onnx_file_node(writer->file, graph_domain, "Embedding", name);

    onnx_node_input(node, ids);
    add_weight_inputs(node, weight, table);
    onnx_node_output(node, graph_name_join(name, "out").text);
    add_weight_attributes(node, table);
}

kvern_status graph_writer_put_embedding(struct graph_writer *writer, const char *name,
                                        const struct pack_plan *table, const char *ids)
{
    struct graph_name weight = graph_name_join(name, "weight");
    kvern_status status = graph_writer_put_matrix(writer, weight.text, table);

    if (status == KVERN_OK)
        graph_writer_add_embedding(writer, name, weight.text, table, ids);
    return status;
}
