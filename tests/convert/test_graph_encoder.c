/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder graph of tiny checkpoints: every node with its inputs, attributes and shapes, packed
 * values, and what a caller who stops or a value that is not finite makes of it.
 */
#include "convert/graph_encoder.h"

#include "test.h"

#include "base/file.h"
#include "convert/support_graph.h"
#include "support/scratch.h"
#include "support/tiny_checkpoint.h"

#include <math.h>
#include <unistd.h>

static char *source, *data_path, *graph_path;

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    source = scratch_path("source");
    data_path = scratch_path("model.onnx.data");
    graph_path = scratch_path("model.onnx");
    return 0;
}

static int tear_down(void **state)
{
    free(source);
    free(data_path);
    free(graph_path);
    return scratch_remove(state);
}

/* Writes the graph of the checkpoint in `source`; the first failure's status. */
static kvern_status write_graph(enum weights_choice choice, struct graph_progress *progress,
                                kvern_error *err)
{
    struct checkpoint checkpoint = {0};
    struct encoder_plan plan = {0};
    struct onnx_file *file = onnx_file_new("tiny");
    kvern_status status = checkpoint_open(&checkpoint, source, err);

    if (status == KVERN_OK)
        status = encoder_plan_make(&plan, &checkpoint, choice, choice, err);
    if (status == KVERN_OK)
        status = onnx_file_open_data(file, data_path, err);
    if (status == KVERN_OK)
        status = graph_encoder_write(&plan, file, progress, err);
    if (status == KVERN_OK) {
        assert_int_equal(progress->done_bytes, plan.data_bytes);
        status = onnx_file_write(file, graph_path, err);
    }
    onnx_file_free(file);
    encoder_plan_clear(&plan);
    checkpoint_close(&checkpoint);
    return status;
}

static Onnx__ModelProto *build_and_read(const struct tiny_options *options,
                                        enum weights_choice choice)
{
    struct graph_progress progress = {0};
    kvern_error err = {0};

    tiny_checkpoint_write(source, options);
    if (write_graph(choice, &progress, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return graph_read(graph_path);
}

static void nodes_stand_in_order(void **state)
{
    static const char *const expected[][3] = {
        {"Embedding", "model.words", "input_ids model.words.weight.data model.words.weight.scales"},
        {"Embedding", "model.places", "positions model.places.weight.data"},
        {"AddLayerNorm", "model.embed_norm",
         "model.words.out model.places.out model.embed_norm.gamma model.embed_norm.beta"},
        {"Linear", "model.layers.0.attn.qkv",
         "model.embed_norm.out model.layers.0.attn.qkv.weight.data "
         "model.layers.0.attn.qkv.weight.scales - model.layers.0.attn.qkv.bias"},
        {"PackedAttention", "model.layers.0.attn.packed",
         "model.layers.0.attn.qkv.out query_start"},
        {"Linear", "model.layers.0.attn.o",
         "model.layers.0.attn.packed.out model.layers.0.attn.o.weight.data "
         "model.layers.0.attn.o.weight.scales - model.layers.0.attn.o.bias"},
        {"AddLayerNorm", "model.layers.0.attn.norm",
         "model.layers.0.attn.o.out model.embed_norm.out model.layers.0.attn.norm.gamma "
         "model.layers.0.attn.norm.beta model.layers.0.attn.norm.skip_scale"},
        {"Linear", "model.layers.0.mlp.up",
         "model.layers.0.attn.norm.out model.layers.0.mlp.up.weight.data "
         "model.layers.0.mlp.up.weight.scales - model.layers.0.mlp.up.bias"},
        {"Linear", "model.layers.0.mlp.down",
         "model.layers.0.mlp.up.out model.layers.0.mlp.down.weight.data "
         "model.layers.0.mlp.down.weight.scales - model.layers.0.mlp.down.bias"},
        {"AddLayerNorm", "model.layers.0.mlp.norm",
         "model.layers.0.mlp.down.out model.layers.0.attn.norm.out model.layers.0.mlp.norm.gamma "
         "model.layers.0.mlp.norm.beta model.layers.0.mlp.norm.skip_scale"},
        {"Linear", "model.layers.1.attn.qkv",
         "model.layers.0.mlp.norm.out model.layers.1.attn.qkv.weight.data "
         "model.layers.1.attn.qkv.weight.scales - model.layers.1.attn.qkv.bias"},
    };
    struct tiny_options options = tiny_options("bert");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);
    const Onnx__GraphProto *graph = model->graph;

    (void)state;
    assert_int_equal(graph->n_node, 3 + 2 * 7);
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_string_equal(graph->node[i]->op_type, expected[i][0]);
        assert_string_equal(graph->node[i]->name, expected[i][1]);
        assert_string_equal(graph->node[i]->domain, "ai.kvern");
        graph_assert_inputs(model, expected[i][1], expected[i][2]);
    }
    assert_string_equal(graph->node[graph->n_node - 1]->output[0], "last_hidden_state");
    graph_assert_connected(model);
    assert_int_equal(graph->n_input, 3);
    graph_assert_value(graph->input[0], "input_ids", ONNX_I64, "n_tokens");
    graph_assert_value(graph->input[1], "positions", ONNX_I64, "n_tokens");
    graph_assert_value(graph->input[2], "query_start", ONNX_I32, "n_sequences_plus_1");
    assert_int_equal(graph->n_output, 1);
    graph_assert_value(graph->output[0], "last_hidden_state", ONNX_F32, "n_tokens,96");
    onnx__model_proto__free_unpacked(model, NULL);
}

static void attributes_are_the_configs(void **state)
{
    static const struct {
        const char *family;
        const char *config;
        enum weights_choice choice;
        const char *activation;
        const char *precision;
        float epsilon;
    } cases[] = {
        {"bert", "", WEIGHTS_Q8, "gelu", "fast", 1e-5f},
        {"bert", ",\"hidden_act\":\"gelu_new\"", WEIGHTS_F32, "gelu_tanh", "f32", 1e-5f},
        {"roberta", ",\"hidden_act\":\"relu\"", WEIGHTS_Q4, "relu", "fast", 1e-5f},
        {"distilbert", ",\"activation\":\"silu\"", WEIGHTS_F32, "silu", "f32", 1e-12f},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tiny_options options = tiny_options(cases[i].family);
        Onnx__ModelProto *model;

        options.more_config = cases[i].config;
        model = build_and_read(&options, cases[i].choice);
        for (size_t layer = 0; layer < 2; layer++) {
            const Onnx__NodeProto *attention =
                graph_node(model, graph_name_in_layer(layer, "attn.packed").text);
            const Onnx__NodeProto *up =
                graph_node(model, graph_name_in_layer(layer, "mlp.up").text);
            const Onnx__NodeProto *down =
                graph_node(model, graph_name_in_layer(layer, "mlp.down").text);

            assert_int_equal(graph_attribute_int(attention, "n_heads"), 6);
            assert_int_equal(graph_attribute_int(attention, "n_kv_heads"), 6);
            assert_int_equal(graph_attribute_int(attention, "head_size"), 16);
            assert_true(graph_attribute_float(attention, "scale") == 0.25f);
            assert_string_equal(graph_attribute_string(attention, "precision"), cases[i].precision);
            assert_string_equal(graph_attribute_string(up, "activation"), cases[i].activation);
            assert_string_equal(graph_attribute_string(down, "activation"), "");
            assert_int_equal(graph_attribute_int(up, "N"), 160);
            assert_int_equal(graph_attribute_int(down, "K"), 160);
        }
        assert_true(graph_attribute_float(graph_node(model, "model.embed_norm"), "epsilon") ==
                    cases[i].epsilon);
        assert_int_equal(graph_attribute_int(graph_node(model, "model.places"), "N"), 64);
        graph_assert_connected(model);
        onnx__model_proto__free_unpacked(model, NULL);
    }
}

/* The packed values of qkv in f32: query rows first, then key, then value. */
static void stacked_values(void **state)
{
    static const char *const names[] = {"query", "key", "value"};
    struct tiny_options options = tiny_options("bert");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_F32);
    const Onnx__TensorProto *packed = graph_tensor(model, "model.layers.1.attn.qkv.weight.data");
    const Onnx__TensorProto *bias = graph_tensor(model, "model.layers.1.attn.qkv.bias");
    size_t offset = strtoul(packed->external_data[1]->value, NULL, 10);
    struct checkpoint checkpoint = {0};
    struct file_map map;
    float row[96];

    (void)state;
    assert_int_equal(checkpoint_open(&checkpoint, source, NULL), KVERN_OK);
    assert_int_equal(file_map_open(&map, data_path, NULL), KVERN_OK);
    const float *values = (const float *)(const void *)(map.data + offset);
    for (size_t part = 0; part < 3; part++) {
        char name[128];

        snprintf(name, sizeof name, "encoder.layer.1.attention.self.%s.weight", names[part]);
        for (size_t i = 0; i < 96; i++) {
            size_t n = part * 96 + i;

            tensor_read_row(checkpoint_find(&checkpoint, name), i, row);
            for (size_t k = 0; k < 96; k++)
                assert_true(values[(n / 64 * 96 + k) * 64 + n % 64] == row[k]);
        }
        snprintf(name, sizeof name, "encoder.layer.1.attention.self.%s.bias", names[part]);
        tensor_read_row(checkpoint_find(&checkpoint, name), 0, row);
        assert_memory_equal(bias->raw_data.data + part * sizeof row, row, sizeof row);
    }
    file_map_close(&map);
    checkpoint_close(&checkpoint);
    onnx__model_proto__free_unpacked(model, NULL);
}

static const float *floats_of(const Onnx__ModelProto *model, const char *name)
{
    const Onnx__TensorProto *tensor = graph_tensor(model, name);

    assert_int_equal(tensor->raw_data.len, 96 * sizeof(float));
    return (const float *)(const void *)tensor->raw_data.data;
}

/* Of 8 bit a norm gives less by the factor that the sum after the next matrix takes back; the last
 * norm, whose output is the model's, gives all. Other forms have no such factors. */
static void norms_are_smoothed_for_8_bit(void **state)
{
    static const struct {
        const char *norm;  /* in the graph */
        const char *gamma; /* in the checkpoint */
        const char *scale; /* NULL: 1 */
    } norms[] = {
        {"model.embed_norm", "embeddings.LayerNorm.weight", "model.layers.0.attn.norm.skip_scale"},
        {"model.layers.0.attn.norm", "encoder.layer.0.attention.output.LayerNorm.weight",
         "model.layers.0.mlp.norm.skip_scale"},
        {"model.layers.0.mlp.norm", "encoder.layer.0.output.LayerNorm.weight",
         "model.layers.1.attn.norm.skip_scale"},
        {"model.layers.1.mlp.norm", "encoder.layer.1.output.LayerNorm.weight", NULL},
    };
    static const enum weights_choice others[] = {WEIGHTS_F32, WEIGHTS_Q4};
    struct tiny_options options = tiny_options("bert");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);
    struct checkpoint checkpoint = {0};
    float gamma[96];

    (void)state;
    assert_int_equal(checkpoint_open(&checkpoint, source, NULL), KVERN_OK);
    for (size_t i = 0; i < COUNT(norms); i++) {
        const float *got = floats_of(model, graph_name_join(norms[i].norm, "gamma").text);
        const float *scale = norms[i].scale ? floats_of(model, norms[i].scale) : NULL;

        tensor_read_row(checkpoint_find(&checkpoint, norms[i].gamma), 0, gamma);
        for (size_t k = 0; k < 96; k++) {
            float want = scale ? gamma[k] / scale[k] : gamma[k];

            if (got[k] != want)
                fail_msg("%s: gamma[%zu] is %g, not %g", norms[i].norm, k, (double)got[k],
                         (double)want);
        }
    }
    checkpoint_close(&checkpoint);
    onnx__model_proto__free_unpacked(model, NULL);
    for (size_t i = 0; i < COUNT(others); i++) {
        model = build_and_read(&options, others[i]);
        graph_assert_inputs(model, "model.layers.0.attn.norm",
                            "model.layers.0.attn.o.out model.embed_norm.out "
                            "model.layers.0.attn.norm.gamma model.layers.0.attn.norm.beta");
        onnx__model_proto__free_unpacked(model, NULL);
    }
}

static bool stop_at_once(const char *what, int64_t done, int64_t total, void *user_data)
{
    (void)what;
    (void)done;
    (void)total;
    return --*(int *)user_data > 0;
}

static void a_caller_may_stop(void **state)
{
    struct tiny_options options = tiny_options("bert");

    (void)state;
    tiny_checkpoint_write(source, &options);
    for (int n_calls = 1; n_calls < 30; n_calls += 7) {
        int left = n_calls;
        struct graph_progress progress = {.fn = stop_at_once, .user_data = &left};

        assert_int_equal(write_graph(WEIGHTS_Q8, &progress, NULL), KVERN_CANCELLED);
    }
}

/* The file's last four bytes are a value of the last tensor, a norm's beta. */
static void values_must_be_finite(void **state)
{
    static const float nan_value = NAN;
    struct tiny_options options = tiny_options("bert");
    struct graph_progress progress = {0};
    char *path = path_join(source, "model.safetensors");
    kvern_error err = {0};
    FILE *file;

    (void)state;
    tiny_checkpoint_write(source, &options);
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, -4, SEEK_END);
    assert_int_equal(fwrite(&nan_value, sizeof nan_value, 1, file), 1);
    fclose(file);
    assert_int_equal(write_graph(WEIGHTS_Q8, &progress, &err), KVERN_FORMAT);
    assert_string_equal(err.message, "encoder.layer.1.output.LayerNorm.bias holds a value that is "
                                     "not finite");
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_stand_in_order),  cmocka_unit_test(attributes_are_the_configs),
        cmocka_unit_test(stacked_values),        cmocka_unit_test(a_caller_may_stop),
        cmocka_unit_test(values_must_be_finite), cmocka_unit_test(norms_are_smoothed_for_8_bit),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
