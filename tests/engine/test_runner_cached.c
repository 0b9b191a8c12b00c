/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches for an export that gives logits and hidden states, made by hand: each sequence's run asks
 * for the one output that rows are wanted of, or for none.
 */
#include "test.h"

#include "base/file.h"
#include "engine/batch.h"
#include "engine/kv_blocks.h"
#include "engine/runner_cached.h"

#include <stdlib.h>
#include <string.h>

enum { N_IDS = 33, VOCAB = 288, HIDDEN = 32, N_LAYERS = 2, N_KV_HEADS = 1, HEAD = 16 };

static const char folder[] = KVERN_SOURCE_DIR "/tests/golden/exports/llama-gqa-int4-hidden";

static struct runner *open_runner(void)
{
    const struct model_config config = {.vocab_size = VOCAB,
                                        .hidden_size = HIDDEN,
                                        .n_layers = N_LAYERS,
                                        .n_kv_heads = N_KV_HEADS,
                                        .head_size = HEAD};
    const struct kv_layout layout = {
        .n_layers = N_LAYERS, .n_kv_heads = N_KV_HEADS, .head_size = HEAD, .value_bytes = 4};
    char *path = path_join(folder, "model.onnx");
    struct runner *runner = NULL;
    struct export_graph graph;
    struct export_files files;
    struct file_map map = {0};
    kvern_error err = {0};

    if (file_map_open(&map, path, &err) != KVERN_OK ||
        export_graph_read(&graph, &files, map.data, map.n_bytes, folder, &err) != KVERN_OK ||
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
    struct runner *runner = open_runner();
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_outputs_whose_rows_are_wanted_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
