/* SPDX-License-Identifier: Apache-2.0
 *
 * struct runner_paged: lays ONNX Runtime tensors over the batch's arrays and the KV pool, and runs
 * the graph once. It allocates nothing in a step but room for more logits than before.
 */
#include "engine/runner_paged.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "ort/session.h"

#include <stdlib.h>

struct runner_paged {
    struct runner base; /* first */
    struct session session;
    struct kv_store store;
    float *logits; /* [logit_capacity, vocab_size] */
    size_t logit_capacity;
};

static kvern_status reserve_logits(struct runner_paged *self, size_t n_rows, kvern_error *err)
{
    if (n_rows <= self->logit_capacity)
        return KVERN_OK;

    size_t n_values;
    float *logits = NULL;
    if (multiply_sizes(n_rows, self->base.vocab_size, &n_values))
        logits = try_new_aligned(n_values, sizeof *logits);
    if (!logits)
        return fail(err, KVERN_MEMORY, "out of memory for logits of %zu rows", n_rows);
    free(self->logits);
    self->logits = logits;
    self->logit_capacity = n_rows;
    return KVERN_OK;
}

static kvern_status run(struct runner *runner, const struct batch *batch, const float **logits,
                        kvern_error *err)
{
    struct runner_paged *self = (struct runner_paged *)runner;
    const struct kv_store *store = &self->store;
    int64_t n_tokens = (int64_t)batch->n_tokens;
    int64_t n_sequences = (int64_t)batch->n_sequences;
    int64_t n_rows = (int64_t)batch->n_logit_rows;
    int64_t n_table = (int64_t)batch->blocks_per_row;
    kvern_status status = reserve_logits(self, batch->n_logit_rows ? batch->n_logit_rows : 1, err);

    if (status != KVERN_OK)
        return status;

    struct session_tensor inputs[] = {
        {"input_ids",
         SESSION_I64,
         batch->input_ids,
         batch->n_tokens * sizeof(int64_t),
         {n_tokens},
         1},
        {"positions",
         SESSION_I64,
         batch->positions,
         batch->n_tokens * sizeof(int64_t),
         {n_tokens},
         1},
        {"query_start",
         SESSION_I32,
         batch->query_start,
         (batch->n_sequences + 1) * sizeof(int32_t),
         {n_sequences + 1},
         1},
        {"context_len",
         SESSION_I32,
         batch->context_len,
         batch->n_sequences * sizeof(int32_t),
         {n_sequences},
         1},
        {"block_table",
         SESSION_I32,
         batch->block_table,
         batch->n_sequences * batch->blocks_per_row * sizeof(int32_t),
         {n_sequences, n_table},
         2},
        {"logit_rows",
         SESSION_I64,
         batch->logit_rows,
         batch->n_logit_rows * sizeof(int64_t),
         {n_rows},
         1},
        {"kv_pool",
         SESSION_U8,
         store->pool,
         store->n_bytes,
         {(int64_t)store->layout.n_layers, (int64_t)store->n_blocks,
          (int64_t)kv_layout_block_bytes(&store->layout)},
         3},
    };
    struct session_tensor output = {"logits",
                                    SESSION_F32,
                                    self->logits,
                                    batch->n_logit_rows * runner->vocab_size * sizeof(float),
                                    {n_rows, (int64_t)runner->vocab_size},
                                    2};

    *logits = self->logits;
    return session_run(&self->session, inputs, sizeof inputs / sizeof inputs[0], &output, 1, err);
}

static void free_runner(struct runner *runner)
{
    struct runner_paged *self = (struct runner_paged *)runner;

    if (!self)
        return;
    session_close(&self->session);
    kv_store_clear(&self->store);
    free(self->logits);
    free(self);
}

kvern_status runner_paged_open(struct runner **out, const char *directory, size_t vocab_size,
                               const struct kv_layout *layout, size_t n_kv_blocks, int n_threads,
                               kvern_error *err)
{
    struct runner_paged *self = new_or_abort(sizeof *self);
    char *path = path_join(directory, "model.onnx");
    kvern_status status = kv_store_init(&self->store, layout, n_kv_blocks, err);

    self->base = (struct runner){
        .run = run, .free = free_runner, .vocab_size = vocab_size, .n_kv_blocks = n_kv_blocks};
    if (status == KVERN_OK)
        status = session_open(&self->session, path, n_threads, err);
    if (status == KVERN_OK)
        *out = &self->base;
    else
        free_runner(&self->base);
    free(path);
    return status;
}
