/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear: x [rows, K] times a packed weight, plus bias, perhaps activated -> [rows, N]. Rows are
 * quantised to int8 here, once, then rectangles of rows x columns are computed on ONNX Runtime's
 * threads, each activated while it is in the cache. How the work is cut changes no value: a
 * kernel's result for a (row, column) does not depend on its rectangle.
 */
#include "base/error.h"
#include "ops/kernels/linear_common.h"
#include "ops/weight.h"

#include <string.h>

struct linear {
    struct op_kernel kernel; /* first */
    struct packed_weight weight;
    int32_t zero_point; /* of the unsigned weights; with mins there is none */
    enum activation activation;
};

struct linear_run {
    const struct linear *self;
    const float *x; /* [n_rows, K] */
    float *y;       /* [n_rows, N] */
    struct quantized_rows quantized;
    size_t n_rows;
    size_t quantize_step; /* rows of a unit of quantising */
    size_t row_step;      /* rows of a unit of multiplying */
    size_t strip_step;    /* strips (16 columns) of a unit */
    size_t n_strips;
    size_t n_strip_units;
};

static kvern_status open_linear(struct op_kernel *kernel, const OrtKernelInfo *info,
                                kvern_error *err)
{
    struct linear *self = (struct linear *)kernel;
    struct op_tensor bias;
    kvern_status status = weight_open(kernel, info, 1, &self->weight, err);

    if (status == KVERN_OK)
        status = op_constant(kernel, info, 4, &bias, err);
    if (status == KVERN_OK)
        status = op_attribute_activation(kernel, info, &self->activation, err);
    if (status != KVERN_OK)
        return status;
    if (bias.data && bias.n_elements != self->weight.n)
        return fail(err, KVERN_FORMAT, "Linear: bias has %zu elements, N is %zu", bias.n_elements,
                    self->weight.n);
    self->weight.bias = bias.data;
    if (self->weight.bits == 8)
        self->zero_point = 128;
    else if (self->weight.bits == 4 && !self->weight.mins)
        self->zero_point = 8;
    return KVERN_OK;
}

static void quantize_unit(void *data, size_t i)
{
    struct linear_run *run = data;
    size_t begin = i * run->quantize_step;
    size_t end = begin + run->quantize_step;

    if (end > run->n_rows)
        end = run->n_rows;
    run->self->kernel.kernels->linear->quantize_rows(run->x, begin, end, run->self->weight.k,
                                                     run->self->weight.group, run->self->zero_point,
                                                     &run->quantized);
}

static void multiply_unit(void *data, size_t i)
{
    struct linear_run *run = data;
    const struct linear_kernels *kernels = run->self->kernel.kernels->linear;
    size_t row_begin = i / run->n_strip_units * run->row_step;
    size_t row_end = row_begin + run->row_step;
    size_t strip_begin = i % run->n_strip_units * run->strip_step;
    size_t strip_end = strip_begin + run->strip_step;

    if (row_end > run->n_rows)
        row_end = run->n_rows;
    if (strip_end > run->n_strips)
        strip_end = run->n_strips;
    if (run->self->weight.bits == 32)
        kernels->multiply_f32(&run->self->weight, run->x, row_begin, row_end, strip_begin,
                              strip_end, run->y);
    else
        kernels->multiply_quantized(&run->self->weight, &run->quantized, row_begin, row_end,
                                    strip_begin, strip_end, run->y);
    if (run->self->activation != ACTIVATION_NONE) {
        size_t n = run->self->weight.n;
        size_t begin = strip_begin * STRIP;
        float *y = run->y + row_begin * n + begin;

        run->self->kernel.kernels->row->activate(run->self->activation, y, row_end - row_begin,
                                                 smaller(strip_end * STRIP, n) - begin, n, y);
    }
}

/* Few rows: every weight is read once whatever the cut, so long runs of columns, in whole tiles of
 * 4 strips; fewer and longer ones for up to 3 rows, which live on the hardware's own prefetching.
 * Many rows: rectangles whose weights stay in the cache while the rows pass (48 x 256 was the best
 * of those tried), and enough of them that the last one is short. */
static void choose_units(struct linear_run *run)
{
    run->n_strips = (run->self->weight.n + STRIP - 1) / STRIP;
    run->row_step = run->n_rows;
    if (run->n_rows <= 8) {
        size_t n_units = run->n_rows <= 3 ? 8 : 16;

        run->strip_step = smaller(((run->n_strips + n_units - 1) / n_units + 3) / 4 * 4, 256);
    } else if (run->n_rows < 64)
        run->strip_step = run->n_strips >= 64 ? 8 : 4;
    else {
        run->row_step = 48;
        run->strip_step = 16;
    }
    run->n_strip_units = (run->n_strips + run->strip_step - 1) / run->strip_step;
}

static kvern_status quantize(struct linear_run *run, OrtKernelContext *context, kvern_error *err)
{
    const struct op_kernel *kernel = &run->self->kernel;
    size_t k = run->self->weight.k;
    size_t group = run->self->weight.group;
    size_t n_groups = run->n_rows * (k / group);
    size_t q_bytes = (run->n_rows * k + 63) / 64 * 64;
    size_t group_bytes = (n_groups * 4 + 63) / 64 * 64;
    void *memory;
    kvern_status status = op_scratch(kernel, q_bytes + 3 * group_bytes, &memory, err);

    if (status != KVERN_OK)
        return status;
    char *base = memory;
    run->quantized.q = memory;
    run->quantized.scales = (float *)(base + q_bytes);
    run->quantized.starts = (int32_t *)(base + q_bytes + group_bytes);
    run->quantized.sums = (float *)(base + q_bytes + 2 * group_bytes);
    run->quantize_step = op_rows_of_unit(k);
    size_t n_units = (run->n_rows + run->quantize_step - 1) / run->quantize_step;
    return op_parallel_for(kernel, context, quantize_unit, n_units, run, err);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct linear *self = (const struct linear *)kernel;
    struct linear_run run = {.self = self};
    struct op_tensor x;
    size_t dims[OP_MAX_DIMS];
    kvern_status status = op_input(kernel, context, 0, &x, err);

    if (status != KVERN_OK)
        return status;
    if (x.n_dims < 1 || x.dims[x.n_dims - 1] != self->weight.k)
        return fail(err, KVERN_INVALID, "Linear: x ends with %zu, K is %zu",
                    x.n_dims ? x.dims[x.n_dims - 1] : 0, self->weight.k);
    memcpy(dims, x.dims, sizeof dims);
    dims[x.n_dims - 1] = self->weight.n;
    status = op_output(kernel, context, 0, dims, x.n_dims, &run.y, err);
    if (status != KVERN_OK || x.n_elements == 0)
        return status;

    run.x = x.data;
    run.n_rows = x.n_elements / self->weight.k;
    choose_units(&run);
    if (self->weight.bits != 32)
        status = quantize(&run, context, err);
    if (status != KVERN_OK)
        return status;
    size_t n_row_units = (run.n_rows + run.row_step - 1) / run.row_step;
    return op_parallel_for(kernel, context, multiply_unit, n_row_units * run.n_strip_units, &run,
                           err);
}

const struct op_definition op_linear = {
    .name = "Linear",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true}},
    .n_inputs = 5,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct linear),
    .open = open_linear,
    .compute = compute,
};
