/* SPDX-License-Identifier: Apache-2.0
 *
 * The decoder graph of tiny checkpoints of the three families: every node with its inputs, the
 * shapes and values of the initializers, tied and untied, biases and q/k norm, and the errors of
 * checkpoints that do not fit their config.
 */
#include "convert/graph_decoder.h"

#include "base/file.h"
#include "convert/support_graph.h"
#include "support/scratch.h"
#include "support/tiny_checkpoint.h"
#include "test.h"

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

/* Writes the checkpoint and its graph; the first failure's status. */
static kvern_status build(const struct tiny_options *options, enum weights_choice choice,
                          struct decoder_plan *plan, struct checkpoint *checkpoint,
                          kvern_error *err)
{
    struct graph_progress progress = {0};
    struct onnx_file *file;
    kvern_status status;

    tiny_checkpoint_write(source, options);
    status = checkpoint_open(checkpoint, source, err);
    if (status == KVERN_OK)
        status = decoder_plan_make(plan, checkpoint, choice, choice, err);
    if (status != KVERN_OK)
        return status;
    file = onnx_file_new("tiny");
    status = onnx_file_open_data(file, data_path, err);
    if (status == KVERN_OK)
        status = graph_decoder_write(plan, file, &progress, err);
    if (status == KVERN_OK)
        status = onnx_file_write(file, graph_path, err);
    assert_int_equal(progress.done_bytes, plan->data_bytes);
    onnx_file_free(file);
    return status;
}

static Onnx__ModelProto *build_and_read(const struct tiny_options *options,
                                        enum weights_choice choice)
{
    struct decoder_plan plan = {0};
    struct checkpoint checkpoint = {0};
    kvern_error err = {0};
    kvern_status status = build(options, choice, &plan, &checkpoint, &err);

    if (status != KVERN_OK)
        fail_msg("%s", err.message);
    decoder_plan_clear(&plan);
    checkpoint_close(&checkpoint);
    return graph_read(graph_path);
}

static void test_node_list(void **state)
{
    static const char *const expected[][2] = {
        {"RotaryTable", "model.rotary"},
        {"Embedding", "model.embed"},
        {"RmsNorm", "model.layers.0.input_norm"},
        {"Linear", "model.layers.0.attn.qkv"},
        {"PagedAttention", "model.layers.0.attn.paged"},
        {"Linear", "model.layers.0.attn.o"},
        {"AddRmsNorm", "model.layers.0.post_norm"},
        {"Linear", "model.layers.0.mlp.gate_up"},
        {"GatedActivation", "model.layers.0.mlp.act"},
        {"Linear", "model.layers.0.mlp.down"},
        {"AddRmsNorm", "model.layers.1.input_norm"},
        {"Linear", "model.layers.1.attn.qkv"},
        {"PagedAttention", "model.layers.1.attn.paged"},
        {"Gather", "output_rows.attn"},
        {"Gather", "output_rows.residual"},
        {"Linear", "model.layers.1.attn.o"},
        {"AddRmsNorm", "model.layers.1.post_norm"},
        {"Linear", "model.layers.1.mlp.gate_up"},
        {"GatedActivation", "model.layers.1.mlp.act"},
        {"Linear", "model.layers.1.mlp.down"},
        {"AddRmsNorm", "model.norm"},
        {"Gather", "logit_rows.hidden"},
        {"Linear", "lm_head"},
    };
    struct tiny_options options = tiny_options("llama");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);

    (void)state;
    assert_int_equal(model->graph->n_node, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < model->graph->n_node; i++) {
        assert_string_equal(model->graph->node[i]->op_type, expected[i][0]);
        assert_string_equal(model->graph->node[i]->name, expected[i][1]);
        assert_string_equal(model->graph->node[i]->domain,
                            strcmp(expected[i][0], "Gather") ? "ai.kvern" : "");
    }
    graph_assert_inputs(model, "model.layers.1.input_norm",
                        "model.layers.0.mlp.down.out model.layers.0.post_norm.sum "
                        "model.layers.1.input_norm.weight");
    graph_assert_inputs(model, "output_rows.residual", "model.layers.1.input_norm.sum output_rows");
    graph_assert_inputs(model, "model.layers.1.post_norm",
                        "model.layers.1.attn.o.out output_rows.residual.out "
                        "model.layers.1.post_norm.weight");
    graph_assert_connected(model);
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_one_layer(void **state)
{
    struct tiny_options options = tiny_options("llama");

    (void)state;
    options.n_layers = 1;
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_F32);
    graph_assert_inputs(model, "output_rows.residual", "model.embed.out output_rows");
    graph_assert_connected(model);
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_graph_inputs(void **state)
{
    static const struct {
        const char *name;
        int type;
        const char *dims;
    } expected[] = {
        {"input_ids", 7, "n_tokens"},
        {"positions", 7, "n_tokens"},
        {"query_start", 6, "n_sequences_plus_1"},
        {"context_len", 6, "n_sequences"},
        {"block_table", 6, "n_sequences,n_blocks_per_sequence"},
        {"output_rows", 7, "n_output_rows"},
        {"logit_rows", 7, "n_logit_rows"},
        {"kv_pool", 2, "2,n_blocks,block_bytes"},
        {"hidden", 1, "n_output_rows,96"},
        {"logits", 1, "n_logit_rows,100"},
    };
    struct tiny_options options = tiny_options("llama");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);

    (void)state;
    assert_int_equal(model->graph->n_input, 8);
    assert_int_equal(model->graph->n_output, 2);
    for (size_t i = 0; i < 10; i++) {
        const Onnx__ValueInfoProto *value =
            i < 8 ? model->graph->input[i] : model->graph->output[i - 8];

        graph_assert_value(value, expected[i].name, expected[i].type, expected[i].dims);
    }
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_families(void **state)
{
    static const struct {
        const char *family;
        const char *qkv_inputs;
        const char *attention_inputs;
    } cases[] = {
        {"llama", "", ""},
        {"qwen2", " - model.layers.0.attn.qkv.bias", ""},
        {"qwen3", "",
         " model.layers.0.attn.paged.q_norm.weight model.layers.0.attn.paged.k_norm.weight"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_options options = tiny_options(cases[i].family);
        Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);
        const Onnx__NodeProto *attention = graph_node(model, "model.layers.1.attn.paged");
        char expected[512];

        snprintf(expected, sizeof expected,
                 "model.layers.0.input_norm.out model.layers.0.attn.qkv.weight.data "
                 "model.layers.0.attn.qkv.weight.scales%s",
                 cases[i].qkv_inputs);
        graph_assert_inputs(model, "model.layers.0.attn.qkv", expected);
        snprintf(expected, sizeof expected,
                 "model.layers.0.attn.qkv.out rope kv_pool block_table query_start context_len%s",
                 cases[i].attention_inputs);
        graph_assert_inputs(model, "model.layers.0.attn.paged", expected);
        assert_int_equal(graph_attribute_int(attention, "layer"), 1);
        assert_int_equal(graph_attribute_int(attention, "n_heads"), 2);
        assert_int_equal(graph_attribute_int(attention, "n_kv_heads"), 1);
        assert_int_equal(graph_attribute_int(attention, "head_size"), 16);
        assert_int_equal(graph_attribute_int(attention, "window"), 0);
        assert_true(graph_attribute_float(attention, "scale") == 0.25f);
        assert_true(graph_attribute_float(attention, "norm_epsilon") == 1e-5f);
        graph_assert_connected(model);
        onnx__model_proto__free_unpacked(model, NULL);
    }
}

/* hidden 96, 2 + 2 x 1 heads of 16: qkv is [64, 96]; vocab 100 is 2 tiles. */
static void test_weights(void **state)
{
    static const struct {
        enum weights_choice choice;
        int bits;
        int64_t embed_bytes;
    } cases[] = {{WEIGHTS_Q4, 4, 2 * 64 * 96 / 2}, {WEIGHTS_Q8, 8, 2 * 64 * 96}};
    static const int64_t scales_dims[] = {2, 3, 64}, f32_dims[] = {2, 96, 64},
                         qkv_dims[] = {1, 96, 64};

    (void)state;
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        struct tiny_options options = tiny_options("llama");

        options.is_tied = is_tied;
        for (size_t i = 0; i < 2; i++) {
            Onnx__ModelProto *model = build_and_read(&options, cases[i].choice);
            const Onnx__NodeProto *head = graph_node(model, "lm_head");

            graph_assert_dims(model, "model.embed.weight.data", ONNX_U8, 1, &cases[i].embed_bytes);
            graph_assert_dims(model, "model.embed.weight.scales", ONNX_F16, 3, scales_dims);
            assert_string_equal(head->input[1],
                                is_tied ? "model.embed.weight.data" : "lm_head.weight.data");
            assert_int_equal(graph_tensor(model, "lm_head.weight.data") == NULL, is_tied);
            assert_int_equal(graph_attribute_int(head, "N"), 100);
            assert_int_equal(graph_attribute_int(head, "K"), 96);
            assert_int_equal(graph_attribute_int(head, "bits"), cases[i].bits);
            graph_assert_connected(model);
            onnx__model_proto__free_unpacked(model, NULL);
        }
        Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_F32);
        graph_assert_dims(model, "model.embed.weight.data", ONNX_F32, 3, f32_dims);
        graph_assert_dims(model, "model.layers.0.attn.qkv.weight.data", ONNX_F32, 3, qkv_dims);
        assert_null(graph_tensor(model, "model.embed.weight.scales"));
        graph_assert_inputs(model, "model.embed", "input_ids model.embed.weight.data");
        onnx__model_proto__free_unpacked(model, NULL);
    }
}

/* The packed values of gate_up in f32: gate rows come first, up rows after them. */
static void test_stacked_values(void **state)
{
    struct tiny_options options = tiny_options("qwen2");
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_F32);
    const Onnx__TensorProto *packed = graph_tensor(model, "model.layers.1.mlp.gate_up.weight.data");
    const Onnx__TensorProto *bias = graph_tensor(model, "model.layers.1.attn.qkv.bias");
    size_t offset = strtoul(packed->external_data[1]->value, NULL, 10);
    const size_t inner = options.intermediate_size, hidden = options.hidden_size;
    struct checkpoint checkpoint = {0};
    const struct tensor *parts[3];
    struct file_map map;
    float row[256];

    (void)state;
    assert_int_equal(checkpoint_open(&checkpoint, source, NULL), KVERN_OK);
    parts[0] = checkpoint_find(&checkpoint, "model.layers.1.mlp.gate_proj.weight");
    parts[1] = checkpoint_find(&checkpoint, "model.layers.1.mlp.up_proj.weight");
    assert_int_equal(file_map_open(&map, data_path, NULL), KVERN_OK);
    const float *values = (const float *)(const void *)(map.data + offset);
    for (size_t n = 0; n < 2 * inner; n++) {
        tensor_read_row(parts[n / inner], n % inner, row);
        for (size_t k = 0; k < hidden; k++)
            assert_true(values[(n / 64 * hidden + k) * 64 + n % 64] == row[k]);
    }
    file_map_close(&map);

    parts[0] = checkpoint_find(&checkpoint, "model.layers.1.self_attn.q_proj.bias");
    parts[1] = checkpoint_find(&checkpoint, "model.layers.1.self_attn.k_proj.bias");
    parts[2] = checkpoint_find(&checkpoint, "model.layers.1.self_attn.v_proj.bias");
    assert_int_equal(bias->raw_data.len, 64 * sizeof(float));
    tensor_read_row(parts[0], 0, row);
    tensor_read_row(parts[1], 0, row + 32);
    tensor_read_row(parts[2], 0, row + 48);
    assert_memory_equal(bias->raw_data.data, row, 64 * sizeof(float));
    checkpoint_close(&checkpoint);
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_llama3_frequencies(void **state)
{
    struct tiny_options options = tiny_options("llama");
    const Onnx__TensorProto *tensor;
    float values[8];

    (void)state;
    options.more_config = ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                          "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                          "\"original_max_position_embeddings\":512}";
    Onnx__ModelProto *model = build_and_read(&options, WEIGHTS_Q8);
    tensor = graph_tensor(model, "model.rotary.inv_freq");
    assert_int_equal(tensor->raw_data.len, sizeof values);
    memcpy(values, tensor->raw_data.data, sizeof values);
    assert_true(values[0] == 1.0f);                                   /* the fastest is kept */
    assert_true(fabs(values[7] - pow(10000, -14.0 / 16) / 8) < 1e-9); /* the slowest divided */
    onnx__model_proto__free_unpacked(model, NULL);
}

static void test_misfits(void **state)
{
    static const struct {
        const char *family;
        size_t hidden_size;
        enum weights_choice choice;
        const char *extra;
        const char *leave_out;
        kvern_status status;
        const char *message;
    } cases[] = {
        {"llama", 96, WEIGHTS_Q8, NULL, "model.layers.1.mlp.up_proj.weight", KVERN_FORMAT,
         "model.layers.1.mlp.up_proj.weight"},
        {"llama", 96, WEIGHTS_Q8, NULL, "model.norm.weight", KVERN_FORMAT, "model.norm.weight"},
        {"qwen2", 96, WEIGHTS_Q8, NULL, "model.layers.0.self_attn.k_proj.bias", KVERN_FORMAT,
         "model.layers.0.self_attn.k_proj.bias"},
        {"qwen3", 96, WEIGHTS_Q8, NULL, "model.layers.0.self_attn.q_norm.weight", KVERN_FORMAT,
         "model.layers.0.self_attn.q_norm.weight"},
        {"llama", 96, WEIGHTS_Q8, "model.layers.0.self_attn.o_proj.bias", NULL, KVERN_UNSUPPORTED,
         "model.layers.0.self_attn.o_proj.bias, for which a llama model"},
        {"llama", 96, WEIGHTS_Q8, "model.layers.0.self_attn.rotary_emb.inv_freq", NULL, KVERN_OK,
         ""},
        {"llama", 80, WEIGHTS_Q4, NULL, NULL, KVERN_UNSUPPORTED, "q4 needs K divisible by 32"},
        {"llama", 80, WEIGHTS_Q8, NULL, NULL, KVERN_UNSUPPORTED, "K = 80"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_options options = tiny_options(cases[i].family);
        struct decoder_plan plan = {0};
        struct checkpoint checkpoint = {0};
        kvern_error err = {0};

        options.hidden_size = cases[i].hidden_size;
        options.extra = cases[i].extra;
        options.leave_out = cases[i].leave_out;
        assert_int_equal(build(&options, cases[i].choice, &plan, &checkpoint, &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].message);
        decoder_plan_clear(&plan);
        checkpoint_close(&checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_list),
        cmocka_unit_test(test_one_layer),
        cmocka_unit_test(test_graph_inputs),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_stacked_values),
        cmocka_unit_test(test_llama3_frequencies),
        cmocka_unit_test(test_misfits),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
