/* SPDX-License-Identifier: Apache-2.0
 *
 * struct runner_paged: lays ONNX Runtime tensors over the batch's arrays and the KV pool, and runs
 * the graph once. It allocates nothing in a step but room for more rows than before.
 */
#include "engine/runner_paged.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/kv_blocks.h"
#include "engine/output_rows.h"
#include "ort/session.h"

#include <stdlib.h>
#include <string.h>

struct runner_paged {
    struct runner base; /* first */
    struct session session;
    struct kv_store store;
    struct output_rows logits;
    struct output_rows hidden;
};

enum { MAX_INPUTS = 12 };

/* The inputs of one run. */
struct inputs {
    struct session_tensor items[MAX_INPUTS];
    size_t n;
};

static void add_ids(struct inputs *inputs, const char *name, int64_t *ids, size_t n)
{
    inputs->items[inputs->n++] =
        (struct session_tensor){name, SESSION_I64, ids, n * sizeof *ids, {(int64_t)n}, 1};
}

static void add_counts(struct inputs *inputs, const char *name, int32_t *counts, size_t n)
{
    inputs->items[inputs->n++] =
        (struct session_tensor){name, SESSION_I32, counts, n * sizeof *counts, {(int64_t)n}, 1};
}

static void add_table(struct inputs *inputs, const char *name, int32_t *table, size_t n_rows,
                      size_t n_columns)
{
    inputs->items[inputs->n++] = (struct session_tensor){name,
                                                         SESSION_I32,
                                                         table,
                                                         n_rows * n_columns * sizeof *table,
                                                         {(int64_t)n_rows, (int64_t)n_columns},
                                                         2};
}

static void add_pool(struct inputs *inputs, const struct kv_store *store)
{
    inputs->items[inputs->n++] =
        (struct session_tensor){"kv_pool",
                                SESSION_U8,
                                store->pool,
                                store->n_bytes,
                                {(int64_t)store->layout.n_layers, (int64_t)store->n_blocks,
                                 (int64_t)kv_layout_block_bytes(&store->layout)},
                                3};
}

static struct session_tensor rows_tensor(const char *name, const struct output_rows *rows,
                                         size_t n_rows)
{
    return (struct session_tensor){.name = name,
                                   .type = SESSION_F32,
                                   .data = rows->values,
                                   .n_bytes = n_rows * rows->row_size * sizeof(float),
                                   .dims = {(int64_t)n_rows, (int64_t)rows->row_size},
                                   .n_dims = 2};
}

/* What a decoder alone has, or an encoder-decoder alone. */
static void add_own_inputs(struct inputs *inputs, const struct runner *runner,
                           const struct batch *batch)
{
    if (!runner->is_seq2seq) {
        add_ids(inputs, "positions", batch->positions, batch->n_tokens);
        return;
    }
    add_ids(inputs, "source_ids", batch->source_ids, batch->n_source_tokens);
    add_counts(inputs, "source_start", batch->source_start, batch->n_sources + 1);
    add_table(inputs, "source_table", batch->source_table, batch->n_sources,
              batch->source_blocks_per_row);
    add_table(inputs, "cross_table", batch->cross_table, batch->n_sequences,
              batch->cross_blocks_per_row);
    add_counts(inputs, "source_len", batch->source_len, batch->n_sequences);
}

static kvern_status run(struct runner *runner, const struct batch *batch,
                        struct runner_output *output, kvern_error *err)
{
    struct runner_paged *self = (struct runner_paged *)runner;
    struct inputs inputs = {.n = 0};
    kvern_status status = output_rows_reserve(&self->logits, batch->n_logit_rows, "logits", err);

    if (status == KVERN_OK)
        status = output_rows_reserve(&self->hidden, batch->n_output_rows, "hidden states", err);
    if (status != KVERN_OK)
        return status;

    add_ids(&inputs, "input_ids", batch->input_ids, batch->n_tokens);
    add_counts(&inputs, "query_start", batch->query_start, batch->n_sequences + 1);
    add_counts(&inputs, "context_len", batch->context_len, batch->n_sequences);
    add_table(&inputs, "block_table", batch->block_table, batch->n_sequences,
              batch->blocks_per_row);
    add_ids(&inputs, "output_rows", batch->output_rows, batch->n_output_rows);
    add_ids(&inputs, "logit_rows", batch->logit_rows, batch->n_logit_rows);
    add_own_inputs(&inputs, runner, batch);
    add_pool(&inputs, &self->store);
    const struct session_tensor outputs[] = {
        rows_tensor("logits", &self->logits, batch->n_logit_rows),
        rows_tensor("hidden", &self->hidden, batch->n_output_rows),
    };

    *output = (struct runner_output){.logits = self->logits.values, .hidden = self->hidden.values};
    return session_run(&self->session, inputs.items, inputs.n, outputs, batch->wants_hidden ? 2 : 1,
                       err);
}

/* ---- KV in and out: the blocks as they are, layer by layer ---- */

static size_t kv_bytes(const struct runner *runner, size_t n_tokens)
{
    const struct runner_paged *self = (const struct runner_paged *)runner;

    return kv_blocks_for_tokens(n_tokens) * kv_layout_bytes_per_block(&self->store.layout);
}

static char *block_at(const struct kv_store *store, size_t layer, int32_t block)
{
    return (char *)store->pool +
           (layer * store->n_blocks + (size_t)block) * kv_layout_block_bytes(&store->layout);
}

static kvern_status kv_read(struct runner *runner, const struct kv_table *table, size_t n_tokens,
                            void *bytes, kvern_error *err)
{
    const struct kv_store *store = &((struct runner_paged *)runner)->store;
    size_t block_bytes = kv_layout_block_bytes(&store->layout);
    size_t n_blocks = kv_blocks_for_tokens(n_tokens);
    char *to = bytes;

    (void)err;
    for (size_t layer = 0; layer < store->layout.n_layers; layer++) {
        for (size_t i = 0; i < n_blocks; i++, to += block_bytes) {
            memcpy(to, block_at(store, layer, table->blocks[i]), block_bytes);
            if (i + 1 == n_blocks && n_tokens % KV_BLOCK_TOKENS != 0)
                kv_layout_clear_rest(&store->layout, to, n_tokens % KV_BLOCK_TOKENS);
        }
    }
    return KVERN_OK;
}

static kvern_status kv_write(struct runner *runner, struct kv_table *table, size_t n_tokens,
                             const void *bytes, kvern_error *err)
{
    const struct kv_store *store = &((struct runner_paged *)runner)->store;
    size_t block_bytes = kv_layout_block_bytes(&store->layout);
    size_t n_blocks = kv_blocks_for_tokens(n_tokens);
    const char *from = bytes;

    (void)err;
    for (size_t layer = 0; layer < store->layout.n_layers; layer++) {
        for (size_t i = 0; i < n_blocks; i++, from += block_bytes)
            memcpy(block_at(store, layer, table->blocks[i]), from, block_bytes);
    }
    return KVERN_OK;
}

static void kv_copy(struct runner *runner, int32_t from, int32_t to)
{
    const struct kv_store *store = &((struct runner_paged *)runner)->store;

    for (size_t layer = 0; layer < store->layout.n_layers; layer++)
        memcpy(block_at(store, layer, to), block_at(store, layer, from),
               kv_layout_block_bytes(&store->layout));
}

static void interrupt(struct runner *runner)
{
    session_interrupt(&((struct runner_paged *)runner)->session);
}

static void free_runner(struct runner *runner)
{
    struct runner_paged *self = (struct runner_paged *)runner;

    if (!self)
        return;
    session_close(&self->session);
    kv_store_clear(&self->store);
    output_rows_clear(&self->logits);
    output_rows_clear(&self->hidden);
    free(self);
}

kvern_status runner_paged_open(struct runner **out, const char *path,
                               const struct model_config *config, const struct kv_layout *layout,
                               size_t n_kv_blocks, int n_threads, kvern_error *err)
{
    const struct session_options session_options = {.n_threads = n_threads};
    struct runner_paged *self = new_or_abort(sizeof *self);
    kvern_status status = kv_store_init(&self->store, layout, n_kv_blocks, err);

    self->base = (struct runner){.run = run,
                                 .interrupt = interrupt,
                                 .free = free_runner,
                                 .kv_copy = kv_copy,
                                 .kv_bytes = kv_bytes,
                                 .kv_read = kv_read,
                                 .kv_write = kv_write,
                                 .vocab_size = config->vocab_size,
                                 .hidden_size = config->hidden_size,
                                 .n_kv_blocks = n_kv_blocks,
                                 .is_seq2seq = config_is_seq2seq(config),
                                 .decoder_start = config->decoder_start,
                                 .keeps_positions = true};
    self->logits.row_size = config->vocab_size;
    self->hidden.row_size = config->hidden_size;
    if (status == KVERN_OK)
        status = session_open(&self->session, path, &session_options, err);
    if (status == KVERN_OK)
        *out = &self->base;
    else
        free_runner(&self->base);
    return status;
}
