/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a file of torch.save: the zip, its pickle, and the tensors; every tensor it accepts
 * is read to its last row.
 */
#include "convert/torch_file.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torch_file parsed;
    kvern_error err;

    if (torch_file_parse(&parsed, data, size, NULL, &err) != KVERN_OK)
        return 0;
    for (size_t i = 0; i < parsed.n_tensors; i++) {
        const struct tensor *tensor = &parsed.tensors[i];
        size_t n_values = tensor->n_bytes ? tensor_row_values(tensor) : 0;
        float *row = malloc(n_values * sizeof *row + 1);

        for (size_t r = 0; row && n_values && r < tensor_n_rows(tensor); r++)
            tensor_read_row(tensor, r, row);
        free(row);
    }
    torch_file_clear(&parsed);
    return 0;
}
