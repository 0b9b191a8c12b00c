/* SPDX-License-Identifier: Apache-2.0
 *
 * CrossAttention: each row of a sequence attends to all positions of its source, whose keys and
 * values KvStore has put into the pool. It writes nothing there.
 *
 *   q [T, H D]
 *   kv_pool u8 [n_layers, n_blocks, block_bytes]    as PagedAttention's
 *   block_table [S, B], query_start [S + 1]         the source's blocks are the first of a row
 *   source_len [S]                                  positions of each source
 *   -> [T, H * D]
 */
#include "base/error.h"
#include "ops/attend_units.h"

enum {
    INPUT_Q,
    INPUT_POOL,
    INPUT_BLOCK_TABLE,
    INPUT_QUERY_START,
    INPUT_SOURCE_LEN,
    N_INPUTS,
};

struct cross_attention {
    struct op_kernel kernel;      /* first */
    struct attention_shape shape; /* kv_type is set per run, from the pool */
    size_t layer;
};

static kvern_status open_attention(struct op_kernel *kernel, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    struct cross_attention *self = (struct cross_attention *)kernel;
    int64_t layer = 0;
    kvern_status status = op_attribute_heads(kernel, info, &self->shape.n_heads,
                                             &self->shape.n_kv_heads, &self->shape.head_size, err);

    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "layer", 0, 4096, &layer, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "scale", &self->shape.scale, err);
    self->shape.is_cross = true;
    self->layer = (size_t)layer;
    return status;
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    static const struct paged_inputs paged_inputs = {INPUT_POOL, INPUT_BLOCK_TABLE,
                                                     INPUT_QUERY_START, INPUT_SOURCE_LEN};
    const struct cross_attention *self = (const struct cross_attention *)kernel;
    struct attention_shape shape = self->shape;
    size_t width = shape.n_heads * shape.head_size;
    struct paged_batch batch = {0};
    struct op_tensor q;
    void *memory = NULL;
    kvern_status status = op_input(kernel, context, INPUT_Q, &q, err);

    if (status == KVERN_OK && (q.n_dims != 2 || q.dims[1] != width))
        status = fail(err, KVERN_INVALID, "CrossAttention: q is not [T, %zu]", width);
    if (status == KVERN_OK)
        status = paged_batch_read(&batch, kernel, context, &paged_inputs, &shape, self->layer + 1,
                                  q.dims[0], err);
    if (status != KVERN_OK)
        return status;
    shape.kv_type = batch.pool.type;

    struct attend_units work = {.kernels = kernel->kernels->attention,
                                .batch = &batch,
                                .shape = &shape,
                                .q = q.data,
                                .q_stride = width,
                                .pool = kv_pool_layer(&batch.pool, self->layer)};
    size_t dims[] = {batch.n_tokens, width};

    status = op_output(kernel, context, 0, dims, 2, &work.out, err);
    if (status == KVERN_OK)
        status = op_scratch(kernel, attend_units_bytes(&work), &memory, err);
    if (status != KVERN_OK)
        return status;
    attend_units_cut(&work, memory);
    return op_parallel_for(kernel, context, attend_units_run, work.n_units, &work, err);
}

const struct op_definition op_cross_attention = {
    .name = "CrossAttention",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct cross_attention),
    .open = open_attention,
    .compute = compute,
};
