/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes tiny random checkpoints (model.safetensors + config.json) of decoders and encoders from a
 * seed, for tests that need a model and not its meaning. Equal options give equal bytes on every
 * machine: the values come from integers by exact steps. Test support: anything that fails aborts.
 */
#ifndef KVERN_TESTS_TINY_CHECKPOINT_H
#define KVERN_TESTS_TINY_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tiny_options {
    const char *family; /* "llama", "qwen2", "qwen3", "bert", "roberta", "distilbert" */
    uint64_t seed;
    size_t n_layers;
    size_t n_heads;
    size_t n_kv_heads;
    size_t head_size;
    size_t hidden_size;
    size_t intermediate_size;
    size_t vocab_size;
    size_t max_positions;
    bool is_tied;
    const char *more_config; /* more members for config.json, each with a comma before; or "" */
    const char *leave_out;   /* the name of a tensor that is not written; or NULL */
    bool is_sparse;     /* all values are zeros that take no disk: for sizes that would not fit */
    const char *extra;  /* the name of a vector that no such model has; or NULL */
    const char *prefix; /* encoders: what stands before all names, "bert."; or "" */
    bool is_headless;   /* decoders: names without "model.", as of a model without lm_head */
    bool has_old_norms; /* encoders: LayerNorm.gamma and beta instead of weight and bias */
};

static inline bool tiny_is_encoder(const struct tiny_options *options)
{
    return strstr(options->family, "bert") != NULL;
}

/* 2 layers, sizes that are multiples of 32 and not of 64, 2 query heads on 1 KV head (6 of an
 * encoder), vocab 100. */
static inline struct tiny_options tiny_options(const char *family)
{
    bool is_encoder = strstr(family, "bert") != NULL;

    return (struct tiny_options){.family = family,
                                 .seed = 1,
                                 .n_layers = 2,
                                 .n_heads = is_encoder ? 6 : 2,
                                 .n_kv_heads = is_encoder ? 6 : 1,
                                 .head_size = 16,
                                 .hidden_size = 96,
                                 .intermediate_size = 160,
                                 .vocab_size = 100,
                                 .max_positions = is_encoder ? 64 : 2048,
                                 .is_tied = true,
                                 .more_config = "",
                                 .prefix = ""};
}

/* One pass counts and writes the header, a second one the values, over the same list. */
struct tiny_writer {
    const struct tiny_options *options;
    FILE *file;
    bool is_header;
    size_t offset;
    uint64_t state;
};

static inline void tiny_abort(const char *what)
{
    perror(what);
    abort();
}

/* In [-1, 1): 24 random bits over 2^23. */
static inline float tiny_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (float)((int32_t)(*state >> 40) - (1 << 23)) / (float)(1 << 23);
}

/* A tensor [n_rows, k] (n_rows = 0: a vector [k]) of values in center +- width. */
static inline void tiny_tensor(struct tiny_writer *writer, const char *name, size_t n_rows,
                               size_t k, float center, float width)
{
    size_t n = (n_rows ? n_rows : 1) * k;
    size_t begin = writer->offset;

    if (writer->options->is_headless && !strncmp(name, "model.", 6))
        name += 6;
    if (writer->options->leave_out && !strcmp(name, writer->options->leave_out))
        return;
    writer->offset += n * sizeof(float);
    if (writer->is_header) {
        fprintf(writer->file, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", begin ? "," : "", name);
        if (n_rows)
            fprintf(writer->file, "%zu,", n_rows);
        fprintf(writer->file, "%zu],\"data_offsets\":[%zu,%zu]}", k, begin, writer->offset);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float value = center + width * tiny_random(&writer->state);

        if (fwrite(&value, sizeof value, 1, writer->file) != 1)
            tiny_abort(name);
    }
}

/* Width so that a unit input gives an output of about 1: 1.5 / sqrt(k), by powers of two to be
 * exact. */
static inline void tiny_matrix(struct tiny_writer *writer, const char *name, size_t n_rows,
                               size_t k)
{
    float width = 1.5f;

    for (size_t n = k; n > 1; n /= 4)
        width *= 0.5f;
    tiny_tensor(writer, name, n_rows, k, 0, width);
}

static inline void tiny_layer(struct tiny_writer *writer, size_t layer)
{
    const struct tiny_options *o = writer->options;
    size_t q_size = o->n_heads * o->head_size;
    size_t kv_size = o->n_kv_heads * o->head_size;
    const struct {
        const char *name;
        size_t n_rows; /* 0: a norm or a bias */
        size_t k;
        const char *only; /* NULL: all families */
    } parts[] = {
        {"input_layernorm.weight", 0, o->hidden_size, NULL},
        {"self_attn.q_proj.weight", q_size, o->hidden_size, NULL},
        {"self_attn.k_proj.weight", kv_size, o->hidden_size, NULL},
        {"self_attn.v_proj.weight", kv_size, o->hidden_size, NULL},
        {"self_attn.q_proj.bias", 0, q_size, "qwen2"},
        {"self_attn.k_proj.bias", 0, kv_size, "qwen2"},
        {"self_attn.v_proj.bias", 0, kv_size, "qwen2"},
        {"self_attn.q_norm.weight", 0, o->head_size, "qwen3"},
        {"self_attn.k_norm.weight", 0, o->head_size, "qwen3"},
        {"self_attn.o_proj.weight", o->hidden_size, q_size, NULL},
        {"post_attention_layernorm.weight", 0, o->hidden_size, NULL},
        {"mlp.gate_proj.weight", o->intermediate_size, o->hidden_size, NULL},
        {"mlp.up_proj.weight", o->intermediate_size, o->hidden_size, NULL},
        {"mlp.down_proj.weight", o->hidden_size, o->intermediate_size, NULL},
    };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[128];
        bool is_bias = strstr(parts[i].name, ".bias") != NULL;

        if (parts[i].only && strcmp(parts[i].only, o->family))
            continue;
        snprintf(name, sizeof name, "model.layers.%zu.%s", layer, parts[i].name);
        if (parts[i].n_rows)
            tiny_matrix(writer, name, parts[i].n_rows, parts[i].k);
        else
            tiny_tensor(writer, name, 0, parts[i].k, is_bias ? 0.0f : 1.0f, 0.25f);
    }
}

/* A tensor of an encoder: a matrix, a bias, or a norm's vector under either of its names. */
static inline void tiny_encoder_tensor(struct tiny_writer *writer, const char *part, size_t n_rows,
                                       size_t k)
{
    const struct tiny_options *o = writer->options;
    bool is_norm = strstr(part, "LayerNorm") || strstr(part, "layer_norm");
    size_t n_part = strcspn(part, "/"); /* "/w" or "/b" is a norm's weight or bias */
    const char *suffix = part[n_part] == '\0' ? ""
                         : part[n_part + 1] == 'w'
                             ? (is_norm && o->has_old_norms ? ".gamma" : ".weight")
                             : (is_norm && o->has_old_norms ? ".beta" : ".bias");
    char name[160];

    snprintf(name, sizeof name, "%s%.*s%s", o->prefix, (int)n_part, part, suffix);
    if (n_rows)
        tiny_matrix(writer, name, n_rows, k);
    else
        tiny_tensor(writer, name, 0, k, is_norm && part[n_part + 1] == 'w' ? 1.0f : 0.0f, 0.25f);
}

static inline void tiny_encoder_layer(struct tiny_writer *writer, size_t layer)
{
    static const char *const spellings[2][8] = {
        {"attention.self.query", "attention.self.key", "attention.self.value",
         "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense",
         "output.dense", "output.LayerNorm"},
        {"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
         "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"},
    };
    const struct tiny_options *o = writer->options;
    bool is_distil = !strcmp(o->family, "distilbert");
    size_t hidden = o->hidden_size;
    size_t inner = o->intermediate_size;
    const size_t n_rows[] = {hidden, hidden, hidden, hidden, 0, inner, hidden, 0};
    const size_t k[] = {hidden, hidden, hidden, hidden, hidden, hidden, inner, hidden};

    for (size_t i = 0; i < 8; i++) {
        char part[128];

        snprintf(part, sizeof part, "%s.%zu.%s/w",
                 is_distil ? "transformer.layer" : "encoder.layer", layer, spellings[is_distil][i]);
        tiny_encoder_tensor(writer, part, n_rows[i], k[i]);
        part[strlen(part) - 1] = 'b';
        tiny_encoder_tensor(writer, part, 0, n_rows[i] ? n_rows[i] : hidden);
    }
}

static inline void tiny_encoder_tensors(struct tiny_writer *writer)
{
    const struct tiny_options *o = writer->options;
    size_t n_free = strcmp(o->family, "roberta") ? 0 : 2;

    tiny_encoder_tensor(writer, "embeddings.word_embeddings/w", o->vocab_size, o->hidden_size);
    tiny_encoder_tensor(writer, "embeddings.position_embeddings/w", o->max_positions + n_free,
                        o->hidden_size);
    if (strcmp(o->family, "distilbert"))
        tiny_encoder_tensor(writer, "embeddings.token_type_embeddings/w", 2, o->hidden_size);
    tiny_encoder_tensor(writer, "embeddings.LayerNorm/w", 0, o->hidden_size);
    tiny_encoder_tensor(writer, "embeddings.LayerNorm/b", 0, o->hidden_size);
    for (size_t i = 0; i < o->n_layers; i++)
        tiny_encoder_layer(writer, i);
    if (o->extra)
        tiny_tensor(writer, o->extra, 0, o->hidden_size, 0, 1);
}

static inline void tiny_tensors(struct tiny_writer *writer)
{
    const struct tiny_options *o = writer->options;

    writer->offset = 0;
    writer->state = o->seed * 0x9e3779b97f4a7c15u + 1;
    if (tiny_is_encoder(o)) {
        tiny_encoder_tensors(writer);
        return;
    }
    tiny_tensor(writer, "model.embed_tokens.weight", o->vocab_size, o->hidden_size, 0, 1);
    for (size_t i = 0; i < o->n_layers; i++)
        tiny_layer(writer, i);
    tiny_tensor(writer, "model.norm.weight", 0, o->hidden_size, 1, 0.25f);
    if (!o->is_tied)
        tiny_matrix(writer, "lm_head.weight", o->vocab_size, o->hidden_size);
    if (o->extra)
        tiny_tensor(writer, o->extra, 0, o->hidden_size, 0, 1);
}

static inline FILE *tiny_create(const char *directory, const char *name)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "wb+");
    if (!file)
        tiny_abort(path);
    return file;
}

static inline void tiny_print_encoder(FILE *file, const struct tiny_options *o)
{
    bool is_distil = !strcmp(o->family, "distilbert");
    bool is_roberta = !strcmp(o->family, "roberta");

    fprintf(file,
            "{\"model_type\":\"%s\",\"%s\":%zu,\"%s\":%zu,\"%s\":%zu,\"%s\":%zu,"
            "\"vocab_size\":%zu,\"max_position_embeddings\":%zu,\"pad_token_id\":%d%s%s}\n",
            o->family, is_distil ? "n_layers" : "num_hidden_layers", o->n_layers,
            is_distil ? "n_heads" : "num_attention_heads", o->n_heads,
            is_distil ? "dim" : "hidden_size", o->hidden_size,
            is_distil ? "hidden_dim" : "intermediate_size", o->intermediate_size, o->vocab_size,
            o->max_positions + (is_roberta ? 2 : 0), is_roberta ? 1 : 0,
            is_distil ? "" : ",\"type_vocab_size\":2,\"layer_norm_eps\":1e-5", o->more_config);
}

static inline void tiny_print_decoder(FILE *file, const struct tiny_options *o)
{
    fprintf(file,
            "{\"model_type\":\"%s\",\"num_hidden_layers\":%zu,\"num_attention_heads\":%zu,"
            "\"num_key_value_heads\":%zu,\"head_dim\":%zu,\"hidden_size\":%zu,"
            "\"intermediate_size\":%zu,\"vocab_size\":%zu,\"max_position_embeddings\":%zu,"
            "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
            "\"tie_word_embeddings\":%s,\"bos_token_id\":1,\"eos_token_id\":2%s}\n",
            o->family, o->n_layers, o->n_heads, o->n_kv_heads, o->head_size, o->hidden_size,
            o->intermediate_size, o->vocab_size, o->max_positions, o->is_tied ? "true" : "false",
            o->more_config);
}

static inline void tiny_write_config(const char *directory, const struct tiny_options *o)
{
    FILE *file = tiny_create(directory, "config.json");

    if (tiny_is_encoder(o))
        tiny_print_encoder(file, o);
    else
        tiny_print_decoder(file, o);
    if (fclose(file) != 0)
        tiny_abort("config.json");
}

/* Makes `directory` (its parent must be there) and writes both files into it. */
static inline void tiny_checkpoint_write(const char *directory, const struct tiny_options *options)
{
    struct tiny_writer writer = {.options = options, .is_header = true};
    uint64_t n_header;
    long end;

    mkdir(directory, 0777);
    tiny_write_config(directory, options);
    writer.file = tiny_create(directory, "model.safetensors");
    if (fwrite("\0\0\0\0\0\0\0\0{", 1, 9, writer.file) != 9)
        tiny_abort("model.safetensors");
    tiny_tensors(&writer);
    fputc('}', writer.file);
    for (end = ftell(writer.file); end % 8 != 0; end++)
        fputc(' ', writer.file);
    n_header = (uint64_t)end - 8;
    rewind(writer.file);
    for (int i = 0; i < 8; i++)
        fputc((int)(n_header >> (8 * i) & 0xff), writer.file);
    fseek(writer.file, end, SEEK_SET);
    writer.is_header = false;
    if (!options->is_sparse)
        tiny_tensors(&writer);
    else if (fflush(writer.file) != 0 ||
             ftruncate(fileno(writer.file), end + (off_t)writer.offset) != 0)
        tiny_abort("model.safetensors");
    if (fclose(writer.file) != 0)
        tiny_abort("model.safetensors");
}

#endif
