/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of torch.save: those torch wrote (tests/golden/make_torch.py), and state dicts written by
 * hand that say something wrong of one tensor. Models in this form become the same as from
 * safetensors.
 */
#include "convert/support_torch.h"
#include "test.h"

#include "base/file.h"
#include "base/memory.h"
#include "convert/checkpoint.h"
#include "convert/safetensors.h"
#include "convert/torch_file.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN KVERN_SOURCE_DIR "/tests/golden/torch"

static void open_map(struct file_map *map, const char *path)
{
    kvern_error err;

    if (file_map_open(map, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* Values count up by 1/8 from the tensor's own number. */
static void check_values(const struct tensor *tensor, float first)
{
    size_t k = tensor_row_values(tensor);
    float row[8];

    assert_true(k <= COUNT(row));
    for (size_t r = 0; r < tensor_n_rows(tensor); r++) {
        tensor_read_row(tensor, r, row);
        for (size_t i = 0; i < k; i++) {
            float expected = first + (float)(r * k + i) / 8;

            if (tensor->stride > 0) /* the transpose of [K, N] */
                expected = first + (float)(i * tensor_n_rows(tensor) + r) / 8;
            if (row[i] != expected)
                fail_msg("%s[%zu, %zu] is %g, wanted %g", tensor->name, r, i, (double)row[i],
                         (double)expected);
        }
    }
}

static void torchs_own_types(void **state)
{
    static const struct {
        const char *name;
        enum tensor_type type;
        size_t n_dims, dims[3];
        size_t stride;
        float first;
    } cases[] = {
        {"f32", TENSOR_F32, 2, {2, 3}, 0, 0},
        {"f16", TENSOR_F16, 1, {5}, 0, 1},
        {"bf16", TENSOR_BF16, 2, {2, 2}, 0, 2},
        {"tied", TENSOR_F32, 2, {2, 3}, 0, 0},
        {"parameter", TENSOR_F32, 1, {3}, 0, 6},
        {"transposed", TENSOR_F32, 2, {2, 3}, 2, 7},
        {"slice", TENSOR_F32, 2, {2, 3}, 0, 8 + 3.0f / 8},
        {"scalar", TENSOR_F32, 0, {0}, 0, 9},
        {"cube", TENSOR_F32, 3, {2, 2, 2}, 0, 10},
        {"empty", TENSOR_F32, 2, {0, 4}, 0, 11},
    };
    struct file_map map = {0};
    struct torch_file parsed;
    kvern_error err;

    (void)state;
    open_map(&map, GOLDEN "/types.bin");
    if (torch_file_parse(&parsed, map.data, map.n_bytes, &map, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(parsed.n_tensors, COUNT(cases)); /* integers cannot be weights */
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct tensor *tensor = &parsed.tensors[i];

        assert_string_equal(tensor->name, cases[i].name);
        assert_int_equal(tensor->type, cases[i].type);
        assert_int_equal(tensor->n_dims, cases[i].n_dims);
        for (size_t j = 0; j < tensor->n_dims; j++)
            assert_int_equal(tensor->dims[j], cases[i].dims[j]);
        assert_int_equal(tensor->stride, cases[i].stride);
        assert_ptr_equal(tensor->file, &map);
        check_values(tensor, cases[i].first);
    }
    assert_ptr_equal(parsed.tensors[3].data, parsed.tensors[0].data);
    torch_file_clear(&parsed);
    torch_file_clear(&parsed); /* twice is fine */
    file_map_close(&map);
}

static void torchs_own_forms(void **state)
{
    static const struct {
        const char *file;
        kvern_status status;
        const char *says;
    } cases[] = {
        {"nested.bin", KVERN_OK, NULL},
        {"legacy.bin", KVERN_UNSUPPORTED,
         "this is torch.save's form of before version 1.6; load it with torch and save it again, "
         "or get the model's safetensors"},
        {"code.bin", KVERN_UNSUPPORTED,
         "pickle, byte 2: the name torch.nn.modules.linear.Linear is none that a file of tensors "
         "needs; code is never loaded"},
        {"llama/model.safetensors", KVERN_FORMAT,
         "this is not a file of torch.save: it does not begin as a zip"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = path_join(GOLDEN, cases[i].file);
        struct file_map map = {0};
        struct torch_file parsed;
        kvern_error err = {0};

        open_map(&map, path);
        assert_int_equal(torch_file_parse(&parsed, map.data, map.n_bytes, &map, &err),
                         cases[i].status);
        if (cases[i].says) {
            assert_string_equal(err.message, cases[i].says);
        } else {
            assert_int_equal(parsed.n_tensors, 2);
            assert_string_equal(parsed.tensors[0].name, "weight");
            check_values(&parsed.tensors[0], 0);
            assert_string_equal(parsed.tensors[1].name, "bias");
            check_values(&parsed.tensors[1], 1);
        }
        torch_file_clear(&parsed);
        file_map_close(&map);
        free(path);
    }
}

/* ---- written by hand ---- */

static kvern_status parse_zip(const struct zip_writer *zip, struct torch_file *parsed,
                              kvern_error *err)
{
    return torch_file_parse(parsed, (const uint8_t *)zip->file.data, zip->file.n_bytes, NULL, err);
}

/* One tensor, named t but where the case says otherwise, over storages 0 (6 f32, 24 bytes) and
 * 1 (5 bytes). */
static void tensors_fit_their_storage(void **state)
{
    static const struct {
        struct pickled_tensor tensor;
        kvern_status status;
        const char *says;
    } cases[] = {
        {{"t", "FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}}, KVERN_OK, NULL},
        {{"t", "FloatStorage", "0", 6, 5, 1, {1}, {1}}, KVERN_OK, NULL},
        {{"t", "FloatStorage", "0", 6, 6, 1, {0}, {1}}, KVERN_OK, NULL},
        {{"t", "HalfStorage", "0", 12, 3, 2, {3, 3}, {3, 1}}, KVERN_OK, NULL},
        {{"t", "FloatStorage", "0", 6, 0, 2, {6, 1}, {1, 9}}, KVERN_OK, NULL},
        {{"t", "FloatStorage", "0", 6, 0, 2, {1, 6}, {9, 1}}, KVERN_OK, NULL},
        {{"t", "FloatStorage", "0", 6, 0, 2, {2, 2}, {1, 4}}, KVERN_OK, NULL}, /* columns 0 and 1 */
        {{"t", "FloatStorage", "2", 6, 0, 2, {2, 3}, {3, 1}},
         KVERN_FORMAT,
         "torch: the archive has no storage data/2 of t"},
        {{"t", "FloatStorage", "", 6, 0, 2, {2, 3}, {3, 1}}, KVERN_FORMAT, "no storage data/ of t"},
        {{"t", "FloatStorage", "../data/0", 6, 0, 2, {2, 3}, {3, 1}},
         KVERN_FORMAT,
         "no storage data/../data/0 of t"},
        {{"t", "FloatStorage", "000000000000000000000000", 6, 0, 2, {2, 3}, {3, 1}},
         KVERN_FORMAT,
         "no storage data/00000000000000000000 of t"},
        {{"t", "FloatStorage", "0", 7, 0, 2, {2, 3}, {3, 1}},
         KVERN_FORMAT,
         "torch: the storage of t has 24 bytes; 7 values of f32 need others"},
        {{"t", "FloatStorage", "0", 5, 0, 1, {5}, {1}},
         KVERN_FORMAT,
         "5 values of f32 need others"},
        {{"t", "DoubleStorage", "0", 6, 0, 1, {6}, {1}}, KVERN_FORMAT, "6 values of f64 need"},
        {{"t", "LongStorage", "0", 6, 0, 1, {6}, {1}}, KVERN_FORMAT, "6 values of i64 need"},
        {{"t", "DoubleStorage", "0", 3, 0, 1, {3}, {1}},
         KVERN_UNSUPPORTED,
         "torch: t is f64; f32, f16 and bf16 are read"},
        {{"t", "FloatStorage", "0", 6, 1, 2, {2, 3}, {3, 1}},
         KVERN_FORMAT,
         "torch: t, 6 values from 1 on, runs past its storage of 6"},
        {{"t", "FloatStorage", "0", 6, 7, 1, {0}, {1}}, KVERN_FORMAT, "runs past its storage"},
        {{"t", "FloatStorage", "0", 6, INT32_MAX, 1, {1}, {1}}, KVERN_FORMAT, "runs past its"},
        {{"t", "FloatStorage", "0", 6, 0, 3, {INT32_MAX, INT32_MAX, 4}, {4, 4, 1}},
         KVERN_FORMAT,
         "t has a dimension that is no size"},
        {{"t", "FloatStorage", "0", 6, 0, 4, {65536, 65536, 65536, 65536}, {0}},
         KVERN_FORMAT,
         "t has a dimension that is no size"},
        {{"t", "FloatStorage", "0", 6, 0, 2, {2, 2}, {1, 5}},
         KVERN_FORMAT,
         "torch: t, 7 values from 0 on, runs past its storage of 6"},
        {{"t", "FloatStorage", "0", 6, 0, 2, {2, 65536}, {1, 65536}},
         KVERN_FORMAT,
         "runs past its storage"},
        {{"t", "FloatStorage", "0", 6, 0, 1, {3}, {2}},
         KVERN_UNSUPPORTED,
         "torch: the values of t are not contiguous; save the model again after calling "
         ".contiguous() on it"},
        {{"t", "FloatStorage", "0", 6, 0, 1, {6}, {0}}, KVERN_UNSUPPORTED, "not contiguous"},
        {{"t", "FloatStorage", "0", 6, 0, 2, {3, 2}, {1, 2}}, KVERN_UNSUPPORTED, "not contiguous"},
        {{"t", "FloatStorage", "0", 6, 0, 2, {2, 2}, {3, 1}}, KVERN_UNSUPPORTED, "not contiguous"},
        {{"t", "FloatStorage", "0", 6, 0, 3, {1, 2, 3}, {6, 1, 2}},
         KVERN_UNSUPPORTED,
         "not contiguous"},
        {{"", "FloatStorage", "0", 6, 0, 1, {6}, {1}},
         KVERN_FORMAT,
         "torch: a tensor's name is no text of 1 to 1000 bytes"},
        {{"\xff", "FloatStorage", "0", 6, 0, 1, {6}, {1}}, KVERN_FORMAT, "name is no text"},
        {{"t", "HalfStorage", "1", 2, 0, 1, {2}, {1}},
         KVERN_FORMAT,
         "has 5 bytes; 2 values of f16"},
        {{"t", "ByteStorage", "1", 5, 0, 1, {6}, {1}}, KVERN_FORMAT, "runs past its storage of 5"},
    };
    static const uint8_t bytes[24] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer pickle = {0};
        struct zip_writer zip = {0};
        struct torch_file parsed;
        kvern_error err = {0};

        put_pickle_begin(&pickle);
        put_pickle_tensor(&pickle, &cases[i].tensor);
        put_pickle_end(&pickle);
        zip_writer_put(&zip, "x/data.pkl", pickle.data, pickle.n_bytes);
        zip_writer_put(&zip, "x/data/0", bytes, 24);
        zip_writer_put(&zip, "x/data/1", bytes, 5);
        zip_writer_end(&zip, true);
        kvern_status status = parse_zip(&zip, &parsed, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says ? cases[i].says : "fine");
        for (size_t j = 0; j < parsed.n_tensors; j++) { /* the last row is there */
            float row[16];

            if (parsed.tensors[j].n_bytes > 0)
                tensor_read_row(&parsed.tensors[j], tensor_n_rows(&parsed.tensors[j]) - 1, row);
        }
        torch_file_clear(&parsed);
        zip_writer_clear(&zip);
        buffer_clear(&pickle);
    }
}

#define BYTES(literal) literal, sizeof(literal) - 1

/* Archives whose pickle or other entries are not what torch writes. */
static void archives_are_torchs(void **state)
{
    static const struct {
        const char *pickle_name;
        const char *pickle;
        size_t n_pickle;
        const char *other_name;
        const char *other;
        kvern_status status;
        const char *says; /* NULL: fine */
    } cases[] = {
        {"x/data.pkl", BYTES("\x80\2}."), "x/byteorder", "little", KVERN_OK, NULL},
        {"data.pkl", BYTES("\x80\2}."), "byteorder", "little", KVERN_OK, NULL},
        {"x/data.pkl", BYTES("\x80\2}X\5\0\0\0model}s."), "x/version", "3\n", KVERN_OK, NULL},
        {"x/data.pkl", BYTES("\x80\2}."), "x/byteorder", "big", KVERN_UNSUPPORTED,
         "torch: the file's byte order is not little-endian"},
        {"x/data.pkl", BYTES("\x80\2}."), "y/byteorder", "big", KVERN_OK, NULL},
        {"x/data.pkl", BYTES("\x80\2}."), "y/data.pkl", "N", KVERN_FORMAT,
         "torch: the archive has two data.pkl"},
        {"x/y/data.pkl", BYTES("\x80\2}."), "x/xdata.pkl", "N", KVERN_FORMAT,
         "torch: the archive has no data.pkl"},
        {"x/data.pkl", BYTES(""), "x/version", "3\n", KVERN_FORMAT, "the pickle ends inside"},
        {"x/data.pkl", BYTES("\x80\2]."), "x/version", "3\n", KVERN_UNSUPPORTED,
         "torch: the file holds something other than a dict of tensors"},
        {"x/data.pkl", BYTES("\x80\2}X\1\0\0\0aK\1s."), "x/version", "3\n", KVERN_UNSUPPORTED,
         "torch: a is no tensor; only dicts of tensors are read"},
        {"x/data.pkl", BYTES("\x80\2}K\1K\1s."), "x/version", "3\n", KVERN_FORMAT,
         "torch: a tensor's name is no string"},
        {"x/data.pkl", BYTES("\x80\2}X\2\0\0\0a\0Ns."), "x/version", "3\n", KVERN_FORMAT,
         "a tensor's name is no text"},
        /* a dict that is its own state dict is looked into once */
        {"x/data.pkl", BYTES("\x80\2}q\0X\xa\0\0\0state_dicth\0s."), "x/version", "3\n",
         KVERN_UNSUPPORTED, "torch: state_dict is no tensor"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct zip_writer zip = {0};
        struct torch_file parsed;
        kvern_error err = {0};

        zip_writer_put(&zip, cases[i].pickle_name, cases[i].pickle, cases[i].n_pickle);
        zip_writer_put(&zip, cases[i].other_name, cases[i].other, strlen(cases[i].other));
        zip_writer_end(&zip, false);
        kvern_status status = parse_zip(&zip, &parsed, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says ? cases[i].says : "fine");
        assert_int_equal(parsed.n_tensors, 0);
        torch_file_clear(&parsed);
        zip_writer_clear(&zip);
    }
}

/* What is written once can be used often: names and their number are bounded. */
static void many_tensors_of_few_bytes(void **state)
{
    enum { LIMIT = 1 << 17 };
    static const struct {
        size_t name_bytes;
        size_t n;
        kvern_status status;
        const char *says;
    } cases[] = {
        {10, LIMIT, KVERN_OK, NULL},
        {10, LIMIT + 1, KVERN_LIMIT, "torch: the file has over 131072 tensors"},
        {1000, 1, KVERN_OK, NULL},
        {1001, 1, KVERN_FORMAT, "a tensor's name is no text of 1 to 1000 bytes"},
    };
    const struct pickled_tensor tensor = {"t", "FloatStorage", "0", 1, 0, 0, {0}, {0}};
    static const float value = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer pickle = {0};
        struct zip_writer zip = {0};
        struct torch_file parsed;
        kvern_error err = {0};
        uint32_t n_name = (uint32_t)cases[i].name_bytes;

        put_pickle_begin(&pickle);
        put_pickle_tensor(&pickle, &tensor); /* memo 0 is the tensor, 1 its name */
        buffer_add(&pickle, BYTES("q\0uX"));
        buffer_add(&pickle, &n_name, sizeof n_name);
        for (size_t j = 0; j < cases[i].name_bytes; j++)
            buffer_add_byte(&pickle, 'n');
        buffer_add(&pickle, BYTES("q\1h\0s("));
        for (size_t j = 2; j < cases[i].n; j++)
            buffer_add(&pickle, BYTES("h\1h\0"));
        put_pickle_end(&pickle);
        zip_writer_put(&zip, "x/data.pkl", pickle.data, pickle.n_bytes);
        zip_writer_put(&zip, "x/data/0", &value, sizeof value);
        zip_writer_end(&zip, true);
        kvern_status status = parse_zip(&zip, &parsed, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says ? cases[i].says : "fine");
        torch_file_clear(&parsed);
        zip_writer_clear(&zip);
        buffer_clear(&pickle);
    }
}

/* One of torch's own files, cut everywhere, and with no memory at each allocation. */
static void cuts_and_no_memory(void **state)
{
    struct file_map map = {0};
    struct torch_file parsed;
    kvern_error err;
    bool has_failed = true;

    (void)state;
    open_map(&map, GOLDEN "/types.bin");
    for (size_t n = 0; n < map.n_bytes; n++) {
        if (torch_file_parse(&parsed, map.data, n, NULL, &err) != KVERN_FORMAT)
            fail_msg("%zu bytes of %zu are taken for a file", n, map.n_bytes);
    }
    for (int n = 0; has_failed; n++) {
        memory_fail_after(n);
        kvern_status status = torch_file_parse(&parsed, map.data, map.n_bytes, NULL, &err);
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        torch_file_clear(&parsed);
    }
    file_map_close(&map);
}

/* ---- whole models ---- */

static char *convert(const char *source, const char *name)
{
    char *target = scratch_path(name);
    kvern_convert_options options;
    kvern_error err;

    kvern_convert_options_init(&options);
    options.source = source;
    options.target = target;
    if (kvern_convert(&options, &err) != KVERN_OK)
        fail_msg("%s: %s", source, err.message);
    return target;
}

static void expect_same_weights(const char *source, const char *other)
{
    char *targets[] = {convert(source, "one"), convert(other, "other")};
    struct file_map maps[2] = {{0}};
    kvern_error err;

    for (int i = 0; i < 2; i++) {
        char *path = path_join(targets[i], "model.onnx.data");

        open_map(&maps[i], path);
        free(path);
    }
    assert_int_equal(maps[0].n_bytes, maps[1].n_bytes);
    assert_memory_equal(maps[0].data, maps[1].data, maps[0].n_bytes);
    for (int i = 0; i < 2; i++) {
        file_map_close(&maps[i]);
        assert_int_equal(directory_remove(targets[i], &err), KVERN_OK);
        free(targets[i]);
    }
}

static void shards_convert_as_safetensors_do(void **state)
{
    (void)state;
    expect_same_weights(GOLDEN "/llama", GOLDEN "/llama-sharded");
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t n_bytes)
{
    char *path = path_join(folder, name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
    free(path);
}

/* The tiny models of make_tiny.py, written as pytorch_model.bin, and transposed in a .pt beside it,
 * which is read by its name. */
static void models_convert_as_safetensors_do(void **state)
{
    static const char *const names[] = {"llama-f32", "qwen3-bf16"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        char *source = path_join(KVERN_GOLDEN_DIR "/tiny", names[i]);
        char *config_path = path_join(source, "config.json");
        char *weights_path = path_join(source, "model.safetensors");
        char *folder = scratch_path(names[i]);
        char *file = path_join(folder, "other.pt");
        struct file_map config = {0}, weights = {0};
        struct safetensors safetensors;
        struct zip_writer zip = {0};
        kvern_error err;

        open_map(&config, config_path);
        open_map(&weights, weights_path);
        assert_int_equal(
            safetensors_parse(&safetensors, weights.data, weights.n_bytes, &weights, &err),
            KVERN_OK);
        assert_int_equal(directory_make(folder, &err), KVERN_OK);
        put_torch_file(&zip, safetensors.tensors, safetensors.n_tensors, false);
        write_file(folder, "config.json", config.data, config.n_bytes);
        write_file(folder, "pytorch_model.bin", zip.file.data, zip.file.n_bytes);
        expect_same_weights(source, folder);
        zip_writer_clear(&zip);
        put_torch_file(&zip, safetensors.tensors, safetensors.n_tensors, true);
        write_file(folder, "other.pt", zip.file.data, zip.file.n_bytes);
        expect_same_weights(source, file);
        assert_int_equal(directory_remove(folder, &err), KVERN_OK);
        zip_writer_clear(&zip);
        safetensors_clear(&safetensors);
        file_map_close(&config);
        file_map_close(&weights);
        free(source);
        free(config_path);
        free(weights_path);
        free(folder);
        free(file);
    }
}

/* safetensors go before torch's files, those before anything else. */
static void which_file_is_taken(void **state)
{
    static const struct {
        const char *name;
        const char *format; /* of the checkpoint with this file and those above it */
        const char *says;   /* or why it does not open */
    } cases[] = {
        {"model.gguf", NULL, "model.gguf: this is not a GGUF file"},
        {"model.onnx", NULL, "model.onnx: "},
        {"pytorch_model.bin", "torch", NULL},
        {"pytorch_model.bin.index.json", NULL, "pytorch_model.bin.index.json is not JSON"},
        {"model.safetensors", "safetensors", NULL},
    };
    char *folder = scratch_path("files");
    struct zip_writer zip = {0};
    kvern_error err = {0};

    (void)state;
    assert_int_equal(directory_make(folder, &err), KVERN_OK);
    put_torch_file(&zip, NULL, 0, false);
    static const char config[] =
        "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"hidden_size\":16,\"intermediate_size\":16,\"vocab_size\":8}";
    write_file(folder, "config.json", config, sizeof config - 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct checkpoint checkpoint;

        if (strcmp(cases[i].name, "model.safetensors") == 0)
            write_file(folder, cases[i].name, BYTES("\2\0\0\0\0\0\0\0{}"));
        else if (strcmp(cases[i].name, "pytorch_model.bin") == 0)
            write_file(folder, cases[i].name, zip.file.data, zip.file.n_bytes);
        else
            write_file(folder, cases[i].name, "", 0);
        kvern_status status = checkpoint_open(&checkpoint, folder, &err);
        if (cases[i].format ? status != KVERN_OK : !strstr(err.message, cases[i].says))
            fail_msg("%s: %s, \"%s\"", cases[i].name, kvern_status_name(status), err.message);
        if (cases[i].format)
            assert_string_equal(checkpoint.format, cases[i].format);
        checkpoint_close(&checkpoint);
    }
    assert_int_equal(directory_remove(folder, &err), KVERN_OK);
    zip_writer_clear(&zip);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torchs_own_types),
        cmocka_unit_test(torchs_own_forms),
        cmocka_unit_test(tensors_fit_their_storage),
        cmocka_unit_test(archives_are_torchs),
        cmocka_unit_test(many_tensors_of_few_bytes),
        cmocka_unit_test(cuts_and_no_memory),
        cmocka_unit_test(shards_convert_as_safetensors_do),
        cmocka_unit_test(models_convert_as_safetensors_do),
        cmocka_unit_test(which_file_is_taken),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
