/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph of an export: an input is a .onnx file, as if it lay beside the weights of a golden
 * export. What is accepted is then held against a config.
 */
#include "model/export_graph.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char directory[] = KVERN_GOLDEN_DIR "/exports/qwen2-gqa-f32";
    struct model_config config = {.hidden_size = 32};
    struct export_graph graph;
    struct export_files files = {0};
    kvern_error err = {0};
    kvern_status status = export_graph_read(&graph, &files, data, size, directory, &err);

    export_files_clear(&files);
    if (status != KVERN_OK) {
        if (!*err.message)
            abort();
        return 0;
    }
    /* sizes that an engine multiplies */
    if (export_graph_agree(&graph, &config, &err) == KVERN_OK &&
        (config.n_kv_heads > 1 << 16 || config.head_size > 1 << 16 || config.n_layers > 512 ||
         config.vocab_size > 1 << 28 || strnlen(graph.hidden, sizeof graph.hidden) > 31))
        abort();
    return 0;
}
