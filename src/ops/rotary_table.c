/* SPDX-License-Identifier: Apache-2.0
 *
 * RotaryTable: positions [T] and inverse frequencies [D/2] -> [T, D]: D/2 cosines, then D/2 sines.
 * Computed once per step and shared by all layers, in double precision, so that the angle of a late
 * position is as exact as that of an early one.
 */
#include "base/error.h"
#include "ops/op.h"

#include <math.h>

struct rotary_table {
    struct op_kernel kernel;          /* first */
    const float *inverse_frequencies; /* [n_half] */
    size_t n_half;
};

static kvern_status open_table(struct op_kernel *kernel, const OrtKernelInfo *info,
                               kvern_error *err)
{
    struct rotary_table *self = (struct rotary_table *)kernel;
    struct op_tensor frequencies;
    kvern_status status = op_constant(kernel, info, 1, &frequencies, err);

    self->inverse_frequencies = frequencies.data;
    self->n_half = frequencies.n_elements;
    return status;
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct rotary_table *self = (const struct rotary_table *)kernel;
    struct op_tensor positions;
    float *out;
    kvern_status status = op_input(kernel, context, 0, &positions, err);

    if (status != KVERN_OK)
        return status;

    size_t dims[] = {positions.n_elements, 2 * self->n_half};
    status = op_output(kernel, context, 0, dims, 2, &out, err);
    if (status != KVERN_OK)
        return status;
    for (size_t t = 0; t < positions.n_elements; t++) {
        double position = (double)((const int64_t *)positions.data)[t];
        float *row = out + t * 2 * self->n_half;

        for (size_t i = 0; i < self->n_half; i++) {
            double angle = position * (double)self->inverse_frequencies[i];

            row[i] = (float)cos(angle);
            row[self->n_half + i] = (float)sin(angle);
        }
    }
    return KVERN_OK;
}

const struct op_definition op_rotary_table = {
    .name = "RotaryTable",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false}},
    .n_inputs = 2,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct rotary_table),
    .open = open_table,
    .compute = compute,
};
