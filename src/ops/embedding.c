/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding: ids [T] -> rows of a packed table [T, K]. The table is the lm_head's own packed weight
 * when the two are tied, so no second copy of it exists.
 */
#include "base/error.h"
#include "ops/weight.h"

struct embedding {
    struct op_kernel kernel; /* first */
    struct packed_weight weight;
};

static kvern_status open_embedding(struct op_kernel *kernel, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    struct embedding *self = (struct embedding *)kernel;

    return weight_open(kernel, info, 1, &self->weight, err);
}

struct embedding_run {
    const struct embedding *self;
    const int64_t *ids; /* [n_ids] */
    float *out;         /* [n_ids, K] */
    size_t n_ids;
    size_t step; /* ids of a unit */
};

static void unpack_unit(void *data, size_t i)
{
    const struct embedding_run *run = data;
    const struct packed_weight *weight = &run->self->weight;
    size_t end = (i + 1) * run->step < run->n_ids ? (i + 1) * run->step : run->n_ids;

    for (size_t at = i * run->step; at < end; at++)
        run->self->kernel.kernels->linear->unpack_column(weight, (size_t)run->ids[at],
                                                         run->out + at * weight->k);
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    struct embedding_run run = {.self = (const struct embedding *)kernel};
    const struct packed_weight *weight = &run.self->weight;
    struct op_tensor ids;
    kvern_status status = op_input(kernel, context, 0, &ids, err);

    if (status != KVERN_OK)
        return status;
    run.ids = ids.data;
    run.n_ids = ids.n_elements;
    for (size_t i = 0; i < run.n_ids; i++) {
        if (run.ids[i] < 0 || (size_t)run.ids[i] >= weight->n)
            return fail(err, KVERN_INVALID, "Embedding: id %lld is outside 0 to %zu",
                        (long long)run.ids[i], weight->n - 1);
    }

    size_t dims[] = {run.n_ids, weight->k};
    status = op_output(kernel, context, 0, dims, 2, &run.out, err);
    if (status != KVERN_OK)
        return status;
    run.step = op_rows_of_unit(weight->k);
    return op_parallel_for(kernel, context, unpack_unit, (run.n_ids + run.step - 1) / run.step,
                           &run, err);
}

const struct op_definition op_embedding = {
    .name = "Embedding",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, true}},
    .n_inputs = 4,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct embedding),
    .open = open_embedding,
    .compute = compute,
};
