/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF files written by hand, good and bad, and the default model's own file: its tensors, its
 * config, and that all of it packs.
 */
#include "base/memory.h"
#include "convert/checkpoint.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/pack.h"
#include "support_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char model_path[] = KVERN_SOURCE_DIR "/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf";

/* Metadata of a 1-layer model of the given architecture: 13 entries. */
static void put_model_values(struct buffer *file, const char *architecture)
{
    static const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {
        {"block_count", 1},           {"context_length", 128},     {"embedding_length", 64},
        {"feed_forward_length", 96},  {"attention.head_count", 4}, {"attention.head_count_kv", 2},
        {"rope.dimension_count", 16},
    };
    char key[96];

    put_string_value(file, "general.architecture", architecture);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, sizes[i].name);
        put_u32_value(file, key, sizes[i].value);
    }
    snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    put_f32_value(file, key, 1e6f);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    put_f32_value(file, key, 1e-5f);
    put_u32_value(file, "tokenizer.ggml.bos_token_id", 1);
    put_u32_value(file, "tokenizer.ggml.eos_token_id", 2);
    put_u32_value(file, "tokenizer.ggml.eot_token_id", 3);
}

static void values_of_every_type(void **state)
{
    static const struct {
        const char *key;
        uint32_t type;
        uint64_t bits;
        bool is_unsigned;
        double real;
    } cases[] = {
        {"u8", 0, 200, true, 200},
        {"i8", 1, 0xff, false, -1},
        {"u16", 2, 65535, true, 65535},
        {"i16", 3, 0x8000, false, -32768},
        {"u32", 4, 0xffffffff, true, 4294967295.0},
        {"i32", 5, 0xfffffffe, false, -2},
        {"f32", 6, 0x3fc00000, false, 1.5},
        {"bool", 7, 1, true, 1},
        {"u64", 10, 1ull << 40, true, 1099511627776.0},
        {"i64", 11, (uint64_t)-5, false, -5},
        {"f64", 12, 0xc004000000000000, false, -2.5},
    };
    static const size_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    static const char *const words[] = {"one", "", "three", NULL};
    enum { N = sizeof cases / sizeof *cases };
    struct buffer file = {0};
    struct gguf gguf;
    kvern_error err;
    uint64_t number;
    double real;
    size_t offset = 0;
    (void)state;

    put_header(&file, 0, N + 2);
    for (size_t i = 0; i < N; i++) {
        put_string(&file, cases[i].key);
        put_u32(&file, cases[i].type);
        buffer_add(&file, &cases[i].bits, widths[cases[i].type]);
    }
    put_strings_value(&file, "words", words);
    put_string(&file, "nested"); /* [[7], []] */
    put_u32(&file, 9);
    put_u32(&file, 9);
    put_u64(&file, 2);
    put_u32(&file, 0);
    put_u64(&file, 1);
    buffer_add_byte(&file, 7);
    put_u32(&file, 0);
    put_u64(&file, 0);
    if (gguf_parse(&gguf, (const uint8_t *)file.data, file.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < N; i++) {
        const struct gguf_value *value = gguf_find(&gguf, cases[i].key);

        assert_non_null(value);
        assert_int_equal(gguf_unsigned(value, 0, &number), cases[i].is_unsigned);
        if (cases[i].is_unsigned)
            assert_int_equal(number, cases[i].bits);
        assert_true(gguf_float(value, 0, &real));
        assert_true(real == cases[i].real);
        assert_false(gguf_unsigned(value, 1, &number));
    }
    const struct gguf_value *array = gguf_find(&gguf, "words");
    assert_int_equal(array->n_items, 3);
    for (size_t i = 0; i < 3; i++) {
        struct gguf_string word = gguf_next_string(array, &offset);

        assert_int_equal(word.n_bytes, strlen(words[i]));
        assert_memory_equal(word.bytes, words[i], word.n_bytes);
    }
    assert_null(gguf_find(&gguf, "absent"));
    gguf_clear(&gguf);
    buffer_clear(&file);
}

/* ---- bad files: each writes one, the message must hold a part ---- */

static void bad_magic(struct buffer *file)
{
    buffer_add(file, "GGXF\3\0\0\0aaaaaaaaaaaaaaaa", 24);
}
static void bad_version(struct buffer *file)
{
    buffer_add(file, "GGUF\1\0\0\0aaaaaaaaaaaaaaaa", 24);
}
static void cut_header(struct buffer *file)
{
    buffer_add(file, "GGUF\3\0\0\0aa", 10);
}
static void many_values(struct buffer *file)
{
    put_header(file, 0, 1ull << 60);
}
static void many_tensors(struct buffer *file)
{
    put_header(file, 1ull << 60, 0);
}

static void long_key(struct buffer *file)
{
    put_header(file, 0, 1);
    put_u64(file, UINT64_MAX);
    put_u64(file, 0);
    put_u64(file, 0);
}

static void long_array(struct buffer *file)
{
    put_header(file, 0, 1);
    put_string(file, "long");
    put_u32(file, 9);
    put_u32(file, 10);
    put_u64(file, (1ull << 61) + 1); /* times 8 is 8 again */
    put_u64(file, 0);
}

static void deep_array(struct buffer *file)
{
    put_header(file, 0, 1);
    put_string(file, "deep");
    put_u32(file, 9);
    for (int i = 0; i < 1000; i++) {
        put_u32(file, 9);
        put_u64(file, 1);
    }
}

static void unknown_value_type(struct buffer *file)
{
    put_header(file, 0, 1);
    put_string(file, "odd");
    put_u32(file, 13);
    put_u64(file, 0);
}

static void same_key_twice(struct buffer *file)
{
    put_header(file, 0, 2);
    put_u32_value(file, "twin", 1);
    put_u32_value(file, "twin", 2);
}

static void same_tensor_twice(struct buffer *file)
{
    put_header(file, 2, 0);
    put_tensor(file, "twin", 8, 0, 0, 0);
    put_tensor(file, "twin", 8, 0, 0, 0);
    put_padding(file, 32);
    buffer_add(file, "12345678901234567890123456789012", 32);
}

static void bad_alignment(struct buffer *file)
{
    put_header(file, 0, 1);
    put_u32_value(file, "general.alignment", 24);
}

static void put_one_tensor(struct buffer *file, uint64_t dim0, uint64_t dim1, uint32_t type,
                           uint64_t offset)
{
    put_header(file, 1, 0);
    put_tensor(file, "lonely", dim0, dim1, type, offset);
    put_padding(file, 32);
    buffer_add(file, "12345678901234567890123456789012", 32);
}

static void past_end(struct buffer *file)
{
    put_one_tensor(file, 9, 0, 0, 0);
}
static void offset_past_end(struct buffer *file)
{
    put_one_tensor(file, 8, 0, 0, 1ull << 63);
}
static void odd_offset(struct buffer *file)
{
    put_one_tensor(file, 1, 0, 0, 4);
}
static void overflowing_dims(struct buffer *file)
{
    put_header(file, 1, 0);
    put_string(file, "lonely");
    put_u32(file, 3);
    for (int i = 0; i < 3; i++)
        put_u64(file, 0x7fffffff);
    put_u32(file, 0);
    put_u64(file, 0);
}
static void huge_dim(struct buffer *file)
{
    put_one_tensor(file, 1ull << 62, 4, 0, 0);
}
static void zero_dim(struct buffer *file)
{
    put_one_tensor(file, 0, 0, 0, 0);
}
static void broken_block(struct buffer *file)
{
    put_one_tensor(file, 33, 0, 2, 0);
}
static void unknown_tensor_type(struct buffer *file)
{
    put_one_tensor(file, 32, 0, 16, 0);
}

static void five_dims(struct buffer *file)
{
    put_header(file, 1, 0);
    put_string(file, "lonely");
    put_u32(file, 5);
    put_u64(file, 1);
    put_u64(file, 1);
}

static void bad_files_are_refused(void **state)
{
    static const struct {
        void (*write)(struct buffer *file);
        kvern_status status;
        const char *part;
    } cases[] = {
        {bad_magic, KVERN_FORMAT, "not a GGUF file"},
        {bad_version, KVERN_UNSUPPORTED, "version 1"},
        {cut_header, KVERN_FORMAT, "inside its header"},
        {many_values, KVERN_FORMAT, "1152921504606846976 metadata entries"},
        {many_tensors, KVERN_FORMAT, "1152921504606846976 tensors"},
        {long_key, KVERN_FORMAT, "inside its metadata"},
        {long_array, KVERN_FORMAT, "long has an unknown type or runs past the end"},
        {deep_array, KVERN_FORMAT, "deep has an unknown type"},
        {unknown_value_type, KVERN_FORMAT, "odd has an unknown type"},
        {same_key_twice, KVERN_FORMAT, "twin stands there twice"},
        {same_tensor_twice, KVERN_FORMAT, "twin stands there twice"},
        {bad_alignment, KVERN_FORMAT, "general.alignment"},
        {past_end, KVERN_FORMAT, "lonely (36 bytes at 0) runs past the end"},
        {offset_past_end, KVERN_FORMAT, "runs past the end"},
        {odd_offset, KVERN_FORMAT, "starts at 4, not a multiple of 32"},
        {overflowing_dims, KVERN_FORMAT, "product is too large"},
        {huge_dim, KVERN_FORMAT, "lonely has a dimension of 4611686018427387904"},
        {zero_dim, KVERN_FORMAT, "lonely has a dimension of 0"},
        {broken_block, KVERN_FORMAT, "rows of 33, not whole blocks of Q4_0"},
        {unknown_tensor_type, KVERN_UNSUPPORTED, "lonely has type 16"},
        {five_dims, KVERN_FORMAT, "lonely has 5 dimensions"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer file = {0};
        struct gguf gguf;
        kvern_error err = {0};

        cases[i].write(&file);
        kvern_status status = gguf_parse(&gguf, (const uint8_t *)file.data, file.n_bytes, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].part))
            fail_msg("case %zu: status %d, \"%s\", wanted \"%s\"", i, status, err.message,
                     cases[i].part);
        buffer_clear(&file);
    }
}

static void no_memory_is_an_error(void **state)
{
    kvern_status status = KVERN_MEMORY;
    (void)state;

    for (int n = 0; status == KVERN_MEMORY; n++) {
        struct buffer file = {0};
        struct gguf gguf;

        put_one_tensor(&file, 8, 0, 0, 0);
        memory_fail_after(n);
        status = gguf_parse(&gguf, (const uint8_t *)file.data, file.n_bytes, NULL);
        memory_fail_after(-1);
        assert_true(n < 20);
        if (status == KVERN_OK) {
            assert_true(n > 0);
            gguf_clear(&gguf);
        }
        buffer_clear(&file);
    }
    assert_int_equal(status, KVERN_OK);
}

/* ---- what the names mean ---- */

static kvern_status read_model(const struct buffer *file, struct checkpoint *checkpoint,
                               kvern_error *err)
{
    struct gguf gguf;
    kvern_status status;

    *checkpoint = (struct checkpoint){0};
    status = gguf_parse(&gguf, (const uint8_t *)file->data, file->n_bytes, err);
    if (status == KVERN_OK)
        status = gguf_model_config(&gguf, &checkpoint->config, err);
    if (status == KVERN_OK)
        status = gguf_model_tensors(&gguf, NULL, checkpoint, err);
    gguf_clear(&gguf);
    return status;
}

static void put_small_model(struct buffer *file, const char *architecture, uint64_t n_q_rows,
                            const char *extra)
{
    put_header(file, extra ? 4 : 3, 13);
    put_model_values(file, architecture);
    put_tensor(file, "token_embd.weight", 64, 10, 2, 0); /* 10 * 36 = 360 bytes */
    put_tensor(file, "blk.0.attn_q.weight", 64, n_q_rows, 2, 384);
    put_tensor(file, "rope_freqs.weight", 8, 0, 0, 3072);
    if (extra)
        put_tensor(file, extra, 8, 0, 0, 3072);
    put_padding(file, 32);
    for (size_t i = 0; i < 3104 / 4; i++) {
        float value = i < 3072 / 4 ? 0 : (float)(i - 3072 / 4 + 1);
        buffer_add(file, &value, 4);
    }
}

static void names_and_config(void **state)
{
    struct buffer file = {0};
    struct checkpoint checkpoint;
    kvern_error err;
    float inv_freq[8];
    (void)state;

    put_small_model(&file, "llama", 64, NULL);
    if (read_model(&file, &checkpoint, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const struct model_config *config = &checkpoint.config;
    assert_int_equal(config->family, FAMILY_LLAMA);
    assert_int_equal(config->vocab_size, 10);
    assert_int_equal(config->head_size, 16);
    assert_int_equal(config->n_kv_heads, 2);
    assert_int_equal(config->bos, 1);
    assert_int_equal(config->pad, -1);
    assert_int_equal(config->n_eos, 2);
    assert_int_equal(config->eos[1], 3);
    assert_true(config->is_tied);
    assert_false(config->has_qkv_bias);
    assert_int_equal(config->rope_scaling, ROPE_SCALING_DIVISORS);
    config_rotary_frequencies(config, inv_freq);
    for (int i = 0; i < 8; i++)
        assert_true(fabs(inv_freq[i] * (i + 1) - pow(1e6, -i / 8.0)) < 1e-6);
    const struct tensor *q = checkpoint_find(&checkpoint, "model.layers.0.self_attn.q_proj.weight");
    assert_non_null(q);
    assert_int_equal(q->rope_heads, 4);
    assert_int_equal(checkpoint.n_tensors, 2);
    assert_int_equal(checkpoint_require(&checkpoint, "model.norm.weight", 1, 64, &q, &err),
                     KVERN_FORMAT);
    assert_string_equal(err.message, "the checkpoint has no tensor model.norm.weight");
    assert_int_equal(checkpoint_require(&checkpoint, "model.embed_tokens.weight", 11, 64, &q, &err),
                     KVERN_FORMAT);
    assert_string_equal(err.message,
                        "model.embed_tokens.weight is [10, 64] where the config asks for [11, 64]");
    checkpoint_close(&checkpoint);
    buffer_clear(&file);

    put_small_model(&file, "qwen2", 64, NULL);
    assert_int_equal(read_model(&file, &checkpoint, &err), KVERN_OK);
    q = checkpoint_find(&checkpoint, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(q->rope_heads, 0);
    checkpoint_close(&checkpoint);
    buffer_clear(&file);
}

static void models_kvern_cannot_run(void **state)
{
    static const struct {
        const char *architecture;
        uint64_t n_q_rows;
        const char *extra;
        const char *message;
    } cases[] = {
        {"mamba", 64, NULL,
         "GGUF architecture \"mamba\" is not supported (llama, qwen2 and qwen3 are)"},
        {"llama", 60, NULL,
         "model.layers.0.self_attn.q_proj.weight has 60 rows; 4 heads of 16 need 64"},
        {"llama", 64, "blk.0.ffn_gate_inp.weight",
         "GGUF tensor blk.0.ffn_gate_inp.weight is not part of any model kvern can run"},
        {"qwen2", 64, "blk.00.attn_q.weight",
         "the checkpoint has tensor model.layers.0.self_attn.q_proj.weight twice"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer file = {0};
        struct checkpoint checkpoint;
        kvern_error err = {0};

        put_small_model(&file, cases[i].architecture, cases[i].n_q_rows, cases[i].extra);
        assert_int_not_equal(read_model(&file, &checkpoint, &err), KVERN_OK);
        assert_string_equal(err.message, cases[i].message);
        checkpoint_close(&checkpoint);
        buffer_clear(&file);
    }
}

static void one_file_of_several(void **state)
{
    struct buffer file = {0};
    struct checkpoint checkpoint;
    kvern_error err = {0};
    (void)state;

    put_header(&file, 0, 2);
    put_string_value(&file, "general.architecture", "llama");
    put_u32_value(&file, "split.count", 3);
    assert_int_equal(read_model(&file, &checkpoint, &err), KVERN_UNSUPPORTED);
    assert_string_equal(err.message, "this GGUF file is one of 3; merge them with llama.cpp's "
                                     "gguf-split first");
    buffer_clear(&file);
}

/* ---- the default model ---- */

static void default_model(void **state)
{
    struct checkpoint checkpoint;
    kvern_error err;
    float row[576];
    double sum = 0;
    (void)state;

    if (!file_exists(model_path))
        skip(); /* scripts/setup.sh model fetches it */
    if (checkpoint_open(&checkpoint, model_path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const struct model_config *config = &checkpoint.config;
    assert_int_equal(checkpoint.n_tensors, 272);
    assert_int_equal(config->n_layers, 30);
    assert_int_equal(config->n_heads, 9);
    assert_int_equal(config->n_kv_heads, 3);
    assert_int_equal(config->head_size, 64);
    assert_int_equal(config->hidden_size, 576);
    assert_int_equal(config->intermediate_size, 1536);
    assert_int_equal(config->vocab_size, 49152);
    assert_int_equal(config->max_positions, 8192);
    assert_true(config->rope_theta == 100000);
    assert_true(config->is_tied);
    assert_int_equal(config->bos, 1);
    assert_int_equal(config->n_eos, 1);
    assert_int_equal(config->eos[0], 2);
    assert_non_null(checkpoint.tokenizer_json);
    assert_non_null(strstr(checkpoint.chat_template, "<|im_start|>"));
    const struct tensor *norm;
    assert_int_equal(checkpoint_require(&checkpoint, "model.layers.29.input_layernorm.weight", 1,
                                        576, &norm, &err),
                     KVERN_OK);
    tensor_read_row(norm, 0, row);
    for (int i = 0; i < 576; i++)
        sum += row[i];
    assert_true(sum > 1 && isfinite(sum));

    for (size_t i = 0; i < checkpoint.n_tensors; i++) {
        const struct tensor *part = &checkpoint.tensors[i];
        struct pack_plan plan;

        if (part->n_dims != 2)
            continue;
        assert_int_equal(pack_plan_make(&plan, &part, 1, WEIGHTS_KEEP, &err), KVERN_OK);
        assert_int_equal(plan.bits, part->type == TENSOR_Q8_0 ? 8 : 4);
        void *data = malloc(plan.data_bytes);
        uint16_t *scales = malloc(plan.scales_bytes);
        uint16_t *mins = malloc(plan.scales_bytes);
        if (pack_write(&plan, data, scales, plan.has_mins ? mins : NULL, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        free(data);
        free(scales);
        free(mins);
    }
    checkpoint_close(&checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_type),    cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(no_memory_is_an_error),   cmocka_unit_test(names_and_config),
        cmocka_unit_test(models_kvern_cannot_run), cmocka_unit_test(one_file_of_several),
        cmocka_unit_test(default_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
