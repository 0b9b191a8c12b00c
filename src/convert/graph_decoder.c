/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes the decoder graph: the residual stream runs through AddRmsNorm (sum and norm in one op),
 * every matrix through Linear. In the last layer everything after attention runs on the rows that
 * are wanted only: nothing else reads the other rows. Of those the output layer runs on the ones
 * whose logits are wanted, so that an embedding does not pay for a vocabulary.
 */
#include "convert/graph_decoder.h"

#include <math.h>
#include <stdio.h>

struct decoder_writer {
    struct graph_writer base;
    const struct decoder_plan *plan;
    const struct model_config *config;
};

static kvern_status write_norm(struct decoder_writer *writer, const char *name,
                               const struct tensor *weight, const char *x, const char *skip,
                               const char *output)
{
    return graph_writer_put_norm(&writer->base, name, weight, 1, writer->config->norm_epsilon, x,
                                 skip, output);
}

static kvern_status write_attention(struct decoder_writer *writer, size_t index, const char *name,
                                    const char *qkv)
{
    const struct model_config *config = writer->config;
    const struct decoder_layer *layer = &writer->plan->layers[index];
    struct graph_name q_norm = graph_name_join(name, "q_norm.weight");
    struct graph_name k_norm = graph_name_join(name, "k_norm.weight");
    kvern_status status = KVERN_OK;
    struct onnx_node *node;

    if (layer->q_norm)
        status = graph_writer_put_vectors(&writer->base, q_norm.text, &layer->q_norm, 1);
    if (status == KVERN_OK && layer->k_norm)
        status = graph_writer_put_vectors(&writer->base, k_norm.text, &layer->k_norm, 1);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->base.file, graph_domain, "PagedAttention", name);
    onnx_node_input(node, qkv);
    onnx_node_input(node, "rope");
    onnx_node_input(node, "kv_pool");
    onnx_node_input(node, "block_table");
    onnx_node_input(node, "query_start");
    onnx_node_input(node, "context_len");
    onnx_node_input(node, layer->q_norm ? q_norm.text : "");
    onnx_node_input(node, layer->k_norm ? k_norm.text : "");
    onnx_node_output(node, graph_name_join(name, "out").text);
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
static kvern_status write_layer(struct decoder_writer *writer, size_t index, struct graph_name *x,
                                struct graph_name *residual)
{
    const struct decoder_layer *layer = &writer->plan->layers[index];
    struct graph_name input_norm = graph_name_in_layer(index, "input_norm");
    struct graph_name qkv = graph_name_in_layer(index, "attn.qkv");
    struct graph_name attention = graph_name_in_layer(index, "attn.paged");
    struct graph_name o = graph_name_in_layer(index, "attn.o");
    struct graph_name post_norm = graph_name_in_layer(index, "post_norm");
    struct graph_name gate_up = graph_name_in_layer(index, "mlp.gate_up");
    struct graph_name activation = graph_name_in_layer(index, "mlp.act");
    struct graph_name down = graph_name_in_layer(index, "mlp.down");
    bool is_first = residual->text[0] == '\0';
    struct graph_name attended = graph_name_join(attention.text, "out");
    struct onnx_node *node;
    kvern_status status;

    snprintf(writer->base.what, sizeof writer->base.what, "packing layer %zu of %zu", index + 1,
             writer->config->n_layers);
    status =
        write_norm(writer, input_norm.text, layer->input_norm, x->text,
                   is_first ? NULL : residual->text, graph_name_join(input_norm.text, "out").text);
    if (!is_first)
        *x = graph_name_join(input_norm.text, "sum");
    if (status == KVERN_OK)
        status = graph_writer_put_linear(&writer->base, qkv.text, &layer->qkv,
                                         graph_name_join(input_norm.text, "out").text, NULL);
    if (status == KVERN_OK)
        status =
            write_attention(writer, index, attention.text, graph_name_join(qkv.text, "out").text);
    if (status == KVERN_OK && index + 1 == writer->config->n_layers) {
        graph_writer_add_gather(&writer->base, "output_rows.attn", attended.text, "output_rows");
        graph_writer_add_gather(&writer->base, "output_rows.residual", x->text, "output_rows");
        attended = graph_name_join("output_rows.attn", "out");
        *x = graph_name_join("output_rows.residual", "out");
    }
    if (status == KVERN_OK)
        status = graph_writer_put_linear(&writer->base, o.text, &layer->o, attended.text, NULL);
    if (status == KVERN_OK)
        status = write_norm(writer, post_norm.text, layer->post_norm,
                            graph_name_join(o.text, "out").text, x->text,
                            graph_name_join(post_norm.text, "out").text);
    if (status == KVERN_OK)
        status = graph_writer_put_linear(&writer->base, gate_up.text, &layer->gate_up,
                                         graph_name_join(post_norm.text, "out").text, NULL);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->base.file, graph_domain, "GatedActivation", activation.text);
    onnx_node_input(node, graph_name_join(gate_up.text, "out").text);
    onnx_node_output(node, graph_name_join(activation.text, "out").text);
    onnx_node_string(node, "activation",
                     writer->config->activation == MODEL_ACTIVATION_GELU_TANH ? "gelu" : "silu");
    *residual = graph_name_join(post_norm.text, "sum");
    *x = graph_name_join(down.text, "out");
    return graph_writer_put_linear(&writer->base, down.text, &layer->down,
                                   graph_name_join(activation.text, "out").text, NULL);
}

static void add_inputs(struct decoder_writer *writer)
{
    struct onnx_file *file = writer->base.file;
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
static kvern_status write_front(struct decoder_writer *writer)
{
    int64_t n_frequencies = (int64_t)writer->config->head_size / 2;
    float frequencies[CONFIG_MAX_HEAD_SIZE / 2];
    struct onnx_node *node;
    kvern_status status;

    config_rotary_frequencies(writer->config, frequencies);
    status = onnx_file_small_tensor(writer->base.file, "model.rotary.inv_freq", ONNX_F32,
                                    &n_frequencies, 1, frequencies,
                                    (size_t)n_frequencies * sizeof *frequencies, writer->base.err);
    if (status != KVERN_OK)
        return status;
    node = onnx_file_node(writer->base.file, graph_domain, "RotaryTable", "model.rotary");
    onnx_node_input(node, "positions");
    onnx_node_input(node, "model.rotary.inv_freq");
    onnx_node_output(node, "rope");

    snprintf(writer->base.what, sizeof writer->base.what, "packing the embedding");
    return graph_writer_put_embedding(&writer->base, "model.embed", &writer->plan->embedding,
                                      "input_ids");
}

kvern_status graph_decoder_write(const struct decoder_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err)
{
    struct decoder_writer writer = {.base = {.file = file, .progress = progress, .err = err},
                                    .plan = plan,
                                    .config = &plan->checkpoint->config};
    struct graph_name x = {"model.embed.out"};
    struct graph_name residual = {""};
    bool is_tied = writer.config->is_tied;
    kvern_status status;

    onnx_file_import(file, "", 17);
    onnx_file_import(file, graph_domain, 1);
    add_inputs(&writer);
    status = write_front(&writer);
    for (size_t i = 0; i < writer.config->n_layers && status == KVERN_OK; i++)
        status = write_layer(&writer, i, &x, &residual);
    if (status == KVERN_OK)
        status =
            write_norm(&writer, "model.norm", plan->final_norm, x.text, residual.text, "hidden");
    graph_writer_add_gather(&writer.base, "logit_rows.hidden", "hidden", "logit_rows");
    snprintf(writer.base.what, sizeof writer.base.what, "packing the output layer");
    if (status == KVERN_OK && !is_tied)
        status = graph_writer_put_matrix(&writer.base, "lm_head.weight", &plan->lm_head);
    if (status == KVERN_OK)
        graph_writer_add_linear(
            &writer.base, "lm_head", is_tied ? "model.embed.weight" : "lm_head.weight",
            is_tied ? &plan->embedding : &plan->lm_head, "", "logit_rows.hidden.out", "logits");
    return status;
}
