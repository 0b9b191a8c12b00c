/* SPDX-License-Identifier: Apache-2.0
 *
 * Activation: act(x), value by value. For graphs whose Linear cannot take it along; one that can
 * (its attribute `activation`) saves a pass over memory and gives the same bits.
 */
#include "base/error.h"
#include "ops/op.h"

struct activation_op {
    struct op_kernel kernel; /* first */
    enum activation activation;
};

struct activation_run {
    const struct activation_op *self;
    const float *x; /* [n_rows, width] */
    float *out;     /* [n_rows, width] */
    size_t n_rows;
    size_t width;
    size_t row_step;
};

static kvern_status open_activation(struct op_kernel *kernel, const OrtKernelInfo *info,
                                    kvern_error *err)
{
    struct activation_op *self = (struct activation_op *)kernel;
    kvern_status status = op_attribute_activation(kernel, info, &self->activation, err);

    if (status == KVERN_OK && self->activation == ACTIVATION_NONE)
        status = fail(err, KVERN_FORMAT, "Activation: attribute activation is missing");
    return status;
}

static void activate_unit(void *data, size_t i)
{
    const struct activation_run *run = data;
    size_t begin = i * run->row_step;
    size_t end = begin + run->row_step < run->n_rows ? begin + run->row_step : run->n_rows;

    run->self->kernel.kernels->row->activate(run->self->activation, run->x + begin * run->width,
                                             end - begin, run->width, run->width,
                                             run->out + begin * run->width);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    struct activation_run run = {.self = (const struct activation_op *)kernel};
    struct op_tensor x;
    kvern_status status = op_input(kernel, context, 0, &x, err);

    if (status != KVERN_OK)
        return status;
    if (x.n_dims < 1)
        return fail(err, KVERN_INVALID, "Activation: x has no dimensions");
    status = op_output(kernel, context, 0, x.dims, x.n_dims, &run.out, err);
    if (status != KVERN_OK || x.n_elements == 0)
        return status;
    run.x = x.data;
    run.width = x.dims[x.n_dims - 1];
    run.n_rows = x.n_elements / run.width;
    run.row_step = op_rows_of_unit(run.width);
    return op_parallel_for(kernel, context, activate_unit,
                           (run.n_rows + run.row_step - 1) / run.row_step, &run, err);
}

const struct op_definition op_activation = {
    .name = "Activation",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false}},
    .n_inputs = 1,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct activation_op),
    .open = open_activation,
    .compute = compute,
};
