/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a model's numbers. A value that is absent gets the default transformers would give it;
 * one that is present must have the right type; config_check() then refuses what no kernel could
 * run.
 */
#include "model/config.h"

#include "base/error.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static const char *const family_names[] = {
    [FAMILY_LLAMA] = "llama", [FAMILY_QWEN2] = "qwen2", [FAMILY_QWEN3] = "qwen3",
    [FAMILY_BERT] = "bert",   [FAMILY_T5] = "t5",       [FAMILY_OTHER] = "other",
};

const char *config_family_name(enum model_family family)
{
    return family_names[family];
}

bool config_family_from_name(const char *name, enum model_family *family)
{
    for (size_t i = 0; i < FAMILY_OTHER; i++) {
        if (strcmp(name, family_names[i]) == 0) {
            *family = (enum model_family)i;
            return true;
        }
    }
    return false;
}

bool config_is_encoder(const struct model_config *config)
{
    return config->family == FAMILY_BERT;
}

bool config_is_seq2seq(const struct model_config *config)
{
    return config->family == FAMILY_T5;
}

/* ---- config.json ---- */

/* A reader remembers its first failure, so that a list of fields reads as a list. */
struct reader {
    const json_t *object;
    kvern_status status;
    kvern_error *err;
};

static void reject(struct reader *reader, const char *name, const char *expected)
{
    if (reader->status == KVERN_OK)
        reader->status =
            fail(reader->err, KVERN_FORMAT, "config.json: %s is not %s", name, expected);
}

/* NULL if the field is absent or null. */
static const json_t *field(const struct reader *reader, const char *name)
{
    const json_t *value = json_object_get(reader->object, name);

    return json_is_null(value) ? NULL : value;
}

static size_t read_size(struct reader *reader, const char *name, size_t otherwise)
{
    const json_t *value = field(reader, name);

    if (!value)
        return otherwise;
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        reject(reader, name, "a whole number of at least 0");
        return 0;
    }
    return (size_t)json_integer_value(value);
}

static size_t require_size(struct reader *reader, const char *name)
{
    if (!field(reader, name) && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_FORMAT, "config.json: %s is missing", name);
    return read_size(reader, name, 0);
}

static float read_float(struct reader *reader, const char *name, double otherwise)
{
    const json_t *value = field(reader, name);

    if (value && !json_is_number(value))
        reject(reader, name, "a number");
    return (float)(json_is_number(value) ? json_number_value(value) : otherwise);
}

static bool read_bool(struct reader *reader, const char *name, bool otherwise)
{
    const json_t *value = field(reader, name);

    if (value && !json_is_boolean(value))
        reject(reader, name, "true or false");
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *read_text(struct reader *reader, const char *name, const char *otherwise)
{
    const json_t *value = field(reader, name);

    if (value && !json_is_string(value))
        reject(reader, name, "a string");
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static int32_t read_id(struct reader *reader, const char *name)
{
    const json_t *value = field(reader, name);

    if (!value)
        return -1;
    if (!json_is_integer(value) || json_integer_value(value) < -1 ||
        json_integer_value(value) > INT32_MAX) {
        reject(reader, name, "a token id");
        return -1;
    }
    return (int32_t)json_integer_value(value);
}

static void add_eos(struct reader *reader, struct model_config *config, const json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > INT32_MAX) {
        reject(reader, "eos_token_id", "a token id or a list of them");
        return;
    }
    int32_t id = (int32_t)json_integer_value(value);
    for (size_t i = 0; i < config->n_eos; i++) {
        if (config->eos[i] == id)
            return;
    }
    if (config->n_eos == CONFIG_MAX_EOS)
        reject(reader, "eos_token_id", "a list of at most 8 ids");
    else
        config->eos[config->n_eos++] = id;
}

static void read_eos(struct reader *reader, struct model_config *config)
{
    const json_t *value = field(reader, "eos_token_id");

    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            add_eos(reader, config, json_array_get(value, i));
    } else if (value) {
        add_eos(reader, config, value);
    }
}

/* transformers 4 keeps rope_theta beside "rope_scaling"; 5 keeps both in "rope_parameters". */
static void read_rope(struct reader *reader, struct model_config *config)
{
    const json_t *scaling = field(reader, "rope_parameters");

    config->rope_theta = read_float(reader, "rope_theta", 10000);
    if (!scaling)
        scaling = field(reader, "rope_scaling");
    if (!scaling)
        return;
    if (!json_is_object(scaling)) {
        reject(reader, "rope_scaling", "an object");
        return;
    }

    struct reader inner = {scaling, reader->status, reader->err};
    const char *type = read_text(&inner, "rope_type", read_text(&inner, "type", "default"));
    config->rope_theta = read_float(&inner, "rope_theta", config->rope_theta);
    config->rope_factor = read_float(&inner, "factor", 1);
    if (strcmp(type, "linear") == 0) {
        config->rope_scaling = ROPE_SCALING_LINEAR;
    } else if (strcmp(type, "llama3") == 0) {
        config->rope_scaling = ROPE_SCALING_LLAMA3;
        config->rope_low_freq_factor = read_float(&inner, "low_freq_factor", 0);
        config->rope_high_freq_factor = read_float(&inner, "high_freq_factor", 0);
        config->rope_original_max_positions =
            require_size(&inner, "original_max_position_embeddings");
    } else if (strcmp(type, "default") != 0 && inner.status == KVERN_OK) {
        inner.status = fail(reader->err, KVERN_UNSUPPORTED,
                            "config.json: rope scaling \"%s\" is not supported (linear and llama3 "
                            "are)",
                            type);
    }
    reader->status = inner.status;
}

static void read_window(struct reader *reader, struct model_config *config)
{
    bool is_qwen = config->family != FAMILY_LLAMA;

    if (!read_bool(reader, "use_sliding_window", !is_qwen))
        return;
    config->sliding_window = read_size(reader, "sliding_window", 0);
    /* Qwen's first max_window_layers layers see everything, the others the window. */
    size_t first_layer = read_size(reader, "max_window_layers", is_qwen ? config->n_layers : 0);
    if (first_layer >= config->n_layers)
        config->sliding_window = 0;
    else if (first_layer > 0 && config->sliding_window > 0 && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "config.json: a sliding window in some layers only "
                              "(max_window_layers = %zu of %zu) is not supported",
                              first_layer, config->n_layers);
}

/* A name of hidden_act and what it means for a decoder and for an encoder; "gelu" is the one with
 * erf, which decoders' gated activation does not have. */
static const struct {
    const char *name;
    enum model_activation activation;
    bool is_decoders;
} activations[] = {
    {"silu", MODEL_ACTIVATION_SILU, true},
    {"swish", MODEL_ACTIVATION_SILU, true},
    {"gelu_pytorch_tanh", MODEL_ACTIVATION_GELU_TANH, true},
    {"gelu_new", MODEL_ACTIVATION_GELU_TANH, true},
    {"gelu", MODEL_ACTIVATION_GELU, false},
    {"relu", MODEL_ACTIVATION_RELU, false},
};

static void read_activation(struct reader *reader, const char *key, const char *otherwise,
                            struct model_config *config)
{
    const char *name = read_text(reader, key, otherwise);
    bool is_encoder = config_is_encoder(config);

    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(name, activations[i].name) == 0 && (is_encoder || activations[i].is_decoders)) {
            config->activation = activations[i].activation;
            return;
        }
    }
    if (reader->status == KVERN_OK)
        reader->status = fail(
            reader->err, KVERN_UNSUPPORTED, "config.json: %s \"%s\" is not supported (%s are)", key,
            name, is_encoder ? "gelu, gelu_new, relu and silu" : "silu and gelu_pytorch_tanh");
}

static void read_decoder(struct reader *reader, struct model_config *config)
{
    config->n_layers = require_size(reader, "num_hidden_layers");
    config->n_heads = require_size(reader, "num_attention_heads");
    config->n_kv_heads = read_size(reader, "num_key_value_heads", config->n_heads);
    config->hidden_size = require_size(reader, "hidden_size");
    size_t head_size = config->n_heads ? config->hidden_size / config->n_heads : 0;
    config->head_size =
        read_size(reader, "head_dim", config->family == FAMILY_QWEN3 ? 128 : head_size);
    config->intermediate_size = require_size(reader, "intermediate_size");
    config->vocab_size = require_size(reader, "vocab_size");
    config->max_positions = read_size(reader, "max_position_embeddings", 2048);
    config->norm_epsilon = read_float(reader, "rms_norm_eps", 1e-6);
    config->is_tied = read_bool(reader, "tie_word_embeddings", false);
    bool has_bias = read_bool(reader, "attention_bias", false);
    config->has_qkv_bias = has_bias || config->family == FAMILY_QWEN2;
    config->has_o_bias = has_bias && config->family != FAMILY_QWEN2;
    config->has_mlp_bias = read_bool(reader, "mlp_bias", false);
    config->has_qk_norm = config->family == FAMILY_QWEN3;
    config->pad = read_id(reader, "pad_token_id");
    read_activation(reader, "hidden_act", "silu", config);
    read_rope(reader, config);
    read_window(reader, config);
}

/* The model types that are BERT's maths. RoBERTa and its kin keep the positions up to the padding
 * token's id free: a text begins at pad + 1. */
static const struct encoder_type {
    const char *model_type;
    const char *n_layers, *n_heads, *hidden_size, *intermediate_size, *activation;
    size_t n_token_types; /* where type_vocab_size is absent */
    int32_t pad;          /* where pad_token_id is absent */
    bool is_roberta;
} encoder_types[] = {
    {"bert", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
     "hidden_act", 2, 0, false},
    {"roberta", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
     "hidden_act", 2, 1, true},
    {"xlm-roberta", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
     "hidden_act", 2, 1, true},
    {"camembert", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
     "hidden_act", 2, 1, true},
    {"distilbert", "n_layers", "n_heads", "dim", "hidden_dim", "activation", 0, 0, false},
};

static const struct encoder_type *find_encoder_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof encoder_types / sizeof *encoder_types; i++) {
        if (strcmp(model_type, encoder_types[i].model_type) == 0)
            return &encoder_types[i];
    }
    return NULL;
}

/* What changes the maths in ways that the graph has no node for. */
static void refuse_variants(struct reader *reader)
{
    static const char *const flags[] = {"is_decoder", "add_cross_attention"};
    const char *positions = read_text(reader, "position_embedding_type", "absolute");

    if (strcmp(positions, "absolute") != 0 && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "config.json: position_embedding_type \"%s\" is not supported "
                              "(absolute is)",
                              positions);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (read_bool(reader, flags[i], false) && reader->status == KVERN_OK)
            reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                                  "config.json: an encoder with %s is not supported", flags[i]);
    }
}

static void read_encoder(struct reader *reader, const struct encoder_type *type,
                         struct model_config *config)
{
    config->n_layers = require_size(reader, type->n_layers);
    config->n_heads = require_size(reader, type->n_heads);
    config->n_kv_heads = config->n_heads;
    config->hidden_size = require_size(reader, type->hidden_size);
    config->head_size = config->n_heads ? config->hidden_size / config->n_heads : 0;
    config->intermediate_size = require_size(reader, type->intermediate_size);
    config->vocab_size = require_size(reader, "vocab_size");
    config->max_positions = read_size(reader, "max_position_embeddings", 512);
    config->n_token_types = read_size(reader, "type_vocab_size", type->n_token_types);
    config->norm_epsilon = read_float(reader, "layer_norm_eps", 1e-12);
    config->has_qkv_bias = config->has_o_bias = config->has_mlp_bias = true;
    config->pad = field(reader, "pad_token_id") ? read_id(reader, "pad_token_id") : type->pad;
    read_activation(reader, type->activation, "gelu", config);
    refuse_variants(reader);
    if (!type->is_roberta || reader->status != KVERN_OK)
        return;
    config->first_position = (size_t)config->pad + 1; /* without pad: 0 */
    if (config->max_positions <= config->first_position)
        reader->status = fail(reader->err, KVERN_FORMAT,
                              "config.json: max_position_embeddings = %zu leaves no position after "
                              "pad_token_id = %d",
                              config->max_positions, config->pad);
    else
        config->max_positions -= config->first_position;
}

/* "relu", or "gated-" and the name of an activation. "gated-gelu" means gelu_new, whatever
 * dense_act_fn is called. */
static void read_feed_forward(struct reader *reader, const char *otherwise,
                              struct model_config *config)
{
    static const char gated[] = "gated-";
    const char *name = read_text(reader, "feed_forward_proj", otherwise);
    bool is_known = false;

    config->is_gated = strncmp(name, gated, strlen(gated)) == 0;
    if (config->is_gated)
        name += strlen(gated);
    if (config->is_gated && strcmp(name, "gelu") == 0)
        name = "gelu_new";
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(name, activations[i].name) == 0 &&
            (!config->is_gated || activations[i].is_decoders)) {
            config->activation = activations[i].activation;
            is_known = true;
        }
    }
    if (!is_known && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "config.json: feed_forward_proj \"%s%s\" is not supported (relu, "
                              "gated-gelu and gated-silu are)",
                              config->is_gated ? gated : "", name);
}

/* T5 (1.0 and 1.1), mT5 and their kin; `is_mt5`: the defaults of MT5Config. */
static void read_seq2seq(struct reader *reader, bool is_mt5, struct model_config *config)
{
    config->family = FAMILY_T5;
    config->n_encoder_layers = require_size(reader, "num_layers");
    config->n_layers = read_size(reader, "num_decoder_layers", config->n_encoder_layers);
    config->n_heads = require_size(reader, "num_heads");
    config->n_kv_heads = config->n_heads;
    config->head_size = read_size(reader, "d_kv", 64);
    config->hidden_size = require_size(reader, "d_model");
    config->intermediate_size = require_size(reader, "d_ff");
    config->vocab_size = require_size(reader, "vocab_size");
    config->max_positions = read_size(reader, "n_positions", 512);
    config->norm_epsilon = read_float(reader, "layer_norm_epsilon", 1e-6);
    config->is_tied = read_bool(reader, "tie_word_embeddings", !is_mt5);
    config->relative_buckets = read_size(reader, "relative_attention_num_buckets", 32);
    config->relative_max_distance = read_size(reader, "relative_attention_max_distance", 128);
    config->pad = field(reader, "pad_token_id") ? read_id(reader, "pad_token_id") : 0;
    config->decoder_start = field(reader, "decoder_start_token_id")
                                ? read_id(reader, "decoder_start_token_id")
                                : config->pad;
    read_feed_forward(reader, is_mt5 ? "gated-gelu" : "relu", config);
    if (!read_bool(reader, "is_encoder_decoder", true) && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "config.json: a T5 that is no encoder-decoder is not supported");
}

static void read_config(struct reader *reader, struct model_config *config)
{
    const char *model_type = read_text(reader, "model_type", "");
    const struct encoder_type *encoder = find_encoder_type(model_type);

    if (encoder) {
        config->family = FAMILY_BERT;
        read_encoder(reader, encoder, config);
    } else if (strcmp(model_type, "t5") == 0 || strcmp(model_type, "mt5") == 0) {
        read_seq2seq(reader, strcmp(model_type, "mt5") == 0, config);
    } else if (config_family_from_name(model_type, &config->family)) {
        read_decoder(reader, config);
    } else if (reader->status == KVERN_OK) {
        reader->status =
            fail(reader->err, KVERN_UNSUPPORTED,
                 "config.json: model_type \"%s\" is not supported (llama, qwen2, "
                 "qwen3, bert, roberta, xlm-roberta, camembert, distilbert, t5 and mt5 are)",
                 model_type);
    }
    config->bos = read_id(reader, "bos_token_id");
    read_eos(reader, config);
    if (config_is_seq2seq(config) && config->n_eos == 0)
        config->eos[config->n_eos++] = 1; /* T5Config's */
}

kvern_status config_from_json(struct model_config *config, const char *text,
                              const char *generation_text, kvern_error *err)
{
    struct model_config read = {.bos = -1, .pad = -1};
    json_error_t where;
    json_t *generation = NULL;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    struct reader reader = {object, KVERN_OK, err};

    if (!json_is_object(object)) {
        reader.status = fail(err, KVERN_FORMAT, "config.json is not a JSON object: %s, line %d",
                             where.text, where.line);
        goto done;
    }
    read_config(&reader, &read);
    if (generation_text) {
        generation = json_loads(generation_text, 0, &where);
        if (!json_is_object(generation) && reader.status == KVERN_OK)
            reader.status =
                fail(err, KVERN_FORMAT, "generation_config.json is not a JSON object: %s, line %d",
                     where.text, where.line);
        reader.object = generation;
        read_eos(&reader, &read);
    }
    if (reader.status == KVERN_OK)
        reader.status = config_check(&read, err);
    if (reader.status == KVERN_OK)
        *config = read;
done:
    json_decref(object);
    json_decref(generation);
    return reader.status;
}

/* ---- rotary embedding ---- */

/* Llama 3's rule: wavelengths under original / high keep their frequency, those over original / low
 * have it divided, and those between go from one to the other linearly in original / wavelength. */
static double scale_llama3(const struct model_config *config, double frequency)
{
    double wavelength = 2 * M_PI / frequency;
    double original = (double)config->rope_original_max_positions;
    double low = config->rope_low_freq_factor;
    double high = config->rope_high_freq_factor;

    if (wavelength < original / high)
        return frequency;
    if (wavelength > original / low)
        return frequency / config->rope_factor;
    double smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / config->rope_factor + smooth * frequency;
}

void config_rotary_frequencies(const struct model_config *config, float *inv_freq)
{
    for (size_t i = 0; i < config->head_size / 2; i++) {
        double exponent = (double)(2 * i) / (double)config->head_size;
        double frequency = 1 / pow(config->rope_theta, exponent);

        switch (config->rope_scaling) {
        case ROPE_SCALING_NONE:
            break;
        case ROPE_SCALING_LINEAR:
            frequency /= config->rope_factor;
            break;
        case ROPE_SCALING_LLAMA3:
            frequency = scale_llama3(config, frequency);
            break;
        case ROPE_SCALING_DIVISORS:
            frequency /= config->rope_divisors[i];
            break;
        }
        inv_freq[i] = (float)frequency;
    }
}
