/* SPDX-License-Identifier: Apache-2.0
 *
 * The one view of a checkpoint's tensors: the names they get, from which files they are gathered,
 * and what is told when a file or a tensor is missing, there twice, or of other dims.
 */
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "convert/checkpoint.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file of F32 vectors of 2, called as in `names` (blank-separated). */
static void write_shard(const char *name, const char *names)
{
    struct buffer header = {0};
    struct buffer file = {0};
    uint64_t n_header;
    size_t n = 0;

    buffer_add_string(&header, "{");
    for (const char *c = names; *c; n++) {
        size_t length = strcspn(c, " ");

        buffer_add_format(&header,
                          "%s\"%.*s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}",
                          n ? "," : "", (int)length, c, 8 * n, 8 * n + 8);
        c += length + strspn(c + length, " ");
    }
    buffer_add_string(&header, "}");
    n_header = header.n_bytes;
    buffer_add(&file, &n_header, sizeof n_header);
    buffer_add(&file, header.data, header.n_bytes);
    for (size_t i = 0; i < 8 * n; i++)
        buffer_add_byte(&file, 0);
    scratch_put(name, file.data, file.n_bytes);
    buffer_clear(&header);
    buffer_clear(&file);
}

static void write_config(void)
{
    scratch_put_text("config.json",
                     "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"num_attention_heads\":2,"
                     "\"hidden_size\":16,\"intermediate_size\":16,\"vocab_size\":8}");
}

static void remove_file(const char *name)
{
    char *path = scratch_path(name);

    unlink(path);
    free(path);
}

static void gguf_names_become_hugging_face_names(void **state)
{
    static const struct {
        const char *from;
        const char *name; /* NULL: refused */
    } cases[] = {
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"output_norm.weight", "model.norm.weight"},
        {"output.weight", "lm_head.weight"},
        {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
        {"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"},
        {"blk.1.attn_q.bias", "model.layers.1.self_attn.q_proj.bias"},
        {"blk.2.attn_k.weight", "model.layers.2.self_attn.k_proj.weight"},
        {"blk.2.attn_k.bias", "model.layers.2.self_attn.k_proj.bias"},
        {"blk.3.attn_v.weight", "model.layers.3.self_attn.v_proj.weight"},
        {"blk.10.attn_output.weight", "model.layers.10.self_attn.o_proj.weight"},
        {"blk.10.attn_q_norm.weight", "model.layers.10.self_attn.q_norm.weight"},
        {"blk.10.attn_k_norm.weight", "model.layers.10.self_attn.k_norm.weight"},
        {"blk.999.ffn_norm.weight", "model.layers.999.post_attention_layernorm.weight"},
        {"blk.9999.ffn_gate.weight", "model.layers.9999.mlp.gate_proj.weight"},
        {"blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"},
        {"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"},
        {"blk.10000.ffn_down.weight", NULL}, /* no model has so many layers */
        {"blk.0.ffn_down", NULL},
        {"blk.0.ffn_down.scale", NULL},
        {"blk.0.ffn_gate_exps.weight", NULL},
        {"blk.0.ffn_gat.weight", NULL},
        {"blk.0..weight", NULL},
        {"blk.0.weight", NULL},
        {"blk..attn_q.weight", NULL},
        {"blk.x.attn_q.weight", NULL},
        {"attn_q.weight", NULL},
        {"blk.0.token_embd.weight", NULL},
        {"model.layers.0.self_attn.q_proj.weight", NULL},
        {"weight", NULL},
        {".weight", NULL},
        {"", NULL},
    };
    uint8_t data[8] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gguf_tensor tensor = {.name = {cases[i].from, strlen(cases[i].from)},
                                     .type = TENSOR_F32,
                                     .n_dims = 2,
                                     .dims = {1, 2},
                                     .data = data,
                                     .n_bytes = sizeof data};
        const struct gguf gguf = {.tensors = &tensor, .n_tensors = 1};
        struct checkpoint checkpoint = {.config = {.family = FAMILY_QWEN2}};
        kvern_error err = {0};
        kvern_status status = gguf_model_tensors(&gguf, NULL, &checkpoint, &err);

        if (cases[i].name) {
            if (status != KVERN_OK)
                fail_msg("%s: %s", cases[i].from, err.message);
            assert_int_equal(checkpoint.n_tensors, 1);
            assert_string_equal(checkpoint.tensors[0].name, cases[i].name);
            assert_ptr_equal(checkpoint_find(&checkpoint, cases[i].name), checkpoint.tensors);
            assert_ptr_equal(checkpoint.tensors[0].data, data);
        } else {
            char expected[200];

            snprintf(expected, sizeof expected,
                     "GGUF tensor %s is not part of any model kvern can run", cases[i].from);
            assert_int_equal(status, KVERN_UNSUPPORTED);
            assert_string_equal(err.message, expected);
        }
        checkpoint_close(&checkpoint);
    }
}

/* Llama's q and k rows are in another order in a GGUF; other families' are not. */
static void only_llamas_rows_are_reordered(void **state)
{
    static const struct {
        enum model_family family;
        const char *name;
        size_t n_rows;
        size_t rope_heads;
        const char *says; /* NULL: fine */
    } cases[] = {
        {FAMILY_LLAMA, "blk.0.attn_q.weight", 32, 4, NULL},
        {FAMILY_LLAMA, "blk.0.attn_k.weight", 16, 2, NULL},
        {FAMILY_LLAMA, "blk.0.attn_v.weight", 16, 0, NULL},
        {FAMILY_QWEN2, "blk.0.attn_q.weight", 32, 0, NULL},
        {FAMILY_QWEN3, "blk.0.attn_k.weight", 16, 0, NULL},
        {FAMILY_LLAMA, "blk.0.attn_q.weight", 31, 0,
         "model.layers.0.self_attn.q_proj.weight has 31 rows; 4 heads of 8 need 32"},
        {FAMILY_LLAMA, "blk.0.attn_k.weight", 32, 0,
         "model.layers.0.self_attn.k_proj.weight has 32 rows; 2 heads of 8 need 16"},
    };
    float data[64] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gguf_tensor tensor = {.name = {cases[i].name, strlen(cases[i].name)},
                                     .n_dims = 2,
                                     .dims = {cases[i].n_rows, 2},
                                     .data = (const uint8_t *)data,
                                     .n_bytes = sizeof data};
        const struct gguf gguf = {.tensors = &tensor, .n_tensors = 1};
        struct checkpoint checkpoint = {
            .config = {.family = cases[i].family, .n_heads = 4, .n_kv_heads = 2, .head_size = 8}};
        kvern_error err = {0};
        kvern_status status = gguf_model_tensors(&gguf, NULL, &checkpoint, &err);

        assert_int_equal(status, cases[i].says ? KVERN_FORMAT : KVERN_OK);
        if (cases[i].says)
            assert_string_equal(err.message, cases[i].says);
        else
            assert_int_equal(checkpoint.tensors[0].rope_heads, cases[i].rope_heads);
        checkpoint_close(&checkpoint);
    }
}

static void what_a_path_may_be(void **state)
{
    static const struct {
        const char *name; /* in the directory; "" is itself */
        kvern_status status;
        const char *says;
    } cases[] = {
        {"nothing.gguf", KVERN_NOT_FOUND, "nothing.gguf"},
        {"nothing.safetensors", KVERN_NOT_FOUND, "config.json"},
        {"nothing.bin", KVERN_NOT_FOUND, "nothing.bin is not there"},
        {"a.txt", KVERN_UNSUPPORTED,
         "a.txt is no .gguf, .safetensors, .bin, .pt, .pth or .onnx file"},
        {"empty.gguf", KVERN_FORMAT, "empty.gguf: this is not a GGUF file"},
        {"", KVERN_INVALID, "holds 2 .gguf files; name the one you mean"},
    };

    (void)state;
    scratch_put_text("a.txt", "x");
    scratch_put_text("empty.gguf", "");
    scratch_put_text("second.gguf", "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = scratch_path(cases[i].name);
        struct checkpoint checkpoint;
        kvern_error err = {0};
        kvern_status status = checkpoint_open(&checkpoint, path, &err);

        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: %s, \"%s\" does not say \"%s\"", cases[i].name, kvern_status_name(status),
                     err.message, cases[i].says);
        assert_null(checkpoint.tensors);
        assert_null(checkpoint.files);
        free(path);
    }
    remove_file("a.txt");
    remove_file("empty.gguf");
    remove_file("second.gguf");
}

static void indexes_of_shards(void **state)
{
    static const struct {
        const char *index;
        kvern_status status;
        const char *says; /* or how many tensors there are, if it is fine */
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", KVERN_OK, "3"},
        /* what the index does not tell of is there all the same, and the other way round */
        {"{\"weight_map\":{\"b\":\"1.safetensors\"}}", KVERN_OK, "2"},
        {"{\"weight_map\":{\"z\":\"1.safetensors\"}}", KVERN_OK, "2"},
        {"{\"weight_map\":{}}", KVERN_OK, "0"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"3.safetensors\"}}", KVERN_NOT_FOUND,
         "/3.safetensors: No such file"},
        {"{\"weight_map\":{\"a\":\"2.safetensors\",\"c\":\"1.safetensors\"}}", KVERN_FORMAT,
         "the shard index puts a into 2.safetensors, but it is elsewhere"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"d\":\"again.safetensors\"}}", KVERN_FORMAT,
         "again.safetensors: the checkpoint has tensor a twice"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", KVERN_FORMAT,
         "model.safetensors.index.json is not JSON: duplicate object key"},
        {"{\"weight_map\":[]}", KVERN_FORMAT, "has no object weight_map"},
        {"[]", KVERN_FORMAT, "has no object weight_map"},
        {"", KVERN_FORMAT, "model.safetensors.index.json is not JSON: "},
        {"{\"weight_map\":{\"a\":\"\"}}", KVERN_FORMAT,
         "names the file \"\", which is not a plain"},
        {"{\"weight_map\":{\"a\":\"sub/1.safetensors\"}}", KVERN_FORMAT,
         "names the file \"sub/1.safetensors\", which is not a plain name"},
        {"{\"weight_map\":{\"a\":\".hidden\"}}", KVERN_FORMAT, "names the file \".hidden\""},
        {"{\"weight_map\":{\"a\":null}}", KVERN_FORMAT, "names the file \"\""},
        {"{\"weight_map\":{\"a\":\"config.json\"}}", KVERN_FORMAT, "config.json: "},
    };

    (void)state;
    write_config();
    write_shard("1.safetensors", "a b");
    write_shard("2.safetensors", "c");
    write_shard("again.safetensors", "d a");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct checkpoint checkpoint;
        kvern_error err = {0};
        kvern_status status;

        scratch_put_text("model.safetensors.index.json", cases[i].index);
        status = checkpoint_open(&checkpoint, scratch, &err);
        if (status != cases[i].status ||
            (status != KVERN_OK && !strstr(err.message, cases[i].says)))
            fail_msg("%s: %s, \"%s\" does not say \"%s\"", cases[i].index,
                     kvern_status_name(status), err.message, cases[i].says);
        assert_int_equal(checkpoint.n_tensors,
                         status == KVERN_OK ? strtoul(cases[i].says, NULL, 10) : 0);
        checkpoint_close(&checkpoint);
    }
}

static void too_many_shards(void **state)
{
    struct buffer index = {0};
    struct checkpoint checkpoint;
    kvern_error err = {0};

    (void)state;
    buffer_add_string(&index, "{\"weight_map\":{");
    for (int i = 0; i < 1025; i++)
        buffer_add_format(&index, "%s\"t%d\":\"%d.safetensors\"", i ? "," : "", i, i);
    buffer_add_string(&index, "}}");
    scratch_put_text("model.safetensors.index.json", index.data);
    assert_int_equal(checkpoint_open(&checkpoint, scratch, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "the shard index names more than 1024 files");
    buffer_clear(&index);
}

/* Both are there after an unfinished download: the index is what the publisher meant. */
static void an_index_goes_before_a_single_file(void **state)
{
    struct checkpoint checkpoint;
    kvern_error err = {0};

    (void)state;
    scratch_put_text("model.safetensors.index.json", "{\"weight_map\":{\"c\":\"2.safetensors\"}}");
    write_shard("model.safetensors", "single");
    assert_int_equal(checkpoint_open(&checkpoint, scratch, &err), KVERN_OK);
    assert_non_null(checkpoint_find(&checkpoint, "c"));
    assert_null(checkpoint_find(&checkpoint, "single"));
    checkpoint_close(&checkpoint);
    remove_file("model.safetensors.index.json");
    assert_int_equal(checkpoint_open(&checkpoint, scratch, &err), KVERN_OK);
    assert_non_null(checkpoint_find(&checkpoint, "single"));
    checkpoint_close(&checkpoint);
}

static struct tensor tensor_of(const char *name, size_t n_dims, size_t dim0, size_t dim1)
{
    return (struct tensor){.name = strdup(name), .n_dims = n_dims, .dims = {dim0, dim1, 1}};
}

static void tensors_are_found_by_name_and_dims(void **state)
{
    static const struct {
        const char *name;
        size_t n_rows, k;
        const char *says; /* NULL: fine */
    } cases[] = {
        {"vector", 1, 6, NULL},
        {"matrix", 2, 3, NULL},
        {"matri", 2, 3, "the checkpoint has no tensor matri"},
        {"matrix2", 2, 3, "the checkpoint has no tensor matrix2"},
        {"", 2, 3, "the checkpoint has no tensor "},
        {"matrix", 3, 2, "matrix is [2, 3] where the config asks for [3, 2]"},
        {"vector", 2, 3, "vector is [1, 6] where the config asks for [2, 3]"},
        {"cube", 2, 1, "cube has 3 dims where the config asks for [2, 1]"},
        {"cube", 6, 1, "cube has 3 dims where the config asks for [6, 1]"},
    };
    struct checkpoint checkpoint = {0};
    kvern_error err = {0};

    (void)state;
    assert_int_equal(checkpoint_add(&checkpoint, tensor_of("vector", 1, 6, 0), &err), KVERN_OK);
    assert_int_equal(checkpoint_add(&checkpoint, tensor_of("matrix", 2, 2, 3), &err), KVERN_OK);
    assert_int_equal(checkpoint_add(&checkpoint, tensor_of("cube", 3, 2, 3), &err), KVERN_OK);
    assert_int_equal(checkpoint_add(&checkpoint, tensor_of("vector", 1, 6, 0), &err), KVERN_FORMAT);
    assert_string_equal(err.message, "the checkpoint has tensor vector twice");
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct tensor *found = NULL;
        kvern_status status = checkpoint_require(&checkpoint, cases[i].name, cases[i].n_rows,
                                                 cases[i].k, &found, &err);

        assert_int_equal(status, cases[i].says ? KVERN_FORMAT : KVERN_OK);
        if (cases[i].says)
            assert_string_equal(err.message, cases[i].says);
        else
            assert_string_equal(found->name, cases[i].name);
    }
    checkpoint_close(&checkpoint);
    assert_int_equal(checkpoint.n_tensors, 0);
}

/* More than the list has room for at once. */
static void a_thousand_tensors(void **state)
{
    enum { N = 1000 };
    struct checkpoint checkpoint = {0};
    char name[32];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%zu", i);
        assert_int_equal(checkpoint_add(&checkpoint, tensor_of(name, 1, i + 1, 0), NULL), KVERN_OK);
    }
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%zu", i);
        const struct tensor *found = checkpoint_find(&checkpoint, name);
        assert_non_null(found);
        assert_int_equal(found->dims[0], i + 1);
    }
    assert_null(checkpoint_find(&checkpoint, "t1000"));
    checkpoint_close(&checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_names_become_hugging_face_names),
        cmocka_unit_test(only_llamas_rows_are_reordered),
        cmocka_unit_test(what_a_path_may_be),
        cmocka_unit_test(indexes_of_shards),
        cmocka_unit_test(too_many_shards),
        cmocka_unit_test(an_index_goes_before_a_single_file),
        cmocka_unit_test(tensors_are_found_by_name_and_dims),
        cmocka_unit_test(a_thousand_tensors),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
