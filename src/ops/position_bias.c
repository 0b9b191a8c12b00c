/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes the kernels' table of a bias by distance.
 */
#include "ops/position_bias.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

kvern_status position_bias_init(struct position_bias *bias, const float *values, size_t n_heads,
                                size_t reach, kvern_error *err)
{
    const float log2_e = 0x1.715476p0F; /* the kernels' scores are in units of log2 */
    size_t n_columns = 2 * reach + 1;
    size_t row_floats = n_columns + (size_t)2 * BIAS_MARGIN;
    float *table = try_new_aligned(n_heads, row_floats * sizeof *table);

    if (!table)
        return fail(err, KVERN_MEMORY, "out of memory for a position bias of %zu x %zu", n_heads,
                    n_columns);
    for (size_t head = 0; head < n_heads; head++) {
        for (size_t i = 0; i < row_floats; i++) {
            size_t column = i < BIAS_MARGIN ? 0 : i - BIAS_MARGIN;

            column = column < n_columns ? column : n_columns - 1;
            table[head * row_floats + i] = values[head * n_columns + column] * log2_e;
        }
    }
    *bias = (struct position_bias){.table = table, .reach = reach};
    return KVERN_OK;
}

kvern_status position_bias_open(struct position_bias *bias, const struct op_kernel *kernel,
                                const OrtKernelInfo *info, size_t index, size_t n_heads,
                                kvern_error *err)
{
    struct op_tensor values;
    kvern_status status = op_constant(kernel, info, index, &values, err);

    if (status != KVERN_OK || values.n_dims == 0)
        return status;
    if (values.n_dims != 2 || values.dims[0] != n_heads || values.dims[1] % 2 == 0)
        return fail(err, KVERN_FORMAT,
                    "%s: bias is not [%zu heads, an odd number of distances] but [%zu, %zu]",
                    kernel->definition->name, n_heads, values.dims[0],
                    values.n_dims > 1 ? values.dims[1] : 1);
    return position_bias_init(bias, values.data, n_heads, values.dims[1] / 2, err);
}

void position_bias_clear(struct position_bias *bias)
{
    free((void *)(uintptr_t)bias->table);
    *bias = (struct position_bias){0};
}
