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

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct embedding *self = (const struct embedding *)kernel;
    struct op_tensor ids;
    float *out;
    kvern_status status = op_input(kernel, context, 0, &ids, err);

    if (status != KVERN_OK)
        return status;

    size_t dims[] = {ids.n_elements, self->weight.k};
    status = op_output(kernel, context, 0, dims, 2, &out, err);
    for (size_t i = 0; status == KVERN_OK && i < ids.n_elements; i++) {
        int64_t id = ((const int64_t *)ids.data)[i];

        if (id < 0 || (size_t)id >= self->weight.n)
            status = fail(err, KVERN_INVALID, "Embedding: id %lld is outside 0 to %zu",
                          (long long)id, self->weight.n - 1);
        else
            kernel->kernels->linear->unpack_column(&self->weight, (size_t)id,
                                                   out + i * self->weight.k);
    }
    return status;
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
