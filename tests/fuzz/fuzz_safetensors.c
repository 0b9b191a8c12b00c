/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a safetensors file; every tensor it accepts is read to its last row.
 */
#include "convert/safetensors.h"
#include "fuzz/read_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors parsed;
    kvern_error err;

    if (safetensors_parse(&parsed, data, size, NULL, &err) != KVERN_OK)
        return 0;
    read_tensors(parsed.tensors, parsed.n_tensors);
    safetensors_clear(&parsed);
    return 0;
}
