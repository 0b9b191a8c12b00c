/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a file of torch.save: the zip, its pickle, and the tensors; every tensor it accepts
 * is read to its last row.
 */
#include "convert/torch_file.h"
#include "fuzz/read_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torch_file parsed;
    kvern_error err;

    if (torch_file_parse(&parsed, data, size, NULL, &err) != KVERN_OK)
        return 0;
    read_tensors(parsed.tensors, parsed.n_tensors);
    torch_file_clear(&parsed);
    return 0;
}
