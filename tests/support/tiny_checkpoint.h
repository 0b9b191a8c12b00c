/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes tiny random checkpoints (model.safetensors + config.json) of the three families from a
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
    const char *family; /* "llama", "qwen2", "qwen3" */
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
    bool is_sparse;    /* all values are zeros that take no disk: for sizes that would not fit */
    const char *extra; /* the name of a vector that no such model has; or NULL */
};

/* 2 layers, sizes that are multiples of 32 and not of 64, 2 query heads on 1 KV head, vocab 100. */
static inline struct tiny_options tiny_options(const char *family)
{
    return (struct tiny_options){.family = family,
                                 .seed = 1,
                                 .n_layers = 2,
                                 .n_heads = 2,
                                 .n_kv_heads = 1,
                                 .head_size = 16,
                                 .hidden_size = 96,
                                 .intermediate_size = 160,
                                 .vocab_size = 100,
                                 .max_positions = 2048,
                                 .is_tied = true,
                                 .more_config = ""};
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

static inline void tiny_tensors(struct tiny_writer *writer)
{
    const struct tiny_options *o = writer->options;

    writer->offset = 0;
    writer->state = o->seed * 0x9e3779b97f4a7c15u + 1;
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

static inline void tiny_write_config(const char *directory, const struct tiny_options *o)
{
    FILE *file = tiny_create(directory, "config.json");

    fprintf(file,
            "{\"model_type\":\"%s\",\"num_hidden_layers\":%zu,\"num_attention_heads\":%zu,"
            "\"num_key_value_heads\":%zu,\"head_dim\":%zu,\"hidden_size\":%zu,"
            "\"intermediate_size\":%zu,\"vocab_size\":%zu,\"max_position_embeddings\":%zu,"
            "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
            "\"tie_word_embeddings\":%s,\"bos_token_id\":1,\"eos_token_id\":2%s}\n",
            o->family, o->n_layers, o->n_heads, o->n_kv_heads, o->head_size, o->hidden_size,
            o->intermediate_size, o->vocab_size, o->max_positions, o->is_tied ? "true" : "false",
            o->more_config);
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
