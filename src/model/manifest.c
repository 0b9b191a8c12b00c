/* SPDX-License-Identifier: Apache-2.0
 *
 * struct manifest <-> kvern.json. Reading is a list of `read_*` calls on a cursor that remembers
 * the first failure, so that the members stand here in the order of the file. The checks of value
 * against value (heads, head size, ...) are config_check()'s, the same as for a checkpoint.
 */
#include "model/manifest.h"

#include "base/error.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const scaling_names[] = {
    [ROPE_SCALING_NONE] = "none",
    [ROPE_SCALING_LINEAR] = "linear",
    [ROPE_SCALING_LLAMA3] = "llama3",
    [ROPE_SCALING_DIVISORS] = "divisors",
};

static const char *const activation_names[] = {
    [MODEL_ACTIVATION_SILU] = "silu",
    [MODEL_ACTIVATION_GELU_TANH] = "gelu_tanh",
    [MODEL_ACTIVATION_GELU] = "gelu",
    [MODEL_ACTIVATION_RELU] = "relu",
};

/* Bit i of kv_types is name i. */
static const char *const kv_type_names[] = {"f16", "f32"};

enum {
    N_KV_TYPES = sizeof kv_type_names / sizeof kv_type_names[0],
    N_SCALINGS = sizeof scaling_names / sizeof scaling_names[0],
    N_ACTIVATIONS = sizeof activation_names / sizeof activation_names[0],
};

/* Where reading is: an object of the file, its name for messages, and the first failure. */
struct reader {
    json_t *object;
    const char *path; /* "" or "dims." */
    kvern_status status;
    kvern_error *err;
};

/* NULL after a failure, which includes a member that is missing or of another type. */
static json_t *read_member(struct reader *reader, const char *key, bool is_right(json_type),
                           const char *type_name)
{
    json_t *value;

    if (reader->status != KVERN_OK)
        return NULL;
    value = json_object_get(reader->object, key);
    if (!value)
        reader->status = fail(reader->err, KVERN_FORMAT, "%s%s is missing", reader->path, key);
    else if (!is_right(json_typeof(value)))
        reader->status =
            fail(reader->err, KVERN_FORMAT, "%s%s must be %s", reader->path, key, type_name);
    return reader->status == KVERN_OK ? value : NULL;
}

static bool is_integer(json_type type)
{
    return type == JSON_INTEGER;
}

static bool is_number(json_type type)
{
    return type == JSON_INTEGER || type == JSON_REAL;
}

static bool is_string(json_type type)
{
    return type == JSON_STRING;
}

static bool is_boolean(json_type type)
{
    return type == JSON_TRUE || type == JSON_FALSE;
}

static bool is_array(json_type type)
{
    return type == JSON_ARRAY;
}

static bool is_object(json_type type)
{
    return type == JSON_OBJECT;
}

static int64_t read_integer(struct reader *reader, const char *key, int64_t min, int64_t max)
{
    json_t *member = read_member(reader, key, is_integer, "an integer");
    int64_t value = member ? (int64_t)json_integer_value(member) : min;

    if (value < min || value > max) {
        reader->status =
            fail(reader->err, KVERN_FORMAT, "%s%s is %lld, but must be from %lld to %lld",
                 reader->path, key, (long long)value, (long long)min, (long long)max);
        return min;
    }
    return value;
}

static size_t read_size(struct reader *reader, const char *key, int64_t min)
{
    return (size_t)read_integer(reader, key, min, INT32_MAX);
}

static float read_float(struct reader *reader, const char *key)
{
    json_t *member = read_member(reader, key, is_number, "a number");
    float value = member ? (float)json_number_value(member) : 0.0f;

    if (!isfinite(value))
        reader->status = fail(reader->err, KVERN_FORMAT, "%s%s is out of range", reader->path, key);
    return value;
}

static bool read_boolean(struct reader *reader, const char *key)
{
    json_t *member = read_member(reader, key, is_boolean, "true or false");

    return json_is_true(member);
}

/* Copies a string without NUL and of at least one byte that fits. */
static void read_string(struct reader *reader, const char *key, char *out, size_t capacity)
{
    json_t *member = read_member(reader, key, is_string, "a string");
    size_t n_bytes = member ? json_string_length(member) : 0;

    out[0] = '\0';
    if (!member)
        return;
    if (n_bytes == 0 || n_bytes >= capacity)
        reader->status =
            fail(reader->err, KVERN_FORMAT, "%s%s has %zu bytes, but must have 1 to %zu",
                 reader->path, key, n_bytes, capacity - 1);
    else
        memcpy(out, json_string_value(member), n_bytes + 1);
}

/* The index in `names` of a string member. */
static size_t read_choice(struct reader *reader, const char *key, const char *const *names,
                          size_t n_names)
{
    char text[32];

    read_string(reader, key, text, sizeof text);
    for (size_t i = 0; i < n_names && reader->status == KVERN_OK; i++) {
        if (!strcmp(text, names[i]))
            return i;
    }
    if (reader->status == KVERN_OK)
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "%s%s is \"%s\", which kvern does not know", reader->path, key, text);
    return 0;
}

static void read_kv_types(struct reader *reader, struct manifest *manifest)
{
    json_t *array = read_member(reader, "kv_types", is_array, "an array");

    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));

        for (size_t j = 0; name && j < N_KV_TYPES; j++)
            manifest->kv_types |= (unsigned)!strcmp(name, kv_type_names[j]) << j;
    }
    if (array && manifest->kv_types == 0)
        reader->status =
            fail(reader->err, KVERN_UNSUPPORTED, "kv_types names no type that kvern knows");
}

static struct reader enter(struct reader *reader, const char *key, const char *path)
{
    json_t *object = read_member(reader, key, is_object, "an object");

    return (struct reader){
        .object = object, .path = path, .status = reader->status, .err = reader->err};
}

static void read_dims(struct reader *reader, struct model_config *config)
{
    struct reader dims = enter(reader, "dims", "dims.");

    config->n_layers = read_size(&dims, "layers", 1);
    config->n_heads = read_size(&dims, "heads", 1);
    config->n_kv_heads = read_size(&dims, "kv_heads", 1);
    config->head_size = read_size(&dims, "head_size", 1);
    config->hidden_size = read_size(&dims, "hidden", 1);
    config->intermediate_size = read_size(&dims, "intermediate", 1);
    config->vocab_size = read_size(&dims, "vocab", 1);
    config->max_positions = read_size(&dims, "max_positions", 1);
    config->sliding_window = read_size(&dims, "window", 0);
    reader->status = dims.status;
}

static void read_divisors(struct reader *rope, struct model_config *config)
{
    json_t *array = read_member(rope, "divisors", is_array, "an array");
    size_t n_expected = config->head_size / 2;

    if (!array)
        return;
    if (json_array_size(array) != n_expected || n_expected > CONFIG_MAX_HEAD_SIZE / 2) {
        rope->status =
            fail(rope->err, KVERN_FORMAT, "rope.divisors has %zu values, but dims.head_size is %zu",
                 json_array_size(array), config->head_size);
        return;
    }
    for (size_t i = 0; i < n_expected; i++)
        config->rope_divisors[i] = (float)json_number_value(json_array_get(array, i));
}

static void read_rope(struct reader *reader, struct model_config *config)
{
    struct reader rope = enter(reader, "rope", "rope.");

    config->rope_theta = read_float(&rope, "theta");
    config->rope_scaling =
        (enum rope_scaling)read_choice(&rope, "scaling", scaling_names, N_SCALINGS);
    if (config->rope_scaling == ROPE_SCALING_LINEAR || config->rope_scaling == ROPE_SCALING_LLAMA3)
        config->rope_factor = read_float(&rope, "factor");
    if (config->rope_scaling == ROPE_SCALING_LLAMA3) {
        config->rope_low_freq_factor = read_float(&rope, "low_freq_factor");
        config->rope_high_freq_factor = read_float(&rope, "high_freq_factor");
        config->rope_original_max_positions = read_size(&rope, "original_max_positions", 1);
    }
    if (config->rope_scaling == ROPE_SCALING_DIVISORS)
        read_divisors(&rope, config);
    reader->status = rope.status;
}

static void read_tokens(struct reader *reader, struct model_config *config)
{
    struct reader tokens = enter(reader, "tokens", "tokens.");
    int64_t last = (int64_t)config->vocab_size - 1;
    json_t *eos;

    config->bos = (int32_t)read_integer(&tokens, "bos", -1, last);
    config->pad = (int32_t)read_integer(&tokens, "pad", -1, last);
    eos = read_member(&tokens, "eos", is_array, "an array");
    if (eos && json_array_size(eos) > CONFIG_MAX_EOS)
        tokens.status =
            fail(tokens.err, KVERN_LIMIT, "tokens.eos has %zu ids, over the limit of %d",
                 json_array_size(eos), CONFIG_MAX_EOS);
    for (size_t i = 0; tokens.status == KVERN_OK && i < json_array_size(eos); i++) {
        json_t *id = json_array_get(eos, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > last)
            tokens.status =
                fail(tokens.err, KVERN_FORMAT,
                     "tokens.eos holds something that is no id from 0 to %lld", (long long)last);
        else
            config->eos[config->n_eos++] = (int32_t)json_integer_value(id);
    }
    reader->status = tokens.status;
}

static bool is_plain_name(const char *name)
{
    return name[0] && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static void read_files(struct reader *reader, struct manifest *manifest)
{
    json_t *array = read_member(reader, "files", is_array, "an array");

    if (array && json_array_size(array) > MANIFEST_MAX_FILES)
        reader->status =
            fail(reader->err, KVERN_LIMIT, "files has %zu entries, over the limit of %d",
                 json_array_size(array), MANIFEST_MAX_FILES);
    for (size_t i = 0; reader->status == KVERN_OK && i < json_array_size(array); i++) {
        struct manifest_file *file = &manifest->files[i];
        struct reader entry = {.object = json_array_get(array, i),
                               .path = "files[].",
                               .status = KVERN_OK,
                               .err = reader->err};

        read_string(&entry, "name", file->name, sizeof file->name);
        file->n_bytes = read_integer(&entry, "bytes", 0, INT64_MAX);
        read_string(&entry, "sha256", file->sha256, sizeof file->sha256);
        if (entry.status == KVERN_OK && !is_plain_name(file->name))
            entry.status =
                fail(entry.err, KVERN_FORMAT,
                     "the file name \"%s\" leads out of the model directory", file->name);
        if (entry.status == KVERN_OK && strspn(file->sha256, "0123456789abcdef") != 64)
            entry.status =
                fail(entry.err, KVERN_FORMAT, "the sha256 of %s is not 64 hex digits", file->name);
        reader->status = entry.status;
        manifest->n_files = i + 1;
    }
}

/* The graph and its weights are what a model directory is for. */
static void require_files(struct reader *reader, const struct manifest *manifest)
{
    static const char *const names[] = {MANIFEST_GRAPH_FILE, MANIFEST_DATA_FILE};

    for (size_t i = 0; i < sizeof names / sizeof names[0] && reader->status == KVERN_OK; i++) {
        bool is_there = false;

        for (size_t j = 0; j < manifest->n_files; j++)
            is_there |= !strcmp(manifest->files[j].name, names[i]);
        if (!is_there)
            reader->status = fail(reader->err, KVERN_FORMAT, "files does not name %s", names[i]);
    }
}

static void read_seq2seq(struct reader *reader, struct model_config *config)
{
    struct reader object = enter(reader, "seq2seq", "seq2seq.");

    config->n_encoder_layers = read_size(&object, "encoder_layers", 1);
    config->is_gated = read_boolean(&object, "gated");
    config->decoder_start =
        (int32_t)read_integer(&object, "decoder_start", 0, (int64_t)config->vocab_size - 1);
    reader->status = object.status;
}

/* What a model of its kind has: an encoder neither keys and values that are kept nor rotary
 * embedding. */
static void read_kind(struct reader *reader, struct manifest *manifest)
{
    struct model_config *config = &manifest->config;

    if (!config_is_encoder(config))
        read_kv_types(reader, manifest);
    if (config_is_seq2seq(config))
        read_seq2seq(reader, config);
    else if (!config_is_encoder(config))
        read_rope(reader, config);
}

static void check_contract(struct reader *reader, const struct manifest *manifest)
{
    const struct model_config *config = &manifest->config;
    const char *contract = config_is_encoder(config)   ? "encoder"
                           : config_is_seq2seq(config) ? "seq2seq"
                                                       : "paged";

    if (reader->status == KVERN_OK && strcmp(manifest->contract, contract) != 0)
        reader->status = fail(reader->err, KVERN_FORMAT,
                              "contract is \"%s\", but a model of family %s has the contract %s",
                              manifest->contract, config_family_name(config->family), contract);
}

static void read_embedding(struct reader *reader, struct manifest *manifest)
{
    const json_t *object = json_object_get(reader->object, "embedding");

    if (object && reader->status == KVERN_OK)
        reader->status = manifest_embedding_read(&manifest->embedding, object,
                                                 manifest->config.max_positions, reader->err);
}

static void read_all(struct reader *reader, struct manifest *manifest)
{
    static const char *const contracts[] = {"paged", "encoder", "seq2seq"};
    static const char *const weights[] = {"q4", "q8", "f32", "mixed"};
    struct model_config *config = &manifest->config;
    char family[32];
    int64_t version = read_integer(reader, "format_version", 0, INT64_MAX);
    struct reader source;

    if (reader->status == KVERN_OK && version != MANIFEST_VERSION)
        reader->status =
            fail(reader->err, KVERN_UNSUPPORTED,
                 "format_version is %lld; this kvern reads version %d: 'kvern pull', or "
                 "'kvern convert --overwrite', makes the model anew",
                 (long long)version, MANIFEST_VERSION);
    read_string(reader, "name", manifest->name, sizeof manifest->name);
    read_string(reader, "family", family, sizeof family);
    if (reader->status == KVERN_OK && !config_family_from_name(family, &config->family))
        reader->status = fail(reader->err, KVERN_UNSUPPORTED,
                              "family is \"%s\", which kvern does not know", family);
    snprintf(manifest->contract, sizeof manifest->contract, "%s",
             contracts[read_choice(reader, "contract", contracts, 3)]);
    check_contract(reader, manifest);
    snprintf(manifest->weights, sizeof manifest->weights, "%s",
             weights[read_choice(reader, "weights", weights, 4)]);
    manifest->n_parameters = read_integer(reader, "n_parameters", 1, INT64_MAX);
    read_dims(reader, config);
    config->norm_epsilon = read_float(reader, "norm_epsilon");
    config->activation =
        (enum model_activation)read_choice(reader, "activation", activation_names, N_ACTIVATIONS);
    config->is_tied = read_boolean(reader, "tied");
    config->has_qkv_bias = read_boolean(reader, "qkv_bias");
    config->has_o_bias = read_boolean(reader, "o_bias");
    config->has_mlp_bias = read_boolean(reader, "mlp_bias");
    config->has_qk_norm = read_boolean(reader, "qk_norm");
    read_kind(reader, manifest);
    read_tokens(reader, config);
    read_embedding(reader, manifest);
    source = enter(reader, "source", "source.");
    read_string(&source, "file", manifest->source, sizeof manifest->source);
    read_string(&source, "format", manifest->source_format, sizeof manifest->source_format);
    reader->status = source.status;
    read_files(reader, manifest);
    require_files(reader, manifest);
    if (reader->status == KVERN_OK)
        reader->status = config_check(config, reader->err);
}

kvern_status manifest_parse(struct manifest *manifest, const char *text, size_t n_bytes,
                            kvern_error *err)
{
    json_error_t why;
    struct reader reader = {.path = "", .status = KVERN_OK, .err = err};
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &why);

    *manifest = (struct manifest){0};
    if (!root)
        return fail(err, KVERN_FORMAT, "not JSON: line %d: %s", why.line, why.text);
    reader.object = root;
    if (json_is_object(root))
        read_all(&reader, manifest);
    else
        reader.status = fail(err, KVERN_FORMAT, "not a JSON object");
    json_decref(root);
    return reader.status;
}

/* The double whose shortest spelling is the float's: 1e-5, not 9.99999975e-6. */
static json_t *make_float(float value)
{
    char text[32];

    for (int n_digits = 6; n_digits <= 9; n_digits++) {
        snprintf(text, sizeof text, "%.*g", n_digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *make_rope(const struct model_config *config)
{
    json_t *rope = json_pack("{s:o, s:s}", "theta", make_float(config->rope_theta), "scaling",
                             scaling_names[config->rope_scaling]);

    if (config->rope_scaling == ROPE_SCALING_LINEAR || config->rope_scaling == ROPE_SCALING_LLAMA3)
        json_object_set_new(rope, "factor", make_float(config->rope_factor));
    if (config->rope_scaling == ROPE_SCALING_LLAMA3) {
        json_object_set_new(rope, "low_freq_factor", make_float(config->rope_low_freq_factor));
        json_object_set_new(rope, "high_freq_factor", make_float(config->rope_high_freq_factor));
        json_object_set_new(rope, "original_max_positions",
                            json_integer((json_int_t)config->rope_original_max_positions));
    }
    if (config->rope_scaling == ROPE_SCALING_DIVISORS) {
        json_t *divisors = json_array();

        for (size_t i = 0; i < config->head_size / 2; i++)
            json_array_append_new(divisors, make_float(config->rope_divisors[i]));
        json_object_set_new(rope, "divisors", divisors);
    }
    return rope;
}

static json_t *make_tokens(const struct model_config *config)
{
    json_t *eos = json_array();

    for (size_t i = 0; i < config->n_eos; i++)
        json_array_append_new(eos, json_integer(config->eos[i]));
    return json_pack("{s:i, s:o, s:i}", "bos", (int)config->bos, "eos", eos, "pad",
                     (int)config->pad);
}

static json_t *make_dims(const struct model_config *config)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "layers",
                     (json_int_t)config->n_layers, "heads", (json_int_t)config->n_heads, "kv_heads",
                     (json_int_t)config->n_kv_heads, "head_size", (json_int_t)config->head_size,
                     "hidden", (json_int_t)config->hidden_size, "intermediate",
                     (json_int_t)config->intermediate_size, "vocab", (json_int_t)config->vocab_size,
                     "max_positions", (json_int_t)config->max_positions, "window",
                     (json_int_t)config->sliding_window);
}

static json_t *make_files(const struct manifest *manifest)
{
    json_t *files = json_array();

    for (size_t i = 0; i < manifest->n_files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", manifest->files[i].name,
                                               "bytes", (json_int_t)manifest->files[i].n_bytes,
                                               "sha256", manifest->files[i].sha256));
    return files;
}

static json_t *make_kv_types(unsigned kv_types)
{
    json_t *names = json_array();

    for (size_t i = 0; i < N_KV_TYPES; i++) {
        if (kv_types >> i & 1)
            json_array_append_new(names, json_string(kv_type_names[i]));
    }
    return names;
}

static json_t *make_seq2seq(const struct model_config *config)
{
    return json_pack("{s:I, s:b, s:i}", "encoder_layers", (json_int_t)config->n_encoder_layers,
                     "gated", config->is_gated, "decoder_start", (int)config->decoder_start);
}

/* NULL if a name is not UTF-8 or memory ran out. What "o*" takes may be NULL: then it is left out.
 */
static json_t *make_all(const struct manifest *manifest)
{
    const struct model_config *config = &manifest->config;
    bool is_encoder = config_is_encoder(config);
    bool is_seq2seq = config_is_seq2seq(config);
    bool has_embedding = manifest_embedding_is_set(&manifest->embedding);
    json_t *embedding = has_embedding ? manifest_embedding_make(&manifest->embedding) : NULL;

    if (has_embedding && !embedding)
        return NULL;
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:o*, s:I, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:o*, "
        "s:o*, s:o, s:o*, s:{s:s, s:s}, s:o}",
        "format_version", MANIFEST_VERSION, "name", manifest->name, "family",
        config_family_name(config->family), "contract", manifest->contract, "weights",
        manifest->weights, "kv_types", is_encoder ? NULL : make_kv_types(manifest->kv_types),
        "n_parameters", (json_int_t)manifest->n_parameters, "dims", make_dims(config),
        "norm_epsilon", make_float(config->norm_epsilon), "activation",
        activation_names[config->activation], "tied", config->is_tied, "qkv_bias",
        config->has_qkv_bias, "o_bias", config->has_o_bias, "mlp_bias", config->has_mlp_bias,
        "qk_norm", config->has_qk_norm, "rope", is_encoder || is_seq2seq ? NULL : make_rope(config),
        "seq2seq", is_seq2seq ? make_seq2seq(config) : NULL, "tokens", make_tokens(config),
        "embedding", embedding, "source", "file", manifest->source, "format",
        manifest->source_format, "files", make_files(manifest));
}

kvern_status manifest_format(const struct manifest *manifest, char **text, kvern_error *err)
{
    json_t *root = make_all(manifest);

    *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return *text ? KVERN_OK
                 : fail(err, KVERN_INVALID, MANIFEST_FILE " cannot be made: a name is not UTF-8");
}
