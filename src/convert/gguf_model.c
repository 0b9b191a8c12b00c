/* SPDX-License-Identifier: Apache-2.0
 *
 * From GGUF's keys and tensor names to Hugging Face's. The tables below are the whole vocabulary.
 */
#include "convert/gguf_model.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config ---- */

struct reader {
    const struct gguf *gguf;
    char architecture[32];
    kvern_status status; /* the first failure stays */
    kvern_error *err;
};

static const struct gguf_value *find(const struct reader *reader, const char *name, char key[96])
{
    snprintf(key, 96, "%s.%s", reader->architecture, name);
    return gguf_find(reader->gguf, key);
}

static void reject(struct reader *reader, const char *key, const char *problem)
{
    if (reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_FORMAT, "GGUF metadata %s %s", key, problem);
}

static size_t read_size(struct reader *reader, const char *name, size_t otherwise)
{
    char key[96];
    const struct gguf_value *value = find(reader, name, key);
    uint64_t number = otherwise;

    if (value && (value->type == GGUF_ARRAY || !gguf_unsigned(value, 0, &number)))
        reject(reader, key, "is not one whole number of at least 0");
    return (size_t)number;
}

static size_t require_size(struct reader *reader, const char *name)
{
    char key[96];

    if (!find(reader, name, key))
        reject(reader, key, "is missing");
    return read_size(reader, name, 0);
}

static float read_float(struct reader *reader, const char *name, double otherwise)
{
    char key[96];
    const struct gguf_value *value = find(reader, name, key);
    double number = otherwise;

    if (value && !gguf_float(value, 0, &number))
        reject(reader, key, "is not a number");
    return (float)number;
}

static int32_t read_id(struct reader *reader, const char *key)
{
    const struct gguf_value *value = gguf_find(reader->gguf, key);
    uint64_t number;

    if (!value)
        return -1;
    if (!gguf_unsigned(value, 0, &number) || number > INT32_MAX) {
        reject(reader, key, "is not a token id");
        return -1;
    }
    return (int32_t)number;
}

static const struct gguf_tensor *find_tensor(const struct gguf *gguf, const char *name)
{
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf->tensors[i];

        if (tensor->name.n_bytes == strlen(name) &&
            memcmp(tensor->name.bytes, name, tensor->name.n_bytes) == 0)
            return tensor;
    }
    return NULL;
}

static void read_family(struct reader *reader, struct model_config *config)
{
    const struct gguf_value *value = gguf_find(reader->gguf, "general.architecture");
    struct gguf_string name;

    if (!value || !gguf_text(value, &name)) {
        reject(reader, "general.architecture", "is missing");
        return;
    }
    snprintf(reader->architecture, sizeof reader->architecture, "%.*s",
             (int)(name.n_bytes < 31 ? name.n_bytes : 31), name.bytes);
    if (!config_family_from_name(reader->architecture, &config->family) ||
        config_is_encoder(config))
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "GGUF architecture \"%s\" is not supported (llama, qwen2 and qwen3 "
                              "are)",
                              reader->architecture);
}

/* rope_freqs.weight holds a divisor for each frequency: that is how Llama 3's scaling is stored. */
static void read_divisors(struct reader *reader, struct model_config *config)
{
    const struct gguf_tensor *divisors = find_tensor(reader->gguf, "rope_freqs.weight");

    if (!divisors)
        return;
    if (divisors->type != TENSOR_F32 || divisors->n_dims != 1 ||
        divisors->dims[0] != config->head_size / 2 || config->head_size > CONFIG_MAX_HEAD_SIZE) {
        if (reader->status == KVERN_OK)
            reader->status =
                fail(reader->err, KVERN_FORMAT,
                     "rope_freqs.weight is not a vector of %zu f32 values", config->head_size / 2);
        return;
    }
    memcpy(config->rope_divisors, divisors->data, divisors->n_bytes);
    config->rope_scaling = ROPE_SCALING_DIVISORS;
}

static void read_rope(struct reader *reader, struct model_config *config)
{
    char key[96];
    const struct gguf_value *value = find(reader, "rope.scaling.type", key);
    struct gguf_string type = {"none", 4};
    size_t n_rotated = read_size(reader, "rope.dimension_count", config->head_size);

    config->rope_theta = read_float(reader, "rope.freq_base", 10000);
    config->rope_factor = read_float(reader, "rope.scaling.factor", 1);
    if (value && !gguf_text(value, &type))
        reject(reader, key, "is not a string");
    if (type.n_bytes == 6 && memcmp(type.bytes, "linear", 6) == 0)
        config->rope_scaling = ROPE_SCALING_LINEAR;
    else if ((type.n_bytes != 4 || memcmp(type.bytes, "none", 4) != 0) &&
             reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "GGUF rope scaling \"%.*s\" is not supported (none and linear are)",
                              (int)(type.n_bytes < 32 ? type.n_bytes : 32), type.bytes);
    if (n_rotated != config->head_size && reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "rotary embedding of %zu of %zu values a head is not supported",
                              n_rotated, config->head_size);
    read_divisors(reader, config);
}

static void read_special_ids(struct reader *reader, struct model_config *config)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};

    config->bos = read_id(reader, "tokenizer.ggml.bos_token_id");
    config->pad = read_id(reader, "tokenizer.ggml.padding_token_id");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = read_id(reader, ends[i]);
        bool is_known = id < 0;

        for (size_t j = 0; j < config->n_eos; j++)
            is_known = is_known || config->eos[j] == id;
        if (!is_known)
            config->eos[config->n_eos++] = id;
    }
}

kvern_status gguf_model_config(const struct gguf *gguf, struct model_config *config,
                               kvern_error *err)
{
    struct reader reader = {.gguf = gguf, .status = KVERN_OK, .err = err};
    struct model_config read = {.bos = -1, .pad = -1};
    const struct gguf_tensor *embedding = find_tensor(gguf, "token_embd.weight");

    read_family(&reader, &read);
    if (reader.status != KVERN_OK)
        return reader.status;
    const struct gguf_value *n_files = gguf_find(gguf, "split.count");
    uint64_t n_split = 0;
    if (n_files && gguf_unsigned(n_files, 0, &n_split) && n_split > 1)
        return fail(err, KVERN_UNSUPPORTED,
                    "this GGUF file is one of %llu; merge them with llama.cpp's gguf-split first",
                    (unsigned long long)n_split);
    if (!embedding || embedding->n_dims != 2)
        return fail(err, KVERN_FORMAT, "the GGUF file has no matrix token_embd.weight");
    if (read_size(&reader, "expert_count", 0) > 0)
        return fail(err, KVERN_UNSUPPORTED, "mixture-of-experts models are not supported");
    read.n_layers = require_size(&reader, "block_count");
    read.n_heads = require_size(&reader, "attention.head_count");
    read.n_kv_heads = read_size(&reader, "attention.head_count_kv", read.n_heads);
    read.hidden_size = require_size(&reader, "embedding_length");
    read.head_size = read_size(&reader, "attention.key_length",
                               read.n_heads ? read.hidden_size / read.n_heads : 0);
    read.intermediate_size = require_size(&reader, "feed_forward_length");
    read.vocab_size = embedding->dims[0];
    read.max_positions = require_size(&reader, "context_length");
    read.norm_epsilon = read_float(&reader, "attention.layer_norm_rms_epsilon", 1e-6);
    read.sliding_window = read_size(&reader, "attention.sliding_window", 0);
    read.is_tied = !find_tensor(gguf, "output.weight");
    read.has_qkv_bias = find_tensor(gguf, "blk.0.attn_q.bias") != NULL;
    read.has_o_bias = find_tensor(gguf, "blk.0.attn_output.bias") != NULL;
    read.has_mlp_bias = find_tensor(gguf, "blk.0.ffn_gate.bias") != NULL;
    read.has_qk_norm = find_tensor(gguf, "blk.0.attn_q_norm.weight") != NULL;
    read.activation = MODEL_ACTIVATION_SILU;
    read_rope(&reader, &read);
    read_special_ids(&reader, &read);
    if (reader.status == KVERN_OK)
        reader.status = config_check(&read, err);
    if (reader.status == KVERN_OK)
        *config = read;
    return reader.status;
}

/* ---- tensors ---- */

static const struct {
    const char *gguf;
    const char *name;
} global_names[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};

static const struct {
    const char *gguf; /* after "blk.N." */
    const char *name; /* after "model.layers.N." */
} layer_names[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

/* The Hugging Face name of a GGUF name, malloc'ed; NULL if there is none. */
static char *rename_tensor(const char *from)
{
    const char *suffix = strrchr(from, '.');
    const char *part = from;
    char name[128];
    int n = -1;
    unsigned layer = 0;
    int n_prefix = 0;

    if (!suffix || (strcmp(suffix, ".weight") != 0 && strcmp(suffix, ".bias") != 0))
        return NULL;
    bool is_layer = sscanf(from, "blk.%4u.%n", &layer, &n_prefix) == 1 && n_prefix > 0;
    if (is_layer)
        part += n_prefix;
    if (part > suffix)
        return NULL;
    size_t n_part = (size_t)(suffix - part);
    for (size_t i = 0; is_layer && i < sizeof layer_names / sizeof *layer_names; i++) {
        if (strlen(layer_names[i].gguf) == n_part && !memcmp(layer_names[i].gguf, part, n_part))
            n = snprintf(name, sizeof name, "model.layers.%u.%s%s", layer, layer_names[i].name,
                         suffix);
    }
    for (size_t i = 0; !is_layer && i < sizeof global_names / sizeof *global_names; i++) {
        if (strlen(global_names[i].gguf) == n_part && !memcmp(global_names[i].gguf, part, n_part))
            n = snprintf(name, sizeof name, "%s%s", global_names[i].name, suffix);
    }
    return n > 0 ? strdup(name) : NULL;
}

/* Llama's q and k rows are stored for interleaved rotary pairs; their biases too. */
static kvern_status mark_rope_order(const struct model_config *config, struct tensor *tensor,
                                    kvern_error *err)
{
    bool is_q = strstr(tensor->name, "self_attn.q_proj") != NULL;
    bool is_k = strstr(tensor->name, "self_attn.k_proj") != NULL;

    if (config->family != FAMILY_LLAMA || (!is_q && !is_k))
        return KVERN_OK;
    tensor->rope_heads = is_q ? config->n_heads : config->n_kv_heads;
    if (tensor->dims[0] != tensor->rope_heads * config->head_size)
        return fail(err, KVERN_FORMAT, "%s has %zu rows; %zu heads of %zu need %zu", tensor->name,
                    tensor->dims[0], tensor->rope_heads, config->head_size,
                    tensor->rope_heads * config->head_size);
    if (tensor->n_dims > 2 || (tensor->n_dims == 1 && tensor_type_block_values(tensor->type) != 1))
        return fail(err, KVERN_FORMAT, "%s is neither a matrix nor a vector of floats",
                    tensor->name);
    return KVERN_OK;
}

kvern_status gguf_model_tensors(const struct gguf *gguf, const struct file_map *file,
                                struct checkpoint *checkpoint, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < gguf->n_tensors && status == KVERN_OK; i++) {
        const struct gguf_tensor *from = &gguf->tensors[i];
        char name[96];

        snprintf(name, sizeof name, "%.*s",
                 (int)(from->name.n_bytes < 95 ? from->name.n_bytes : 95), from->name.bytes);
        if (strcmp(name, "rope_freqs.weight") == 0)
            continue; /* part of the config */
        struct tensor tensor = {.name = rename_tensor(name),
                                .type = from->type,
                                .n_dims = from->n_dims,
                                .data = from->data,
                                .n_bytes = from->n_bytes,
                                .file = file};
        memcpy(tensor.dims, from->dims, sizeof tensor.dims);
        if (!tensor.name)
            return fail(err, KVERN_UNSUPPORTED,
                        "GGUF tensor %s is not part of any model kvern can run", name);
        status = mark_rope_order(&checkpoint->config, &tensor, err);
        if (status == KVERN_OK)
            status = checkpoint_add(checkpoint, tensor, err);
        else
            free(tensor.name);
    }
    return status;
}
