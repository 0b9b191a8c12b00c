/* SPDX-License-Identifier: Apache-2.0
 *
 * struct decoder_plan: which checkpoint tensors make up a decoder model and how each matrix will be
 * packed. Reads dims only, never a value; writes nothing.
 */
#include "convert/decoder_plan.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 128 };

/* One matrix of a checkpoint: "model.layers.3.self_attn.q_proj" of [n, k]. */
struct part {
    const char *name;
    size_t n;
};

struct decoder_planner {
    struct planner base;
    struct decoder_plan *plan;
    enum weights_choice weights; /* of the layers */
    enum weights_choice table;   /* of the embedding table and the output layer */
    const char *prefix;          /* of all names but lm_head's */
    size_t layer;
};

static kvern_status require(struct decoder_planner *planner, const char *part, size_t n_rows,
                            size_t k, const struct tensor **tensor)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "%s%s", planner->prefix, part);
    return planner_require(&planner->base, name, n_rows, k, tensor);
}

static kvern_status require_in_layer(struct decoder_planner *planner, const char *part,
                                     const char *suffix, size_t n_rows, size_t k,
                                     const struct tensor **tensor)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "layers.%zu.%s.%s", planner->layer, part, suffix);
    return require(planner, name, n_rows, k, tensor);
}

static kvern_status plan_linear(struct decoder_planner *planner, const struct part *parts,
                                size_t n_parts, size_t k, bool has_bias, struct linear_plan *out)
{
    const struct tensor *tensors[PACK_MAX_PARTS];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < n_parts && status == KVERN_OK; i++) {
        status = require_in_layer(planner, parts[i].name, "weight", parts[i].n, k, &tensors[i]);
        if (status == KVERN_OK && has_bias)
            status =
                require_in_layer(planner, parts[i].name, "bias", 1, parts[i].n, &out->biases[i]);
    }
    if (status == KVERN_OK)
        status =
            planner_add_matrix(&planner->base, tensors, n_parts, planner->weights, &out->weight);
    return status;
}

static kvern_status plan_layer(struct decoder_planner *planner, struct decoder_layer *layer)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    size_t hidden = config->hidden_size;
    size_t inner = config->intermediate_size;
    size_t q_size = config->n_heads * config->head_size;
    size_t kv_size = config->n_kv_heads * config->head_size;
    const struct part qkv[] = {
        {"self_attn.q_proj", q_size}, {"self_attn.k_proj", kv_size}, {"self_attn.v_proj", kv_size}};
    const struct part o[] = {{"self_attn.o_proj", hidden}};
    const struct part gate_up[] = {{"mlp.gate_proj", inner}, {"mlp.up_proj", inner}};
    const struct part down[] = {{"mlp.down_proj", hidden}};
    kvern_status status;

    status = require_in_layer(planner, "input_layernorm", "weight", 1, hidden, &layer->input_norm);
    if (status == KVERN_OK)
        status = require_in_layer(planner, "post_attention_layernorm", "weight", 1, hidden,
                                  &layer->post_norm);
    if (status == KVERN_OK && config->has_qk_norm)
        status = require_in_layer(planner, "self_attn.q_norm", "weight", 1, config->head_size,
                                  &layer->q_norm);
    if (status == KVERN_OK && config->has_qk_norm)
        status = require_in_layer(planner, "self_attn.k_norm", "weight", 1, config->head_size,
                                  &layer->k_norm);
    if (status == KVERN_OK)
        status = plan_linear(planner, qkv, 3, hidden, config->has_qkv_bias, &layer->qkv);
    if (status == KVERN_OK)
        status = plan_linear(planner, o, 1, q_size, config->has_o_bias, &layer->o);
    if (status == KVERN_OK)
        status = plan_linear(planner, gate_up, 2, hidden, config->has_mlp_bias, &layer->gate_up);
    if (status == KVERN_OK)
        status = plan_linear(planner, down, 1, inner, config->has_mlp_bias, &layer->down);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text), n_end = strlen(end);

    return n_text >= n_end && !strcmp(text + n_text - n_end, end);
}

/* What transformers ignores too. */
static bool is_ignored(const struct checkpoint *checkpoint, const char *name)
{
    return ends_with(name, ".rotary_emb.inv_freq") ||
           (checkpoint->config.is_tied && !strcmp(name, "lm_head.weight"));
}

static kvern_status plan_all(struct decoder_planner *planner)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    struct decoder_plan *plan = planner->plan;
    const struct tensor *table;
    kvern_status status;

    /* embedding models (Qwen3-Embedding) are stored without a head and without this prefix */
    planner->prefix =
        checkpoint_find(planner->base.checkpoint, "embed_tokens.weight") ? "" : "model.";
    status =
        require(planner, "embed_tokens.weight", config->vocab_size, config->hidden_size, &table);
    if (status == KVERN_OK)
        status = planner_add_matrix(&planner->base, &table, 1, planner->table, &plan->embedding);
    for (; planner->layer < config->n_layers && status == KVERN_OK; planner->layer++)
        status = plan_layer(planner, &plan->layers[planner->layer]);
    if (status == KVERN_OK)
        status = require(planner, "norm.weight", 1, config->hidden_size, &plan->final_norm);
    if (status == KVERN_OK && !config->is_tied)
        status = planner_require(&planner->base, "lm_head.weight", config->vocab_size,
                                 config->hidden_size, &table);
    if (status == KVERN_OK && !config->is_tied)
        status = planner_add_matrix(&planner->base, &table, 1, planner->table, &plan->lm_head);
    if (status == KVERN_OK)
        status = planner_check_all_used(&planner->base, is_ignored);
    return status;
}

kvern_status decoder_plan_make(struct decoder_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err)
{
    size_t n_layers = checkpoint->config.n_layers;
    struct decoder_planner planner = {.plan = plan, .weights = weights, .table = table};
    kvern_status status = planner_init(&planner.base, checkpoint, err);

    *plan = (struct decoder_plan){.checkpoint = checkpoint};
    if (status != KVERN_OK)
        return status;
    plan->layers = try_new(n_layers, sizeof *plan->layers);
    if (plan->layers)
        status = plan_all(&planner);
    else
        status = fail(err, KVERN_MEMORY, "out of memory for %zu layers", n_layers);
    plan->n_parameters = planner.base.n_parameters;
    plan->data_bytes = planner.base.data_bytes;
    plan->weights = planner_name_weights(&planner.base);
    planner_clear(&planner.base);
    if (status != KVERN_OK)
        decoder_plan_clear(plan);
    return status;
}

void decoder_plan_clear(struct decoder_plan *plan)
{
    if (!plan)
        return;
    free(plan->layers);
    *plan = (struct decoder_plan){0};
}
