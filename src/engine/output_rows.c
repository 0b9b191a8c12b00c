/* SPDX-License-Identifier: Apache-2.0
 *
 * struct output_rows: no row size, no memory (a model without hidden states).
 */
#include "engine/output_rows.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

kvern_status output_rows_reserve(struct output_rows *rows, size_t n_rows, const char *what,
                                 kvern_error *err)
{
    size_t n_values;
    float *values = NULL;

    if (n_rows == 0)
        n_rows = 1;
    if (n_rows <= rows->capacity || rows->row_size == 0)
        return KVERN_OK;
    if (multiply_sizes(n_rows, rows->row_size, &n_values))
        values = try_new_aligned(n_values, sizeof *values);
    if (!values)
        return fail(err, KVERN_MEMORY, "out of memory for %zu rows of %s", n_rows, what);
    free(rows->values);
    rows->values = values;
    rows->capacity = n_rows;
    return KVERN_OK;
}

void output_rows_clear(struct output_rows *rows)
{
    free(rows->values);
    *rows = (struct output_rows){0};
}
