/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing a plan into the arrays of the paged contract. Nothing is padded; the block table is as
 * wide as the longest sequence of this step needs.
 */
#include "engine/batch.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/plan.h"

#include <stdlib.h>

kvern_status batch_init(struct batch *batch, size_t max_tokens, size_t max_sequences,
                        size_t max_blocks_per_row, kvern_error *err)
{
    size_t n_table = 0;

    *batch = (struct batch){0};
    if (!multiply_sizes(max_sequences, max_blocks_per_row, &n_table))
        return fail(err, KVERN_LIMIT, "%zu sequences of %zu KV blocks are too many", max_sequences,
                    max_blocks_per_row);
    batch->input_ids = try_new(max_tokens, sizeof *batch->input_ids);
    batch->positions = try_new(max_tokens, sizeof *batch->positions);
    batch->output_rows = try_new(max_tokens, sizeof *batch->output_rows);
    batch->logit_rows = try_new(max_tokens, sizeof *batch->logit_rows);
    batch->query_start = try_new(max_sequences + 1, sizeof *batch->query_start);
    batch->context_len = try_new(max_sequences, sizeof *batch->context_len);
    batch->block_table = try_new(n_table, sizeof *batch->block_table);
    batch->tables = try_new(max_sequences, sizeof(void *));
    if (!batch->input_ids || !batch->positions || !batch->output_rows || !batch->logit_rows ||
        !batch->query_start || !batch->context_len || !batch->block_table || !batch->tables) {
        batch_clear(batch);
        return fail(err, KVERN_MEMORY, "no memory for a batch of %zu tokens of %zu sequences",
                    max_tokens, max_sequences);
    }
    return KVERN_OK;
}

void batch_clear(struct batch *batch)
{
    free(batch->input_ids);
    free(batch->positions);
    free(batch->output_rows);
    free(batch->logit_rows);
    free(batch->query_start);
    free(batch->context_len);
    free(batch->block_table);
    free(batch->tables);
    *batch = (struct batch){0};
}

static size_t widest_table(const struct plan *plan)
{
    size_t widest = 1;

    for (size_t i = 0; i < plan->n_items; i++) {
        const struct plan_item *item = &plan->items[i];
        const struct sequence *sequence = item->sequence;
        size_t n_held = sequence_n_held(sequence, sequence->n_computed + item->n_tokens);
        size_t n = kv_blocks_for_tokens(n_held);

        if (n > widest)
            widest = n;
    }
    return widest;
}

static void add_tokens(struct batch *batch, const struct plan_item *item)
{
    const struct sequence *sequence = item->sequence;

    for (size_t i = 0; i < item->n_tokens; i++) {
        size_t position = sequence->n_computed + i;

        if (i + item->n_rows >= item->n_tokens) {
            if (!sequence->wants_hidden)
                batch->logit_rows[batch->n_logit_rows++] = (int64_t)batch->n_output_rows;
            batch->output_rows[batch->n_output_rows++] = (int64_t)batch->n_tokens;
        }
        batch->input_ids[batch->n_tokens] = sequence->tokens[position];
        batch->positions[batch->n_tokens] = (int64_t)position;
        batch->n_tokens++;
    }
}

void batch_fill(struct batch *batch, const struct plan *plan)
{
    batch->n_tokens = 0;
    batch->n_output_rows = 0;
    batch->n_logit_rows = 0;
    batch->wants_hidden = false;
    batch->n_sequences = plan->n_items;
    batch->blocks_per_row = widest_table(plan);
    batch->query_start[0] = 0;
    for (size_t s = 0; s < plan->n_items; s++) {
        const struct plan_item *item = &plan->items[s];
        struct kv_table *table = &item->sequence->table;
        size_t n_context =
            sequence_n_held(item->sequence, item->sequence->n_computed + item->n_tokens);
        size_t n_used = table->n_blocks; /* none without a KV cache */
        int32_t *row = batch->block_table + s * batch->blocks_per_row;

        add_tokens(batch, item);
        batch->wants_hidden |= item->sequence->wants_hidden && item->n_rows > 0;
        batch->query_start[s + 1] = (int32_t)batch->n_tokens;
        batch->context_len[s] = (int32_t)n_context;
        batch->tables[s] = table;
        for (size_t i = 0; i < batch->blocks_per_row; i++)
            row[i] = i < n_used ? table->blocks[i] : 0;
    }
}
