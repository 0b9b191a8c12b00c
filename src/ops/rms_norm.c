/* SPDX-License-Identifier: Apache-2.0
 *
 * RmsNorm: x, weight -> x / rms(x) * weight. AddRmsNorm: x, skip, weight -> (the norm of x + skip,
 * x + skip). Our own instead of ONNX Runtime's fused ones because a row's sum must be added in the
 * same order however many rows there are (promise 1).
 */
#include "base/error.h"
#include "ops/op.h"

struct rms_norm {
    struct op_kernel kernel; /* first */
    float epsilon;
    const float *weight; /* [width] */
    size_t width;
};

struct norm_run {
    const struct rms_norm *self;
    const float *x;    /* [n_rows, width] */
    const float *skip; /* [n_rows, width], or NULL: no sum */
    float *normed;     /* [n_rows, width] */
    float *sum;        /* [n_rows, width], or NULL */
    size_t n_rows;
};

enum { ROWS_PER_UNIT = 32 };

static kvern_status open_norm(struct op_kernel *kernel, const OrtKernelInfo *info, kvern_error *err)
{
    struct rms_norm *self = (struct rms_norm *)kernel;
    struct op_tensor weight;
    kvern_status status = op_attribute_float(kernel, info, "epsilon", &self->epsilon, err);

    if (status == KVERN_OK)
        status = op_constant(kernel, info, kernel->definition->n_inputs - 1, &weight, err);
    if (status == KVERN_OK) {
        self->weight = weight.data;
        self->width = weight.n_elements;
    }
    return status;
}

static void norm_unit(void *data, size_t i)
{
    const struct norm_run *run = data;
    const struct row_kernels *kernels = run->self->kernel.kernels->row;
    size_t begin = i * ROWS_PER_UNIT;
    size_t end = begin + ROWS_PER_UNIT < run->n_rows ? begin + ROWS_PER_UNIT : run->n_rows;

    if (run->skip)
        kernels->add_rms_norm(run->x, run->skip, run->self->weight, run->self->epsilon, begin, end,
                              run->self->width, run->sum, run->normed);
    else
        kernels->rms_norm(run->x, run->self->weight, run->self->epsilon, begin, end,
                          run->self->width, run->normed);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct rms_norm *self = (const struct rms_norm *)kernel;
    bool has_skip = kernel->definition->n_inputs == 3;
    struct norm_run run = {.self = self};
    struct op_tensor x;
    struct op_tensor skip = {0};
    kvern_status status = op_input(kernel, context, 0, &x, err);

    if (status == KVERN_OK && has_skip)
        status = op_input(kernel, context, 1, &skip, err);
    if (status != KVERN_OK)
        return status;
    if (x.n_dims != 2 || x.dims[1] != self->width || (has_skip && skip.n_elements != x.n_elements))
        return fail(err, KVERN_INVALID, "%s: x is not [T, %zu]", kernel->definition->name,
                    self->width);
    status = op_output(kernel, context, 0, x.dims, 2, &run.normed, err);
    if (status == KVERN_OK && has_skip)
        status = op_output(kernel, context, 1, x.dims, 2, &run.sum, err);
    if (status != KVERN_OK)
        return status;
    run.x = x.data;
    run.skip = skip.data;
    run.n_rows = x.dims[0];
    return op_parallel_for(kernel, context, norm_unit,
                           (run.n_rows + ROWS_PER_UNIT - 1) / ROWS_PER_UNIT, &run, err);
}

const struct op_definition op_rms_norm = {
    .name = "RmsNorm",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false}},
    .n_inputs = 2,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct rms_norm),
    .open = open_norm,
    .compute = compute,
};

const struct op_definition op_add_rms_norm = {
    .name = "AddRmsNorm",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false}},
    .n_inputs = 3,
    .n_outputs = 2,
    .kernel_bytes = sizeof(struct rms_norm),
    .open = open_norm,
    .compute = compute,
};
