/* SPDX-License-Identifier: Apache-2.0
 *
 * The shape is looked at each time: a graph states it loosely, and gives what it likes.
 */
#include "engine/export_rows.h"

#include "base/error.h"
#include "base/half.h"

#include <string.h>

void export_values_copy(enum export_type type, const void *from, size_t at, float *to, size_t n)
{
    if (type == EXPORT_F32) {
        memcpy(to, (const float *)from + at, n * sizeof *to);
        return;
    }
    for (size_t i = 0; i < n; i++)
        to[i] = half_to_float(((const uint16_t *)from)[at + i]);
}

kvern_status export_row_read(const struct session *session, const struct value_output *output,
                             enum export_type type, size_t n_query, size_t row, size_t row_size,
                             float *to, kvern_error *err)
{
    int64_t dims[SESSION_MAX_DIMS] = {0};
    size_t n_dims = 0;
    void *data = NULL;
    kvern_status status = value_dims(session, output->value, dims, &n_dims, err);

    if (status == KVERN_OK)
        status = value_data(session, output->value, &data, err);
    if (status != KVERN_OK)
        return status;
    if (n_dims != 3 || dims[0] != 1 || dims[2] != (int64_t)row_size ||
        (dims[1] != (int64_t)n_query && dims[1] != 1))
        return fail(err, KVERN_RUNTIME, "the model's %s is [%lld, %lld, %lld], not [1, %zu, %zu]",
                    output->name, (long long)dims[0], (long long)dims[1], (long long)dims[2],
                    n_query, row_size);
    if (dims[1] == 1) {
        if (row + 1 != n_query)
            return fail(err, KVERN_UNSUPPORTED,
                        "this model gives %s of the last token only, not of token %zu of %zu",
                        output->name, row, n_query);
        row = 0;
    }
    export_values_copy(type, data, row * row_size, to, row_size);
    return KVERN_OK;
}
