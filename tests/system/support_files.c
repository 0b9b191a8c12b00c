/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_files.h"

#include "test.h"

#include "base/file.h"
#include "convert/support_gguf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 2048, VOCABULARY = 64, HIDDEN = 32 };

char *make_directory(void)
{
    static const char *const parents[] = {"/dev/shm", "/tmp"};
    char *path = NULL;

    for (size_t i = 0; i < COUNT(parents) && !path; i++) {
        path = path_join(parents[i], "kvern-test-XXXXXX");
        if (!mkdtemp(path)) {
            free(path);
            path = NULL;
        }
    }
    assert_non_null(path);
    return path;
}

struct buffer read_whole(const char *path)
{
    struct buffer whole = {0};
    kvern_error err = {0};

    if (file_read(path, 64 << 20, &whole.data, &whole.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    whole.capacity = whole.n_bytes + 1;
    return whole;
}

void write_whole(const char *path, const void *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(n_bytes ? fwrite(bytes, 1, n_bytes, file) : 0, n_bytes);
    assert_int_equal(fclose(file), 0);
}

void copy_whole(const char *from, const char *to)
{
    struct buffer whole = read_whole(from);

    write_whole(to, whole.data, whole.n_bytes);
    buffer_clear(&whole);
}

char *list_directory(const char *path)
{
    struct dirent **entries = NULL;
    struct buffer names = {0};
    int n = scandir(path, &entries, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
            buffer_add_format(&names, "%s\n", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return buffer_take(&names, NULL);
}

void empty_directory(const char *path)
{
    assert_int_equal(directory_remove(path, NULL), KVERN_OK);
    assert_int_equal(directory_make(path, NULL), KVERN_OK);
}

uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

struct buffer mutate(const struct buffer *whole, int i, uint64_t *state)
{
    struct buffer copy = {0};
    size_t n_header = whole->n_bytes < HEADER_BYTES ? whole->n_bytes : HEADER_BYTES;

    buffer_add(&copy, whole->data, whole->n_bytes);
    if (i % 4 == 0) {
        buffer_truncate(&copy, next_random(state) % (i % 8 ? whole->n_bytes : n_header));
        return copy;
    }
    for (uint64_t n = next_random(state) % 4 + 1; n > 0; n--) {
        size_t at = next_random(state) % (i % 2 ? whole->n_bytes : n_header);

        copy.data[at] = (char)(copy.data[at] ^ 1 << next_random(state) % 8);
    }
    return copy;
}

static void put_values(struct buffer *file)
{
    static const char *const merges[] = {"a b", "ab c", NULL};
    char pieces[VOCABULARY][8];
    const char *tokens[VOCABULARY + 1] = {NULL};
    int32_t types[VOCABULARY];

    for (int i = 0; i < VOCABULARY; i++) {
        snprintf(pieces[i], sizeof pieces[i], "%c", '!' + i + (i > 40 ? 20 : 0));
        tokens[i] = pieces[i];
        types[i] = 1;
    }
    tokens[0] = "<s>";
    tokens[1] = "</s>";
    types[0] = types[1] = 3; /* control */
    tokens[2] = "ab";
    tokens[3] = "abc";
    put_string_value(file, "general.architecture", "llama");
    put_u32_value(file, "llama.block_count", 1);
    put_u32_value(file, "llama.context_length", 128);
    put_u32_value(file, "llama.embedding_length", HIDDEN);
    put_u32_value(file, "llama.feed_forward_length", 64);
    put_u32_value(file, "llama.attention.head_count", 2);
    put_u32_value(file, "llama.attention.head_count_kv", 1);
    put_f32_value(file, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_f32_value(file, "llama.rope.freq_base", 10000);
    put_string_value(file, "tokenizer.ggml.model", "gpt2");
    put_string_value(file, "tokenizer.ggml.pre", "llama-bpe");
    put_strings_value(file, "tokenizer.ggml.tokens", tokens);
    put_ints_value(file, "tokenizer.ggml.token_type", types, VOCABULARY);
    put_strings_value(file, "tokenizer.ggml.merges", merges);
    put_u32_value(file, "tokenizer.ggml.bos_token_id", 0);
    put_u32_value(file, "tokenizer.ggml.eos_token_id", 1);
    put_string_value(file, "tokenizer.chat_template",
                     "{% for m in messages %}<s>{{ m.content }}{% endfor %}");
}

void write_small_gguf(const char *path)
{
    static const struct {
        const char *name;
        uint64_t k, n_rows; /* 0: a vector */
    } tensors[] = {
        {"token_embd.weight", HIDDEN, VOCABULARY}, {"output_norm.weight", HIDDEN, 0},
        {"blk.0.attn_norm.weight", HIDDEN, 0},     {"blk.0.attn_q.weight", HIDDEN, 32},
        {"blk.0.attn_k.weight", HIDDEN, 16},       {"blk.0.attn_v.weight", HIDDEN, 16},
        {"blk.0.attn_output.weight", 32, HIDDEN},  {"blk.0.ffn_norm.weight", HIDDEN, 0},
        {"blk.0.ffn_gate.weight", HIDDEN, 64},     {"blk.0.ffn_up.weight", HIDDEN, 64},
        {"blk.0.ffn_down.weight", 64, HIDDEN},
    };
    struct buffer file = {0};
    uint64_t state = 7;
    uint64_t n_values = 0;

    put_header(&file, COUNT(tensors), 17);
    put_values(&file);
    for (size_t i = 0; i < COUNT(tensors); i++) {
        put_tensor(&file, tensors[i].name, tensors[i].k, tensors[i].n_rows, 0, n_values * 4);
        n_values += tensors[i].k * (tensors[i].n_rows ? tensors[i].n_rows : 1);
    }
    put_padding(&file, 32);
    for (uint64_t i = 0; i < n_values; i++) {
        float value = (float)(next_random(&state) >> 40) / (float)(1 << 24) - 0.5f;

        buffer_add(&file, &value, sizeof value);
    }
    write_whole(path, file.data, file.n_bytes);
    buffer_clear(&file);
}

void check_message(kvern_status status, const kvern_error *err, const char *name)
{
    if (err->status != status || !err->message[0] || strpbrk(err->message, "\n\r") ||
        !strstr(err->message, name))
        fail_msg("status %s, error %s, \"%s\" does not name %s", kvern_status_name(status),
                 kvern_status_name(err->status), err->message, name);
}
