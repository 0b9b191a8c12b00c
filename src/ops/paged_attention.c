/* SPDX-License-Identifier: Apache-2.0
 *
 * PagedAttention: the packed tokens of many sequences attend to their own KV blocks. One op appends
 * this step's keys and values to the pool (an input written in place) and attends, layer by layer.
 *
 *   qkv [T, (H + 2 Hkv) D]   rotated in place: this node must be its only reader
 *   rope [T, D]              from RotaryTable
 *   kv_pool u8 [n_layers, n_blocks, block_bytes], block_bytes = 2 * Hkv * 16 * (2 D, 4 D, or D + 4)
 *   block_table [S, B], query_start [S + 1], context_len [S]   as in engine/batch.h
 *   q_norm [D], k_norm [D]   optional
 *   -> [T, H * D]
 */
#include "base/error.h"
#include "ops/op.h"
#include "ops/scratch_slots.h"

enum {
    INPUT_QKV,
    INPUT_ROPE,
    INPUT_POOL,
    INPUT_BLOCK_TABLE,
    INPUT_QUERY_START,
    INPUT_CONTEXT_LEN,
    INPUT_Q_NORM,
    INPUT_K_NORM,
    N_INPUTS,
    ROWS_PER_APPEND_UNIT = 32,
    MIN_SEQUENCES_TO_JOIN_HEADS = 6,
};

struct paged_attention {
    struct op_kernel kernel;      /* first */
    struct attention_shape shape; /* kv_type is set per run, from the pool */
    size_t layer;
    float norm_epsilon;
    const float *q_norm; /* [D], or NULL */
    const float *k_norm; /* [D], or NULL */
};

/* Some rows of one sequence and some kv heads. */
struct attend_unit {
    uint32_t sequence;
    uint16_t head_begin; /* of the kv heads */
    uint16_t head_end;
    uint32_t row_begin; /* within the sequence's rows of this step */
    uint32_t n_rows;
};

struct attention_run {
    const struct paged_attention *self;
    struct attention_shape shape;
    float *qkv;        /* [n_tokens, qkv_width] */
    const float *rope; /* [n_tokens, D] */
    char *pool;        /* of this layer: [n_blocks, block_bytes] */
    size_t n_pool_blocks;
    const int32_t *block_table; /* [n_sequences, blocks_per_row] */
    const int32_t *query_start; /* [n_sequences + 1] */
    const int32_t *context_len; /* [n_sequences] */
    size_t n_tokens;
    size_t n_sequences;
    size_t blocks_per_row;
    size_t qkv_width;
    float *out;           /* [n_tokens, H * D] */
    int32_t *slot_block;  /* [n_tokens] */
    int32_t *slot_offset; /* [n_tokens] */
    struct attend_unit *units;
    size_t n_units;
    struct scratch_slots slots;
};

static kvern_status open_attention(struct op_kernel *kernel, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    struct paged_attention *self = (struct paged_attention *)kernel;
    struct op_tensor norm;
    int64_t n_heads = 0;
    int64_t n_kv_heads = 0;
    int64_t head_size = 0;
    int64_t layer = 0;
    int64_t window = 0;
    kvern_status status = op_attribute_int(kernel, info, "n_heads", 1, 1024, &n_heads, err);

    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "n_kv_heads", 1, n_heads, &n_kv_heads, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "head_size", 8, 256, &head_size, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "layer", 0, 4096, &layer, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "window", 0, INT32_MAX, &window, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "scale", &self->shape.scale, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "soft_cap", &self->shape.soft_cap, err);
    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "norm_epsilon", &self->norm_epsilon, err);
    if (status != KVERN_OK)
        return status;
    if (n_heads % n_kv_heads != 0 || head_size % 8 != 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "PagedAttention: %lld heads, %lld kv heads of size %lld: heads must be a "
                    "multiple of kv heads, the size a multiple of 8",
                    (long long)n_heads, (long long)n_kv_heads, (long long)head_size);
    for (size_t i = INPUT_Q_NORM; i <= INPUT_K_NORM; i++) {
        status = op_constant(kernel, info, i, &norm, err);
        if (status == KVERN_OK && norm.data && norm.n_elements != (size_t)head_size)
            status = fail(err, KVERN_FORMAT, "PagedAttention: %s_norm has %zu elements, not %lld",
                          i == INPUT_Q_NORM ? "q" : "k", norm.n_elements, (long long)head_size);
        if (status != KVERN_OK)
            return status;
        *(i == INPUT_Q_NORM ? &self->q_norm : &self->k_norm) = norm.data;
    }
    self->shape.n_heads = (size_t)n_heads;
    self->shape.n_kv_heads = (size_t)n_kv_heads;
    self->shape.head_size = (size_t)head_size;
    self->shape.window = (size_t)window;
    self->layer = (size_t)layer;
    return KVERN_OK;
}

/* The pool's own block size tells what it holds: no two types have the same, as D is 8 or more. */
static kvern_status find_pool(struct attention_run *run, const struct op_tensor *pool,
                              kvern_error *err)
{
    static const enum kv_type types[] = {KV_F16, KV_F32, KV_INT8};
    struct attention_shape *shape = &run->shape;
    size_t bytes[3];
    bool is_known = false;

    for (size_t i = 0; i < 3; i++) {
        bytes[i] = 2 * shape->n_kv_heads * kv_part_bytes(types[i], shape->head_size);
        if (pool->n_dims == 3 && pool->dims[2] == bytes[i]) {
            shape->kv_type = types[i];
            is_known = true;
        }
    }
    if (!is_known || run->self->layer >= pool->dims[0])
        return fail(err, KVERN_INVALID,
                    "PagedAttention: kv_pool is not [over %zu layers, blocks, %zu, %zu or %zu "
                    "bytes]",
                    run->self->layer, bytes[KV_F16], bytes[KV_F32], bytes[KV_INT8]);
    run->n_pool_blocks = pool->dims[1];
    run->pool = (char *)(uintptr_t)pool->data + run->self->layer * pool->dims[1] * pool->dims[2];
    return KVERN_OK;
}

/* Every index the kernels will use is checked here, so that a wrong batch is an error. */
static kvern_status check_batch(const struct attention_run *run, kvern_error *err)
{
    for (size_t s = 0; s < run->n_sequences; s++) {
        int64_t begin = run->query_start[s];
        int64_t end = run->query_start[s + 1];
        int64_t context = run->context_len[s];

        if (begin < 0 || end < begin || end > (int64_t)run->n_tokens || context < end - begin ||
            context > (int64_t)(run->blocks_per_row * KV_BLOCK))
            return fail(err, KVERN_INVALID,
                        "PagedAttention: sequence %zu has tokens %lld to %lld and context %lld", s,
                        (long long)begin, (long long)end, (long long)context);
        for (int64_t b = 0; b < (context + KV_BLOCK - 1) / KV_BLOCK; b++) {
            int32_t block = run->block_table[s * run->blocks_per_row + (size_t)b];

            if (block < 0 || (size_t)block >= run->n_pool_blocks)
                return fail(err, KVERN_INVALID,
                            "PagedAttention: block %d is outside the pool of %zu", block,
                            run->n_pool_blocks);
        }
    }
    if (run->query_start[0] != 0 || (size_t)run->query_start[run->n_sequences] != run->n_tokens)
        return fail(err, KVERN_INVALID, "PagedAttention: query_start does not cover %zu tokens",
                    run->n_tokens);
    return KVERN_OK;
}

static void fill_slots(struct attention_run *run)
{
    for (size_t s = 0; s < run->n_sequences; s++) {
        size_t begin = (size_t)run->query_start[s];
        size_t end = (size_t)run->query_start[s + 1];
        size_t position = (size_t)run->context_len[s] - (end - begin);

        for (size_t t = begin; t < end; t++, position++) {
            run->slot_block[t] = run->block_table[s * run->blocks_per_row + position / KV_BLOCK];
            run->slot_offset[t] = (int32_t)(position % KV_BLOCK);
        }
    }
}

/* Cuts the work into units and writes them if `units` is not NULL; returns how many there are.
 *
 * The last rows of a sequence see the most keys: they come first, so that the short units fill the
 * end of the parallel loop. A row tile is 32 rows where several query heads share a kv head, which
 * gives the kernel enough rows to work on. When many sequences decode, one unit takes all heads of
 * a sequence: its pieces share pages, and units are many enough. */
static size_t cut_units(const struct attention_run *run, struct attend_unit *units)
{
    const struct attention_shape *shape = &run->shape;
    size_t most = run->self->kernel.kernels->attention->rows_per_call;
    size_t tile_rows = shape->n_heads / shape->n_kv_heads >= 3 && most > 32 ? 32 : most;
    size_t n = 0;

    for (size_t s = 0; s < run->n_sequences; s++) {
        size_t n_rows = (size_t)(run->query_start[s + 1] - run->query_start[s]);
        size_t n_heads =
            n_rows == 1 && run->n_sequences >= MIN_SEQUENCES_TO_JOIN_HEADS ? shape->n_kv_heads : 1;

        for (size_t tile = (n_rows + tile_rows - 1) / tile_rows; tile-- > 0;) {
            size_t begin = tile * tile_rows;
            size_t rows = n_rows - begin < tile_rows ? n_rows - begin : tile_rows;

            for (size_t head = 0; head < shape->n_kv_heads; head += n_heads, n++) {
                if (units)
                    units[n] = (struct attend_unit){
                        .sequence = (uint32_t)s,
                        .head_begin = (uint16_t)head,
                        .head_end = (uint16_t)(head + n_heads),
                        .row_begin = (uint32_t)begin,
                        .n_rows = (uint32_t)rows,
                    };
            }
        }
    }
    return n;
}

static void append_unit(void *data, size_t i)
{
    struct attention_run *run = data;
    const struct paged_attention *self = run->self;
    size_t begin = i * ROWS_PER_APPEND_UNIT;
    size_t end = begin + ROWS_PER_APPEND_UNIT;

    if (end > run->n_tokens)
        end = run->n_tokens;
    self->kernel.kernels->attention->append(&run->shape, run->qkv, run->rope, self->q_norm,
                                            self->k_norm, self->norm_epsilon, run->slot_block,
                                            run->slot_offset, begin, end, run->pool);
}

static void attend_one(void *data, size_t i)
{
    struct attention_run *run = data;
    const struct attend_unit *unit = &run->units[i];
    size_t first_row = (size_t)run->query_start[unit->sequence];
    size_t n_rows = (size_t)run->query_start[unit->sequence + 1] - first_row;
    size_t position = (size_t)run->context_len[unit->sequence] - n_rows + unit->row_begin;
    size_t row = first_row + unit->row_begin;
    size_t out_width = run->shape.n_heads * run->shape.head_size;
    unsigned slot = scratch_slots_take(&run->slots);

    for (size_t head = unit->head_begin; head < unit->head_end; head++)
        run->self->kernel.kernels->attention->attend(
            &run->shape, run->qkv + row * run->qkv_width, run->qkv_width, unit->n_rows, position,
            head, run->pool, run->block_table + unit->sequence * run->blocks_per_row,
            scratch_slots_memory(&run->slots, slot), run->out + row * out_width, out_width);
    scratch_slots_give(&run->slots, slot);
}

static kvern_status read_inputs(struct attention_run *run, OrtKernelContext *context,
                                kvern_error *err)
{
    const struct op_kernel *kernel = &run->self->kernel;
    struct op_tensor inputs[INPUT_CONTEXT_LEN + 1];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i <= INPUT_CONTEXT_LEN; i++)
        status = op_input(kernel, context, i, &inputs[i], err);
    if (status != KVERN_OK)
        return status;
    run->qkv_width = (run->shape.n_heads + 2 * run->shape.n_kv_heads) * run->shape.head_size;
    run->n_tokens = inputs[INPUT_QKV].dims[0];
    run->n_sequences = inputs[INPUT_CONTEXT_LEN].n_elements;
    if (inputs[INPUT_QKV].n_dims != 2 || inputs[INPUT_QKV].dims[1] != run->qkv_width)
        return fail(err, KVERN_INVALID, "PagedAttention: qkv is not [T, %zu]", run->qkv_width);
    if (inputs[INPUT_ROPE].n_elements != run->n_tokens * run->shape.head_size)
        return fail(err, KVERN_INVALID, "PagedAttention: rope is not [%zu, %zu]", run->n_tokens,
                    run->shape.head_size);
    if (inputs[INPUT_BLOCK_TABLE].n_dims != 2 ||
        inputs[INPUT_BLOCK_TABLE].dims[0] != run->n_sequences ||
        inputs[INPUT_QUERY_START].n_elements != run->n_sequences + 1)
        return fail(err, KVERN_INVALID,
                    "PagedAttention: block_table or query_start does not fit %zu sequences",
                    run->n_sequences);
    run->qkv = (float *)(uintptr_t)inputs[INPUT_QKV].data;
    run->rope = inputs[INPUT_ROPE].data;
    run->block_table = inputs[INPUT_BLOCK_TABLE].data;
    run->query_start = inputs[INPUT_QUERY_START].data;
    run->context_len = inputs[INPUT_CONTEXT_LEN].data;
    run->blocks_per_row = inputs[INPUT_BLOCK_TABLE].dims[1];
    status = find_pool(run, &inputs[INPUT_POOL], err);
    return status == KVERN_OK ? check_batch(run, err) : status;
}

static kvern_status prepare(struct attention_run *run, kvern_error *err)
{
    const struct op_kernel *kernel = &run->self->kernel;
    const struct attention_kernels *kernels = kernel->kernels->attention;
    size_t slot_bytes = (run->n_tokens * sizeof(int32_t) + 63) / 64 * 64;
    size_t n_units = cut_units(run, NULL);
    size_t unit_bytes = (n_units * sizeof *run->units + 63) / 64 * 64;
    void *memory;

    scratch_slots_init(&run->slots, n_units, kernels->attention_scratch_bytes(&run->shape));
    kvern_status status = op_scratch(
        kernel, 2 * slot_bytes + unit_bytes + scratch_slots_bytes(&run->slots), &memory, err);
    if (status != KVERN_OK)
        return status;
    char *base = memory;
    run->slot_block = memory;
    run->slot_offset = (int32_t *)(base + slot_bytes);
    run->units = (struct attend_unit *)(base + 2 * slot_bytes);
    run->slots.memory = base + 2 * slot_bytes + unit_bytes;
    fill_slots(run);
    run->n_units = cut_units(run, run->units);
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

    size_t dims[] = {run.n_tokens, run.shape.n_heads * run.shape.head_size};
    status = op_output(kernel, context, 0, dims, 2, &run.out, err);
    if (status == KVERN_OK)
        status = prepare(&run, err);
    if (status == KVERN_OK)
        status = op_parallel_for(kernel, context, append_unit,
                                 (run.n_tokens + ROWS_PER_APPEND_UNIT - 1) / ROWS_PER_APPEND_UNIT,
                                 &run, err);
    if (status == KVERN_OK)
        status = op_parallel_for(kernel, context, attend_one, run.n_units, &run, err);
    return status;
}

const struct op_definition op_paged_attention = {
    .name = "PagedAttention",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct paged_attention),
    .open = open_attention,
    .compute = compute,
};
