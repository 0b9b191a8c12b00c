/* SPDX-License-Identifier: Apache-2.0
 *
 * Loose reading: a member under any of the names the families give it; a wrong type or a negative
 * number is an error. Presets are a table: a new model is a row.
 */
#include "model/export_config.h"

#include "base/buffer.h"
#include "base/error.h"
#include "convert/text_files.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_SIZE = 1 << 28 };

static const struct preset {
    const char *name;
    enum model_family family;
    size_t n_layers, n_heads, n_kv_heads, head_size, hidden_size, intermediate_size;
    size_t vocab_size, max_positions;
    int32_t bos, pad;
    int32_t eos[3];
    size_t n_eos;
} presets[] = {
    {"qwen2.5-coder-0.5b",
     FAMILY_QWEN2,
     24,
     14,
     2,
     64,
     896,
     4864,
     151936,
     32768,
     151643,
     151643,
     {151645, 151643},
     2},
    {"qwen2.5-0.5b",
     FAMILY_QWEN2,
     24,
     14,
     2,
     64,
     896,
     4864,
     151936,
     32768,
     151643,
     151643,
     {151645, 151643},
     2},
    {"qwen2.5-coder-1.5b",
     FAMILY_QWEN2,
     28,
     12,
     2,
     128,
     1536,
     8960,
     151936,
     32768,
     151643,
     151643,
     {151645, 151643},
     2},
    {"qwen2.5-1.5b",
     FAMILY_QWEN2,
     28,
     12,
     2,
     128,
     1536,
     8960,
     151936,
     32768,
     151643,
     151643,
     {151645, 151643},
     2},
    {"qwen3-0.6b",
     FAMILY_QWEN3,
     28,
     16,
     8,
     128,
     1024,
     3072,
     151936,
     40960,
     151643,
     151643,
     {151645, 151643},
     2},
    {"llama-3.2-1b",
     FAMILY_LLAMA,
     16,
     32,
     8,
     64,
     2048,
     8192,
     128256,
     131072,
     128000,
     -1,
     {128001, 128008, 128009},
     3},
    {"smollm2-135m", FAMILY_LLAMA, 30, 9, 3, 64, 576, 1536, 49152, 8192, 1, 2, {2}, 1},
    {"smollm2-360m", FAMILY_LLAMA, 32, 15, 5, 64, 960, 2560, 49152, 8192, 1, 2, {2}, 1},
    {"smollm2-1.7b", FAMILY_LLAMA, 24, 32, 32, 64, 2048, 8192, 49152, 8192, 1, 2, {2}, 1},
    {"tinyllama-1.1b", FAMILY_LLAMA, 22, 32, 4, 64, 2048, 5632, 32000, 2048, 1, -1, {2}, 1},
};

static kvern_status use_preset(struct model_config *config, const char *name, kvern_error *err)
{
    struct buffer names = {0};
    kvern_status status;

    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        const struct preset *preset = &presets[i];

        buffer_add_format(&names, "%s%s", i > 0 ? ", " : "", preset->name);
        if (strcmp(name, preset->name) != 0)
            continue;
        *config = (struct model_config){.family = preset->family,
                                        .n_layers = preset->n_layers,
                                        .n_heads = preset->n_heads,
                                        .n_kv_heads = preset->n_kv_heads,
                                        .head_size = preset->head_size,
                                        .hidden_size = preset->hidden_size,
                                        .intermediate_size = preset->intermediate_size,
                                        .vocab_size = preset->vocab_size,
                                        .max_positions = preset->max_positions,
                                        .bos = preset->bos,
                                        .pad = preset->pad,
                                        .n_eos = preset->n_eos};
        memcpy(config->eos, preset->eos, preset->n_eos * sizeof *preset->eos);
        buffer_clear(&names);
        return KVERN_OK;
    }
    status = fail(err, KVERN_NOT_FOUND, "there is no preset '%s'; there are %s", name,
                  names.data ? names.data : "none");
    buffer_clear(&names);
    return status;
}

/* Where reading is; it remembers the first failure. */
struct reader {
    const json_t *object;
    const char *file;
    kvern_status status;
    kvern_error *err;
};

/* The size under one of the NULL-ended names; `otherwise` if there is none. */
static size_t read_size(struct reader *reader, const char *const *names, size_t otherwise)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(reader->object, *names);

        if (!value || json_is_null(value))
            continue;
        if (!json_is_integer(value) || json_integer_value(value) < 1 ||
            json_integer_value(value) > MAX_SIZE) {
            if (reader->status == KVERN_OK)
                reader->status = fail(reader->err, KVERN_FORMAT, "%s: %s is no number from 1 to %d",
                                      reader->file, *names, MAX_SIZE);
            return otherwise;
        }
        return (size_t)json_integer_value(value);
    }
    return otherwise;
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static bool is_id(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) <= INT32_MAX;
}

static int32_t read_id(const struct reader *reader, const char *name)
{
    const json_t *value = json_object_get(reader->object, name);

    if (json_is_array(value))
        value = json_array_get(value, 0);
    return is_id(value) ? (int32_t)json_integer_value(value) : -1;
}

static void add_eos(struct model_config *config, const json_t *value)
{
    if (!is_id(value) || config->n_eos == CONFIG_MAX_EOS)
        return;
    for (size_t i = 0; i < config->n_eos; i++) {
        if (config->eos[i] == json_integer_value(value))
            return;
    }
    config->eos[config->n_eos++] = (int32_t)json_integer_value(value);
}

static void read_eos(struct model_config *config, const json_t *object)
{
    const json_t *value = json_object_get(object, "eos_token_id");

    add_eos(config, value);
    for (size_t i = 0; i < json_array_size(value); i++)
        add_eos(config, json_array_get(value, i));
}

static void read_family(struct model_config *config, const json_t *name)
{
    if (!json_is_string(name) || !config_family_from_name(json_string_value(name), &config->family))
        config->family = FAMILY_OTHER;
}

static kvern_status read_config(struct model_config *config, const json_t *root, kvern_error *err)
{
    const json_t *inner = json_object_get(root, "text_config");
    struct reader reader = {.object = json_is_object(inner) ? inner : root,
                            .file = "config.json",
                            .status = KVERN_OK,
                            .err = err};

    read_family(config, json_object_get(root, "model_type"));
    config->n_layers = read_size(&reader, NAMES("num_hidden_layers", "n_layer", "num_layers"), 0);
    config->n_heads = read_size(&reader, NAMES("num_attention_heads", "n_head", "num_heads"), 0);
    config->n_kv_heads =
        read_size(&reader, NAMES("num_key_value_heads", "num_kv_heads"), config->n_heads);
    config->hidden_size = read_size(&reader, NAMES("hidden_size", "n_embd", "d_model"), 0);
    config->head_size = read_size(&reader, NAMES("head_dim"),
                                  config->n_heads > 0 ? config->hidden_size / config->n_heads : 0);
    config->intermediate_size = read_size(&reader, NAMES("intermediate_size", "n_inner"), 0);
    config->vocab_size = read_size(&reader, NAMES("vocab_size"), 0);
    config->max_positions =
        read_size(&reader, NAMES("max_position_embeddings", "n_positions", "max_seq_len"),
                  EXPORT_DEFAULT_CONTEXT);
    config->bos = read_id(&reader, "bos_token_id");
    config->pad = read_id(&reader, "pad_token_id");
    read_eos(config, reader.object);
    return reader.status;
}

static kvern_status read_genai(struct model_config *config, const json_t *root, kvern_error *err)
{
    const json_t *model = json_object_get(root, "model");
    struct reader outer = {model, "genai_config.json", KVERN_OK, err};
    struct reader inner = {json_object_get(model, "decoder"), "genai_config.json", KVERN_OK, err};

    read_family(config, json_object_get(model, "type"));
    config->n_layers = read_size(&inner, NAMES("num_hidden_layers"), 0);
    config->n_heads = read_size(&inner, NAMES("num_attention_heads"), 0);
    config->n_kv_heads = read_size(&inner, NAMES("num_key_value_heads"), config->n_heads);
    config->head_size = read_size(&inner, NAMES("head_size"), 0);
    config->hidden_size = read_size(&inner, NAMES("hidden_size"), 0);
    config->vocab_size = read_size(&outer, NAMES("vocab_size"), 0);
    config->max_positions = read_size(&outer, NAMES("context_length"), EXPORT_DEFAULT_CONTEXT);
    config->bos = read_id(&outer, "bos_token_id");
    config->pad = read_id(&outer, "pad_token_id");
    read_eos(config, model);
    return inner.status != KVERN_OK ? inner.status : outer.status;
}

/* Parses a file of the directory; *root stays NULL if it is not there. */
static kvern_status load(const char *directory, const char *name, json_t **root, kvern_error *err)
{
    json_error_t why;
    char *text = NULL;
    kvern_status status = text_file_read_optional(directory, name, MAX_CONFIG_BYTES, &text, err);

    if (status == KVERN_OK && text) {
        *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(*root))
            status = fail(err, KVERN_FORMAT, "%s/%s is no JSON object: line %d: %s", directory,
                          name, why.line, why.text);
    }
    free(text);
    return status;
}

kvern_status export_config_read(struct model_config *config, const char *directory,
                                const char *preset, bool *is_stated, kvern_error *err)
{
    json_t *root = NULL;
    json_t *generation = NULL;
    json_t *genai = NULL;
    kvern_status status;

    *is_stated = true;
    if (preset)
        return use_preset(config, preset, err);
    *config = (struct model_config){
        .family = FAMILY_OTHER, .max_positions = EXPORT_DEFAULT_CONTEXT, .bos = -1, .pad = -1};
    status = load(directory, "config.json", &root, err);
    if (status == KVERN_OK && root) {
        status = load(directory, "generation_config.json", &generation, err);
        if (status == KVERN_OK)
            status = read_config(config, root, err);
        if (status == KVERN_OK && generation)
            read_eos(config, generation);
    } else if (status == KVERN_OK) {
        status = load(directory, "genai_config.json", &genai, err);
        if (status == KVERN_OK && genai)
            status = read_genai(config, genai, err);
        *is_stated = genai != NULL;
    }
    json_decref(root);
    json_decref(generation);
    json_decref(genai);
    return status;
}
