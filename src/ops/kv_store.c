/* SPDX-License-Identifier: Apache-2.0
 *
 * KvStore: the keys and values of whole sources, of several layers side by side, into their blocks
 * of the pool, from position 0 on. A decoder's CrossAttention reads them there.
 *
 *   kv [T, n_layers * 2 * Hkv * D]      of each layer the keys, then the values
 *   kv_pool u8 [>= first_layer + n_layers, n_blocks, block_bytes]    as PagedAttention's
 *   block_table [S, B], query_start [S + 1]
 *   after int64, optional               not read: the output of a node that must run before
 *   -> int64 [1]: T
 */
#include "base/error.h"
#include "ops/paged_batch.h"

enum {
    INPUT_KV,
    INPUT_POOL,
    INPUT_BLOCK_TABLE,
    INPUT_QUERY_START,
    INPUT_AFTER,
    N_INPUTS,
    ROWS_PER_UNIT = 64,
};

struct kv_store {
    struct op_kernel kernel;      /* first */
    struct attention_shape shape; /* kv_type is set per run, from the pool */
    size_t n_layers;
    size_t first_layer;
};

struct store_run {
    const struct kv_store *self;
    struct attention_shape shape;
    struct paged_batch batch;
    const float *kv; /* [n_tokens, n_layers, 2, Hkv D] */
    size_t width;    /* of Hkv D */
    int32_t *slot_block;
    int32_t *slot_offset;
};

static kvern_status open_store(struct op_kernel *kernel, const OrtKernelInfo *info,
                               kvern_error *err)
{
    struct kv_store *self = (struct kv_store *)kernel;
    int64_t n_layers = 0;
    int64_t first_layer = 0;
    kvern_status status = op_attribute_heads(kernel, info, NULL, &self->shape.n_kv_heads,
                                             &self->shape.head_size, err);

    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "n_layers", 1, 4096, &n_layers, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "first_layer", 0, 4096, &first_layer, err);
    self->n_layers = (size_t)n_layers;
    self->first_layer = (size_t)first_layer;
    return status;
}

/* Some rows of one layer. */
static void store_unit(void *data, size_t i)
{
    const struct store_run *run = data;
    size_t n_layers = run->self->n_layers;
    size_t layer = i % n_layers;
    size_t begin = i / n_layers * ROWS_PER_UNIT;
    size_t end = begin + ROWS_PER_UNIT;
    const float *k = run->kv + layer * 2 * run->width;

    if (end > run->batch.n_tokens)
        end = run->batch.n_tokens;
    run->self->kernel.kernels->attention->store(
        &run->shape, k, k + run->width, n_layers * 2 * run->width, run->slot_block,
        run->slot_offset, begin, end,
        kv_pool_layer(&run->batch.pool, run->self->first_layer + layer));
}

static kvern_status read_inputs(struct store_run *run, OrtKernelContext *context, kvern_error *err)
{
    static const struct paged_inputs paged_inputs = {
        .pool = INPUT_POOL, .block_table = INPUT_BLOCK_TABLE, .query_start = INPUT_QUERY_START};
    const struct kv_store *self = run->self;
    struct op_tensor kv;
    kvern_status status = op_input(&self->kernel, context, INPUT_KV, &kv, err);

    if (status != KVERN_OK)
        return status;
    run->width = self->shape.n_kv_heads * self->shape.head_size;
    if (kv.n_dims != 2 || kv.dims[1] != self->n_layers * 2 * run->width)
        return fail(err, KVERN_INVALID, "KvStore: kv is not [T, %zu]",
                    self->n_layers * 2 * run->width);
    run->kv = kv.data;
    status = paged_batch_read(&run->batch, &self->kernel, context, &paged_inputs, &self->shape,
                              self->first_layer + self->n_layers, kv.dims[0], err);
    run->shape.kv_type = run->batch.pool.type;
    return status;
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct kv_store *self = (const struct kv_store *)kernel;
    struct store_run run = {.self = self, .shape = self->shape};
    size_t one = 1;
    int64_t *stored = NULL;
    void *memory = NULL;
    kvern_status status = read_inputs(&run, context, err);

    if (status == KVERN_OK)
        status = op_output_int64(kernel, context, 0, &one, 1, &stored, err);
    if (status == KVERN_OK)
        status = op_scratch(kernel, 2 * run.batch.n_tokens * sizeof(int32_t), &memory, err);
    if (status != KVERN_OK)
        return status;
    run.slot_block = memory;
    run.slot_offset = run.slot_block + run.batch.n_tokens;
    paged_batch_slots(&run.batch, run.slot_block, run.slot_offset);
    *stored = (int64_t)run.batch.n_tokens;
    return op_parallel_for(
        kernel, context, store_unit,
        (run.batch.n_tokens + ROWS_PER_UNIT - 1) / ROWS_PER_UNIT * self->n_layers, &run, err);
}

const struct op_definition op_kv_store = {
    .name = "KvStore",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, true}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .output_type = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
    .kernel_bytes = sizeof(struct kv_store),
    .open = open_store,
    .compute = compute,
};
