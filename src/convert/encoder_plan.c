/* SPDX-License-Identifier: Apache-2.0
 *
 * struct encoder_plan: which checkpoint tensors make up an encoder and how each matrix will be
 * packed. Of values it reads the position table and one row of token types alone, to add the two:
 * kvern's texts are of one type, so the graph needs one table for both.
 */
#include "convert/encoder_plan.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 128 };

/* What a checkpoint calls the parts of a layer. */
static const struct spelling {
    const char *layers;
    const char *query, *key, *value, *o, *attention_norm, *up, *down, *output_norm;
} spellings[] = {
    {"encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value",
     "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
     "output.LayerNorm"},
    {"transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin",
     "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"},
};

/* What stands before all of an encoder's names when it was saved together with a head. */
static const char *const prefixes[] = {"", "bert.", "roberta.", "distilbert."};

/* Heads on top of an encoder, whose output nobody asks an embedding model for. */
static const char *const heads[] = {
    "pooler.",           "cls.",        "lm_head.",         "classifier.",
    "pre_classifier.",   "qa_outputs.", "vocab_transform.", "vocab_projector.",
    "vocab_layer_norm.",
};

/* One matrix of a layer: "attention.self.query" of [n, k]. */
struct part {
    const char *name;
    size_t n;
};

struct encoder_planner {
    struct planner base;
    struct encoder_plan *plan;
    enum weights_choice weights; /* of the layers */
    enum weights_choice table;   /* of the word table */
    const char *prefix;
    const struct spelling *spelling;
    size_t layer;
};

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

static bool has_tensor(const struct encoder_planner *planner, const char *prefix, const char *part)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "%.20s%.100s", prefix, part);
    return checkpoint_find(planner->base.checkpoint, name) != NULL;
}

/* The first of each that fits; the errors about a checkpoint that none fits use BERT's names. */
static void choose_names(struct encoder_planner *planner)
{
    planner->prefix = prefixes[0];
    planner->spelling = &spellings[0];
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (has_tensor(planner, prefixes[i], "embeddings.word_embeddings.weight")) {
            planner->prefix = prefixes[i];
            break;
        }
    }
    if (has_tensor(planner, planner->prefix, "transformer.layer.0.attention.q_lin.weight"))
        planner->spelling = &spellings[1];
}

static kvern_status require(struct encoder_planner *planner, const char *part, const char *suffix,
                            size_t n_rows, size_t k, const struct tensor **tensor)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "%.20s%.90s.%.15s", planner->prefix, part, suffix);
    return planner_require(&planner->base, name, n_rows, k, tensor);
}

/* "encoder.layer.3.<part>" */
static void name_in_layer(const struct encoder_planner *planner, const char *part,
                          char name[MAX_NAME])
{
    snprintf(name, MAX_NAME, "%s.%zu.%s", planner->spelling->layers, planner->layer, part);
}

/* gamma and beta are what TensorFlow called a norm's weight and bias. */
static kvern_status plan_norm(struct encoder_planner *planner, const char *part,
                              struct norm_plan *out)
{
    size_t hidden = planner->base.checkpoint->config.hidden_size;
    char old[MAX_NAME];

    snprintf(old, sizeof old, "%.100s.gamma", part);
    bool is_old = has_tensor(planner, planner->prefix, old);
    kvern_status status =
        require(planner, part, is_old ? "gamma" : "weight", 1, hidden, &out->gamma);

    if (status == KVERN_OK)
        status = require(planner, part, is_old ? "beta" : "bias", 1, hidden, &out->beta);
    return status;
}

static kvern_status plan_norm_in_layer(struct encoder_planner *planner, const char *part,
                                       struct norm_plan *out)
{
    char name[MAX_NAME];

    name_in_layer(planner, part, name);
    return plan_norm(planner, name, out);
}

static kvern_status plan_linear(struct encoder_planner *planner, const struct part *parts,
                                size_t n_parts, size_t k, struct linear_plan *out)
{
    const struct tensor *tensors[PACK_MAX_PARTS];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < n_parts && status == KVERN_OK; i++) {
        char name[MAX_NAME];

        name_in_layer(planner, parts[i].name, name);
        status = require(planner, name, "weight", parts[i].n, k, &tensors[i]);
        if (status == KVERN_OK)
            status = require(planner, name, "bias", 1, parts[i].n, &out->biases[i]);
    }
    if (status == KVERN_OK)
        status =
            planner_add_matrix(&planner->base, tensors, n_parts, planner->weights, &out->weight);
    return status;
}

static kvern_status plan_layer(struct encoder_planner *planner, struct encoder_layer *layer)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    const struct spelling *names = planner->spelling;
    size_t hidden = config->hidden_size;
    size_t inner = config->intermediate_size;
    const struct part qkv[] = {
        {names->query, hidden}, {names->key, hidden}, {names->value, hidden}};
    const struct part o[] = {{names->o, hidden}};
    const struct part up[] = {{names->up, inner}};
    const struct part down[] = {{names->down, hidden}};
    kvern_status status = plan_linear(planner, qkv, 3, hidden, &layer->qkv);

    if (status == KVERN_OK)
        status = plan_linear(planner, o, 1, hidden, &layer->o);
    if (status == KVERN_OK)
        status = plan_norm_in_layer(planner, names->attention_norm, &layer->attention_norm);
    if (status == KVERN_OK)
        status = plan_linear(planner, up, 1, hidden, &layer->up);
    if (status == KVERN_OK)
        status = plan_linear(planner, down, 1, inner, &layer->down);
    if (status == KVERN_OK)
        status = plan_norm_in_layer(planner, names->output_norm, &layer->output_norm);
    return status;
}

/* place_table: position rows plus, where there are token types, the row of type 0. */
static kvern_status add_places(struct encoder_planner *planner, const struct tensor *positions,
                               const struct tensor *types)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    struct encoder_plan *plan = planner->plan;
    size_t hidden = config->hidden_size;
    struct tensor *table = plan->place_table = try_new(1, sizeof *table);
    float *values = try_new(config->max_positions, hidden * sizeof *values);
    float *type = try_new(hidden, sizeof *type);
    kvern_status status = KVERN_OK;

    if (!table || !values || !type) {
        status = fail(planner->base.err, KVERN_MEMORY, "out of memory for %zu positions",
                      config->max_positions);
        goto done;
    }
    if (types)
        tensor_read_row(types, 0, type);
    for (size_t i = 0; i < config->max_positions; i++) {
        float *row = values + i * hidden;

        tensor_read_row(positions, config->first_position + i, row);
        for (size_t j = 0; j < hidden; j++)
            row[j] += type[j];
    }
    *table = (struct tensor){.name = copy_string_or_abort(positions->name),
                             .type = TENSOR_F32,
                             .n_dims = 2,
                             .dims = {config->max_positions, hidden},
                             .data = (const uint8_t *)values,
                             .n_bytes = config->max_positions * hidden * sizeof *values};
    values = NULL;
done:
    free(values);
    free(type);
    return status;
}

static kvern_status plan_places(struct encoder_planner *planner)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    const struct tensor *parts[1];
    const struct tensor *positions;
    const struct tensor *types = NULL;
    bool has_f32 = planner->base.has_bits[32];
    kvern_status status =
        require(planner, "embeddings.position_embeddings", "weight",
                config->max_positions + config->first_position, config->hidden_size, &positions);

    if (status == KVERN_OK && config->n_token_types > 0)
        status = require(planner, "embeddings.token_type_embeddings", "weight",
                         config->n_token_types, config->hidden_size, &types);
    if (status == KVERN_OK)
        status = add_places(planner, positions, types);
    if (status != KVERN_OK)
        return status;
    parts[0] = planner->plan->place_table;
    status = planner_add_matrix(&planner->base, parts, 1, WEIGHTS_F32, &planner->plan->places);
    planner->base.has_bits[32] = has_f32; /* nobody chose it, so the weights' name leaves it out */
    return status;
}

static bool is_head(const struct checkpoint *checkpoint, const char *name)
{
    (void)checkpoint;
    for (size_t i = 1; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (begins_with(name, prefixes[i])) {
            name += strlen(prefixes[i]);
            break;
        }
    }
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (begins_with(name, heads[i]))
            return true;
    }
    return false;
}

static kvern_status plan_all(struct encoder_planner *planner)
{
    const struct model_config *config = &planner->base.checkpoint->config;
    struct encoder_plan *plan = planner->plan;
    const struct tensor *words;
    kvern_status status;

    choose_names(planner);
    status = require(planner, "embeddings.word_embeddings", "weight", config->vocab_size,
                     config->hidden_size, &words);
    if (status == KVERN_OK)
        status = planner_add_matrix(&planner->base, &words, 1, planner->table, &plan->words);
    if (status == KVERN_OK)
        status = plan_places(planner);
    if (status == KVERN_OK)
        status = plan_norm(planner, "embeddings.LayerNorm", &plan->embedding_norm);
    for (; planner->layer < config->n_layers && status == KVERN_OK; planner->layer++)
        status = plan_layer(planner, &plan->layers[planner->layer]);
    if (status == KVERN_OK)
        status = planner_check_all_used(&planner->base, is_head);
    return status;
}

kvern_status encoder_plan_make(struct encoder_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err)
{
    size_t n_layers = checkpoint->config.n_layers;
    struct encoder_planner planner = {.plan = plan, .weights = weights, .table = table};
    kvern_status status = planner_init(&planner.base, checkpoint, err);

    *plan = (struct encoder_plan){.checkpoint = checkpoint};
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
        encoder_plan_clear(plan);
    return status;
}

void encoder_plan_clear(struct encoder_plan *plan)
{
    if (!plan)
        return;
    if (plan->place_table) {
        free(plan->place_table->name);
        free((void *)(uintptr_t)plan->place_table->data);
        free(plan->place_table);
    }
    free(plan->layers);
    *plan = (struct encoder_plan){0};
}
