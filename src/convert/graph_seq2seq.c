/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes encoder and decoder as one graph, so that a step encodes new sources and continues answers
 * in one run: either half may have no tokens. The encoder ends in keys and values for every decoder
 * layer, which KvStore puts into the blocks of their sources: computed once a source, and held,
 * shared and given back like all KV.
 */
#include "convert/graph_seq2seq.h"

#include <math.h>
#include <stdio.h>

struct seq2seq_writer {
    struct graph_writer base;
    const struct seq2seq_plan *plan;
    const struct model_config *config;
};

/* What a stack hands from layer to layer: what was added last, and the residual stream without it
 * ("" before the first layer). */
struct stream {
    struct graph_name x;
    struct graph_name residual;
};

static struct graph_name name_in_layer(bool is_decoder, size_t layer, const char *part)
{
    struct graph_name name;

    if (is_decoder)
        return graph_name_in_layer(layer, part);
    snprintf(name.text, sizeof name.text, "encoder.layers.%zu.%s", layer, part);
    return name;
}

/* NAME.out is the norm of the stream, whose last part is then in its residual. */
static kvern_status write_norm(struct seq2seq_writer *writer, const char *name,
                               const struct tensor *weight, struct stream *stream)
{
    bool is_first = stream->residual.text[0] == '\0';
    kvern_status status = graph_writer_put_norm(
        &writer->base, name, weight, 1, writer->config->norm_epsilon, stream->x.text,
        is_first ? NULL : stream->residual.text, graph_name_join(name, "out").text);

    stream->residual = is_first ? stream->x : graph_name_join(name, "sum");
    return status;
}

static kvern_status put_bias(struct seq2seq_writer *writer, const char *name, const float *bias)
{
    const int64_t dims[] = {(int64_t)writer->config->n_heads,
                            2 * (int64_t)writer->config->relative_max_distance + 1};

    return onnx_file_small_tensor(writer->base.file, name, ONNX_F32, dims, 2, bias,
                                  (size_t)(dims[0] * dims[1]) * sizeof *bias, writer->base.err);
}

static struct onnx_node *add_attention(struct seq2seq_writer *writer, const char *op,
                                       const char *name)
{
    const struct model_config *config = writer->config;
    struct onnx_node *node = onnx_file_node(writer->base.file, graph_domain, op, name);

    onnx_node_output(node, graph_name_join(name, "out").text);
    onnx_node_int(node, "n_heads", (int64_t)config->n_heads);
    onnx_node_int(node, "n_kv_heads", (int64_t)config->n_kv_heads);
    onnx_node_int(node, "head_size", (int64_t)config->head_size);
    onnx_node_float(node, "scale", 1); /* T5 has it in its weights */
    return node;
}

static void add_packed_attention(struct seq2seq_writer *writer, const char *name, const char *qkv,
                                 bool is_f32)
{
    struct onnx_node *node = add_attention(writer, "PackedAttention", name);

    onnx_node_input(node, qkv);
    onnx_node_input(node, "source_start");
    onnx_node_input(node, "encoder.bias");
    onnx_node_string(node, "precision", is_f32 ? "f32" : "fast");
}

static void add_paged_attention(struct seq2seq_writer *writer, const char *name, const char *qkv,
                                size_t layer)
{
    struct onnx_node *node = add_attention(writer, "PagedAttention", name);

    onnx_node_input(node, qkv);
    onnx_node_input(node, ""); /* no rotary embedding */
    onnx_node_input(node, "kv_pool");
    onnx_node_input(node, "block_table");
    onnx_node_input(node, "query_start");
    onnx_node_input(node, "context_len");
    onnx_node_input(node, "");
    onnx_node_input(node, "");
    onnx_node_input(node, "decoder.bias");
    onnx_node_int(node, "layer", (int64_t)layer);
    onnx_node_int(node, "window", 0);
    onnx_node_float(node, "soft_cap", 0);
    onnx_node_float(node, "norm_epsilon", writer->config->norm_epsilon);
}

static void add_cross_attention(struct seq2seq_writer *writer, const char *name, const char *q,
                                size_t layer)
{
    struct onnx_node *node = add_attention(writer, "CrossAttention", name);

    onnx_node_input(node, q);
    onnx_node_input(node, "kv_pool");
    onnx_node_input(node, "cross_table");
    onnx_node_input(node, "query_start");
    onnx_node_input(node, "source_len");
    onnx_node_int(node, "layer", (int64_t)layer);
}

static kvern_status write_feed_forward(struct seq2seq_writer *writer, bool is_decoder, size_t index,
                                       const struct seq2seq_layer *layer, struct stream *stream)
{
    struct graph_writer *base = &writer->base;
    struct graph_name norm = name_in_layer(is_decoder, index, "mlp.norm");
    struct graph_name up =
        name_in_layer(is_decoder, index, writer->config->is_gated ? "mlp.gate_up" : "mlp.up");
    struct graph_name act = name_in_layer(is_decoder, index, "mlp.act");
    struct graph_name down = name_in_layer(is_decoder, index, "mlp.down");
    struct graph_name inner = graph_name_join(up.text, "out");
    struct onnx_node *node = NULL;
    kvern_status status = write_norm(writer, norm.text, layer->forward_norm, stream);

    if (status == KVERN_OK)
        status = graph_writer_put_linear(base, up.text, &layer->up,
                                         graph_name_join(norm.text, "out").text, &node);
    if (status != KVERN_OK)
        return status;
    if (writer->config->is_gated) {
        node = onnx_file_node(base->file, graph_domain, "GatedActivation", act.text);
        onnx_node_input(node, inner.text);
        inner = graph_name_join(act.text, "out");
        onnx_node_output(node, inner.text);
        onnx_node_string(node, "activation",
                         writer->config->activation == MODEL_ACTIVATION_SILU ? "silu" : "gelu");
    } else {
        onnx_node_string(node, "activation", graph_activation_name(writer->config->activation));
    }
    stream->x = graph_name_join(down.text, "out");
    return graph_writer_put_linear(base, down.text, &layer->down, inner.text, NULL);
}

/* Attention of a stack to itself. */
static kvern_status write_attention(struct seq2seq_writer *writer, bool is_decoder, size_t index,
                                    const struct seq2seq_layer *layer, struct stream *stream)
{
    struct graph_name norm = name_in_layer(is_decoder, index, "attn.norm");
    struct graph_name qkv = name_in_layer(is_decoder, index, "attn.qkv");
    struct graph_name attention = name_in_layer(is_decoder, index, "attn.self");
    struct graph_name o = name_in_layer(is_decoder, index, "attn.o");
    kvern_status status = write_norm(writer, norm.text, layer->attention_norm, stream);

    if (status == KVERN_OK)
        status = graph_writer_put_linear(&writer->base, qkv.text, &layer->qkv,
                                         graph_name_join(norm.text, "out").text, NULL);
    if (status != KVERN_OK)
        return status;
    if (is_decoder)
        add_paged_attention(writer, attention.text, graph_name_join(qkv.text, "out").text, index);
    else
        add_packed_attention(writer, attention.text, graph_name_join(qkv.text, "out").text,
                             layer->qkv.weight.bits == 32);
    stream->x = graph_name_join(o.text, "out");
    return graph_writer_put_linear(&writer->base, o.text, &layer->o,
                                   graph_name_join(attention.text, "out").text, NULL);
}

/* Attention of the decoder to the source. Nothing after the last layer's looks at other rows, so
 * the rest runs on those that are wanted. */
static kvern_status write_cross_attention(struct seq2seq_writer *writer, size_t index,
                                          const struct seq2seq_layer *layer, struct stream *stream)
{
    struct graph_name norm = graph_name_in_layer(index, "cross.norm");
    struct graph_name q = graph_name_in_layer(index, "cross.q");
    struct graph_name attention = graph_name_in_layer(index, "cross.attn");
    struct graph_name o = graph_name_in_layer(index, "cross.o");
    struct graph_name attended = graph_name_join(attention.text, "out");
    kvern_status status = write_norm(writer, norm.text, layer->cross_norm, stream);

    if (status == KVERN_OK)
        status = graph_writer_put_linear(&writer->base, q.text, &layer->cross_q,
                                         graph_name_join(norm.text, "out").text, NULL);
    if (status != KVERN_OK)
        return status;
    add_cross_attention(writer, attention.text, graph_name_join(q.text, "out").text, index);
    if (index + 1 == writer->config->n_layers) {
        graph_writer_add_gather(&writer->base, "output_rows.attn", attended.text, "output_rows");
        graph_writer_add_gather(&writer->base, "output_rows.residual", stream->residual.text,
                                "output_rows");
        attended = graph_name_join("output_rows.attn", "out");
        stream->residual = graph_name_join("output_rows.residual", "out");
    }
    stream->x = graph_name_join(o.text, "out");
    return graph_writer_put_linear(&writer->base, o.text, &layer->cross_o, attended.text, NULL);
}

/* The layers' keys and values of the encoder's output go into the pool one after the other; what
 * the last one gives is an output of the graph, so that all are run. */
static kvern_status write_stores(struct seq2seq_writer *writer)
{
    const struct model_config *config = writer->config;
    struct graph_name after = {""};

    for (size_t i = 0; i < config->n_layers; i++) {
        struct graph_name kv = graph_name_in_layer(i, "cross.kv");
        struct graph_name store = graph_name_in_layer(i, "cross.store");
        bool is_last = i + 1 == config->n_layers;
        struct graph_name stored =
            is_last ? (struct graph_name){"stored"} : graph_name_join(store.text, "out");
        kvern_status status = graph_writer_put_linear(&writer->base, kv.text,
                                                      &writer->plan->decoder.layers[i].cross_kv,
                                                      "last_hidden_state", NULL);
        struct onnx_node *node;

        if (status != KVERN_OK)
            return status;
        node = onnx_file_node(writer->base.file, graph_domain, "KvStore", store.text);
        onnx_node_input(node, graph_name_join(kv.text, "out").text);
        onnx_node_input(node, "kv_pool");
        onnx_node_input(node, "source_table");
        onnx_node_input(node, "source_start");
        onnx_node_input(node, after.text);
        onnx_node_output(node, stored.text);
        onnx_node_int(node, "n_layers", 1);
        onnx_node_int(node, "first_layer", (int64_t)i);
        onnx_node_int(node, "n_kv_heads", (int64_t)config->n_kv_heads);
        onnx_node_int(node, "head_size", (int64_t)config->head_size);
        after = stored;
    }
    return KVERN_OK;
}

static kvern_status write_encoder(struct seq2seq_writer *writer)
{
    const struct seq2seq_stack *stack = &writer->plan->encoder;
    struct stream stream = {.x = {"encoder.embed.out"}};
    kvern_status status = put_bias(writer, "encoder.bias", stack->bias);

    graph_writer_add_embedding(&writer->base, "encoder.embed", "model.embed.weight",
                               &writer->plan->embedding, "source_ids");
    for (size_t i = 0; i < stack->n_layers && status == KVERN_OK; i++) {
        snprintf(writer->base.what, sizeof writer->base.what, "packing encoder layer %zu of %zu",
                 i + 1, stack->n_layers);
        status = write_attention(writer, false, i, &stack->layers[i], &stream);
        if (status == KVERN_OK)
            status = write_feed_forward(writer, false, i, &stack->layers[i], &stream);
    }
    if (status == KVERN_OK)
        status = graph_writer_put_norm(&writer->base, "encoder.norm", stack->final_norm, 1,
                                       writer->config->norm_epsilon, stream.x.text,
                                       stream.residual.text, "last_hidden_state");
    if (status == KVERN_OK)
        status = write_stores(writer);
    return status;
}

/* A tied model's output layer reads the final norm divided by sqrt(hidden_size). */
static kvern_status write_decoder(struct seq2seq_writer *writer)
{
    const struct seq2seq_plan *plan = writer->plan;
    const struct seq2seq_stack *stack = &plan->decoder;
    bool is_tied = writer->config->is_tied;
    float factor = is_tied ? 1 / sqrtf((float)writer->config->hidden_size) : 1;
    struct stream stream = {.x = {"model.embed.out"}};
    kvern_status status = put_bias(writer, "decoder.bias", stack->bias);

    graph_writer_add_embedding(&writer->base, "model.embed", "model.embed.weight", &plan->embedding,
                               "input_ids");
    for (size_t i = 0; i < stack->n_layers && status == KVERN_OK; i++) {
        snprintf(writer->base.what, sizeof writer->base.what, "packing decoder layer %zu of %zu",
                 i + 1, stack->n_layers);
        status = write_attention(writer, true, i, &stack->layers[i], &stream);
        if (status == KVERN_OK)
            status = write_cross_attention(writer, i, &stack->layers[i], &stream);
        if (status == KVERN_OK)
            status = write_feed_forward(writer, true, i, &stack->layers[i], &stream);
    }
    if (status == KVERN_OK)
        status = graph_writer_put_norm(&writer->base, "model.norm", stack->final_norm, factor,
                                       writer->config->norm_epsilon, stream.x.text,
                                       stream.residual.text, "hidden");
    graph_writer_add_gather(&writer->base, "logit_rows.hidden", "hidden", "logit_rows");
    snprintf(writer->base.what, sizeof writer->base.what, "packing the output layer");
    if (status == KVERN_OK && !is_tied)
        status = graph_writer_put_matrix(&writer->base, "lm_head.weight", &plan->lm_head);
    if (status == KVERN_OK)
        graph_writer_add_linear(
            &writer->base, "lm_head", is_tied ? "model.embed.weight" : "lm_head.weight",
            is_tied ? &plan->embedding : &plan->lm_head, "", "logit_rows.hidden.out", "logits");
    return status;
}

static void add_interface(struct seq2seq_writer *writer)
{
    struct onnx_file *file = writer->base.file;
    int64_t hidden_size = (int64_t)writer->config->hidden_size;
    const struct onnx_dim source_tokens = {.name = "n_source_tokens"};
    const struct onnx_dim source_starts = {.name = "n_sources_plus_1"};
    const struct onnx_dim source_table[] = {{.name = "n_sources"}, {.name = "n_source_blocks"}};
    const struct onnx_dim tokens = {.name = "n_tokens"};
    const struct onnx_dim sequences = {.name = "n_sequences"};
    const struct onnx_dim starts = {.name = "n_sequences_plus_1"};
    const struct onnx_dim rows = {.name = "n_output_rows"};
    const struct onnx_dim logit_rows = {.name = "n_logit_rows"};
    const struct onnx_dim table[] = {sequences, {.name = "n_blocks_per_sequence"}};
    const struct onnx_dim cross_table[] = {sequences, {.name = "n_cross_blocks"}};
    const struct onnx_dim pool[] = {
        {.size = (int64_t)writer->config->n_layers}, {.name = "n_blocks"}, {.name = "block_bytes"}};
    const struct onnx_dim encoded[] = {source_tokens, {.size = hidden_size}};
    const struct onnx_dim hidden[] = {rows, {.size = hidden_size}};
    const struct onnx_dim logits[] = {logit_rows, {.size = (int64_t)writer->config->vocab_size}};
    const struct onnx_dim one = {.size = 1};

    onnx_file_input(file, "source_ids", ONNX_I64, &source_tokens, 1);
    onnx_file_input(file, "source_start", ONNX_I32, &source_starts, 1);
    onnx_file_input(file, "source_table", ONNX_I32, source_table, 2);
    onnx_file_input(file, "input_ids", ONNX_I64, &tokens, 1);
    onnx_file_input(file, "query_start", ONNX_I32, &starts, 1);
    onnx_file_input(file, "context_len", ONNX_I32, &sequences, 1);
    onnx_file_input(file, "block_table", ONNX_I32, table, 2);
    onnx_file_input(file, "cross_table", ONNX_I32, cross_table, 2);
    onnx_file_input(file, "source_len", ONNX_I32, &sequences, 1);
    onnx_file_input(file, "output_rows", ONNX_I64, &rows, 1);
    onnx_file_input(file, "logit_rows", ONNX_I64, &logit_rows, 1);
    onnx_file_input(file, "kv_pool", ONNX_U8, pool, 3);
    onnx_file_output(file, "last_hidden_state", ONNX_F32, encoded, 2);
    onnx_file_output(file, "stored", ONNX_I64, &one, 1);
    onnx_file_output(file, "hidden", ONNX_F32, hidden, 2);
    onnx_file_output(file, "logits", ONNX_F32, logits, 2);
}

kvern_status graph_seq2seq_write(const struct seq2seq_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err)
{
    struct seq2seq_writer writer = {.base = {.file = file, .progress = progress, .err = err},
                                    .plan = plan,
                                    .config = &plan->checkpoint->config};
    kvern_status status;

    onnx_file_import(file, "", 17);
    onnx_file_import(file, graph_domain, 1);
    add_interface(&writer);
    snprintf(writer.base.what, sizeof writer.base.what, "packing the embedding");
    status = graph_writer_put_matrix(&writer.base, "model.embed.weight", &plan->embedding);
    if (status == KVERN_OK)
        status = write_encoder(&writer);
    if (status == KVERN_OK)
        status = write_decoder(&writer);
    return status;
}
