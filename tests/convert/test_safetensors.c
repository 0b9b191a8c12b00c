/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors headers written by hand, good and bad, and checkpoints of one file and of shards in a
 * scratch directory.
 */
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "convert/checkpoint.h"
#include "convert/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void put_file(struct buffer *file, const char *header, size_t n_data)
{
    uint64_t n_header = strlen(header);

    buffer_add(file, &n_header, sizeof n_header);
    buffer_add_string(file, header);
    for (size_t i = 0; i < n_data; i++)
        buffer_add_byte(file, (char)(i % 4 == 3 ? 0x3f : 0x80)); /* f32: 1.0 and a bit */
}

static void tensors_are_found(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[24,32]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[32,40]},"
        "\"none\":{\"dtype\":\"F16\",\"shape\":[0,4],\"data_offsets\":[40,40]}}   ";
    struct buffer file = {0};
    struct safetensors parsed;
    kvern_error err;
    (void)state;

    put_file(&file, header, 40);
    const uint8_t *data = (const uint8_t *)file.data;
    if (safetensors_parse(&parsed, data, file.n_bytes, NULL, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(parsed.n_tensors, 3); /* int64 cannot be a weight */
    assert_string_equal(parsed.tensors[0].name, "a");
    assert_int_equal(parsed.tensors[0].n_dims, 2);
    assert_int_equal(parsed.tensors[0].dims[0], 2);
    assert_int_equal(parsed.tensors[0].dims[1], 3);
    assert_ptr_equal(parsed.tensors[0].data, data + 8 + strlen(header));
    assert_int_equal(parsed.tensors[1].type, TENSOR_BF16);
    assert_ptr_equal(parsed.tensors[1].data, data + 8 + strlen(header) + 32);
    safetensors_clear(&parsed);
    buffer_clear(&file);
}

#define ENTRY(name, dtype, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end \
    "]}"

static void bad_headers_are_refused(void **state)
{
    static const struct {
        const char *header;
        kvern_status status;
        const char *part;
    } cases[] = {
        {"[]", KVERN_FORMAT, "not a JSON object"},
        {"{", KVERN_FORMAT, "not a JSON object"},
        {"{\"a\":1}", KVERN_UNSUPPORTED, "a has an unknown dtype"},
        {"{" ENTRY("a", "Q4", "8", "0", "4") "}", KVERN_UNSUPPORTED, "a has an unknown dtype"},
        {"{" ENTRY("a", "F32", "2", "0", "72") "}", KVERN_FORMAT, "data_offsets of a lie outside"},
        {"{" ENTRY("a", "F32", "2", "-8", "0") "}", KVERN_FORMAT, "data_offsets of a lie outside"},
        {"{" ENTRY("a", "F32", "2", "16", "8") "}", KVERN_FORMAT, "data_offsets of a lie outside"},
        {"{" ENTRY("a", "F32", "2", "0.0", "8") "}", KVERN_FORMAT, "data_offsets of a lie outside"},
        {"{" ENTRY("a", "F32", "3", "0", "8") "}", KVERN_FORMAT, "a has 8 bytes; its shape and"},
        {"{" ENTRY("a", "F32", "-2", "0", "8") "}", KVERN_FORMAT, "a has a dimension"},
        {"{" ENTRY("a", "F32", "2147483647,2147483647,4", "0", "8") "}", KVERN_FORMAT,
         "a has a dimension"},
        {"{" ENTRY("a", "F32", "1,1,1,1,1", "0", "4") "}", KVERN_FORMAT, "no shape of up to 4"},
        {"{" ENTRY("a", "F32", "2", "0", "8") "," ENTRY("b", "F32", "2", "4", "12") "}",
         KVERN_FORMAT, "a and b share bytes"},
        {"{" ENTRY("a", "F32", "2", "0", "8") "," ENTRY("a", "F32", "2", "8", "16") "}",
         KVERN_FORMAT, "duplicate"},
    };
    struct safetensors parsed;
    kvern_error err;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer file = {0};

        put_file(&file, cases[i].header, 64);
        kvern_status status =
            safetensors_parse(&parsed, (const uint8_t *)file.data, file.n_bytes, NULL, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].part))
            fail_msg("%s: status %d, \"%s\", wanted \"%s\"", cases[i].header, status, err.message,
                     cases[i].part);
        buffer_clear(&file);
    }

    static const uint8_t lengths[][9] = {"\x02\0\0\0\0\0\0\0", "\xff\xff\xff\xff\xff\xff\xff\xff"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(safetensors_parse(&parsed, lengths[i], 8, NULL, &err), KVERN_FORMAT);
        assert_non_null(strstr(err.message, "runs past the end of the file"));
    }
    assert_int_equal(safetensors_parse(&parsed, lengths[0], 7, NULL, &err), KVERN_FORMAT);
}

/* ---- whole checkpoints ---- */

static char directory[] = "/tmp/kvern-safetensors-XXXXXX";

static void write_text(const char *name, const void *bytes, size_t n_bytes)
{
    char *path = path_join(directory, name);
    FILE *stream = fopen(path, "wb");

    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, n_bytes, stream), n_bytes);
    fclose(stream);
    free(path);
}

static void write_tensors(const char *name, const char *header)
{
    struct buffer file = {0};

    put_file(&file, header, 64);
    write_text(name, file.data, file.n_bytes);
    buffer_clear(&file);
}

static void write_string(const char *name, const char *text)
{
    write_text(name, text, strlen(text));
}

static void expect_failure(kvern_status expected, const char *part)
{
    struct checkpoint checkpoint;
    kvern_error err = {0};
    kvern_status status = checkpoint_open(&checkpoint, directory, &err);

    if (status != expected || !strstr(err.message, part))
        fail_msg("status %d, \"%s\", wanted \"%s\"", status, err.message, part);
    assert_null(checkpoint.tensors);
}

static void directories_open(void **state)
{
    struct checkpoint checkpoint;
    kvern_error err;
    (void)state;

    assert_non_null(mkdtemp(directory));
    expect_failure(KVERN_NOT_FOUND, "holds no model.safetensors");
    write_string("one.gguf", "GGUF");
    expect_failure(KVERN_FORMAT, "one.gguf: the GGUF file ends inside its header");
    write_string("two.gguf", "GGUF");
    expect_failure(KVERN_INVALID, "holds 2 .gguf files");

    write_tensors("model.safetensors", "{" ENTRY("x", "F32", "2,8", "0", "64") "}");
    expect_failure(KVERN_NOT_FOUND, "config.json");
    write_string("config.json",
                 "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"num_attention_heads\":2,"
                 "\"hidden_size\":16,\"intermediate_size\":16,\"vocab_size\":8}");
    write_string("generation_config.json", "{\"eos_token_id\":[3,4]}");
    write_string("tokenizer.json", "{}");
    write_string("tokenizer_config.json",
                 "{\"chat_template\":[{\"name\":\"tool\",\"template\":\"T\"},"
                 "{\"name\":\"default\",\"template\":\"D\"}]}");
    if (checkpoint_open(&checkpoint, directory, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_string_equal(checkpoint.format, "safetensors");
    assert_int_equal(checkpoint.n_tensors, 1);
    assert_int_equal(checkpoint.config.n_eos, 2);
    assert_string_equal(checkpoint.tokenizer_json, "{}");
    assert_string_equal(checkpoint.chat_template, "D");
    checkpoint_close(&checkpoint);
    checkpoint_close(&checkpoint); /* twice is fine */

    write_string("chat_template.jinja", "J");
    char *path = path_join(directory, "model.safetensors");
    assert_int_equal(checkpoint_open(&checkpoint, path, &err), KVERN_OK);
    assert_string_equal(checkpoint.chat_template, "J");
    checkpoint_close(&checkpoint);
    free(path);
}

static void shards_open(void **state)
{
    static const struct {
        const char *index;
        kvern_status status;
        const char *part;
    } cases[] = {
        {"{}", KVERN_FORMAT, "has no object weight_map"},
        {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", KVERN_FORMAT, "not a plain name"},
        {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", KVERN_FORMAT, "not a plain name"},
        {"{\"weight_map\":{\"x\":\"..\"}}", KVERN_FORMAT, "not a plain name"},
        {"{\"weight_map\":{\"x\":7}}", KVERN_FORMAT, "not a plain name"},
        {"{\"weight_map\":{\"x\":\"c.safetensors\"}}", KVERN_NOT_FOUND, "c.safetensors"},
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}}", KVERN_FORMAT,
         "the shard index puts x into b.safetensors"},
    };
    struct checkpoint checkpoint;
    kvern_error err;
    (void)state;

    write_tensors("a.safetensors", "{" ENTRY("x", "F32", "2,8", "0", "64") "}");
    write_tensors("b.safetensors", "{" ENTRY("y", "F32", "16", "0", "64") "}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_string("model.safetensors.index.json", cases[i].index);
        expect_failure(cases[i].status, cases[i].part);
    }
    write_string("model.safetensors.index.json",
                 "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    if (checkpoint_open(&checkpoint, directory, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(checkpoint.n_files, 2);
    assert_ptr_equal(checkpoint_find(&checkpoint, "y")->file, &checkpoint.files[1]);
    checkpoint_close(&checkpoint);

    write_tensors("b.safetensors", "{" ENTRY("x", "F32", "16", "0", "64") "}");
    expect_failure(KVERN_FORMAT, "the checkpoint has tensor x twice");
    assert_int_equal(directory_remove(directory, &err), KVERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found), cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(directories_open),
        cmocka_unit_test(shards_open), /* goes on in the same directory and removes it */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
