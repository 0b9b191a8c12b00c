/* SPDX-License-Identifier: Apache-2.0
 *
 * Fingerprints of exports: what changes one, and what does not.
 */
#include "test.h"

#include "support_export.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* qwen2-gqa-f32 with its weights in a file that no exporter's habit tells. */
static char *make_export(const char *data_name)
{
    char *folder = folder_make();
    struct buffer graph = golden_read("qwen2-gqa-f32", "model.onnx");

    assert_true(bytes_replace(&graph, "model.onnx.data", data_name) > 0);
    folder_write(folder, "model.onnx", graph.data, graph.n_bytes);
    buffer_clear(&graph);
    folder_copy(folder, data_name, "qwen2-gqa-f32", "model.onnx.data");
    folder_copy(folder, "config.json", "qwen2-gqa-f32", "config.json");
    folder_copy(folder, "tokenizer.json", "qwen2-gqa-f32", "tokenizer.json");
    return folder;
}

static void make(const char *folder, uint8_t bytes[KVERN_FINGERPRINT_BYTES])
{
    kvern_model *model = NULL;
    kvern_error err = {0};

    if (kvern_model_open(&model, folder, &err) != KVERN_OK ||
        kvern_model_fingerprint(model, bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_model_close(model);
}

/* Turns over one bit of a file of the folder. */
static void change(const char *folder, const char *name, size_t at)
{
    char *path = path_join(folder, name);
    char *text = NULL;
    size_t n_bytes = 0;

    assert_int_equal(file_read(path, 64 << 20, &text, &n_bytes, NULL), KVERN_OK);
    assert_true(at < n_bytes);
    text[at] = (char)(text[at] ^ 1);
    folder_write(folder, name, text, n_bytes);
    free(text);
    free(path);
}

static void weights_count_whatever_their_file_is_called(void **state)
{
    static const char *const names[] = {"weights_all.bin", "model.onnx.data", "model.onnx_data"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        char *folder = make_export(names[i]);
        uint8_t before[KVERN_FINGERPRINT_BYTES], after[KVERN_FINGERPRINT_BYTES];

        make(folder, before);
        change(folder, names[i], 100000);
        make(folder, after);
        if (memcmp(before, after, sizeof before) == 0)
            fail_msg("%s: other weights have the same fingerprint", names[i]);
        change(folder, names[i], 100000);
        make(folder, after);
        assert_memory_equal(before, after, sizeof before);
        folder_remove(folder);
    }
}

/* Caches of hubs hold the graph as a link. */
static void the_graph_counts_also_behind_a_link(void **state)
{
    char *folder = make_export("weights_all.bin");
    char *graph = path_join(folder, "model.onnx");
    char *blob = path_join(folder, "blob");
    uint8_t before[KVERN_FINGERPRINT_BYTES], after[KVERN_FINGERPRINT_BYTES];
    struct buffer other = golden_read("qwen2-gqa-f32", "model.onnx");

    (void)state;
    make(folder, before);
    assert_int_equal(rename(graph, blob), 0);
    assert_int_equal(symlink("blob", graph), 0);
    make(folder, after);
    assert_memory_equal(before, after, sizeof before);
    bytes_replace(&other, "model.onnx.data", "weights_all.bin");
    assert_true(bytes_replace(&other, "layers.0", "layerz.0") > 0); /* names of values */
    folder_write(folder, "blob", other.data, other.n_bytes);
    make(folder, after);
    assert_memory_not_equal(before, after, sizeof before);
    buffer_clear(&other);
    free(graph);
    free(blob);
    folder_remove(folder);
}

static void other_files_and_the_folder_do_not_count(void **state)
{
    char *folder = make_export("weights_all.bin");
    char *twin = make_export("weights_all.bin");
    uint8_t before[KVERN_FINGERPRINT_BYTES], after[KVERN_FINGERPRINT_BYTES];

    (void)state;
    make(folder, before);
    folder_write_text(twin, "model.onnx.data", "of a graph that was here before");
    folder_write_text(twin, "model_q4.onnx_data", "of another graph");
    make(twin, after);
    assert_memory_equal(before, after, sizeof before);
    folder_remove(folder);
    folder_remove(twin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_count_whatever_their_file_is_called),
        cmocka_unit_test(the_graph_counts_also_behind_a_link),
        cmocka_unit_test(other_files_and_the_folder_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
