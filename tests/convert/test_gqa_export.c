/* SPDX-License-Identifier: Apache-2.0
 *
 * Exports as checkpoints: what is read of a good one, where its files may lie, and that a graph or
 * config with one thing changed is refused by the name of that thing. The changes are made to a
 * committed export of onnxruntime-genai's builder.
 */
#include "base/file.h"
#include "base/memory.h"
#include "convert/checkpoint.h"
#include "convert/decoder_plan.h"
#include "onnx/onnx.pb-c.h"
#include "support/scratch.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char EXPORT[] = KVERN_GOLDEN_DIR "/exports/qwen2-gqa-f32";

static struct whole {
    char *bytes;
    size_t n_bytes;
} graph, data, config, genai, generation;

static void remove_file(const char *name)
{
    char *path = scratch_path(name);

    unlink(path);
    free(path);
}

/* Opens, and checks the shapes as a conversion would. */
static kvern_status open_export(const char *name, struct checkpoint *checkpoint, kvern_error *err)
{
    char *path = scratch_path(name);
    struct decoder_plan plan;
    kvern_status status = checkpoint_open(checkpoint, path, err);

    free(path);
    if (status != KVERN_OK)
        return status;
    status = decoder_plan_make(&plan, checkpoint, WEIGHTS_KEEP, WEIGHTS_KEEP, err);
    if (status == KVERN_OK)
        decoder_plan_clear(&plan);
    else
        checkpoint_close(checkpoint);
    return status;
}

static void check_good(const char *name)
{
    struct checkpoint checkpoint;
    const struct tensor *tensor;
    kvern_error err = {0};
    float row[64];

    if (open_export(name, &checkpoint, &err) != KVERN_OK)
        fail_msg("%s: %s", name, err.message);
    const struct model_config *read = &checkpoint.config;
    assert_string_equal(checkpoint.format, "onnx");
    assert_int_equal(read->family, FAMILY_QWEN2);
    assert_int_equal(read->n_layers, 2);
    assert_int_equal(read->n_heads, 4);
    assert_int_equal(read->n_kv_heads, 2);
    assert_int_equal(read->head_size, 16);
    assert_int_equal(read->hidden_size, 64);
    assert_int_equal(read->intermediate_size, 48);
    assert_int_equal(read->vocab_size, 288);
    assert_int_equal(read->max_positions, 512);
    assert_int_equal(read->rope_scaling, ROPE_SCALING_NONE);
    assert_true(read->rope_theta == 1000000);
    assert_true(fabsf(read->norm_epsilon - 1e-6f) < 1e-9f);
    assert_true(read->is_tied == !checkpoint_find(&checkpoint, "lm_head.weight"));
    assert_true(read->has_qkv_bias && !read->has_o_bias && !read->has_mlp_bias);
    assert_int_equal(read->bos, 285);
    assert_true(read->n_eos >= 1 && read->eos[0] == 287);
    assert_int_equal(checkpoint_require(&checkpoint, "model.layers.1.self_attn.k_proj.weight", 32,
                                        64, &tensor, &err),
                     KVERN_OK);
    tensor_read_row(tensor, 31, row);
    assert_int_equal(checkpoint_require(&checkpoint, "model.layers.0.self_attn.v_proj.bias", 1, 32,
                                        &tensor, &err),
                     KVERN_OK);
    checkpoint_close(&checkpoint);
}

static void where_files_may_lie(void **state)
{
    static const char *const layouts[][4] = {
        /* graph, its config, what is opened, data */
        {"model.onnx", "config.json", "model.onnx", "model.onnx.data"},
        {"model.onnx", "config.json", "", "model.onnx.data"},
        {"onnx/model.onnx", "config.json", "", "onnx/model.onnx.data"},
        {"onnx/model_q4.onnx", "config.json", "onnx/model_q4.onnx", "onnx/model.onnx.data"},
        {"model.onnx", "genai_config.json", "", "model.onnx.data"},
        {"model.onnx", "generation_config.json", "", "model.onnx.data"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(layouts); i++) {
        const struct whole *text = layouts[i][1][0] == 'c'   ? &config
                                   : layouts[i][1][3] == 'a' ? &genai
                                                             : &generation;
        char *below = scratch_path("onnx");

        assert_int_equal(directory_make(below, NULL), KVERN_OK);
        free(below);
        scratch_put(layouts[i][0], graph.bytes, graph.n_bytes);
        scratch_put(layouts[i][3], data.bytes, data.n_bytes);
        scratch_put(layouts[i][1], text->bytes, text->n_bytes);
        check_good(layouts[i][2]);
        scratch_empty();
    }
}

/* A folder that is not called onnx/ stands for itself, as it does when an export is run as it is:
 * what lies above it is another model's. */
static void a_config_above_another_folder_is_not_its(void **state)
{
    char *below = scratch_path("sub");

    (void)state;
    assert_int_equal(directory_make(below, NULL), KVERN_OK);
    scratch_put("sub/model.onnx", graph.bytes, graph.n_bytes);
    scratch_put("sub/model.onnx.data", data.bytes, data.n_bytes);
    scratch_put("sub/generation_config.json", generation.bytes, generation.n_bytes);
    scratch_put("config.json", "of another", 10);
    check_good("sub/model.onnx");
    assert_int_equal(directory_remove(below, NULL), KVERN_OK);
    remove_file("config.json");
    free(below);
}

/* ---- graphs with one thing changed ---- */

static Onnx__NodeProto *find_node(Onnx__ModelProto *model, const char *part)
{
    for (size_t i = 0; i < model->graph->n_node; i++) {
        if (strstr(model->graph->node[i]->name, part))
            return model->graph->node[i];
    }
    fail_msg("the export has no node %s", part);
    return NULL;
}

static void replace(char **text, const char *with)
{
    free(*text);
    *text = copy_string_or_abort(with);
}

static Onnx__AttributeProto *find_attribute(Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (strcmp(node->attribute[i]->name, name) == 0)
            return node->attribute[i];
    }
    fail_msg("%s has no attribute %s", node->name, name);
    return NULL;
}

static void rename_output(Onnx__ModelProto *model, const char *from, const char *to)
{
    for (size_t i = 0; i < model->graph->n_output; i++) {
        if (strcmp(model->graph->output[i]->name, from) == 0)
            replace(&model->graph->output[i]->name, to);
    }
    for (size_t i = 0; i < model->graph->n_node; i++) {
        Onnx__NodeProto *node = model->graph->node[i];

        if (node->n_output > 0 && strcmp(node->output[0], from) == 0)
            replace(&node->output[0], to);
    }
}

static Onnx__TensorProto *find_tensor(Onnx__ModelProto *model, const char *name)
{
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        if (strcmp(model->graph->initializer[i]->name, name) == 0)
            return model->graph->initializer[i];
    }
    fail_msg("the export has no tensor %s", name);
    return NULL;
}

enum change {
    SET_OP,         /* of node `what` to `with` */
    SET_INPUT,      /* `number` of node `what` to `with` */
    SET_INT,        /* attribute `with` of node `what` to `number` */
    SET_FLOAT,      /* likewise, to number / 1000 */
    NAME_ATTRIBUTE, /* the first of node `what` becomes `with` */
    DROP_NODE,
    SET_DIM,      /* `number` becomes the first dim of tensor `what` */
    SET_LOCATION, /* of tensor `what` to `with` */
    NAME_OUTPUT,
};

struct graph_case {
    enum change change;
    const char *what;
    const char *with;
    int64_t number;
    kvern_status status;
    const char *says;
};

static void apply(Onnx__ModelProto *model, const struct graph_case *c)
{
    Onnx__NodeProto *node = NULL;

    if (c->change <= DROP_NODE)
        node = find_node(model, c->what);
    switch (c->change) {
    case SET_OP:
        replace(&node->op_type, c->with);
        break;
    case SET_INPUT:
        assert_true((size_t)c->number < node->n_input);
        replace(&node->input[c->number], c->with);
        break;
    case SET_INT:
        find_attribute(node, c->with)->i = c->number;
        break;
    case SET_FLOAT:
        find_attribute(node, c->with)->f = (float)c->number / 1000;
        break;
    case NAME_ATTRIBUTE:
        replace(&node->attribute[0]->name, c->with);
        break;
    case DROP_NODE: /* nobody else reads or makes what it did */
        replace(&node->op_type, "Constant");
        for (size_t i = 0; i < node->n_output; i++)
            replace(&node->output[i], i ? "" : "unread");
        break;
    case SET_DIM:
        find_tensor(model, c->what)->dims[0] = c->number;
        break;
    case SET_LOCATION:
        replace(&find_tensor(model, c->what)->external_data[0]->value, c->with);
        break;
    case NAME_OUTPUT:
        rename_output(model, c->what, c->with);
        break;
    }
}

static void changed_graphs(void **state)
{
    static const struct graph_case cases[] = {
        {SET_OP, "layers.1/mlp/act_fn/Sigmoid", "Tanh", 0, KVERN_UNSUPPORTED,
         "node /model/layers.1/mlp/Mul (Mul) has no factor that is silu or gelu (tanh)"},
        {SET_OP, "layers.0/mlp/Mul", "Sub", 0, KVERN_UNSUPPORTED,
         "layers.0/mlp/Mul (Sub) should be the product of gate and up"},
        {SET_OP, "layers.0/input_layernorm", "LayerNormalization", 0, KVERN_UNSUPPORTED,
         "(LayerNormalization) should be an RMS norm"},
        {SET_OP, "layers.1/attn/GroupQuery", "MultiHeadAttention", 0, KVERN_UNSUPPORTED,
         "(MultiHeadAttention) should be GroupQueryAttention"},
        {SET_OP, "embed_tokens/Gather", "GatherElements", 0, KVERN_UNSUPPORTED,
         "should look up the input_ids"},
        {SET_OP, "attn_mask_subgraph/Sub", "Mul", 0, KVERN_UNSUPPORTED,
         "has lengths that do not count the attention_mask"},
        {SET_OP, "layers.1/mlp/down_proj/MatMul", "Gemm", 0, KVERN_UNSUPPORTED,
         "should read a sum with a matrix's output"},
        {SET_INPUT, "layers.0/attn/GroupQuery", "input_ids", 9, KVERN_OK, NULL},
        {SET_INPUT, "layers.0/attn/GroupQuery", "cos_cache", 10, KVERN_UNSUPPORTED,
         "has the input attention_bias, which kvern's attention has not"},
        {SET_INPUT, "layers.1/attn/GroupQuery", "sin_cache", 7, KVERN_UNSUPPORTED,
         "has another rotary embedding than other layers"},
        {SET_INPUT, "layers.0/attn/GroupQuery", "cos_cache", 3, KVERN_UNSUPPORTED,
         "has a cache that is no input"},
        {SET_INPUT, "layers.1/post_attention", "/model/layers.0/post_attention_layernorm/output_3",
         0, KVERN_UNSUPPORTED, "reads another stream than"},
        {SET_INPUT, "layers.1/mlp/up_proj", "/model/layers.1/input_layernorm/output_0", 0,
         KVERN_UNSUPPORTED, "multiplies gate and up of different inputs"},
        {SET_INPUT, "layers.1/mlp/up_proj", "nowhere", 0, KVERN_FORMAT,
         "reads nowhere, which nothing before it makes"},
        {SET_INPUT, "layers.1/mlp/up_proj/MatMul", "cos_cache", 1, KVERN_FORMAT,
         "model.layers.1.mlp.up_proj.weight is [8, 512] where the config asks for [48, 64]"},
        {SET_INT, "layers.1/attn/GroupQuery", "num_heads", 5, KVERN_UNSUPPORTED,
         "has 5 and 2 heads"},
        {SET_INT, "layers.1/attn/GroupQuery", "num_heads", 2, KVERN_UNSUPPORTED,
         "of q, k and v for 2 + 2 * 2 heads"},
        {SET_INT, "layers.0/attn/GroupQuery", "do_rotary", 0, KVERN_UNSUPPORTED,
         "has no constant rotary embedding"},
        {SET_INT, "layers.0/attn/GroupQuery", "rotary_interleaved", 1, KVERN_UNSUPPORTED,
         "has rotary_interleaved, which kvern's attention has not"},
        {SET_INT, "layers.0/attn/GroupQuery", "local_window_size", 7, KVERN_UNSUPPORTED,
         "window 7; another layer has"},
        {SET_FLOAT, "layers.0/attn/GroupQuery", "softcap", 30000, KVERN_UNSUPPORTED,
         "has softcap, which kvern's attention has not"},
        {SET_FLOAT, "layers.0/attn/GroupQuery", "scale", 500, KVERN_UNSUPPORTED,
         "has scale = 0.5; heads of 16 have 0.25"},
        {SET_FLOAT, "layers.0/input_layernorm", "epsilon", 1, KVERN_UNSUPPORTED,
         "has epsilon = 0.001 where another norm has 1e-06"},
        {NAME_ATTRIBUTE, "layers.0/attn/GroupQuery", "novelty", 0, KVERN_UNSUPPORTED,
         "has the attribute novelty, which is not known"},
        {DROP_NODE, "layers.0/post_attention_layernorm", NULL, 0, KVERN_FORMAT,
         "which nothing before it makes"},
        {SET_DIM, "model.layers.0.input_layernorm.weight", NULL, 63, KVERN_FORMAT,
         "tensor model.layers.0.input_layernorm.weight has 256 bytes"},
        {SET_DIM, "cos_cache", NULL, INT64_MAX, KVERN_LIMIT, "the dims of tensor cos_cache"},
        {SET_LOCATION, "cos_cache", "../model.onnx.data", 0, KVERN_FORMAT,
         "\"../model.onnx.data\", which is not a plain name"},
        {SET_LOCATION, "cos_cache", "link.data", 0, KVERN_FORMAT, "is not a regular file"},
        {NAME_OUTPUT, "logits", "scores", 0, KVERN_UNSUPPORTED, "has no output logits"},
        {NAME_OUTPUT, "hidden", "hidden", 0, KVERN_OK, NULL},
    };
    char *link_path = scratch_path("link.data");

    (void)state;
    scratch_put("model.onnx.data", data.bytes, data.n_bytes);
    scratch_put("config.json", config.bytes, config.n_bytes);
    assert_int_equal(symlink("model.onnx.data", link_path), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        Onnx__ModelProto *model =
            onnx__model_proto__unpack(NULL, graph.n_bytes, (const uint8_t *)graph.bytes);
        struct checkpoint checkpoint;
        kvern_error err = {0};

        apply(model, &cases[i]);
        size_t n_bytes = onnx__model_proto__get_packed_size(model);
        uint8_t *bytes = malloc(n_bytes);
        onnx__model_proto__pack(model, bytes);
        scratch_put("model.onnx", bytes, n_bytes);
        kvern_status status = open_export("model.onnx", &checkpoint, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\" does not say \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says ? cases[i].says : "nothing");
        if (status == KVERN_UNSUPPORTED && strstr(err.message, "node "))
            assert_non_null(strstr(err.message, "though it runs as it is"));
        checkpoint_close(&checkpoint);
        onnx__model_proto__free_unpacked(model, NULL);
        free(bytes);
    }
    unlink(link_path);
    free(link_path);
}

/* ---- configs that say something else ---- */

/* The text with one thing replaced; malloc'ed. */
static char *edit(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    size_t n = strlen(text) + strlen(to) + 1;
    char *edited = malloc(n);

    if (!at)
        fail_msg("the text has no %s", from);
    snprintf(edited, n, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return edited;
}

static void changed_configs(void **state)
{
    static const struct {
        const char *from;
        const char *to;
        kvern_status status;
        const char *says;
    } cases[] = {
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", KVERN_FORMAT,
         "config.json has num_hidden_layers = 3; the graph has 2"},
        {"\"num_attention_heads\": 4", "\"num_attention_heads\": 8", KVERN_FORMAT,
         "config.json has num_attention_heads = 8; the graph has 4"},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", KVERN_FORMAT,
         "config.json has num_key_value_heads = 4; the graph has 2"},
        {"\"num_hidden_layers\": 2", "\"head_dim\": 32, \"num_hidden_layers\": 2", KVERN_FORMAT,
         "config.json has head_dim = 32; the graph has 16"},
        {"\"hidden_size\": 64", "\"hidden_size\": 128, \"head_dim\": 16", KVERN_FORMAT,
         "config.json has hidden_size = 128; the graph has 64"},
        {"\"intermediate_size\": 48", "\"intermediate_size\": 49", KVERN_FORMAT,
         "config.json has intermediate_size = 49; the graph has 48"},
        {"\"vocab_size\": 288", "\"vocab_size\": 289", KVERN_FORMAT,
         "config.json has vocab_size = 289; the graph has 288"},
        {"\"rope_theta\": 1000000.0", "\"rope_theta\": 999000.0", KVERN_FORMAT,
         "the config's rope_theta = 999000"},
        {"\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": 2.0", KVERN_FORMAT,
         "the rotary table has cos, sin"},
        {"\"eos_token_id\": 287", "\"eos_token_id\": 288", KVERN_FORMAT, "eos_token_id = 288"},
        {"{", "[", KVERN_FORMAT, "config.json is not a JSON object"},
        /* no name for it, but the graph says all there is to know */
        {"\"model_type\": \"qwen2\"", "\"model_type\": \"grandmother\"", KVERN_OK, NULL},
        {"\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\"", KVERN_OK, NULL},
    };

    (void)state;
    scratch_put("model.onnx", graph.bytes, graph.n_bytes);
    scratch_put("model.onnx.data", data.bytes, data.n_bytes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = edit(config.bytes, cases[i].from, cases[i].to);
        struct checkpoint checkpoint;
        kvern_error err = {0};

        scratch_put_text("config.json", text);
        kvern_status status = open_export("model.onnx", &checkpoint, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\" does not say \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says ? cases[i].says : "nothing");
        checkpoint_close(&checkpoint);
        free(text);
    }
    remove_file("config.json");
}

/* Without a config the rotary embedding is read off the tables: one that is no power of a theta
 * comes back as divisors, and one that is scaled is refused. */
static void rotary_tables(void **state)
{
    static const struct {
        float scale;   /* of all values */
        double slower; /* the last pair's frequency is divided by this */
        kvern_status status;
    } cases[] = {{1, 1, KVERN_OK}, {1, 8, KVERN_OK}, {1.2f, 1, KVERN_UNSUPPORTED}};
    enum { ROWS = 512, PAIRS = 8 };

    (void)state;
    remove_file("config.json");
    scratch_put("model.onnx", graph.bytes, graph.n_bytes);
    Onnx__ModelProto *model =
        onnx__model_proto__unpack(NULL, graph.n_bytes, (const uint8_t *)graph.bytes);
    size_t cos_at = strtoul(find_tensor(model, "cos_cache")->external_data[1]->value, NULL, 10);
    size_t sin_at = strtoul(find_tensor(model, "sin_cache")->external_data[1]->value, NULL, 10);
    onnx__model_proto__free_unpacked(model, NULL);
    for (size_t c = 0; c < COUNT(cases); c++) {
        char *copy = malloc(data.n_bytes);
        struct checkpoint checkpoint;
        kvern_error err = {0};

        memcpy(copy, data.bytes, data.n_bytes);
        for (size_t i = 0; i < ROWS * PAIRS; i++) {
            double frequency = pow(1e6, -(double)(i % PAIRS) / PAIRS);
            double angle =
                (double)(i / PAIRS) * frequency / (i % PAIRS == PAIRS - 1 ? cases[c].slower : 1);
            float cosine = cases[c].scale * (float)cos(angle);
            float sine = cases[c].scale * (float)sin(angle);

            memcpy(copy + cos_at + 4 * i, &cosine, 4);
            memcpy(copy + sin_at + 4 * i, &sine, 4);
        }
        scratch_put("model.onnx.data", copy, data.n_bytes);
        kvern_status status = open_export("model.onnx", &checkpoint, &err);
        if (status != cases[c].status)
            fail_msg("case %zu: %s, \"%s\"", c, kvern_status_name(status), err.message);
        if (status == KVERN_OK) {
            float frequencies[PAIRS];

            assert_int_equal(checkpoint.config.rope_scaling,
                             cases[c].slower == 1 ? ROPE_SCALING_NONE : ROPE_SCALING_DIVISORS);
            config_rotary_frequencies(&checkpoint.config, frequencies);
            for (size_t i = 0; i < PAIRS; i++) {
                double wanted =
                    pow(1e6, -(double)i / PAIRS) / (i == PAIRS - 1 ? cases[c].slower : 1);

                assert_true(fabs((double)frequencies[i] - wanted) < 1e-6 * wanted);
            }
        }
        checkpoint_close(&checkpoint);
        free(copy);
    }
}

static void cut_files(void **state)
{
    (void)state;
    scratch_put("model.onnx.data", data.bytes, data.n_bytes);
    scratch_put("config.json", config.bytes, config.n_bytes);
    for (size_t i = 0; i < 60; i++) {
        size_t n = graph.n_bytes * i / 60;
        struct checkpoint checkpoint;
        kvern_error err = {0};

        scratch_put("model.onnx", graph.bytes, n);
        assert_int_not_equal(open_export("model.onnx", &checkpoint, &err), KVERN_OK);
        assert_non_null(strstr(err.message, "model.onnx: "));
    }
    struct checkpoint checkpoint;
    kvern_error err = {0};
    scratch_put("model.onnx", graph.bytes, graph.n_bytes);
    scratch_put("model.onnx.data", data.bytes, data.n_bytes - 1);
    assert_int_equal(open_export("model.onnx", &checkpoint, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "of model.onnx.data, which has"));
}

static void no_memory(void **state)
{
    int64_t n = 0;
    bool has_failed = true;
    struct checkpoint checkpoint;
    kvern_error err;

    (void)state;
    scratch_put("model.onnx", graph.bytes, graph.n_bytes);
    scratch_put("model.onnx.data", data.bytes, data.n_bytes);
    scratch_put("config.json", config.bytes, config.n_bytes);
    for (; has_failed && n < 5000; n++) {
        memory_fail_after(n);
        kvern_status status = open_export("model.onnx", &checkpoint, &err);
        has_failed = memory_fail_after(-1);
        if (status != (has_failed ? KVERN_MEMORY : KVERN_OK))
            fail_msg("allocation %d: %s, \"%s\"", (int)n, kvern_status_name(status), err.message);
        checkpoint_close(&checkpoint);
    }
    assert_true(n > 100 && n < 5000);
}

static void read_all(const char *name, struct whole *whole)
{
    char *path = path_join(EXPORT, name);

    assert_int_equal(file_read(path, 1 << 24, &whole->bytes, &whole->n_bytes, NULL), KVERN_OK);
    free(path);
}

static int set_up(void **state)
{
    read_all("model.onnx", &graph);
    read_all("model.onnx.data", &data);
    read_all("config.json", &config);
    read_all("genai_config.json", &genai);
    read_all("generation_config.json", &generation);
    return scratch_make(state);
}

static int tear_down(void **state)
{
    free(graph.bytes);
    free(data.bytes);
    free(config.bytes);
    free(genai.bytes);
    free(generation.bytes);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_files_may_lie),
        cmocka_unit_test(a_config_above_another_folder_is_not_its),
        cmocka_unit_test(changed_graphs),
        cmocka_unit_test(changed_configs),
        cmocka_unit_test(rotary_tables),
        cmocka_unit_test(cut_files),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
