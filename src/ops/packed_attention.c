/* SPDX-License-Identifier: Apache-2.0
 *
 * PackedAttention: the packed tokens of whole texts attend to all tokens of their own text, no mask
 * and no cache.
 *
 *   qkv [T, (H + 2 Hkv) D], query_start [S + 1]: text s owns rows query_start[s] up to
 *   query_start[s + 1]; bias [H, 2 R + 1], optional -> [T, H * D]
 */
#include "base/error.h"
#include "ops/position_bias.h"
#include "ops/scratch_slots.h"

#include <string.h>

enum { INPUT_QKV, INPUT_QUERY_START, INPUT_BIAS, N_INPUTS };

struct packed_attention {
    struct op_kernel kernel; /* first */
    struct packed_attention_shape shape;
};

/* Some rows of one text and some kv heads. */
struct attend_unit {
    uint32_t text;
    uint16_t head_begin; /* of the kv heads */
    uint16_t head_end;
    uint32_t row_begin; /* within the text */
    uint32_t row_end;
};

struct packed_run {
    const struct packed_attention *self;
    const float *qkv;           /* [n_tokens, qkv_width] */
    const int32_t *query_start; /* [n_texts + 1] */
    size_t n_tokens;
    size_t n_texts;
    size_t qkv_width;
    float *out; /* [n_tokens, H * D] */
    struct attend_unit *units;
    size_t n_units;
    struct scratch_slots slots;
};

static kvern_status read_precision(struct packed_attention *self, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    char name[16] = "";
    kvern_status status =
        op_attribute_string_or(&self->kernel, info, "precision", "fast", name, sizeof name, err);

    self->shape.is_f32 = strcmp(name, "f32") == 0;
    if (status == KVERN_OK && !self->shape.is_f32 && strcmp(name, "fast") != 0)
        status =
            fail(err, KVERN_FORMAT, "PackedAttention: precision is '%s', not f32 or fast", name);
    return status;
}

static kvern_status open_attention(struct op_kernel *kernel, const OrtKernelInfo *info,
                                   kvern_error *err)
{
    struct packed_attention *self = (struct packed_attention *)kernel;
    struct packed_attention_shape *shape = &self->shape;
    kvern_status status = op_attribute_heads(kernel, info, &shape->n_heads, &shape->n_kv_heads,
                                             &shape->head_size, err);

    if (status == KVERN_OK)
        status = op_attribute_float(kernel, info, "scale", &shape->scale, err);
    if (status == KVERN_OK)
        status = read_precision(self, info, err);
    if (status == KVERN_OK)
        status = position_bias_open(&shape->bias, kernel, info, INPUT_BIAS, shape->n_heads, err);
    return status;
}

static void close_attention(struct op_kernel *kernel)
{
    position_bias_clear(&((struct packed_attention *)kernel)->shape.bias);
}

/* Every index the kernels will use is checked here, so that a wrong batch is an error. */
static kvern_status check_batch(const struct packed_run *run, kvern_error *err)
{
    if (run->query_start[0] != 0)
        return fail(err, KVERN_INVALID, "PackedAttention: query_start begins with %d, not 0",
                    run->query_start[0]);
    for (size_t s = 0; s < run->n_texts; s++) {
        if (run->query_start[s + 1] < run->query_start[s])
            return fail(err, KVERN_INVALID,
                        "PackedAttention: query_start falls from %d to %d at text %zu",
                        run->query_start[s], run->query_start[s + 1], s);
    }
    if ((size_t)run->query_start[run->n_texts] != run->n_tokens)
        return fail(err, KVERN_INVALID,
                    "PackedAttention: query_start ends with %d, qkv has %zu rows",
                    run->query_start[run->n_texts], run->n_tokens);
    return KVERN_OK;
}

/* Cuts the work into units and writes them if `units` is not NULL; returns how many there are. A
 * unit is one head of up to packed_rows_per_call rows, or several heads of a short text: no less
 * work than is worth another thread's while. */
static size_t cut_units(const struct packed_run *run, struct attend_unit *units)
{
    enum { PRODUCTS_OF_UNIT = 64 * 64 };
    const struct packed_attention_shape *shape = &run->self->shape;
    size_t most = run->self->kernel.kernels->attention->packed_rows_per_call;
    size_t n = 0;

    for (size_t s = 0; s < run->n_texts; s++) {
        size_t n_rows = (size_t)(run->query_start[s + 1] - run->query_start[s]);
        size_t n_products = n_rows * (n_rows < most ? n_rows : most);
        size_t n_heads =
            n_products < PRODUCTS_OF_UNIT ? PRODUCTS_OF_UNIT / (n_products + 1) + 1 : 1;

        for (size_t row = 0; row < n_rows; row += most) {
            for (size_t head = 0; head < shape->n_kv_heads; head += n_heads, n++) {
                size_t end = head + n_heads;

                if (units)
                    units[n] = (struct attend_unit){
                        .text = (uint32_t)s,
                        .head_begin = (uint16_t)head,
                        .head_end = (uint16_t)(end < shape->n_kv_heads ? end : shape->n_kv_heads),
                        .row_begin = (uint32_t)row,
                        .row_end = (uint32_t)(row + most < n_rows ? row + most : n_rows),
                    };
            }
        }
    }
    return n;
}

static void attend_one(void *data, size_t i)
{
    struct packed_run *run = data;
    const struct packed_attention *self = run->self;
    const struct attend_unit *unit = &run->units[i];
    size_t first = (size_t)run->query_start[unit->text];
    size_t n_tokens = (size_t)run->query_start[unit->text + 1] - first;
    unsigned slot = scratch_slots_take(&run->slots);

    for (size_t head = unit->head_begin; head < unit->head_end; head++)
        self->kernel.kernels->attention->attend_packed(
            &self->shape, run->qkv + first * run->qkv_width, n_tokens, unit->row_begin,
            unit->row_end, head, scratch_slots_memory(&run->slots, slot),
            run->out + first * self->shape.n_heads * self->shape.head_size);
    scratch_slots_give(&run->slots, slot);
}

static kvern_status read_inputs(struct packed_run *run, OrtKernelContext *context, kvern_error *err)
{
    const struct op_kernel *kernel = &run->self->kernel;
    const struct packed_attention_shape *shape = &run->self->shape;
    struct op_tensor qkv;
    struct op_tensor query_start;
    kvern_status status = op_input(kernel, context, INPUT_QKV, &qkv, err);

    if (status == KVERN_OK)
        status = op_input(kernel, context, INPUT_QUERY_START, &query_start, err);
    if (status != KVERN_OK)
        return status;
    run->qkv_width = (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_size;
    if (qkv.n_dims != 2 || qkv.dims[1] != run->qkv_width)
        return fail(err, KVERN_INVALID, "PackedAttention: qkv ends with %zu, its heads need %zu",
                    qkv.n_dims ? qkv.dims[qkv.n_dims - 1] : 0, run->qkv_width);
    if (query_start.n_elements == 0)
        return fail(err, KVERN_INVALID, "PackedAttention: query_start is empty");
    run->qkv = qkv.data;
    run->n_tokens = qkv.dims[0];
    run->query_start = query_start.data;
    run->n_texts = query_start.n_elements - 1;
    return check_batch(run, err);
}

static kvern_status prepare(struct packed_run *run, kvern_error *err)
{
    const struct op_kernel *kernel = &run->self->kernel;
    size_t n_units = cut_units(run, NULL);
    size_t unit_bytes = (n_units * sizeof *run->units + 63) / 64 * 64;
    void *memory;

    scratch_slots_init(&run->slots, n_units,
                       kernel->kernels->attention->packed_scratch_bytes(&run->self->shape));
    kvern_status status =
        op_scratch(kernel, unit_bytes + scratch_slots_bytes(&run->slots), &memory, err);
    if (status != KVERN_OK)
        return status;
    run->units = memory;
    run->slots.memory = (char *)memory + unit_bytes;
    run->n_units = cut_units(run, run->units);
    return KVERN_OK;
}

static kvern_status compute(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err)
{
    struct packed_run run = {.self = (const struct packed_attention *)kernel};
    kvern_status status = read_inputs(&run, context, err);

    if (status != KVERN_OK)
        return status;

    size_t dims[] = {run.n_tokens, run.self->shape.n_heads * run.self->shape.head_size};
    status = op_output(kernel, context, 0, dims, 2, &run.out, err);
    if (status == KVERN_OK && run.n_tokens > 0)
        status = prepare(&run, err);
    if (status == KVERN_OK)
        status = op_parallel_for(kernel, context, attend_one, run.n_units, &run, err);
    return status;
}

const struct op_definition op_packed_attention = {
    .name = "PackedAttention",
    .inputs = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, false},
               {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true}},
    .n_inputs = N_INPUTS,
    .n_outputs = 1,
    .kernel_bytes = sizeof(struct packed_attention),
    .open = open_attention,
    .compute = compute,
    .close = close_attention,
};
