/* SPDX-License-Identifier: Apache-2.0
 *
 * PagedAttention: the packed tokens of many sequences attend to their own KV blocks. One op appends
 * this step's keys and values to the pool (an input written in place) and attends, layer by layer.
 *
 *   qkv [T, (H + 2 Hkv) D]   rotated in place: this node must be its only reader
 *   rope [T, D]              from RotaryTable; optional
 *   kv_pool u8 [n_layers, n_blocks, block_bytes], block_bytes = 2 * Hkv * 16 * (2 D, 4 D, or D + 4)
 *   block_table [S, B], query_start [S + 1], context_len [S]   as in engine/batch.h
 *   q_norm [D], k_norm [D]   optional
 *   bias [H, 2 R + 1]        optional
 *   -> [T, H * D]
 */
#include "base/error.h"
#include "ops/attend_units.h"
#include "ops/position_bias.h"

enum {
    INPUT_QKV,
    INPUT_ROPE,
    INPUT_POOL,
    INPUT_BLOCK_TABLE,
    INPUT_QUERY_START,
    INPUT_CONTEXT_LEN,
    INPUT_Q_NORM,
    INPUT_K_NORM,
    INPUT_BIAS,
    N_INPUTS,
    ROWS_PER_APPEND_UNIT = 32,
};

struct paged_attention {
    struct op_kernel kernel;      /* first */
    struct attention_shape shape; /* kv_type is set per run, from the pool */
    size_t layer;
    float norm_epsilon;
    const float *q_norm; /* [D], or NULL */
    const float *k_norm; /* [D], or NULL */
};

struct attention_run {
    const struct paged_attention *self;
    struct attention_shape shape;
    struct paged_batch batch;
    struct attend_units work;
    float *qkv;           /* [n_tokens, work.q_stride] */
    const float *rope;    /* [n_tokens, D], or NULL */
    char *pool;           /* of this layer: [n_blocks, block_bytes] */
    int32_t *slot_block;  /* [n_tokens] */
    int32_t *slot_offset; /* [n_tokens] */
};

static kvern_status open_norm(const struct paged_attention *self, const OrtKernelInfo *info,
                              size_t index, const float **weight, kvern_error *err)
{
    struct op_tensor norm;
    kvern_status status = op_constant(&self->kernel, info, index, &norm, err);

    if (status == KVERN_OK && norm.data && norm.n_elements != self->shape.head_size)
        status = fail(err, KVERN_FORMAT, "PagedAttention: %s_norm has %zu elements, not %zu",
                      index == INPUT_Q_NORM ? "q" : "k", norm.n_elements, self->shape.head_size);
    *weight = norm.data;
    return status;
}

static kvern_status open_attention(struct op_kernel *kernel, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    struct paged_attention *self = (struct paged_attention *)kernel;
    struct attention_shape *shape = &self->shape;
    int64_t layer = 0;
    int64_t window = 0;
    kvern_status status = op_attribute_heads(kernel, info, &shape->n_heads, &shape->n_kv_heads,
                                             &shape->head_size, err);

    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "layer", 0, 4096, &layer, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "window", 0, INT32_MAX, &window, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "scale", &shape->scale, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "soft_cap", &shape->soft_cap, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "norm_epsilon", &self->norm_epsilon, err);
    if (status == KVERN_OK)
        status = open_norm(self, info, INPUT_Q_NORM, &self->q_norm, err);
    if (status == KVERN_OK)
        status = open_norm(self, info, INPUT_K_NORM, &self->k_norm, err);
    if (status == KVERN_OK)
        status = position_bias_open(&shape->bias, kernel, info, INPUT_BIAS, shape->n_heads, err);
    shape->window = (size_t)window;
    self->layer = (size_t)layer;
    return status;
}

static void close_attention(struct op_kernel *kernel)
{
    position_bias_clear(&((struct paged_attention *)kernel)->shape.bias);
}

static void append_unit(void *data, size_t i)
{
    struct attention_run *run = data;
    const struct paged_attention *self = run->self;
    size_t begin = i * ROWS_PER_APPEND_UNIT;
    size_t end = begin + ROWS_PER_APPEND_UNIT;

    if (end > run->batch.n_tokens)
        end = run->batch.n_tokens;
    self->kernel.kernels->attention->append(&run->shape, run->qkv, run->rope, self->q_norm,
                                            self->k_norm, self->norm_epsilon, run->slot_block,
                                            run->slot_offset, begin, end, run->pool);
}

static kvern_status read_inputs(struct attention_run *run, OrtKernelContext *context,
                                kvern_error *err)
{
    static const struct paged_inputs paged_inputs = {INPUT_POOL, INPUT_BLOCK_TABLE,
                                                     INPUT_QUERY_START, INPUT_CONTEXT_LEN};
    const struct op_kernel *kernel = &run->self->kernel;
    struct attention_shape *shape = &run->shape;
    size_t width = (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_size;
    struct op_tensor qkv;
    struct op_tensor rope;
    kvern_status status = op_input(kernel, context, INPUT_QKV, &qkv, err);

    if (status == KVERN_OK)
        status = op_input(kernel, context, INPUT_ROPE, &rope, err);
    if (status != KVERN_OK)
        return status;
    if (qkv.n_dims != 2 || qkv.dims[1] != width)
        return fail(err, KVERN_INVALID, "PagedAttention: qkv is not [T, %zu]", width);
    if (rope.n_dims != 0 && rope.n_elements != qkv.dims[0] * shape->head_size)
        return fail(err, KVERN_INVALID, "PagedAttention: rope is not [%zu, %zu]", qkv.dims[0],
                    shape->head_size);
    status = paged_batch_read(&run->batch, kernel, context, &paged_inputs, shape,
                              run->self->layer + 1, qkv.dims[0], err);
    if (status != KVERN_OK)
        return status;
    shape->kv_type = run->batch.pool.type;
    run->qkv = (float *)(uintptr_t)qkv.data;
    run->rope = rope.data;
    run->pool = kv_pool_layer(&run->batch.pool, run->self->layer);
    run->work = (struct attend_units){.kernels = kernel->kernels->attention,
                                      .batch = &run->batch,
                                      .shape = shape,
                                      .q = run->qkv,
                                      .q_stride = width,
                                      .pool = run->pool};
    return KVERN_OK;
}

static kvern_status prepare(struct attention_run *run, kvern_error *err)
{
    size_t slot_bytes = (run->batch.n_tokens * sizeof(int32_t) + 63) / 64 * 64;
    void *memory;
    kvern_status status = op_scratch(&run->self->kernel,
                                     2 * slot_bytes + attend_units_bytes(&run->work), &memory, err);

    if (status != KVERN_OK)
        return status;
    char *base = memory;
    run->slot_block = memory;
    run->slot_offset = (int32_t *)(base + slot_bytes);
    paged_batch_slots(&run->batch, run->slot_block, run->slot_offset);
    attend_units_cut(&run->work, base + 2 * slot_bytes);
    return KVERN_OK;
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    const struct paged_attention *self = (const struct paged_attention *)kernel;
    struct attention_run run = {.self = self, .shape = self->shape};
    kvern_status status = read_inputs(&run, context, err);

    if (status != KVERN_OK)
        return status;

    size_t dims[] = {run.batch.n_tokens, run.shape.n_heads * run.shape.head_size};
    status = op_output(kernel, context, 0, dims, 2, &run.work.out, err);
    if (status == KVERN_OK)
        status = prepare(&run, err);
    if (status == KVERN_OK)
        status = op_parallel_for(
            kernel, context, append_unit,
            (run.batch.n_tokens + ROWS_PER_APPEND_UNIT - 1) / ROWS_PER_APPEND_UNIT, &run, err);
    if (status == KVERN_OK)
        status =
            op_parallel_for(kernel, context, attend_units_run, run.work.n_units, &run.work, err);
    return status;
}

const struct op_definition op_paged_attention = {
    .name = "PagedAttention",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct paged_attention),
    .open = open_attention,
    .compute = compute,
    .close = close_attention,
};
