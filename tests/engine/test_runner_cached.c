/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches for an export that gives logits and hidden states, made by hand: each sequence's run asks
 * for the one output that rows are wanted of, or for none, and KV that is not as long as it should
 * be is refused.
 */
#include "test.h"

#include "base/file.h"
#include "base/memory.h"
#include "engine/batch.h"
#include "engine/kv_blocks.h"
#include "engine/runner_cached.h"
#include "onnx/onnx.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_IDS = 33, VOCAB = 288, HIDDEN = 32, N_LAYERS = 2, N_KV_HEADS = 1, HEAD = 16 };

static const char folder[] = KVERN_GOLDEN_DIR "/exports/llama-gqa-int4-hidden";

/* The graph that lies in `where`, beside its weights. */
static struct runner *open_runner(const char *where)
{
    const struct model_config config = {.vocab_size = VOCAB,
                                        .hidden_size = HIDDEN,
                                        .n_layers = N_LAYERS,
                                        .n_kv_heads = N_KV_HEADS,
                                        .head_size = HEAD};
    const struct kv_layout layout = {
        .n_layers = N_LAYERS, .n_kv_heads = N_KV_HEADS, .head_size = HEAD, .value_bytes = 4};
    char *path = path_join(where, "model.onnx");
    struct runner *runner = NULL;
    struct export_graph graph;
    struct export_files files = {0};
    struct file_map map = {0};
    kvern_error err = {0};

    if (file_map_open(&map, path, &err) != KVERN_OK ||
        export_graph_read(&graph, &files, map.data, map.n_bytes, where, &err) != KVERN_OK ||
        runner_cached_open(&runner, path, &graph, &config, &layout, 8, 1, "cpu", &err) != KVERN_OK)
        fail_msg("%s", err.message);
    export_files_clear(&files);
    file_map_close(&map);
    free(path);
    return runner;
}

/* Two sequences of 5 and 4 tokens, and the last tokens of each whose rows are wanted. */
static const struct {
    const char *label;
    size_t n_rows[2];
    bool wants_hidden[2];
    size_t n_outputs; /* that are asked for */
} cases[] = {
    {"chunks in the middle of prompts", {0, 0}, {false, true}, 0},
    {"vectors", {1, 1}, {true, true}, 2},
    {"a vector of all rows", {5, 0}, {true, true}, 1},
    {"answers", {1, 1}, {false, false}, 2},
    {"a vector beside an answer", {5, 1}, {true, false}, 2},
    {"an answer beside a vector", {1, 4}, {false, true}, 2},
    {"all logits before a chunk", {5, 0}, {false, false}, 1},
    {"a chunk before a vector", {0, 1}, {false, true}, 1},
};

/* Runs the first of a prompt's tokens. */
static kvern_status run_tokens(struct runner *runner, size_t n, struct kv_table *table,
                               kvern_error *err)
{
    int64_t input_ids[9] = {0}, positions[9] = {0};
    int32_t query_start[] = {0, (int32_t)n}, context_len[] = {(int32_t)n};
    const struct batch batch = {.n_tokens = n,
                                .n_sequences = 1,
                                .input_ids = input_ids,
                                .positions = positions,
                                .query_start = query_start,
                                .context_len = context_len,
                                .tables = &table};
    struct runner_output output;

    return runner->run(runner, &batch, &output, err);
}

/* Runs a case; logits and hidden [9, ...] get the rows of the tokens they are wanted of. */
static void run_case(struct runner *runner, size_t c, const int32_t *ids, struct kv_table *tables,
                     float *logits, float *hidden)
{
    static const size_t n_query[] = {5, 4};
    int64_t input_ids[9], positions[9], output_rows[9], logit_rows[9];
    int32_t query_start[] = {0, 5, 9}, context_len[] = {5, 4};
    struct kv_table *both[] = {&tables[0], &tables[1]};
    struct batch batch = {.n_tokens = 9,
                          .n_sequences = 2,
                          .input_ids = input_ids,
                          .positions = positions,
                          .query_start = query_start,
                          .context_len = context_len,
                          .tables = both,
                          .output_rows = output_rows,
                          .logit_rows = logit_rows};
    struct runner_output output;
    kvern_error err = {0};
    size_t l = 0;

    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < n_query[s]; i++) {
            size_t token = (size_t)query_start[s] + i;

            input_ids[token] = ids[i + s];
            positions[token] = (int64_t)i;
            if (i + cases[c].n_rows[s] < n_query[s])
                continue;
            if (!cases[c].wants_hidden[s])
                logit_rows[batch.n_logit_rows++] = (int64_t)batch.n_output_rows;
            else
                batch.wants_hidden = true;
            output_rows[batch.n_output_rows++] = (int64_t)token;
        }
    }
    if (runner->run(runner, &batch, &output, &err) != KVERN_OK)
        fail_msg("%s: %s", cases[c].label, err.message);
    for (size_t r = 0; r < batch.n_output_rows; r++) {
        size_t token = (size_t)output_rows[r];

        if (l < batch.n_logit_rows && (size_t)logit_rows[l] == r)
            memcpy(logits + token * VOCAB, output.logits + l++ * VOCAB, VOCAB * sizeof *logits);
        else
            memcpy(hidden + token * HIDDEN, output.hidden + r * HIDDEN, HIDDEN * sizeof *hidden);
    }
}

static void only_outputs_whose_rows_are_wanted_are_asked_for(void **state)
{
    struct runner *runner = open_runner(folder);
    char *ids_path = path_join(folder, "ids.i32");
    char *ids = NULL;
    size_t n_bytes = 0;
    static float logits[9 * VOCAB], hidden[9 * HIDDEN]; /* of cases before, by token */

    (void)state;
    assert_int_equal(file_read(ids_path, 1 << 10, &ids, &n_bytes, NULL), KVERN_OK);
    assert_int_equal(n_bytes, N_IDS * sizeof(int32_t));
    for (size_t c = 0; c < COUNT(cases); c++) {
        struct kv_table tables[2] = {{0}};
        float own_logits[9 * VOCAB], own_hidden[9 * HIDDEN];
        size_t n_before = runner_cached_n_row_outputs(runner);

        memcpy(own_logits, logits, sizeof logits);
        memcpy(own_hidden, hidden, sizeof hidden);
        run_case(runner, c, (const int32_t *)ids, tables, own_logits, own_hidden);
        size_t n_outputs = runner_cached_n_row_outputs(runner) - n_before;
        if (n_outputs != cases[c].n_outputs)
            fail_msg("%s: %zu outputs were asked for", cases[c].label, n_outputs);
        for (size_t i = 0; i < COUNT(logits); i++) {
            if (logits[i] != 0 && logits[i] != own_logits[i])
                fail_msg("%s: other logits of token %zu", cases[c].label, i / VOCAB);
        }
        for (size_t i = 0; i < COUNT(hidden); i++) {
            if (hidden[i] != 0 && hidden[i] != own_hidden[i])
                fail_msg("%s: another hidden state of token %zu", cases[c].label, i / HIDDEN);
        }
        memcpy(logits, own_logits, sizeof logits);
        memcpy(hidden, own_hidden, sizeof hidden);
        kv_values_release(tables[0].values);
        kv_values_release(tables[1].values);
    }
    assert_true(logits[0] != 0 && logits[9 * VOCAB - 1] != 0 && hidden[9 * HIDDEN - 1] != 0);
    free(ids);
    free(ids_path);
    runner->free(runner);
}

/* ---- a graph that lies about its KV ---- */

static void add_integer(Onnx__GraphProto *graph, const char *name, int64_t value)
{
    Onnx__TensorProto *tensor = new_or_abort(sizeof *tensor);

    onnx__tensor_proto__init(tensor);
    tensor->name = copy_string_or_abort(name);
    tensor->has_data_type = 1;
    tensor->data_type = 7;
    tensor->n_dims = 1;
    tensor->dims = new_or_abort(sizeof *tensor->dims);
    tensor->dims[0] = 1;
    tensor->n_int64_data = 1;
    tensor->int64_data = new_or_abort(sizeof *tensor->int64_data);
    tensor->int64_data[0] = value;
    graph->initializer = resize_or_abort(graph->initializer,
                                         (graph->n_initializer + 1) * sizeof *graph->initializer);
    graph->initializer[graph->n_initializer++] = tensor;
}

/* Of present.0.value, however many tokens there are, only the first one's is given: right at open,
 * where one token is tried. */
static void cut_present(Onnx__GraphProto *graph)
{
    static const char *const inputs[] = {"made", "zero", "one", "two"};
    Onnx__NodeProto *slice = new_or_abort(sizeof *slice);
    bool is_found = false;

    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t j = 0; j < graph->node[i]->n_output; j++) {
            char **output = &graph->node[i]->output[j];

            if (strcmp(*output, "present.0.value") != 0)
                continue;
            free(*output);
            *output = copy_string_or_abort("made");
            is_found = true;
        }
    }
    assert_true(is_found);
    add_integer(graph, "zero", 0);
    add_integer(graph, "one", 1);
    add_integer(graph, "two", 2);
    onnx__node_proto__init(slice);
    slice->op_type = copy_string_or_abort("Slice");
    slice->n_input = COUNT(inputs);
    slice->input = new_or_abort(sizeof inputs);
    for (size_t i = 0; i < COUNT(inputs); i++)
        slice->input[i] = copy_string_or_abort(inputs[i]);
    slice->n_output = 1;
    slice->output = new_or_abort(sizeof *slice->output);
    slice->output[0] = copy_string_or_abort("present.0.value");
    graph->node = resize_or_abort(graph->node, (graph->n_node + 1) * sizeof *graph->node);
    graph->node[graph->n_node++] = slice;
}

static void write_file(const char *where, const char *name, const void *bytes, size_t n_bytes)
{
    char *path = path_join(where, name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
    free(path);
}

static void read_golden(const char *name, char **bytes, size_t *n_bytes)
{
    char *path = path_join(folder, name);

    assert_int_equal(file_read(path, 1 << 24, bytes, n_bytes, NULL), KVERN_OK);
    free(path);
}

/* Cutting or saving that KV would read past its end. */
static void kv_of_another_length_is_refused(void **state)
{
    char where[] = "/tmp/kvern-test-XXXXXX";
    struct kv_table table = {0};
    char *bytes;
    size_t n_bytes;
    kvern_error err = {0};

    (void)state;
    assert_non_null(mkdtemp(where));
    read_golden("model.onnx.data", &bytes, &n_bytes);
    write_file(where, "model.onnx.data", bytes, n_bytes);
    free(bytes);
    read_golden("model.onnx", &bytes, &n_bytes);
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, n_bytes, (const uint8_t *)bytes);
    assert_non_null(model);
    free(bytes);
    cut_present(model->graph);
    n_bytes = onnx__model_proto__get_packed_size(model);
    bytes = new_or_abort(n_bytes);
    onnx__model_proto__pack(model, (uint8_t *)bytes);
    write_file(where, "model.onnx", bytes, n_bytes);
    free(bytes);
    onnx__model_proto__free_unpacked(model, NULL);

    struct runner *runner = open_runner(where);
    assert_int_equal(run_tokens(runner, 1, &table, &err), KVERN_OK);
    assert_int_equal(table.values->n_tokens, 1);
    assert_int_equal(run_tokens(runner, 5, &table, &err), KVERN_FORMAT);
    if (!strstr(err.message, "present.0.value of 5 tokens as [1, 1, 1, 16]"))
        fail_msg("%s", err.message);
    assert_int_equal(table.values->n_tokens, 1); /* as before the step */
    kv_values_release(table.values);
    runner->free(runner);
    assert_int_equal(directory_remove(where, NULL), KVERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_outputs_whose_rows_are_wanted_are_asked_for),
        cmocka_unit_test(kv_of_another_length_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
