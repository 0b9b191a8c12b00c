/* SPDX-License-Identifier: Apache-2.0
 *
 * What fuzz targets of checkpoints do with what a parser accepted: every tensor is read to its last
 * row, so that one that leaves its file is found.
 */
#ifndef KVERN_TESTS_FUZZ_READ_TENSORS_H
#define KVERN_TESTS_FUZZ_READ_TENSORS_H

#include "convert/tensor.h"

#include <stdlib.h>

static inline void read_tensors(const struct tensor *tensors, size_t n_tensors)
{
    for (size_t i = 0; i < n_tensors; i++) {
        const struct tensor *tensor = &tensors[i];
        size_t n_values = tensor->n_bytes ? tensor_row_values(tensor) : 0;
        float *row = malloc(n_values * sizeof *row + 1);

        for (size_t r = 0; row && n_values && r < tensor_n_rows(tensor); r++)
            tensor_read_row(tensor, r, row);
        free(row);
    }
}

#endif
