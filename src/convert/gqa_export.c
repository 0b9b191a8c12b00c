/* SPDX-License-Identifier: Apache-2.0
 *
 * Names for what gqa_graph found. Shapes are not checked here: decoder_plan compares every tensor
 * with the config, whatever it was read from.
 */
#include "convert/gqa_export.h"

#include "base/error.h"
#include "base/memory.h"
#include "convert/onnx_model.h"

#include <stdio.h>

static kvern_status add(struct checkpoint *checkpoint, const struct tensor *tensor,
                        const char *name, const char *suffix, kvern_error *err)
{
    struct tensor named = *tensor;
    char text[128];

    snprintf(text, sizeof text, "%s.%s", name, suffix);
    named.name = copy_string_or_abort(text);
    return checkpoint_add(checkpoint, named, err);
}

static kvern_status add_linear(struct checkpoint *checkpoint, const struct gqa_linear *linear,
                               const char *name, bool has_bias, kvern_error *err)
{
    kvern_status status = add(checkpoint, &linear->weight, name, "weight", err);

    if (status == KVERN_OK && has_bias)
        status = add(checkpoint, &linear->bias, name, "bias", err);
    return status;
}

static kvern_status add_layer(struct checkpoint *checkpoint, const struct gqa_layer *layer,
                              size_t index, kvern_error *err)
{
    const struct model_config *config = &checkpoint->config;
    const struct {
        const struct gqa_linear *linear;
        const char *name;
        bool has_bias;
    } linears[] = {
        {&layer->q, "self_attn.q_proj", config->has_qkv_bias},
        {&layer->k, "self_attn.k_proj", config->has_qkv_bias},
        {&layer->v, "self_attn.v_proj", config->has_qkv_bias},
        {&layer->o, "self_attn.o_proj", config->has_o_bias},
        {&layer->gate, "mlp.gate_proj", config->has_mlp_bias},
        {&layer->up, "mlp.up_proj", config->has_mlp_bias},
        {&layer->down, "mlp.down_proj", config->has_mlp_bias},
    };
    const struct {
        const struct tensor *tensor;
        const char *name;
    } norms[] = {
        {&layer->input_norm, "input_layernorm"},
        {&layer->post_norm, "post_attention_layernorm"},
        {&layer->q_norm, "self_attn.q_norm"},
        {&layer->k_norm, "self_attn.k_norm"},
    };
    char name[96];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < sizeof linears / sizeof *linears && status == KVERN_OK; i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s", index, linears[i].name);
        status = add_linear(checkpoint, linears[i].linear, name, linears[i].has_bias, err);
    }
    for (size_t i = 0; i < sizeof norms / sizeof *norms && status == KVERN_OK; i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s", index, norms[i].name);
        if (norms[i].tensor->n_dims > 0)
            status = add(checkpoint, norms[i].tensor, name, "weight", err);
    }
    return status;
}

kvern_status gqa_export_read(struct checkpoint *checkpoint, const struct gqa_texts *texts,
                             kvern_error *err)
{
    struct gqa_graph graph = {0};
    kvern_status status;

    if (checkpoint->onnx->has_functions)
        return fail(err, KVERN_UNSUPPORTED,
                    "the file defines operators of its own or holds training graphs");
    status = gqa_graph_read(&graph, &checkpoint->onnx->graph, err);
    if (status == KVERN_OK)
        status = gqa_config_make(&checkpoint->config, &graph, texts, err);
    if (status == KVERN_OK)
        status = add(checkpoint, &graph.embedding, "model.embed_tokens", "weight", err);
    for (size_t i = 0; i < graph.n_layers && status == KVERN_OK; i++)
        status = add_layer(checkpoint, &graph.layers[i], i, err);
    if (status == KVERN_OK)
        status = add(checkpoint, &graph.final_norm, "model.norm", "weight", err);
    if (status == KVERN_OK && !graph.is_tied)
        status = add(checkpoint, &graph.lm_head, "lm_head", "weight", err);
    gqa_graph_clear(&graph);
    return status;
}
