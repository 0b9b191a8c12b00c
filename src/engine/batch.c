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

static bool take_source_arrays(struct batch *batch, size_t max_tokens, size_t max_sequences,
                               size_t n_table)
{
    batch->has_sources = true;
    batch->source_ids = try_new(max_tokens, sizeof *batch->source_ids);
    batch->source_start = try_new(max_sequences + 1, sizeof *batch->source_start);
    batch->source_table = try_new(n_table, sizeof *batch->source_table);
    batch->source_tables = try_new(max_sequences, sizeof(void *));
    batch->cross_table = try_new(n_table, sizeof *batch->cross_table);
    batch->source_len = try_new(max_sequences, sizeof *batch->source_len);
    return batch->source_ids && batch->source_start && batch->source_table &&
           batch->source_tables && batch->cross_table && batch->source_len;
}

kvern_status batch_init(struct batch *batch, size_t max_tokens, size_t max_sequences,
                        size_t max_blocks_per_row, bool has_sources, kvern_error *err)
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
        !batch->query_start || !batch->context_len || !batch->block_table || !batch->tables ||
        (has_sources && !take_source_arrays(batch, max_tokens, max_sequences, n_table))) {
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
    free(batch->source_ids);
    free(batch->source_start);
    free(batch->source_table);
    free(batch->source_tables);
    free(batch->cross_table);
    free(batch->source_len);
    *batch = (struct batch){0};
}

static void keep_larger(size_t *largest, size_t n)
{
    *largest = n > *largest ? n : *largest;
}

/* Blocks of the decoder's own tokens after this step. */
static size_t count_own_blocks(const struct plan_item *item)
{
    const struct sequence *sequence = item->sequence;
    size_t n_held = sequence_n_held(sequence, sequence->n_computed + item->n_tokens);

    return kv_blocks_for_tokens(n_held - sequence_n_source_slots(sequence));
}

/* Tables are as wide as their widest row, and never of no width. */
static void set_widths(struct batch *batch, const struct plan *plan)
{
    batch->blocks_per_row = batch->source_blocks_per_row = batch->cross_blocks_per_row = 1;
    for (size_t i = 0; i < plan->n_items; i++) {
        const struct plan_item *item = &plan->items[i];
        size_t n_source = kv_blocks_for_tokens(item->sequence->n_source);

        if (sequence_is_encoding(item->sequence)) {
            keep_larger(&batch->source_blocks_per_row, n_source);
        } else {
            keep_larger(&batch->blocks_per_row, count_own_blocks(item));
            keep_larger(&batch->cross_blocks_per_row, n_source);
        }
    }
}

static void fill_row(int32_t *row, size_t n_columns, const int32_t *blocks, size_t n_blocks)
{
    for (size_t i = 0; i < n_columns; i++)
        row[i] = i < n_blocks ? blocks[i] : 0;
}

static void add_source(struct batch *batch, struct sequence *sequence)
{
    for (size_t i = 0; i < sequence->n_source; i++)
        batch->source_ids[batch->n_source_tokens++] = sequence->tokens[i];
    fill_row(batch->source_table + batch->n_sources * batch->source_blocks_per_row,
             batch->source_blocks_per_row, sequence->table.blocks,
             kv_blocks_for_tokens(sequence->n_source));
    batch->source_tables[batch->n_sources] = &sequence->table;
    batch->source_start[++batch->n_sources] = (int32_t)batch->n_source_tokens;
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

static void add_sequence(struct batch *batch, const struct plan_item *item)
{
    size_t s = batch->n_sequences++;
    const struct sequence *sequence = item->sequence;
    struct kv_table *table = &item->sequence->table;
    size_t n_source_slots = sequence_n_source_slots(sequence);
    size_t n_source = n_source_slots / KV_BLOCK_TOKENS;
    size_t n_held = sequence_n_held(sequence, sequence->n_computed + item->n_tokens);
    size_t n_used = table->n_blocks; /* none without a KV cache */

    add_tokens(batch, item);
    batch->wants_hidden |= sequence->wants_hidden && item->n_rows > 0;
    batch->query_start[s + 1] = (int32_t)batch->n_tokens;
    batch->context_len[s] = (int32_t)(n_held - n_source_slots);
    batch->tables[s] = table;
    fill_row(batch->block_table + s * batch->blocks_per_row, batch->blocks_per_row,
             n_used > n_source ? table->blocks + n_source : NULL,
             n_used > n_source ? n_used - n_source : 0);
    if (batch->has_sources) {
        fill_row(batch->cross_table + s * batch->cross_blocks_per_row, batch->cross_blocks_per_row,
                 table->blocks, n_source);
        batch->source_len[s] = (int32_t)sequence->n_source;
    }
}

void batch_fill(struct batch *batch, const struct plan *plan)
{
    batch->n_tokens = 0;
    batch->n_sequences = 0;
    batch->n_output_rows = 0;
    batch->n_logit_rows = 0;
    batch->n_source_tokens = 0;
    batch->n_sources = 0;
    batch->wants_hidden = false;
    batch->query_start[0] = 0;
    if (batch->has_sources)
        batch->source_start[0] = 0;
    set_widths(batch, plan);
    for (size_t i = 0; i < plan->n_items; i++) {
        if (sequence_is_encoding(plan->items[i].sequence))
            add_source(batch, plan->items[i].sequence);
        else
            add_sequence(batch, &plan->items[i]);
    }
}
