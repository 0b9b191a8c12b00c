/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes the encoder graph: norms stand after the sums (post-norm), so that a layer's input is also
 * its residual, and every matrix runs through Linear. The tokens of whole texts stand packed one
 * after the other; attention alone looks at more than its own row.
 */
#include "convert/graph_encoder.h"

#include <math.h>
#include <stdio.h>

struct encoder_writer {
    struct graph_writer base;
    const struct encoder_plan *plan;
    const struct model_config *config;
};

/* output = layer norm of x + skip. */
static kvern_status write_norm(struct encoder_writer *writer, const char *name,
                               const struct norm_plan *norm, const char *x, const char *skip,
                               const char *output)
{
    struct graph_name gamma = graph_name_join(name, "gamma");
    struct graph_name beta = graph_name_join(name, "beta");
    kvern_status status = graph_writer_put_vectors(&writer->base, gamma.text, &norm->gamma, 1);
    struct onnx_node *node;

    if (status == KVERN_OK)
        status = graph_writer_put_vectors(&writer->base, beta.text, &norm->beta, 1);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->base.file, graph_domain, "AddLayerNorm", name);
    onnx_node_input(node, x);
    onnx_node_input(node, skip);
    onnx_node_input(node, gamma.text);
    onnx_node_input(node, beta.text);
    onnx_node_output(node, output);
    onnx_node_float(node, "epsilon", writer->config->norm_epsilon);
    return KVERN_OK;
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

static const char *activation_name(enum model_activation activation)
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
    struct onnx_node *up_node;
    kvern_status status;

    snprintf(base->what, sizeof base->what, "packing layer %zu of %zu", index + 1,
             writer->config->n_layers);
    status = graph_writer_put_linear(base, qkv.text, &layer->qkv, x->text, NULL);
    if (status != KVERN_OK)
        return status;
    add_attention(writer, attention.text, graph_name_join(qkv.text, "out").text,
                  layer->qkv.weight.bits == 32);
    status = graph_writer_put_linear(base, o.text, &layer->o,
                                     graph_name_join(attention.text, "out").text, NULL);
    if (status == KVERN_OK)
        status = write_norm(writer, attention_norm.text, &layer->attention_norm,
                            graph_name_join(o.text, "out").text, x->text, middle.text);
    if (status == KVERN_OK)
        status = graph_writer_put_linear(base, up.text, &layer->up, middle.text, &up_node);
    if (status != KVERN_OK)
        return status;
    onnx_node_string(up_node, "activation", activation_name(writer->config->activation));
    status = graph_writer_put_linear(base, down.text, &layer->down,
                                     graph_name_join(up.text, "out").text, NULL);
    if (status == KVERN_OK)
        status = write_norm(writer, output_norm.text, &layer->output_norm,
                            graph_name_join(down.text, "out").text, middle.text, output.text);
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
    kvern_status status;

    onnx_file_import(file, "", 17);
    onnx_file_import(file, graph_domain, 1);
    add_interface(&writer);
    snprintf(base->what, sizeof base->what, "packing the embedding");
    status = graph_writer_put_embedding(base, "model.words", &plan->words, "input_ids");
    if (status == KVERN_OK)
        status = graph_writer_put_embedding(base, "model.places", &plan->places, "positions");
    if (status == KVERN_OK)
        status = write_norm(&writer, "model.embed_norm", &plan->embedding_norm, "model.words.out",
                            "model.places.out", x.text);
    for (size_t i = 0; i < writer.config->n_layers && status == KVERN_OK; i++)
        status = write_layer(&writer, i, &x);
    return status;
}
