/* SPDX-License-Identifier: Apache-2.0
 *
 * One sequence a run: the present tensors of its last run are its past in the next one, moved, not
 * copied. Only what goes back (rewind, a window that slides) makes a cut copy. A sequence's runs do
 * not depend on what runs beside it, so neither do its bytes. A batch is a transaction: tables get
 * their new KV when every run of it has succeeded.
 */
#include "engine/runner_cached.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/export_rows.h"
#include "engine/export_tensors.h"
#include "engine/kv_blocks.h"
#include "engine/output_rows.h"
#include "ort/value.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 48, N_FIXED_INPUTS = 5, N_FIXED_OUTPUTS = 1 };

struct runner_cached;

/* The KV of one sequence: key and value of each layer, [1, n_kv_heads, n_tokens, head_size]. */
struct cached_kv {
    struct kv_values base; /* first */
    const struct runner_cached *runner;
    size_t n_dropped;         /* blocks that slid out, as in kv_table */
    struct OrtValue **values; /* [2 * n_layers], owned */
};

struct runner_cached {
    struct runner base; /* first */
    struct session session;
    struct export_graph graph;
    struct kv_layout layout;
    char (*past_names)[MAX_NAME];    /* [2 * n_layers] */
    char (*present_names)[MAX_NAME]; /* [2 * n_layers] */
    struct value_input *inputs;      /* [N_FIXED_INPUTS + 2 * n_layers] */
    struct value_output *outputs;    /* [N_FIXED_OUTPUTS + 2 * n_layers] */
    struct cached_kv **pending;      /* [pending_capacity]: new KV of the batch's sequences */
    size_t pending_capacity;
    struct output_rows logits;
    struct output_rows hidden;
    size_t n_row_outputs; /* see runner_cached_n_row_outputs() */
};

/* ---- KV ---- */

static size_t n_kv_tensors(const struct runner_cached *self)
{
    return 2 * self->graph.n_layers;
}

static void kv_free(struct kv_values *base)
{
    struct cached_kv *kv = (struct cached_kv *)base;

    for (size_t i = 0; kv->values && i < n_kv_tensors(kv->runner); i++)
        value_release(&kv->runner->session, kv->values[i]);
    free(kv->values);
    free(kv);
}

static struct cached_kv *kv_new(const struct runner_cached *self, size_t n_tokens, size_t n_dropped)
{
    struct cached_kv *kv = new_or_abort(sizeof *kv);

    kv->base = (struct kv_values){.n_references = 1,
                                  .n_tokens = n_tokens,
                                  .is_rigid = self->base.has_rigid_kv,
                                  .free = kv_free};
    kv->runner = self;
    kv->n_dropped = n_dropped;
    kv->values = new_or_abort(n_kv_tensors(self) * sizeof(void *));
    return kv;
}

static kvern_status new_kv_tensor(const struct runner_cached *self, size_t n_tokens,
                                  struct OrtValue **value, kvern_error *err)
{
    return export_kv_new(&self->session, self->graph.kv_type, &self->layout, n_tokens, value, err);
}

/* The KV without tokens. */
static kvern_status kv_empty(const struct runner_cached *self, struct cached_kv **out,
                             kvern_error *err)
{
    struct cached_kv *kv = kv_new(self, 0, 0);
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_kv_tensors(self); i++)
        status = new_kv_tensor(self, 0, &kv->values[i], err);
    if (status == KVERN_OK)
        *out = kv;
    else
        kv_free(&kv->base);
    return status;
}

/* Copies rows [begin, end) of every head of `from` to rows [at, ...) of `to`. */
static void copy_rows(const struct kv_layout *layout, const char *from, size_t n_from, size_t begin,
                      size_t end, char *to, size_t n_to, size_t at)
{
    size_t row_bytes = layout->head_size * layout->value_bytes;

    for (size_t head = 0; head < layout->n_kv_heads; head++)
        memcpy(to + (head * n_to + at) * row_bytes, from + (head * n_from + begin) * row_bytes,
               (end - begin) * row_bytes);
}

/* A copy of the first n_kept tokens' KV without the tokens [gap_begin, gap_end). */
static kvern_status kv_cut(const struct runner_cached *self, const struct cached_kv *from,
                           size_t gap_begin, size_t gap_end, size_t n_kept, struct cached_kv **out,
                           kvern_error *err)
{
    size_t n_tokens = n_kept - (gap_end - gap_begin);
    struct cached_kv *kv = kv_new(self, n_tokens, 0);
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_kv_tensors(self); i++) {
        void *source = NULL;
        void *target = NULL;

        status = new_kv_tensor(self, n_tokens, &kv->values[i], err);
        if (status == KVERN_OK)
            status = value_data(&self->session, from->values[i], &source, err);
        if (status == KVERN_OK)
            status = value_data(&self->session, kv->values[i], &target, err);
        if (status != KVERN_OK)
            break;
        copy_rows(&self->layout, source, from->base.n_tokens, 0, gap_begin, target, n_tokens, 0);
        copy_rows(&self->layout, source, from->base.n_tokens, gap_end, n_kept, target, n_tokens,
                  gap_begin);
    }
    if (status == KVERN_OK)
        *out = kv;
    else
        kv_free(&kv->base);
    return status;
}

/* The KV a run of this sequence starts from: what the table holds, without the blocks that slid out
 * since, and without what comes after the first n_past tokens. A reference of the caller's. */
static kvern_status kv_past(const struct runner_cached *self, const struct kv_table *table,
                            size_t n_past, struct cached_kv **out, kvern_error *err)
{
    struct cached_kv *held = (struct cached_kv *)table->values;
    size_t n_slid;
    size_t gap_begin = table->n_sinks * KV_BLOCK_TOKENS;
    kvern_status status;

    if (n_past == 0)
        return kv_empty(self, out, err);
    assert(held && held->n_dropped <= table->n_dropped);
    n_slid = (table->n_dropped - held->n_dropped) * KV_BLOCK_TOKENS;
    assert(held->base.n_tokens >= n_past + n_slid);
    if (held->base.n_tokens == n_past) {
        *out = (struct cached_kv *)kv_values_share(&held->base);
        return KVERN_OK;
    }
    if (held->base.is_rigid)
        return fail(err, KVERN_UNSUPPORTED, "the KV cache on a device cannot be cut");
    if (n_slid == 0)
        gap_begin = 0;
    status = kv_cut(self, held, gap_begin, gap_begin + n_slid, n_past + n_slid, out, err);
    if (status == KVERN_OK)
        (*out)->n_dropped = table->n_dropped;
    return status;
}

/* ---- one run ---- */

static const char logits_name[] = "logits";

/* Where the rows of the batch's tokens go. */
struct cursor {
    size_t output_row; /* the next of batch->output_rows */
    size_t logit_row;  /* the next of batch->logit_rows */
};

/* input_ids, attention_mask, position_ids, token_type_ids and use_cache_branch, those of them that
 * the graph takes, into inputs [N_FIXED_INPUTS]; *n_inputs counts them, also after a failure. */
static kvern_status make_inputs(const struct runner_cached *self, const struct batch *batch,
                                size_t s, struct value_input *inputs, size_t *n_inputs,
                                kvern_error *err)
{
    const struct session *session = &self->session;
    const struct export_graph *graph = &self->graph;
    size_t begin = (size_t)batch->query_start[s];
    size_t n_query = (size_t)batch->query_start[s + 1] - begin;
    size_t n_context = (size_t)batch->context_len[s];
    kvern_status status = export_add_ids(session, "input_ids", batch->input_ids + begin, 0, n_query,
                                         inputs, n_inputs, err);

    if (status == KVERN_OK && graph->has_mask)
        status =
            export_add_ids(session, "attention_mask", NULL, 1, n_context, inputs, n_inputs, err);
    if (status == KVERN_OK && graph->has_positions)
        status = export_add_ids(session, "position_ids", batch->positions + begin, 0, n_query,
                                inputs, n_inputs, err);
    if (status == KVERN_OK && graph->has_token_types)
        status = export_add_ids(session, "token_type_ids", NULL, 0, n_query, inputs, n_inputs, err);
    if (status == KVERN_OK && graph->has_cache_branch)
        status = export_add_flag(session, "use_cache_branch", n_context > n_query, inputs, n_inputs,
                                 err);
    return status;
}

/* The output whose rows the batch wants of sequence s; NULL: none of them. A sequence's rows are
 * all of one kind. An output that is not asked for is neither fetched from a device nor kept: of a
 * whole prompt, the logits are a thousand times the hidden states. */
static const char *name_rows(const struct runner_cached *self, const struct batch *batch, size_t s,
                             const struct cursor *cursor)
{
    if (cursor->output_row == batch->n_output_rows ||
        batch->output_rows[cursor->output_row] >= batch->query_start[s + 1])
        return NULL;
    if (cursor->logit_row < batch->n_logit_rows &&
        (size_t)batch->logit_rows[cursor->logit_row] == cursor->output_row)
        return logits_name;
    return self->graph.hidden;
}

/* Copies the rows that the batch wants of sequence s out of the output that has them. */
static kvern_status copy_rows_out(struct runner_cached *self, const struct batch *batch, size_t s,
                                  const struct value_output *output, struct cursor *cursor,
                                  kvern_error *err)
{
    size_t begin = (size_t)batch->query_start[s];
    size_t end = (size_t)batch->query_start[s + 1];
    bool is_logits = output->name == logits_name;
    enum export_type type = is_logits ? self->graph.logits_type : self->graph.hidden_type;
    size_t row_size = is_logits ? self->base.vocab_size : self->base.hidden_size;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && cursor->output_row < batch->n_output_rows &&
           (size_t)batch->output_rows[cursor->output_row] < end) {
        size_t out = cursor->output_row++;
        size_t row = (size_t)batch->output_rows[out] - begin;
        float *to = is_logits ? self->logits.values + cursor->logit_row++ * row_size
                              : self->hidden.values + out * row_size;

        status = export_row_read(&self->session, output, type, end - begin, row, row_size, to, err);
    }
    return status;
}

static kvern_status check_present(const struct runner_cached *self, const struct cached_kv *kv,
                                  kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_kv_tensors(self); i++)
        status = export_kv_check(&self->session, kv->values[i], self->present_names[i],
                                 &self->layout, kv->base.n_tokens, err);
    return status;
}

static kvern_status run_sequence(struct runner_cached *self, const struct batch *batch, size_t s,
                                 struct cursor *cursor, kvern_error *err)
{
    const struct kv_table *table = batch->tables[s];
    size_t n_context = (size_t)batch->context_len[s];
    size_t n_query = (size_t)(batch->query_start[s + 1] - batch->query_start[s]);
    const char *rows = name_rows(self, batch, s, cursor);
    struct value_output *kv_outputs = self->outputs + (rows ? 1 : 0);
    size_t n_kv = n_kv_tensors(self);
    size_t n_inputs = 0;
    size_t n_made;
    struct cached_kv *past = NULL;
    struct cached_kv *present = NULL;
    kvern_status status = kv_past(self, table, n_context - n_query, &past, err);

    if (status == KVERN_OK)
        status = make_inputs(self, batch, s, self->inputs, &n_inputs, err);
    n_made = n_inputs;
    for (size_t i = 0; status == KVERN_OK && i < n_kv; i++)
        self->inputs[n_inputs++] =
            (struct value_input){.name = self->past_names[i], .value = past->values[i]};
    self->outputs[0] = (struct value_output){.name = rows};
    for (size_t i = 0; i < n_kv; i++)
        kv_outputs[i] =
            (struct value_output){.name = self->present_names[i], .stays_on_device = true};
    if (status == KVERN_OK)
        status = value_run(&self->session, self->inputs, n_inputs, self->outputs,
                           (rows ? 1 : 0) + n_kv, err);
    if (status == KVERN_OK) {
        present = kv_new(self, n_context, table->n_dropped);
        for (size_t i = 0; i < n_kv; i++)
            present->values[i] = kv_outputs[i].value;
        status = check_present(self, present, err);
        if (rows) {
            self->n_row_outputs++;
            if (status == KVERN_OK)
                status = copy_rows_out(self, batch, s, &self->outputs[0], cursor, err);
            value_release(&self->session, self->outputs[0].value);
        }
    }
    export_inputs_release(&self->session, self->inputs, n_made);
    kv_values_release(past ? &past->base : NULL);
    if (status == KVERN_OK)
        self->pending[s] = present;
    else
        kv_values_release(present ? &present->base : NULL);
    return status;
}

/* ---- KV in and out: tensor by tensor, [n_kv_heads, n_tokens, head_size] ---- */

static size_t kv_tensor_bytes(const struct runner_cached *self, size_t n_tokens)
{
    return self->layout.n_kv_heads * n_tokens * self->layout.head_size * self->layout.value_bytes;
}

static size_t kv_bytes(const struct runner *runner, size_t n_tokens)
{
    const struct runner_cached *self = (const struct runner_cached *)runner;

    return n_kv_tensors(self) * kv_tensor_bytes(self, n_tokens);
}

static kvern_status kv_read(struct runner *runner, const struct kv_table *table, size_t n_tokens,
                            void *bytes, kvern_error *err)
{
    const struct runner_cached *self = (const struct runner_cached *)runner;
    const struct cached_kv *kv = (const struct cached_kv *)table->values;
    size_t n_bytes = kv_tensor_bytes(self, n_tokens);
    kvern_status status = KVERN_OK;

    assert(n_tokens == 0 || (kv && kv->base.n_tokens >= n_tokens && !kv->base.is_rigid));
    for (size_t i = 0; n_tokens > 0 && status == KVERN_OK && i < n_kv_tensors(self); i++) {
        void *from = NULL;

        status = value_data(&self->session, kv->values[i], &from, err);
        if (status == KVERN_OK)
            copy_rows(&self->layout, from, kv->base.n_tokens, 0, n_tokens,
                      (char *)bytes + i * n_bytes, n_tokens, 0);
    }
    return status;
}

static kvern_status kv_write(struct runner *runner, struct kv_table *table, size_t n_tokens,
                             const void *bytes, kvern_error *err)
{
    const struct runner_cached *self = (const struct runner_cached *)runner;
    struct cached_kv *kv = kv_new(self, n_tokens, table->n_dropped);
    size_t n_bytes = kv_tensor_bytes(self, n_tokens);
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_kv_tensors(self); i++) {
        void *to = NULL;

        status = new_kv_tensor(self, n_tokens, &kv->values[i], err);
        if (status == KVERN_OK)
            status = value_data(&self->session, kv->values[i], &to, err);
        if (status == KVERN_OK && n_bytes > 0)
            memcpy(to, (const char *)bytes + i * n_bytes, n_bytes);
    }
    kv_values_release(status == KVERN_OK ? table->values : &kv->base);
    if (status == KVERN_OK)
        table->values = &kv->base;
    return status;
}

/* ---- the runner ---- */

static kvern_status reserve(struct runner_cached *self, const struct batch *batch, kvern_error *err)
{
    kvern_status status = output_rows_reserve(&self->logits, batch->n_logit_rows, "logits", err);

    if (status == KVERN_OK)
        status = output_rows_reserve(&self->hidden, batch->n_output_rows, "hidden states", err);
    if (batch->n_sequences > self->pending_capacity) {
        self->pending =
            resize_or_abort(self->pending, batch->n_sequences * sizeof(struct cached_kv *));
        self->pending_capacity = batch->n_sequences;
    }
    return status;
}

static kvern_status run(struct runner *runner, const struct batch *batch,
                        struct runner_output *output, kvern_error *err)
{
    struct runner_cached *self = (struct runner_cached *)runner;
    struct cursor cursor = {0};
    size_t n_run = 0;
    kvern_status status = reserve(self, batch, err);

    while (status == KVERN_OK && n_run < batch->n_sequences) {
        status = run_sequence(self, batch, n_run, &cursor, err);
        n_run += status == KVERN_OK;
    }
    for (size_t s = 0; s < n_run; s++) {
        struct kv_table *table = batch->tables[s];

        if (status == KVERN_OK) {
            kv_values_release(table->values);
            table->values = &self->pending[s]->base;
        } else {
            kv_values_release(&self->pending[s]->base);
        }
    }
    *output = (struct runner_output){.logits = self->logits.values, .hidden = self->hidden.values};
    return status;
}

static void interrupt(struct runner *runner)
{
    session_interrupt(&((struct runner_cached *)runner)->session);
}

static void free_runner(struct runner *runner)
{
    struct runner_cached *self = (struct runner_cached *)runner;

    if (!self)
        return;
    session_close(&self->session);
    free(self->past_names);
    free(self->present_names);
    free(self->inputs);
    free(self->outputs);
    free(self->pending);
    output_rows_clear(&self->logits);
    output_rows_clear(&self->hidden);
    free(self);
}

size_t runner_cached_n_row_outputs(const struct runner *runner)
{
    return ((const struct runner_cached *)runner)->n_row_outputs;
}

/* key and value of layer 0, key and value of layer 1, ... */
static void make_names(struct runner_cached *self)
{
    size_t n = n_kv_tensors(self);

    self->past_names = new_or_abort(n * sizeof *self->past_names);
    self->present_names = new_or_abort(n * sizeof *self->present_names);
    for (size_t i = 0; i < n; i++) {
        const char *part = i % 2 == 0 ? "key" : "value";

        snprintf(self->past_names[i], MAX_NAME, "past_key_values.%zu.%s", i / 2, part);
        snprintf(self->present_names[i], MAX_NAME, "present.%zu.%s", i / 2, part);
    }
    self->inputs = new_or_abort((N_FIXED_INPUTS + n) * sizeof *self->inputs);
    self->outputs = new_or_abort((N_FIXED_OUTPUTS + n) * sizeof *self->outputs);
}

/* Runs one token: sizes that a graph leaves open show as wrong here, not in a user's first step. */
static kvern_status try_one_token(struct runner_cached *self, kvern_error *err)
{
    int64_t zero[] = {0};
    int32_t query_start[] = {0, 1};
    int32_t context_len[] = {1};
    struct kv_table table = {0};
    struct kv_table *tables[] = {&table};
    const struct batch batch = {.n_tokens = 1,
                                .n_sequences = 1,
                                .n_output_rows = 1,
                                .n_logit_rows = 1,
                                .input_ids = zero,
                                .positions = zero,
                                .query_start = query_start,
                                .context_len = context_len,
                                .tables = tables,
                                .output_rows = zero,
                                .logit_rows = zero};
    struct runner_output output;
    kvern_status status = run(&self->base, &batch, &output, err);

    if (status == KVERN_RUNTIME)
        status = fail_in(err, KVERN_FORMAT,
                         "one token cannot be run with %zu kv heads of %zu values, as the model's "
                         "config says",
                         self->layout.n_kv_heads, self->layout.head_size);
    kv_values_release(table.values);
    return status;
}

kvern_status runner_cached_open(struct runner **out, const char *path,
                                const struct export_graph *graph, const struct model_config *config,
                                const struct kv_layout *layout, size_t n_kv_blocks, int n_threads,
                                const char *provider, kvern_error *err)
{
    const struct session_options options = {
        .n_threads = n_threads, .is_export = true, .provider = provider};
    struct runner_cached *self = new_or_abort(sizeof *self);
    kvern_status status;

    self->base = (struct runner){.run = run,
                                 .interrupt = interrupt,
                                 .free = free_runner,
                                 .vocab_size = config->vocab_size,
                                 .n_kv_blocks = n_kv_blocks,
                                 .has_fixed_chunks = true,
                                 .keeps_positions = graph->has_positions};
    if (graph->hidden[0] && !graph->is_pooled)
        self->base.hidden_size = config->hidden_size;
    self->graph = *graph;
    self->layout = *layout;
    self->logits.row_size = self->base.vocab_size;
    self->hidden.row_size = self->base.hidden_size;
    make_names(self);
    status = session_open(&self->session, path, &options, err);
    self->base.has_rigid_kv = self->session.device != self->session.cpu;
    if (status == KVERN_OK && !self->base.has_rigid_kv) {
        self->base.kv_bytes = kv_bytes;
        self->base.kv_read = kv_read;
        self->base.kv_write = kv_write;
    }
    if (status == KVERN_OK)
        status = try_one_token(self, err);
    if (status == KVERN_OK)
        *out = &self->base;
    else
        free_runner(&self->base);
    return status;
}
