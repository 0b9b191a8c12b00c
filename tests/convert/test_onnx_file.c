/* SPDX-License-Identifier: Apache-2.0
 *
 * onnx_file: what is written parses back, external tensors are aligned and inside the data file,
 * and a tensor with too few or too many bytes is refused.
 */
#include "convert/onnx_file.h"

#include "base/file.h"
#include "onnx/onnx.pb-c.h"
#include "support/scratch.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *data_path, *graph_path;

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    data_path = scratch_path("model.onnx.data");
    graph_path = scratch_path("model.onnx");
    return 0;
}

static int tear_down(void **state)
{
    free(data_path);
    free(graph_path);
    return scratch_remove(state);
}

static Onnx__ModelProto *read_back(void)
{
    char *bytes;
    size_t n_bytes;
    Onnx__ModelProto *model;

    assert_int_equal(file_read(graph_path, 1 << 20, &bytes, &n_bytes, NULL), KVERN_OK);
    model = onnx__model_proto__unpack(NULL, n_bytes, (const uint8_t *)bytes);
    assert_non_null(model);
    free(bytes);
    return model;
}

static void test_nodes_and_values(void **state)
{
    const struct onnx_dim dims[] = {{.name = "n_tokens"}, {.size = 7}};
    const float values[] = {1.5f, -2.0f, 0.25f};
    const int64_t n_values = 3;
    struct onnx_file *file = onnx_file_new("test");
    struct onnx_node *node;

    (void)state;
    onnx_file_import(file, "", 17);
    onnx_file_import(file, "ai.kvern", 1);
    onnx_file_metadata(file, "key", "value");
    onnx_file_input(file, "x", ONNX_F32, dims, 2);
    onnx_file_output(file, "y", ONNX_F16, dims, 1);
    node = onnx_file_node(file, "ai.kvern", "Linear", "layer.0");
    onnx_node_input(node, "x");
    onnx_node_input(node, "");
    onnx_node_input(node, "w");
    onnx_node_input(node, NULL);
    onnx_node_input(node, "");
    onnx_node_output(node, "y");
    onnx_node_int(node, "K", 1LL << 40);
    onnx_node_float(node, "epsilon", 1e-5f);
    onnx_node_string(node, "activation", "silu");
    assert_int_equal(
        onnx_file_small_tensor(file, "w", ONNX_F32, &n_values, 1, values, sizeof values, NULL),
        KVERN_OK);
    assert_int_equal(onnx_file_write(file, graph_path, NULL), KVERN_OK);
    onnx_file_free(file);

    Onnx__ModelProto *model = read_back();
    Onnx__NodeProto *proto = model->graph->node[0];
    assert_int_equal(model->n_opset_import, 2);
    assert_string_equal(model->opset_import[1]->domain, "ai.kvern");
    assert_string_equal(model->metadata_props[0]->value, "value");
    assert_string_equal(model->graph->input[0]->type->tensor_type->shape->dim[0]->dim_param,
                        "n_tokens");
    assert_int_equal(model->graph->input[0]->type->tensor_type->shape->dim[1]->dim_value, 7);
    assert_int_equal(model->graph->output[0]->type->tensor_type->elem_type, ONNX_F16);
    assert_int_equal(proto->n_input,
                     3); /* trailing absent inputs are dropped, the middle one not */
    assert_string_equal(proto->input[1], "");
    assert_string_equal(proto->input[2], "w");
    assert_true(proto->attribute[0]->i == 1LL << 40);
    assert_true(proto->attribute[1]->f == 1e-5f);
    assert_memory_equal(proto->attribute[2]->s.data, "silu", 4);
    assert_int_equal(model->graph->initializer[0]->raw_data.len, sizeof values);
    assert_memory_equal(model->graph->initializer[0]->raw_data.data, values, sizeof values);
    onnx__model_proto__free_unpacked(model, NULL);
}

static long entry(const Onnx__TensorProto *tensor, const char *key)
{
    for (size_t i = 0; i < tensor->n_external_data; i++) {
        if (!strcmp(tensor->external_data[i]->key, key))
            return strtol(tensor->external_data[i]->value, NULL, 10);
    }
    fail_msg("%s has no %s", tensor->name, key);
    return -1;
}

static void test_external_data(void **state)
{
    static const int64_t sizes[] = {1, 4096, 4097, 10000};
    enum { N = sizeof sizes / sizeof sizes[0] };
    struct onnx_file *file = onnx_file_new("test");
    struct file_map map;

    (void)state;
    assert_int_equal(onnx_file_open_data(file, data_path, NULL), KVERN_OK);
    for (int t = 0; t < N; t++) {
        char name[16];

        snprintf(name, sizeof name, "t%d", t);
        assert_int_equal(onnx_file_begin_tensor(file, name, ONNX_U8, &sizes[t], 1, NULL), KVERN_OK);
        for (int64_t i = 0; i < sizes[t]; i++) {
            uint8_t byte = (uint8_t)(i * 7 + t);
            assert_int_equal(onnx_file_put(file, &byte, 1, NULL), KVERN_OK);
        }
        assert_int_equal(onnx_file_end_tensor(file, NULL), KVERN_OK);
    }
    assert_int_equal(onnx_file_write(file, graph_path, NULL), KVERN_OK);
    onnx_file_free(file);

    Onnx__ModelProto *model = read_back();
    long last_end = 0;
    assert_int_equal(file_map_open(&map, data_path, NULL), KVERN_OK);
    assert_int_equal(model->graph->n_initializer, N);
    for (int t = 0; t < N; t++) {
        Onnx__TensorProto *tensor = model->graph->initializer[t];
        long offset = entry(tensor, "offset");
        long length = entry(tensor, "length");

        assert_int_equal(tensor->data_location, ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL);
        assert_string_equal(tensor->external_data[0]->value, "model.onnx.data");
        assert_int_equal(offset % ONNX_ALIGNMENT, 0);
        assert_true(offset >= last_end);
        assert_int_equal(length, sizes[t]);
        assert_true((size_t)(offset + length) <= map.n_bytes);
        for (long i = 0; i < length; i++)
            assert_int_equal(map.data[offset + i], (uint8_t)(i * 7 + t));
        last_end = offset + length;
    }
    assert_int_equal(map.n_bytes, last_end);
    file_map_close(&map);
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_wrong_sizes(void **state)
{
    static const struct {
        int64_t dims[2];
        size_t n_given;
        const char *message;
    } cases[] = {
        {{2, 3}, 23, "t takes 24 bytes, but 23 were given"},
        {{2, 3}, 25, "t takes 24 bytes, but 25 were given"},
        {{0, 3}, 0, "t has a dimension of 0 that makes no tensor"},
        {{-1, 3}, 0, "t has a dimension of -1 that makes no tensor"},
        {{INT64_MAX, 3}, 0, NULL}, /* overflow */
    };
    static const uint8_t bytes[32];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct onnx_file *file = onnx_file_new("test");
        kvern_error err = {0};
        kvern_status status;

        assert_int_equal(onnx_file_small_tensor(file, "t", ONNX_F32, cases[i].dims, 2, bytes,
                                                cases[i].n_given, &err),
                         KVERN_INVALID);
        if (cases[i].message)
            assert_string_equal(err.message, cases[i].message);
        err.message[0] = '\0';
        assert_int_equal(onnx_file_open_data(file, data_path, NULL), KVERN_OK);
        status = onnx_file_begin_tensor(file, "t", ONNX_F32, cases[i].dims, 2, &err);
        if (status == KVERN_OK)
            status = onnx_file_put(file, bytes, cases[i].n_given, &err);
        if (status == KVERN_OK)
            status = onnx_file_end_tensor(file, &err);
        assert_int_equal(status, KVERN_INVALID);
        if (cases[i].message)
            assert_string_equal(err.message, cases[i].message);
        onnx_file_free(file);
    }
}

static void test_unwritable(void **state)
{
    struct onnx_file *file = onnx_file_new("test");
    kvern_error err = {0};

    (void)state;
    assert_int_equal(onnx_file_open_data(file, "/nonexistent/model.onnx.data", &err), KVERN_IO);
    assert_non_null(strstr(err.message, "/nonexistent/model.onnx.data"));
    onnx_file_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_and_values),
        cmocka_unit_test(test_external_data),
        cmocka_unit_test(test_wrong_sizes),
        cmocka_unit_test(test_unwritable),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
