/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes the encoder graph: norms stand after the sums (post-norm), so that a layer's input is also
 * its residual, and every matrix runs through Linear. The tokens of whole texts stand packed one
 * after the other; attention alone looks at more than its own row.
 */
#include "convert/graph_encoder.h"

#include "base/error.h"
#include "base/memory.h"
#include "convert/encoder_smooth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct encoder_writer {
    struct graph_writer base;
    const struct encoder_plan *plan;
    const struct model_config *config;
    struct encoder_smooth smooth;
};

/* A vector [hidden] divided by `scale` [hidden], if that is not NULL, as an initializer. */
static kvern_status put_divided(struct encoder_writer *writer, const char *name,
                                const struct tensor *vector, const float *scale)
{
    int64_t n = (int64_t)writer->config->hidden_size;
    float *values;
    kvern_status status;

    if (!scale)
        return graph_writer_put_vectors(&writer->base, name, &vector, 1);
    values = try_new((size_t)n, sizeof *values);
    if (!values)
        return fail(writer->base.err, KVERN_MEMORY, "out of memory for %s", name);
    tensor_read_row(vector, 0, values);
    for (int64_t i = 0; i < n; i++)
        values[i] /= scale[i];
    status = onnx_file_small_tensor(writer->base.file, name, ONNX_F32, &n, 1, values,
                                    (size_t)n * sizeof *values, writer->base.err);
    free(values);
    return status;
}

/* output = layer norm of x + skip, divided by its scale; `skip`, if it is a norm's output, was
 * divided by skip_scale. */
static kvern_status write_norm(struct encoder_writer *writer, const char *name,
                               const struct norm_plan *norm, const float *scale, const char *x,
                               const char *skip, const float *skip_scale, const char *output)
{
    struct graph_name gamma = graph_name_join(name, "gamma");
    struct graph_name beta = graph_name_join(name, "beta");
    struct graph_name factor = graph_name_join(name, "skip_scale");
    int64_t n = (int64_t)writer->config->hidden_size;
    kvern_status status = put_divided(writer, gamma.text, norm->gamma, scale);
    struct onnx_node *node;

    if (status == KVERN_OK)
        status = put_divided(writer, beta.text, norm->beta, scale);
    if (status == KVERN_OK && skip_scale)
        status = onnx_file_small_tensor(writer->base.file, factor.text, ONNX_F32, &n, 1, skip_scale,
                                        (size_t)n * sizeof *skip_scale, writer->base.err);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->base.file, graph_domain, "AddLayerNorm", name);
    onnx_node_input(node, x);
    onnx_node_input(node, skip);
    onnx_node_input(node, gamma.text);
    onnx_node_input(node, beta.text);
    onnx_node_input(node, skip_scale ? factor.text : "");
    onnx_node_output(node, output);
    onnx_node_float(node, "epsilon", writer->config->norm_epsilon);
    return KVERN_OK;
}

/* put_linear of a matrix that reads a norm's output. */
static kvern_status write_smoothed(struct encoder_writer *writer, const char *name,
                                   const struct linear_plan *linear, const float *scale,
                                   const char *x, struct onnx_node **node)
{
    struct linear_plan smoothed = *linear;

    smoothed.weight.k_scale = scale;
    return graph_writer_put_linear(&writer->base, name, &smoothed, x, node);
}

/* f32 weights are there to be exact, so attention stays in f32 with them. */
static void add_attention(struct encoder_writer *writer, const char *name, const char *qkv,
                          bool is_f32)
{
    const struct model_config *config = writer->config;
    struct onnx_node *node =
        onnx_file_node(writer->base.file, graph_domain, "PackedAttention", name);

    onnx_node_input(node, qkv);
    onnx_node_input(node, "query_start");
    onnx_node_output(node, graph_name_join(name, "out").text);
    onnx_node_int(node, "n_heads", (int64_t)config->n_heads);
    onnx_node_int(node, "n_kv_heads", (int64_t)config->n_kv_heads);
    onnx_node_int(node, "head_size", (int64_t)config->head_size);
    onnx_node_float(node, "scale", 1.0f / sqrtf((float)config->head_size));
    onnx_node_string(node, "precision", is_f32 ? "f32" : "fast");
}

/* One layer; *x is its input and becomes its output, which the last layer gives to the graph. */
static kvern_status write_layer(struct encoder_writer *writer, size_t index, struct graph_name *x)
{
    const struct encoder_layer *layer = &writer->plan->layers[index];
    struct graph_writer *base = &writer->base;
    struct graph_name qkv = graph_name_in_layer(index, "attn.qkv");
    struct graph_name attention = graph_name_in_layer(index, "attn.packed");
    struct graph_name o = graph_name_in_layer(index, "attn.o");
    struct graph_name attention_norm = graph_name_in_layer(index, "attn.norm");
    struct graph_name up = graph_name_in_layer(index, "mlp.up");
    struct graph_name down = graph_name_in_layer(index, "mlp.down");
    struct graph_name output_norm = graph_name_in_layer(index, "mlp.norm");
    struct graph_name middle = graph_name_join(attention_norm.text, "out");
    bool is_last = index + 1 == writer->config->n_layers;
    struct graph_name output = is_last ? (struct graph_name){"last_hidden_state"}
                                       : graph_name_join(output_norm.text, "out");
    size_t n_layers = writer->config->n_layers;
    const float *x_scale = encoder_smooth_of(&writer->smooth, 2 * index, n_layers);
    const float *middle_scale = encoder_smooth_of(&writer->smooth, 2 * index + 1, n_layers);
    const float *output_scale = encoder_smooth_of(&writer->smooth, 2 * index + 2, n_layers);
    struct onnx_node *up_node;
    kvern_status status;

    snprintf(base->what, sizeof base->what, "packing layer %zu of %zu", index + 1,
             writer->config->n_layers);
    status = write_smoothed(writer, qkv.text, &layer->qkv, x_scale, x->text, NULL);
    if (status != KVERN_OK)
        return status;
    add_attention(writer, attention.text, graph_name_join(qkv.text, "out").text,
                  layer->qkv.weight.bits == 32);
    status = graph_writer_put_linear(base, o.text, &layer->o,
                                     graph_name_join(attention.text, "out").text, NULL);
    if (status == KVERN_OK)
        status = write_norm(writer, attention_norm.text, &layer->attention_norm, middle_scale,
                            graph_name_join(o.text, "out").text, x->text, x_scale, middle.text);
    if (status == KVERN_OK)
        status = write_smoothed(writer, up.text, &layer->up, middle_scale, middle.text, &up_node);
    if (status != KVERN_OK)
        return status;
    onnx_node_string(up_node, "activation", graph_activation_name(writer->config->activation));
    status = graph_writer_put_linear(base, down.text, &layer->down,
                                     graph_name_join(up.text, "out").text, NULL);
    if (status == KVERN_OK)
        status = write_norm(writer, output_norm.text, &layer->output_norm, output_scale,
                            graph_name_join(down.text, "out").text, middle.text, middle_scale,
                            output.text);
    *x = output;
    return status;
}

static void add_interface(struct encoder_writer *writer)
{
    struct onnx_file *file = writer->base.file;
    const struct onnx_dim tokens = {.name = "n_tokens"};
    const struct onnx_dim starts = {.name = "n_sequences_plus_1"};
    const struct onnx_dim output[] = {tokens, {.size = (int64_t)writer->config->hidden_size}};

    onnx_file_input(file, "input_ids", ONNX_I64, &tokens, 1);
    onnx_file_input(file, "positions", ONNX_I64, &tokens, 1);
    onnx_file_input(file, "query_start", ONNX_I32, &starts, 1);
    onnx_file_output(file, "last_hidden_state", ONNX_F32, output, 2);
}

kvern_status graph_encoder_write(const struct encoder_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err)
{
    struct encoder_writer writer = {.base = {.file = file, .progress = progress, .err = err},
                                    .plan = plan,
                                    .config = &plan->checkpoint->config};
    struct graph_writer *base = &writer.base;
    struct graph_name x = {"model.embed_norm.out"};
    kvern_status status = encoder_smooth_make(&writer.smooth, plan, err);

    if (status != KVERN_OK)
        return status;
    onnx_file_import(file, "", 17);
    onnx_file_import(file, graph_domain, 1);
    add_interface(&writer);
    snprintf(base->what, sizeof base->what, "packing the embedding");
    status = graph_writer_put_embedding(base, "model.words", &plan->words, "input_ids");
    if (status == KVERN_OK)
        status = graph_writer_put_embedding(base, "model.places", &plan->places, "positions");
    if (status == KVERN_OK)
        status = write_norm(&writer, "model.embed_norm", &plan->embedding_norm,
                            encoder_smooth_of(&writer.smooth, 0, writer.config->n_layers),
                            "model.words.out", "model.places.out", NULL, x.text);
    for (size_t i = 0; i < writer.config->n_layers && status == KVERN_OK; i++)
        status = write_layer(&writer, i, &x);
    encoder_smooth_clear(&writer.smooth);
    return status;
}
