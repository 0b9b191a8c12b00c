/* SPDX-License-Identifier: Apache-2.0
 *
 * A config.json is read as from any checkpoint; without one, or with one of a family or a rotary
 * scaling kvern has no name for, one is written from the graph and read the same way, so that ids
 * and ranges are checked by the same code. Then the graph has the last
 * word on what it shows (biases, norms, window, activation), and the rotary tables are compared
 * with the frequencies at several positions.
 */
#include "convert/gqa_config.h"

#include "base/error.h"
#include "base/half.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- without config.json ---- */

static bool has_bias(const struct gqa_linear *linear)
{
    return linear->bias.type != TENSOR_ZERO;
}

/* The family is a matter of names only: what differs is in the config one by one. */
static const char *guess_family(const struct gqa_graph *graph, const json_t *model)
{
    const char *stated = json_string_value(json_object_get(model, "type"));
    enum model_family family;

    if (stated && config_family_from_name(stated, &family))
        return stated;
    if (graph->layers[0].q_norm.n_dims > 0)
        return config_family_name(FAMILY_QWEN3);
    return config_family_name(has_bias(&graph->layers[0].q) ? FAMILY_QWEN2 : FAMILY_LLAMA);
}

static kvern_status load(const char *text, const char *name, json_t **object, kvern_error *err)
{
    json_error_t where;

    if (!text)
        return KVERN_OK;
    *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(*object)) {
        json_decref(*object);
        *object = NULL;
        return fail(err, KVERN_FORMAT, "%s is not a JSON object: %s, line %d", name, where.text,
                    where.line);
    }
    return KVERN_OK;
}

/* What the graph shows, and the ids of genai_config.json, generation_config.json or a config.json
 * of a family that kvern has no name for, as a config.json that it can read. */
static kvern_status write_config(const struct gqa_graph *graph, const struct gqa_texts *texts,
                                 char **text, kvern_error *err)
{
    static const char *const ids[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    json_t *genai = NULL, *generation = NULL, *other = NULL, *made = NULL;
    const json_t *model, *context;
    kvern_status status = load(texts->genai, "genai_config.json", &genai, err);

    if (status == KVERN_OK)
        status = load(texts->generation, "generation_config.json", &generation, err);
    if (status == KVERN_OK)
        status = load(texts->config, "config.json", &other, err);
    if (status != KVERN_OK)
        goto done;
    model = json_object_get(genai, "model");
    context = json_object_get(model, "context_length");
    if (!context)
        context = json_object_get(other, "max_position_embeddings");
    made = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "model_type",
                     guess_family(graph, model), "num_hidden_layers", (json_int_t)graph->n_layers,
                     "num_attention_heads", (json_int_t)graph->n_heads, "num_key_value_heads",
                     (json_int_t)graph->n_kv_heads, "head_dim", (json_int_t)graph->head_size,
                     "hidden_size", (json_int_t)graph->embedding.dims[1], "intermediate_size",
                     (json_int_t)graph->layers[0].gate.weight.dims[0], "vocab_size",
                     (json_int_t)graph->embedding.dims[0], "max_position_embeddings",
                     json_is_integer(context) ? json_integer_value(context)
                                              : (json_int_t)graph->cos->dims[0]);
    for (size_t i = 0; i < sizeof ids / sizeof *ids && made; i++) {
        json_t *value = json_object_get(model, ids[i]);

        if (!value)
            value = json_object_get(generation, ids[i]);
        if (!value)
            value = json_object_get(other, ids[i]);
        if (value)
            json_object_set(made, ids[i], value);
    }
    *text = made ? json_dumps(made, JSON_COMPACT) : NULL;
    if (!*text)
        status = fail(err, KVERN_MEMORY, "out of memory for the model's config");
done:
    json_decref(genai);
    json_decref(generation);
    json_decref(other);
    json_decref(made);
    return status;
}

/* ---- the rotary tables ---- */

static double table_value(const struct onnx_tensor *table, size_t position, size_t i)
{
    size_t at = position * table->dims[1] + i;
    uint16_t half;
    float value;

    if (table->type == ONNX_ELEMENT_F32) {
        memcpy(&value, table->data + 4 * at, sizeof value);
        return value;
    }
    memcpy(&half, table->data + 2 * at, sizeof half);
    return half_to_float(half);
}

static kvern_status check_tables(const struct gqa_graph *graph, kvern_error *err)
{
    const struct onnx_tensor *tables[] = {graph->cos, graph->sin};

    for (size_t i = 0; i < 2; i++) {
        if ((tables[i]->type != ONNX_ELEMENT_F32 && tables[i]->type != ONNX_ELEMENT_F16) ||
            tables[i]->n_dims != 2 || tables[i]->dims[0] < 2 ||
            tables[i]->dims[0] != graph->cos->dims[0])
            return fail(err, KVERN_UNSUPPORTED,
                        "the rotary table %s is no matrix of floats of 2 positions or more",
                        tables[i]->name);
        if (tables[i]->dims[1] != graph->head_size / 2)
            return fail(err, KVERN_UNSUPPORTED,
                        "the rotary table %s rotates %zu pairs of a head of %zu values",
                        tables[i]->name, tables[i]->dims[1], graph->head_size);
    }
    for (size_t i = 0; i < graph->cos->dims[1]; i++) {
        double length = hypot(table_value(graph->cos, 1, i), table_value(graph->sin, 1, i));

        if (!(fabs(length - 1) < 5e-3))
            return fail(err, KVERN_UNSUPPORTED,
                        "the rotary table %s is scaled: pair %zu has the length %g, not 1",
                        graph->cos->name, i, length);
    }
    return KVERN_OK;
}

/* Radians per position of pair `i`: the angle at position 1, made more exact at 2, 4, 8, ...,
 * where an angle's error is divided by its position. Each step knows the whole turns from the one
 * before. */
static double read_frequency(const struct gqa_graph *graph, size_t i)
{
    double frequency = 0;

    for (size_t p = 1; p < graph->cos->dims[0] && p <= 1 << 15; p *= 2) {
        double angle = atan2(table_value(graph->sin, p, i), table_value(graph->cos, p, i));
        double turns = round(((double)p * frequency - angle) / (2 * M_PI));

        frequency = (angle + 2 * M_PI * turns) / (double)p;
    }
    return frequency;
}

/* Reads the frequencies off the tables: as powers of one theta if they are that, else as divisors
 * of the usual ones. */
static void read_rope(const struct gqa_graph *graph, struct model_config *config)
{
    size_t n = graph->head_size / 2;
    double read[CONFIG_MAX_HEAD_SIZE / 2];
    bool is_power = true;
    double theta = 10000;

    for (size_t i = 0; i < n; i++)
        read[i] = read_frequency(graph, i);
    if (n > 1)
        theta = pow(read[n - 1], -(double)n / (double)(n - 1));
    if (fabs(theta - round(theta)) < 1e-5 * theta)
        theta = round(theta);
    for (size_t i = 0; i < n; i++) {
        double usual = pow(theta, -(double)i / (double)n);

        is_power = is_power && fabs(read[i] - usual) < 1e-5 * usual;
    }
    config->rope_scaling = is_power ? ROPE_SCALING_NONE : ROPE_SCALING_DIVISORS;
    config->rope_theta = is_power ? (float)theta : 10000;
    for (size_t i = 0; i < n && !is_power; i++)
        config->rope_divisors[i] =
            (float)(pow((double)config->rope_theta, -(double)i / (double)n) / read[i]);
}

static kvern_status check_rope(const struct gqa_graph *graph, const struct model_config *config,
                               kvern_error *err)
{
    static const size_t positions[] = {0, 1, 2, 3, 7, 17, 101, 509, 1021};
    float frequencies[CONFIG_MAX_HEAD_SIZE / 2];

    config_rotary_frequencies(config, frequencies);
    for (size_t j = 0; j < sizeof positions / sizeof *positions; j++) {
        size_t p = positions[j];

        for (size_t i = 0; i < config->head_size / 2 && p < graph->cos->dims[0]; i++) {
            double angle = (double)p * (double)frequencies[i];
            double cosine = table_value(graph->cos, p, i);
            double sine = table_value(graph->sin, p, i);

            /* written so that a NaN fails */
            if (!(fabs(cosine - cos(angle)) < 2e-3 && fabs(sine - sin(angle)) < 2e-3))
                return fail(err, KVERN_FORMAT,
                            "the rotary table has cos, sin = %.4f, %.4f for pair %zu at position "
                            "%zu; the config's rope_theta = %g and scaling give %.4f, %.4f",
                            cosine, sine, i, p, (double)config->rope_theta, cos(angle), sin(angle));
        }
    }
    return KVERN_OK;
}

/* ---- both together ---- */

static kvern_status compare(const struct gqa_graph *graph, const struct model_config *config,
                            kvern_error *err)
{
    const struct {
        const char *name;
        size_t stated;
        size_t seen;
    } pairs[] = {
        {"num_hidden_layers", config->n_layers, graph->n_layers},
        {"num_attention_heads", config->n_heads, graph->n_heads},
        {"num_key_value_heads", config->n_kv_heads, graph->n_kv_heads},
        {"head_dim", config->head_size, graph->head_size},
        {"hidden_size", config->hidden_size, graph->embedding.dims[1]},
        {"intermediate_size", config->intermediate_size, graph->layers[0].gate.weight.dims[0]},
        {"vocab_size", config->vocab_size, graph->embedding.dims[0]},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].stated != pairs[i].seen)
            return fail(err, KVERN_FORMAT, "config.json has %s = %zu; the graph has %zu",
                        pairs[i].name, pairs[i].stated, pairs[i].seen);
    }
    return KVERN_OK;
}

/* What a graph shows better than any config tells it. */
static void take_from_graph(const struct gqa_graph *graph, struct model_config *config)
{
    config->norm_epsilon = graph->norm_epsilon;
    config->sliding_window = graph->window;
    config->activation = graph->activation;
    config->is_tied = graph->is_tied;
    config->has_qk_norm = graph->layers[0].q_norm.n_dims > 0;
    config->has_qkv_bias = config->has_o_bias = config->has_mlp_bias = false;
    for (size_t i = 0; i < graph->n_layers; i++) {
        const struct gqa_layer *layer = &graph->layers[i];

        config->has_qkv_bias = config->has_qkv_bias || has_bias(&layer->q) || has_bias(&layer->k) ||
                               has_bias(&layer->v);
        config->has_o_bias = config->has_o_bias || has_bias(&layer->o);
        config->has_mlp_bias = config->has_mlp_bias || has_bias(&layer->gate) ||
                               has_bias(&layer->up) || has_bias(&layer->down);
    }
    if (config->max_positions > graph->cos->dims[0])
        config->max_positions = graph->cos->dims[0];
}

kvern_status gqa_config_make(struct model_config *config, const struct gqa_graph *graph,
                             const struct gqa_texts *texts, kvern_error *err)
{
    struct model_config made;
    kvern_error problem;
    char *written = NULL;
    bool is_read = false;
    kvern_status status;

    if (graph->head_size < 2 || graph->head_size > CONFIG_MAX_HEAD_SIZE)
        return fail(err, KVERN_UNSUPPORTED, "heads of %zu values are not supported (2 to %d are)",
                    graph->head_size, CONFIG_MAX_HEAD_SIZE);
    status = check_tables(graph, err);
    if (status == KVERN_OK && texts->config) {
        status = config_from_json(&made, texts->config, texts->generation, &problem);
        is_read = status == KVERN_OK;
        if (status == KVERN_UNSUPPORTED)
            status = KVERN_OK;
        else if (status != KVERN_OK)
            status = fail(err, status, "%s", problem.message);
    }
    if (status == KVERN_OK && !is_read)
        status = write_config(graph, texts, &written, err);
    if (status == KVERN_OK && !is_read)
        status = config_from_json(&made, written, texts->generation, err);
    if (status == KVERN_OK)
        status = compare(graph, &made, err);
    if (status != KVERN_OK)
        goto done;
    take_from_graph(graph, &made);
    if (!is_read)
        read_rope(graph, &made);
    status = config_check(&made, err);
    if (status == KVERN_OK)
        status = check_rope(graph, &made, err);
    if (status == KVERN_OK)
        *config = made;
done:
    free(written);
    return status;
}
