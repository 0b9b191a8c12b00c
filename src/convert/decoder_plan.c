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

struct planner {
    struct decoder_plan *plan;
    const struct checkpoint *checkpoint;
    enum weights_choice weights; /* of the layers */
    enum weights_choice table;   /* of the embedding table and the output layer */
    size_t layer;
    bool has_bits[33]; /* which widths are in use */
    bool *is_used;     /* [checkpoint->n_tensors], owned */
    kvern_error *err;
};

static kvern_status require(struct planner *planner, const char *name, size_t n_rows, size_t k,
                            const struct tensor **tensor)
{
    kvern_status status =
        checkpoint_require(planner->checkpoint, name, n_rows, k, tensor, planner->err);

    if (status != KVERN_OK)
        return status;
    planner->is_used[*tensor - planner->checkpoint->tensors] = true;
    planner->plan->n_parameters += (int64_t)(n_rows * k);
    return KVERN_OK;
}

static kvern_status require_in_layer(struct planner *planner, const char *part, const char *suffix,
                                     size_t n_rows, size_t k, const struct tensor **tensor)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "model.layers.%zu.%s.%s", planner->layer, part, suffix);
    return require(planner, name, n_rows, k, tensor);
}

static kvern_status plan_matrix(struct planner *planner, const struct tensor *const *parts,
                                size_t n_parts, enum weights_choice choice, struct pack_plan *out)
{
    kvern_status status = pack_plan_make(out, parts, n_parts, choice, planner->err);
    size_t n_bytes;

    if (status != KVERN_OK)
        return status;
    n_bytes = out->data_bytes + out->scales_bytes * (out->has_mins ? 2 : 1);
    if (!add_sizes(planner->plan->data_bytes, n_bytes, &planner->plan->data_bytes))
        return fail(planner->err, KVERN_LIMIT, "the model is too large for this machine");
    planner->has_bits[out->bits] = true;
    return KVERN_OK;
}

static kvern_status plan_linear(struct planner *planner, const struct part *parts, size_t n_parts,
                                size_t k, bool has_bias, struct decoder_linear *out)
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
        status = plan_matrix(planner, tensors, n_parts, planner->weights, &out->weight);
    return status;
}

static kvern_status plan_layer(struct planner *planner, struct decoder_layer *layer)
{
    const struct model_config *config = &planner->checkpoint->config;
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

/* A weight that the graph has no place for (a bias the config does not tell of, an adapter) would
 * make a model that answers wrongly: it is refused, unless transformers ignores it too. */
static kvern_status check_all_used(const struct planner *planner)
{
    const struct checkpoint *checkpoint = planner->checkpoint;

    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const char *name = checkpoint->tensors[i].name;
        bool is_ignored = ends_with(name, ".rotary_emb.inv_freq") ||
                          (checkpoint->config.is_tied && !strcmp(name, "lm_head.weight"));

        if (!planner->is_used[i] && !is_ignored)
            return fail(planner->err, KVERN_UNSUPPORTED,
                        "the checkpoint holds %s, for which a %s model of this config has no place",
                        name, config_family_name(checkpoint->config.family));
    }
    return KVERN_OK;
}

static const char *name_weights(const struct planner *planner)
{
    bool has_q4 = planner->has_bits[4];
    bool has_q8 = planner->has_bits[8];
    bool has_f32 = planner->has_bits[32];

    if (has_q4 + has_q8 + has_f32 > 1)
        return "mixed";
    return has_q4 ? "q4" : has_q8 ? "q8" : "f32";
}

static kvern_status plan_all(struct planner *planner)
{
    const struct model_config *config = &planner->checkpoint->config;
    struct decoder_plan *plan = planner->plan;
    const struct tensor *table;
    kvern_status status;

    status = require(planner, "model.embed_tokens.weight", config->vocab_size, config->hidden_size,
                     &table);
    if (status == KVERN_OK)
        status = plan_matrix(planner, &table, 1, planner->table, &plan->embedding);
    for (; planner->layer < config->n_layers && status == KVERN_OK; planner->layer++)
        status = plan_layer(planner, &plan->layers[planner->layer]);
    if (status == KVERN_OK)
        status = require(planner, "model.norm.weight", 1, config->hidden_size, &plan->final_norm);
    if (status == KVERN_OK && !config->is_tied)
        status =
            require(planner, "lm_head.weight", config->vocab_size, config->hidden_size, &table);
    if (status == KVERN_OK && !config->is_tied)
        status = plan_matrix(planner, &table, 1, planner->table, &plan->lm_head);
    if (status == KVERN_OK)
        status = check_all_used(planner);
    return status;
}

kvern_status decoder_plan_make(struct decoder_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err)
{
    size_t n_layers = checkpoint->config.n_layers;
    struct planner planner = {
        .plan = plan, .checkpoint = checkpoint, .weights = weights, .table = table, .err = err};
    kvern_status status;

    *plan = (struct decoder_plan){.checkpoint = checkpoint};
    plan->layers = try_new(n_layers, sizeof *plan->layers);
    planner.is_used = try_new(checkpoint->n_tensors, sizeof *planner.is_used);
    if (plan->layers && planner.is_used)
        status = plan_all(&planner);
    else
        status = fail(err, KVERN_MEMORY, "out of memory for %zu layers", n_layers);
    plan->weights = name_weights(&planner);
    free(planner.is_used);
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
