/* SPDX-License-Identifier: Apache-2.0
 *
 * GatedActivation: [T, 2I], gate first, then up -> act(gate) * up [T, I]; silu, or gelu in its tanh
 * form.
 */
#include "base/error.h"
#include "ops/op.h"

#include <string.h>

typedef void (*gated_fn)(const float *gate_up, size_t row_begin, size_t row_end, size_t width,
                         float *out);

struct gated_activation {
    struct op_kernel kernel; /* first */
    gated_fn apply;
};

struct gated_run {
    gated_fn apply;
    const float *x; /* [n_rows, 2 * width] */
    float *out;     /* [n_rows, width] */
    size_t n_rows;
    size_t width;
    size_t row_step;
};

static kvern_status open_gated(struct op_kernel *kernel, const OrtKernelInfo *info,
                               kvern_error *err)
{
    struct gated_activation *self = (struct gated_activation *)kernel;
    char name[16] = "";
    kvern_status status = op_attribute_string(kernel, info, "activation", name, sizeof name, err);

    if (status != KVERN_OK)
        return status;
    if (strcmp(name, "silu") == 0)
        self->apply = kernel->kernels->row->gated_silu;
    else if (strcmp(name, "gelu") == 0)
        self->apply = kernel->kernels->row->gated_gelu;
    else
        return fail(err, KVERN_FORMAT, "GatedActivation: activation is '%s', not silu or gelu",
                    name);
    return KVERN_OK;
}

static void apply_unit(void *data, size_t i)
{
    const struct gated_run *run = data;
    size_t begin = i * run->row_step;
    size_t end = begin + run->row_step < run->n_rows ? begin + run->row_step : run->n_rows;

    run->apply(run->x, begin, end, run->width, run->out);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct gated_activation *self = (const struct gated_activation *)kernel;
    struct gated_run run = {.apply = self->apply};
    struct op_tensor x;
    kvern_status status = op_input(kernel, context, 0, &x, err);

    if (status != KVERN_OK)
        return status;
    if (x.n_dims != 2 || x.dims[1] % 2 != 0)
        return fail(err, KVERN_INVALID, "GatedActivation: x is not [T, 2I]");

    size_t dims[] = {x.dims[0], x.dims[1] / 2};
    status = op_output(kernel, context, 0, dims, 2, &run.out, err);
    if (status != KVERN_OK)
        return status;
    run.x = x.data;
    run.n_rows = dims[0];
    run.width = dims[1];
    run.row_step = op_rows_of_unit(run.width);
    return op_parallel_for(kernel, context, apply_unit,
                           (run.n_rows + run.row_step - 1) / run.row_step, &run, err);
}

const struct op_definition op_gated_activation = {
    .name = "GatedActivation",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false}},
    .n_inputs = 1,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct gated_activation),
    .open = open_gated,
    .compute = compute,
};
