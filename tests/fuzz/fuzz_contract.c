/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph of a model directory against its manifest: an input is kvern.json, a NUL, model.onnx.
 */
#include "model/contract.h"
#include "model/manifest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\0', size) : NULL;
    struct manifest *manifest = calloc(1, sizeof *manifest);
    kvern_error err = {0};

    if (!manifest)
        abort();
    if (end &&
        manifest_parse(manifest, (const char *)data, (size_t)(end - data), &err) == KVERN_OK) {
        size_t n_graph = size - (size_t)(end - data) - 1;

        if (contract_check(manifest, end + 1, n_graph, &err) != KVERN_OK && !*err.message)
            abort();
    }
    free(manifest);
    return 0;
}
