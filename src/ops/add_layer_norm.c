/* SPDX-License-Identifier: Apache-2.0
 *
 * AddLayerNorm: x, skip [rows, E], gamma, beta [E] and perhaps skip_scale [E] -> the layer norm of
 * x + skip, or of x + skip * skip_scale. The scale gives back to the residual stream what the norm
 * that made `skip` had left out, so that what it gave to a Linear suits 8-bit rounding.
 */
#include "base/error.h"
#include "ops/op.h"

enum { INPUT_X, INPUT_SKIP, INPUT_GAMMA, INPUT_BETA, INPUT_SKIP_SCALE, N_INPUTS };

struct layer_norm {
    struct op_kernel kernel; /* first */
    float epsilon;
    const float *weights[N_INPUTS]; /* [width] from INPUT_GAMMA on; skip_scale may be NULL */
    size_t width;
};

struct norm_run {
    const struct layer_norm *self;
    const float *x;    /* [n_rows, width] */
    const float *skip; /* [n_rows, width] */
    float *out;        /* [n_rows, width] */
    size_t n_rows;
    size_t row_step;
};

static kvern_status open_norm(struct op_kernel *kernel, const OrtKernelInfo *info, kvern_error *err)
{
    static const char *const names[] = {"x", "skip", "gamma", "beta", "skip_scale"};
    struct layer_norm *self = (struct layer_norm *)kernel;
    kvern_status status = op_attribute_float(kernel, info, "epsilon", &self->epsilon, err);

    for (size_t i = INPUT_GAMMA; status == KVERN_OK && i < N_INPUTS; i++) {
        struct op_tensor weight;

        status = op_constant(kernel, info, i, &weight, err);
        if (status != KVERN_OK)
            break;
        if (i == INPUT_GAMMA)
            self->width = weight.n_elements;
        if (weight.data && weight.n_elements != self->width)
            status = fail(err, KVERN_FORMAT, "AddLayerNorm: %s has %zu elements, gamma has %zu",
                          names[i], weight.n_elements, self->width);
        self->weights[i] = weight.data;
    }
    if (status == KVERN_OK && self->width == 0)
        status = fail(err, KVERN_FORMAT, "AddLayerNorm: gamma is empty");
    return status;
}

static void norm_unit(void *data, size_t i)
{
    const struct norm_run *run = data;
    const struct layer_norm *self = run->self;
    size_t begin = i * run->row_step;
    size_t end = begin + run->row_step < run->n_rows ? begin + run->row_step : run->n_rows;

    self->kernel.kernels->row->add_layer_norm(run->x, run->skip, self->weights[INPUT_SKIP_SCALE],
                                              self->weights[INPUT_GAMMA], self->weights[INPUT_BETA],
                                              self->epsilon, begin, end, self->width, run->out);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct layer_norm *self = (const struct layer_norm *)kernel;
    struct norm_run run = {.self = self};
    struct op_tensor x;
    struct op_tensor skip;
    kvern_status status = op_input(kernel, context, INPUT_X, &x, err);

    if (status == KVERN_OK)
        status = op_input(kernel, context, INPUT_SKIP, &skip, err);
    if (status != KVERN_OK)
        return status;
    if (x.n_dims != 2 || x.dims[1] != self->width)
        return fail(err, KVERN_INVALID, "AddLayerNorm: x ends with %zu, gamma has %zu elements",
                    x.n_dims ? x.dims[x.n_dims - 1] : 0, self->width);
    if (skip.n_elements != x.n_elements)
        return fail(err, KVERN_INVALID, "AddLayerNorm: skip has %zu elements, x has %zu",
                    skip.n_elements, x.n_elements);
    status = op_output(kernel, context, 0, x.dims, 2, &run.out, err);
    if (status != KVERN_OK)
        return status;
    run.x = x.data;
    run.skip = skip.data;
    run.n_rows = x.dims[0];
    run.row_step = op_rows_of_unit(self->width);
    return op_parallel_for(kernel, context, norm_unit,
                           (run.n_rows + run.row_step - 1) / run.row_step, &run, err);
}

const struct op_definition op_add_layer_norm = {
    .name = "AddLayerNorm",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct layer_norm),
    .open = open_norm,
    .compute = compute,
};
