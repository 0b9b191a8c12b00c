/* SPDX-License-Identifier: Apache-2.0
 *
 * struct seq2seq_plan. The relative position bias stands in the first layer of a stack and serves
 * all of them; it becomes a table over distances here, so that no kernel has to know buckets.
 */
#include "convert/seq2seq_plan.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 128 };

/* One matrix of a layer: "SelfAttention.q" of [n, k]. */
struct part {
    const char *name;
    size_t n;
};

struct seq2seq_planner {
    struct planner base;
    struct seq2seq_plan *plan;
    enum weights_choice weights; /* of the layers */
    enum weights_choice table;   /* of the embedding table and the output layer */
    const char *stack;           /* "encoder", "decoder" */
    size_t block;
    size_t part; /* of the block: attention, cross-attention, feed-forward */
};

size_t relative_bucket(ptrdiff_t distance, bool is_decoder, size_t n_buckets, size_t max_distance)
{
    size_t first = 0;
    size_t away = 0;

    if (!is_decoder) {
        n_buckets /= 2;
        first = distance > 0 ? n_buckets : 0;
        away = (size_t)(distance < 0 ? -distance : distance);
    } else if (distance < 0) {
        away = (size_t)-distance;
    }

    size_t n_exact = n_buckets / 2;
    if (away < n_exact)
        return first + away;
    /* in float, as transformers does it: a border must fall on the same side */
    float octaves =
        logf((float)away / (float)n_exact) / (float)log((double)max_distance / (double)n_exact);
    size_t bucket = n_exact + (size_t)(octaves * (float)(n_buckets - n_exact));
    return first + (bucket < n_buckets ? bucket : n_buckets - 1);
}

static kvern_status require(struct seq2seq_planner *planner, const char *name, size_t n_rows,
                            size_t k, const struct tensor **tensor)
{
    char whole[MAX_NAME];

    snprintf(whole, sizeof whole, "%s.block.%zu.layer.%zu.%s.weight", planner->stack,
             planner->block, planner->part, name);
    return planner_require(&planner->base, whole, n_rows, k, tensor);
}

static kvern_status plan_linear_in(struct seq2seq_planner *planner, const struct part *parts,
                                   size_t n_parts, size_t k, enum weights_choice weights,
                                   struct linear_plan *out)
{
    const struct tensor *tensors[PACK_MAX_PARTS];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < n_parts && status == KVERN_OK; i++)
        status = require(planner, parts[i].name, parts[i].n, k, &tensors[i]);
    if (status == KVERN_OK)
        status = planner_add_matrix(&planner->base, tensors, n_parts, weights, &out->weight);
    return status;
}

static kvern_status plan_linear(struct seq2seq_planner *planner, const struct part *parts,
                                size_t n_parts, size_t k, struct linear_plan *out)
{
    return plan_linear_in(planner, parts, n_parts, k, planner->weights, out);
}

static kvern_status plan_attention(struct seq2seq_planner *planner, struct seq2seq_layer *layer)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    size_t hidden = config->hidden_size;
    size_t size = config->n_heads * config->head_size;
    const struct part qkv[] = {
        {"SelfAttention.q", size}, {"SelfAttention.k", size}, {"SelfAttention.v", size}};
    const struct part o[] = {{"SelfAttention.o", hidden}};
    kvern_status status = require(planner, "layer_norm", 1, hidden, &layer->attention_norm);

    if (status == KVERN_OK)
        status = plan_linear(planner, qkv, 3, hidden, &layer->qkv);
    if (status == KVERN_OK)
        status = plan_linear(planner, o, 1, size, &layer->o);
    return status;
}

static kvern_status plan_cross_attention(struct seq2seq_planner *planner,
                                         struct seq2seq_layer *layer)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    size_t hidden = config->hidden_size;
    size_t size = config->n_heads * config->head_size;
    const struct part q[] = {{"EncDecAttention.q", size}};
    const struct part kv[] = {{"EncDecAttention.k", size}, {"EncDecAttention.v", size}};
    const struct part o[] = {{"EncDecAttention.o", hidden}};
    kvern_status status = require(planner, "layer_norm", 1, hidden, &layer->cross_norm);

    if (status == KVERN_OK)
        status = plan_linear(planner, q, 1, hidden, &layer->cross_q);
    if (status == KVERN_OK)
        status = plan_linear(planner, kv, 2, hidden, &layer->cross_kv);
    if (status == KVERN_OK)
        status = plan_linear(planner, o, 1, size, &layer->cross_o);
    return status;
}

static kvern_status plan_feed_forward(struct seq2seq_planner *planner, struct seq2seq_layer *layer)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    size_t hidden = config->hidden_size;
    size_t inner = config->intermediate_size;
    const struct part gate_up[] = {{"DenseReluDense.wi_0", inner}, {"DenseReluDense.wi_1", inner}};
    const struct part up[] = {{"DenseReluDense.wi", inner}};
    const struct part down[] = {{"DenseReluDense.wo", hidden}};
    /* where T5s are known to break when narrowed (CTranslate2 #1074, #1273) */
    enum weights_choice of_down = planner->weights == WEIGHTS_Q4 ? WEIGHTS_Q8 : planner->weights;
    kvern_status status = require(planner, "layer_norm", 1, hidden, &layer->forward_norm);

    if (status == KVERN_OK && config->is_gated)
        status = plan_linear(planner, gate_up, 2, hidden, &layer->up);
    else if (status == KVERN_OK)
        status = plan_linear(planner, up, 1, hidden, &layer->up);
    if (status == KVERN_OK)
        status = plan_linear_in(planner, down, 1, inner, of_down, &layer->down);
    return status;
}

/* The table over distances, of [n_buckets, n_heads]. */
static kvern_status plan_bias(struct seq2seq_planner *planner, struct seq2seq_stack *stack)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    ptrdiff_t reach = (ptrdiff_t)config->relative_max_distance;
    size_t n_distances = 2 * (size_t)reach + 1;
    bool is_decoder = stack == &planner->plan->decoder;
    const struct tensor *weight;
    float *row = NULL;
    kvern_status status = require(planner, "SelfAttention.relative_attention_bias",
                                  config->relative_buckets, config->n_heads, &weight);

    if (status != KVERN_OK)
        return status;
    row = try_new(config->n_heads, sizeof *row);
    stack->bias = try_new(config->n_heads * n_distances, sizeof *stack->bias);
    if (!row || !stack->bias) {
        status = fail(planner->base.err, KVERN_MEMORY, "out of memory for the position bias");
        goto done;
    }
    for (ptrdiff_t distance = -reach; distance <= reach; distance++) {
        tensor_read_row(weight,
                        relative_bucket(distance, is_decoder, config->relative_buckets,
                                        config->relative_max_distance),
                        row);
        for (size_t head = 0; head < config->n_heads; head++) {
            if (!isfinite(row[head])) {
                status = fail(planner->base.err, KVERN_FORMAT,
                              "%s holds a value that is not finite", weight->name);
                goto done;
            }
            stack->bias[head * n_distances + (size_t)(distance + reach)] = row[head];
        }
    }
done:
    free(row);
    return status;
}

static kvern_status plan_stack(struct seq2seq_planner *planner, const char *name, size_t n_layers,
                               struct seq2seq_stack *stack)
{
    bool is_decoder = stack == &planner->plan->decoder;
    char norm[MAX_NAME];
    kvern_status status = KVERN_OK;

    planner->stack = name;
    planner->part = planner->block = 0;
    stack->layers = try_new(n_layers, sizeof *stack->layers);
    if (!stack->layers)
        return fail(planner->base.err, KVERN_MEMORY, "out of memory for %zu layers", n_layers);
    stack->n_layers = n_layers;
    status = plan_bias(planner, stack);
    for (; planner->block < n_layers && status == KVERN_OK; planner->block++) {
        struct seq2seq_layer *layer = &stack->layers[planner->block];

        planner->part = 0;
        status = plan_attention(planner, layer);
        planner->part++;
        if (status == KVERN_OK && is_decoder) {
            status = plan_cross_attention(planner, layer);
            planner->part++;
        }
        if (status == KVERN_OK)
            status = plan_feed_forward(planner, layer);
    }
    snprintf(norm, sizeof norm, "%s.final_layer_norm.weight", name);
    if (status == KVERN_OK)
        status = planner_require(&planner->base, norm, 1,
                                 planner->base.checkpoint->config.hidden_size, &stack->final_norm);
    return status;
}

/* Copies of the shared table, and a bias that old checkpoints have and nobody uses: what
 * transformers ignores too. */
static bool is_ignored(const struct checkpoint *checkpoint, const char *name)
{
    return strcmp(name, "encoder.embed_tokens.weight") == 0 ||
           strcmp(name, "decoder.embed_tokens.weight") == 0 ||
           strcmp(name, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight") ==
               0 ||
           (checkpoint->config.is_tied && strcmp(name, "lm_head.weight") == 0);
}

static kvern_status plan_table(struct seq2seq_planner *planner, const char *name,
                               struct pack_plan *out)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    const struct tensor *table;
    kvern_status status =
        planner_require(&planner->base, name, config->vocab_size, config->hidden_size, &table);

    if (status == KVERN_OK)
        status = planner_add_matrix(&planner->base, &table, 1, planner->table, out);
    return status;
}

static kvern_status plan_all(struct seq2seq_planner *planner)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    struct seq2seq_plan *plan = planner->plan;
    /* safetensors stores tied tensors once, under whichever name came first */
    const char *shared = checkpoint_find(planner->base.checkpoint, "shared.weight")
                             ? "shared.weight"
                             : "encoder.embed_tokens.weight";
    kvern_status status = plan_table(planner, shared, &plan->embedding);

    if (status == KVERN_OK)
        status = plan_stack(planner, "encoder", config->n_encoder_layers, &plan->encoder);
    if (status == KVERN_OK)
        status = plan_stack(planner, "decoder", config->n_layers, &plan->decoder);
    if (status == KVERN_OK && !config->is_tied)
        status = plan_table(planner, "lm_head.weight", &plan->lm_head);
    if (status == KVERN_OK)
        status = planner_check_all_used(&planner->base, is_ignored);
    return status;
}

kvern_status seq2seq_plan_make(struct seq2seq_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err)
{
    struct seq2seq_planner planner = {.plan = plan, .weights = weights, .table = table};
    kvern_status status = planner_init(&planner.base, checkpoint, err);

    *plan = (struct seq2seq_plan){.checkpoint = checkpoint};
    if (status != KVERN_OK)
        return status;
    status = plan_all(&planner);
    plan->n_parameters = planner.base.n_parameters;
    plan->data_bytes = planner.base.data_bytes;
    plan->weights = planner_name_weights(&planner.base);
    planner_clear(&planner.base);
    if (status != KVERN_OK)
        seq2seq_plan_clear(plan);
    return status;
}

void seq2seq_plan_clear(struct seq2seq_plan *plan)
{
    if (!plan)
        return;
    free(plan->encoder.layers);
    free(plan->encoder.bias);
    free(plan->decoder.layers);
    free(plan->decoder.bias);
    *plan = (struct seq2seq_plan){0};
}
