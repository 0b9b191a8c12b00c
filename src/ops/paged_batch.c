/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads and checks the pool, the block table and the sequences of a run.
 */
#include "ops/paged_batch.h"

#include "base/error.h"

/* The pool's own block size tells what it holds: no two types have the same, as D is 8 or more. */
static kvern_status read_pool(struct kv_pool *pool, const char *name,
                              const struct op_tensor *tensor, const struct attention_shape *shape,
                              size_t n_layers, kvern_error *err)
{
    static const enum kv_type types[] = {KV_F16, KV_F32, KV_INT8};
    size_t bytes[3];
    bool is_known = false;

    for (size_t i = 0; i < 3; i++) {
        bytes[types[i]] = 2 * shape->n_kv_heads * kv_part_bytes(types[i], shape->head_size);
        if (tensor->n_dims == 3 && tensor->dims[2] == bytes[types[i]]) {
            pool->type = types[i];
            is_known = true;
        }
    }
    if (!is_known || tensor->dims[0] < n_layers)
        return fail(err, KVERN_INVALID,
                    "%s: kv_pool is not [%zu or more layers, blocks, %zu, %zu or %zu bytes]", name,
                    n_layers, bytes[KV_F16], bytes[KV_F32], bytes[KV_INT8]);
    pool->data = (char *)(uintptr_t)tensor->data;
    pool->n_layers = tensor->dims[0];
    pool->n_blocks = tensor->dims[1];
    pool->block_bytes = tensor->dims[2];
    return KVERN_OK;
}

static kvern_status check_sequence(const struct paged_batch *batch, const char *name, size_t s,
                                   bool is_cross, kvern_error *err)
{
    int64_t begin = batch->query_start[s];
    int64_t end = batch->query_start[s + 1];
    int64_t context = batch->context_len ? batch->context_len[s] : end - begin;
    int64_t least = is_cross && end > begin ? 1 : is_cross ? 0 : end - begin;

    if (begin < 0 || end < begin || end > (int64_t)batch->n_tokens || context < least ||
        context > (int64_t)(batch->blocks_per_row * KV_BLOCK))
        return fail(err, KVERN_INVALID, "%s: sequence %zu has tokens %lld to %lld and %s %lld",
                    name, s, (long long)begin, (long long)end, is_cross ? "source" : "context",
                    (long long)context);
    for (int64_t b = 0; b < (context + KV_BLOCK - 1) / KV_BLOCK; b++) {
        int32_t block = batch->block_table[s * batch->blocks_per_row + (size_t)b];

        if (block < 0 || (size_t)block >= batch->pool.n_blocks)
            return fail(err, KVERN_INVALID, "%s: block %d is outside the pool of %zu", name, block,
                        batch->pool.n_blocks);
    }
    return KVERN_OK;
}

kvern_status paged_batch_read(struct paged_batch *batch, const struct op_kernel *kernel,
                              OrtKernelContext *context, const struct paged_inputs *inputs,
                              const struct attention_shape *shape, size_t n_layers, size_t n_tokens,
                              kvern_error *err)
{
    const char *name = kernel->definition->name;
    struct op_tensor pool = {0};
    struct op_tensor block_table = {0};
    struct op_tensor query_start = {0};
    struct op_tensor context_len = {0};
    kvern_status status = op_input(kernel, context, inputs->pool, &pool, err);

    if (status == KVERN_OK)
        status = op_input(kernel, context, inputs->block_table, &block_table, err);
    if (status == KVERN_OK)
        status = op_input(kernel, context, inputs->query_start, &query_start, err);
    if (status == KVERN_OK && inputs->context_len)
        status = op_input(kernel, context, inputs->context_len, &context_len, err);
    if (status == KVERN_OK)
        status = read_pool(&batch->pool, name, &pool, shape, n_layers, err);
    if (status != KVERN_OK)
        return status;
    batch->n_tokens = n_tokens;
    batch->n_sequences = inputs->context_len      ? context_len.n_elements
                         : query_start.n_elements ? query_start.n_elements - 1
                                                  : 0;
    if (query_start.n_elements != batch->n_sequences + 1 || block_table.n_dims != 2 ||
        block_table.dims[0] != batch->n_sequences)
        return fail(err, KVERN_INVALID, "%s: block_table or query_start does not fit %zu sequences",
                    name, batch->n_sequences);
    batch->block_table = block_table.data;
    batch->query_start = query_start.data;
    batch->context_len = inputs->context_len ? context_len.data : NULL;
    batch->blocks_per_row = block_table.dims[1];
    for (size_t s = 0; status == KVERN_OK && s < batch->n_sequences; s++)
        status = check_sequence(batch, name, s, shape->is_cross, err);
    if (status == KVERN_OK &&
        (batch->query_start[0] != 0 || (size_t)batch->query_start[batch->n_sequences] != n_tokens))
        status =
            fail(err, KVERN_INVALID, "%s: query_start does not cover %zu tokens", name, n_tokens);
    return status;
}

void paged_batch_slots(const struct paged_batch *batch, int32_t *slot_block, int32_t *slot_offset)
{
    for (size_t s = 0; s < batch->n_sequences; s++) {
        size_t n_rows = paged_batch_rows(batch, s);
        size_t first = (size_t)batch->query_start[s];
        size_t position = paged_batch_context(batch, s) - n_rows;

        for (size_t row = first; row < first + n_rows; row++, position++) {
            slot_block[row] = batch->block_table[s * batch->blocks_per_row + position / KV_BLOCK];
            slot_offset[row] = (int32_t)(position % KV_BLOCK);
        }
    }
}
