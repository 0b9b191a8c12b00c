/* SPDX-License-Identifier: Apache-2.0
 *
 * One source or sequence a run, nothing padded, so that no byte depends on what runs beside it. A
 * table's values are a chain of what its runs gave: the hidden states of the source, then the
 * source's keys and values, made by the decoder's first run, then those of the decoder's tokens,
 * which each run replaces by longer ones. After the first run a token is a run: a decoder with a
 * past is exported, and states its logits, for one. A batch is a transaction: tables get what is
 * new when every run of it has succeeded.
 */
#include "engine/runner_cached_seq2seq.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/export_rows.h"
#include "engine/export_tensors.h"
#include "engine/kv_blocks.h"
#include "engine/output_rows.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_NAME = 48, N_FIXED_INPUTS = 4, N_ENCODER_INPUTS = 2 };

/* What one run gave. Immutable. */
struct tensors {
    struct kv_values base; /* first */
    const struct session *session;
    struct tensors *source; /* what the run went on from: a reference; NULL: it was the encoder's */
    size_t n_values;
    struct OrtValue *values[]; /* [n_values], owned */
};

/* Two of a layer's: key and value of layer 0, of layer 1, ... */
struct kv_names {
    char (*past)[MAX_NAME];    /* [2 * n_layers] */
    char (*present)[MAX_NAME]; /* [2 * n_layers] */
};

struct decoder {
    struct session session;
    struct export_graph graph;
};

struct runner_cached_seq2seq {
    struct runner base; /* first */
    struct session encoder;
    struct export_graph encoder_graph;
    struct decoder first;
    struct decoder second; /* not of a merged export */
    struct decoder *next;  /* `second`, or `first` */
    struct kv_layout layout;
    size_t hidden_size;
    size_t n_kv;                  /* 2 * n_layers */
    struct OrtValue *no_kv;       /* keys or values of no tokens; owned */
    struct kv_names own;          /* of the decoder's tokens */
    struct kv_names cross;        /* of the source */
    struct value_input *inputs;   /* [N_FIXED_INPUTS + 2 * n_kv] */
    struct value_output *outputs; /* [1 + 2 * n_kv] */
    struct tensors **pending;     /* [pending_capacity]: of the batch's sources, then sequences */
    size_t pending_capacity;
    struct output_rows logits;
};

/* ---- what a table holds ---- */

static void tensors_free(struct kv_values *base)
{
    struct tensors *tensors = (struct tensors *)base;

    for (size_t i = 0; i < tensors->n_values; i++)
        value_release(tensors->session, tensors->values[i]);
    kv_values_release(tensors->source ? &tensors->source->base : NULL);
    free(tensors);
}

static void tensors_release(struct tensors *tensors)
{
    kv_values_release(tensors ? &tensors->base : NULL);
}

/* Takes over the values of n outputs, and one reference to `source`. */
static struct tensors *tensors_new(const struct session *session, struct tensors *source,
                                   size_t n_tokens, const struct value_output *outputs, size_t n)
{
    struct tensors *tensors = new_or_abort(sizeof *tensors + n * sizeof(void *));

    tensors->base = (struct kv_values){
        .n_references = 1, .n_tokens = n_tokens, .is_rigid = true, .free = tensors_free};
    tensors->session = session;
    tensors->source = source;
    tensors->n_values = n;
    for (size_t i = 0; i < n; i++)
        tensors->values[i] = outputs[i].value;
    return tensors;
}

static struct tensors *share(struct tensors *tensors)
{
    return (struct tensors *)kv_values_share(&tensors->base);
}

/* ---- the encoder ---- */

static kvern_status check_hidden(const struct runner_cached_seq2seq *self,
                                 const struct OrtValue *value, size_t n_tokens, kvern_error *err)
{
    int64_t dims[SESSION_MAX_DIMS] = {0};
    size_t n_dims = 0;
    kvern_status status = value_dims(&self->encoder, value, dims, &n_dims, err);

    if (status == KVERN_OK && (n_dims != 3 || dims[0] != 1 || dims[1] != (int64_t)n_tokens ||
                               dims[2] != (int64_t)self->hidden_size))
        status = fail(err, KVERN_FORMAT,
                      "the encoder gives %s of %zu tokens as [%lld, %lld, %lld]; by the model's "
                      "config it should be [1, %zu, %zu]",
                      self->encoder_graph.hidden, n_tokens, (long long)dims[0], (long long)dims[1],
                      (long long)dims[2], n_tokens, self->hidden_size);
    return status;
}

static kvern_status encode(struct runner_cached_seq2seq *self, const struct batch *batch, size_t n,
                           struct tensors **out, kvern_error *err)
{
    const int64_t *ids = batch->source_ids + batch->source_start[n];
    size_t n_tokens = (size_t)(batch->source_start[n + 1] - batch->source_start[n]);
    struct value_input inputs[N_ENCODER_INPUTS];
    struct value_output output = {.name = self->encoder_graph.hidden, .stays_on_device = true};
    size_t n_inputs = 0;
    kvern_status status =
        export_add_ids(&self->encoder, "input_ids", ids, 0, n_tokens, inputs, &n_inputs, err);

    if (status == KVERN_OK && self->encoder_graph.has_mask)
        status = export_add_ids(&self->encoder, "attention_mask", NULL, 1, n_tokens, inputs,
                                &n_inputs, err);
    if (status == KVERN_OK)
        status = value_run(&self->encoder, inputs, n_inputs, &output, 1, err);
    if (status == KVERN_OK)
        status = check_hidden(self, output.value, n_tokens, err);
    if (status == KVERN_OK)
        *out = tensors_new(&self->encoder, NULL, n_tokens, &output, 1);
    else
        value_release(&self->encoder, output.value);
    export_inputs_release(&self->encoder, inputs, n_inputs);
    return status;
}

/* ---- the decoder ---- */

/* Consecutive tokens of one sequence that are one run. */
struct piece {
    const int64_t *ids;
    size_t n_tokens;
    size_t n_context; /* with these */
    size_t n_source;
    bool wants_logits;
};

static void add_kv_inputs(const struct runner_cached_seq2seq *self, const struct kv_names *names,
                          const struct tensors *tensors, size_t *n_inputs)
{
    for (size_t i = 0; i < self->n_kv; i++)
        self->inputs[(*n_inputs)++] = (struct value_input){
            .name = names->past[i], .value = tensors ? tensors->values[i] : self->no_kv};
}

static void add_kv_outputs(const struct runner_cached_seq2seq *self, const struct kv_names *names,
                           size_t *n_outputs)
{
    for (size_t i = 0; i < self->n_kv; i++)
        self->outputs[(*n_outputs)++] =
            (struct value_output){.name = names->present[i], .stays_on_device = true};
}

/* One run of `decoder` over what the source and, if there is one, the run before gave. self->inputs
 * and self->outputs [1 + ...] are set; logits come first, wanted or not. */
static kvern_status run_graph(struct runner_cached_seq2seq *self, struct decoder *decoder,
                              const struct piece *piece, const struct tensors *hidden,
                              const struct tensors *cross, const struct tensors *own,
                              kvern_error *err)
{
    const struct session *session = &decoder->session;
    struct value_input *inputs = self->inputs;
    struct value_output *outputs = self->outputs;
    size_t n_inputs = 0;
    size_t n_made;
    size_t n_outputs = 1;
    size_t skipped = piece->wants_logits ? 0 : 1;
    kvern_status status = export_add_ids(session, "input_ids", piece->ids, 0, piece->n_tokens,
                                         inputs, &n_inputs, err);

    if (status == KVERN_OK && decoder->graph.has_states_mask)
        status = export_add_ids(session, "encoder_attention_mask", NULL, 1, piece->n_source, inputs,
                                &n_inputs, err);
    if (status == KVERN_OK && decoder->graph.has_cache_branch)
        status = export_add_flag(session, "use_cache_branch", own != NULL, inputs, &n_inputs, err);
    n_made = n_inputs;
    if (decoder->graph.has_states)
        inputs[n_inputs++] = (struct value_input){"encoder_hidden_states", hidden->values[0]};
    if (decoder->graph.part != EXPORT_FIRST) {
        add_kv_inputs(self, &self->own, own, &n_inputs);
        add_kv_inputs(self, &self->cross, cross, &n_inputs);
    }
    outputs[0] = (struct value_output){.name = "logits"};
    add_kv_outputs(self, &self->own, &n_outputs);
    if (!own)
        add_kv_outputs(self, &self->cross, &n_outputs);
    if (status == KVERN_OK)
        status = value_run(&decoder->session, inputs, n_inputs, outputs + skipped,
                           n_outputs - skipped, err);
    export_inputs_release(session, inputs, n_made);
    return status;
}

static kvern_status check_kv(const struct runner_cached_seq2seq *self,
                             const struct value_output *outputs, size_t n_tokens, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < self->n_kv; i++)
        status = export_kv_check(&self->first.session, outputs[i].value, outputs[i].name,
                                 &self->layout, n_tokens, err);
    return status;
}

/* Copies the logits that the batch wants of tokens [begin, begin + n) of it, and moves *row on. */
static kvern_status copy_logits(struct runner_cached_seq2seq *self, const struct decoder *decoder,
                                const struct batch *batch, size_t begin, size_t n, size_t *row,
                                kvern_error *err)
{
    size_t vocab_size = self->base.vocab_size;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && *row < batch->n_output_rows &&
           (size_t)batch->output_rows[*row] < begin + n) {
        size_t token = (size_t)batch->output_rows[*row] - begin;

        status =
            export_row_read(&decoder->session, &self->outputs[0], decoder->graph.logits_type, n,
                            token, vocab_size, self->logits.values + *row * vocab_size, err);
        ++*row;
    }
    return status;
}

/* Runs one piece; *held, what the runs before gave, becomes what it gave. */
static kvern_status run_piece(struct runner_cached_seq2seq *self, const struct batch *batch,
                              const struct piece *piece, size_t *row, struct tensors **held,
                              kvern_error *err)
{
    bool is_first = piece->n_context == piece->n_tokens;
    struct decoder *decoder = is_first ? &self->first : self->next;
    struct tensors *own = is_first ? NULL : *held;
    struct tensors *cross = own ? own->source : NULL;
    struct tensors *hidden = cross ? cross->source : *held;
    struct value_output *own_outputs = self->outputs + 1;
    struct value_output *cross_outputs = own_outputs + self->n_kv;
    size_t n_new = is_first ? 2 * self->n_kv : self->n_kv;
    size_t begin = (size_t)(piece->ids - batch->input_ids);
    kvern_status status = run_graph(self, decoder, piece, hidden, cross, own, err);

    if (status != KVERN_OK)
        return status;
    status = check_kv(self, own_outputs, piece->n_context, err);
    if (status == KVERN_OK && is_first)
        status = check_kv(self, cross_outputs, piece->n_source, err);
    if (status == KVERN_OK && piece->wants_logits)
        status = copy_logits(self, decoder, batch, begin, piece->n_tokens, row, err);
    value_release(&decoder->session, self->outputs[0].value);
    if (status != KVERN_OK) {
        for (size_t i = 0; i < n_new; i++)
            value_release(&decoder->session, own_outputs[i].value);
        return status;
    }
    cross = is_first ? tensors_new(&decoder->session, share(hidden), piece->n_source, cross_outputs,
                                   self->n_kv)
                     : share(cross);
    own = tensors_new(&decoder->session, cross, piece->n_context, own_outputs, self->n_kv);
    tensors_release(*held);
    *held = own;
    return KVERN_OK;
}

/* The tokens of sequence s; *out: what its table is to hold. */
static kvern_status run_sequence(struct runner_cached_seq2seq *self, const struct batch *batch,
                                 size_t s, size_t *row, struct tensors **out, kvern_error *err)
{
    size_t begin = (size_t)batch->query_start[s];
    size_t end = (size_t)batch->query_start[s + 1];
    size_t n_context = (size_t)batch->context_len[s] - (end - begin);
    struct tensors *held = share((struct tensors *)batch->tables[s]->values);
    kvern_status status = KVERN_OK;

    while (n_context == 0 && held->source) { /* run again from its start: of the source only */
        struct tensors *source = share(held->source);

        tensors_release(held);
        held = source;
    }
    while (status == KVERN_OK && begin < end) {
        size_t n = n_context == 0 ? end - begin : 1;
        const struct piece piece = {
            .ids = batch->input_ids + begin,
            .n_tokens = n,
            .n_context = n_context + n,
            .n_source = (size_t)batch->source_len[s],
            .wants_logits =
                *row < batch->n_output_rows && (size_t)batch->output_rows[*row] < begin + n,
        };

        status = run_piece(self, batch, &piece, row, &held, err);
        begin += n;
        n_context += n;
    }
    if (status == KVERN_OK)
        *out = held;
    else
        tensors_release(held);
    return status;
}

/* ---- the runner ---- */

static kvern_status reserve(struct runner_cached_seq2seq *self, const struct batch *batch,
                            kvern_error *err)
{
    size_t n = batch->n_sources + batch->n_sequences;

    if (n > self->pending_capacity) {
        self->pending = resize_or_abort(self->pending, n * sizeof(struct tensors *));
        self->pending_capacity = n;
    }
    assert(batch->n_logit_rows == batch->n_output_rows); /* nobody reads hidden states */
    return output_rows_reserve(&self->logits, batch->n_logit_rows, "logits", err);
}

/* An interrupt is told to all sessions, and those that did not run must not take it later. */
static void settle(struct runner_cached_seq2seq *self)
{
    session_settle(&self->encoder, KVERN_OK, NULL);
    session_settle(&self->first.session, KVERN_OK, NULL);
    if (self->next != &self->first)
        session_settle(&self->next->session, KVERN_OK, NULL);
}

static kvern_status run(struct runner *runner, const struct batch *batch,
                        struct runner_output *output, kvern_error *err)
{
    struct runner_cached_seq2seq *self = (struct runner_cached_seq2seq *)runner;
    size_t n_sources = batch->n_sources;
    size_t n = n_sources + batch->n_sequences;
    size_t n_run = 0;
    size_t row = 0;
    kvern_status status = reserve(self, batch, err);

    while (status == KVERN_OK && n_run < n) {
        status = n_run < n_sources ? encode(self, batch, n_run, &self->pending[n_run], err)
                                   : run_sequence(self, batch, n_run - n_sources, &row,
                                                  &self->pending[n_run], err);
        n_run += status == KVERN_OK;
    }
    for (size_t i = 0; i < n_run; i++) {
        struct kv_table *table =
            i < n_sources ? batch->source_tables[i] : batch->tables[i - n_sources];

        if (status == KVERN_OK) {
            kv_values_release(table->values);
            table->values = &self->pending[i]->base;
        } else {
            tensors_release(self->pending[i]);
        }
    }
    settle(self);
    *output = (struct runner_output){.logits = self->logits.values};
    return status;
}

static void interrupt(struct runner *runner)
{
    struct runner_cached_seq2seq *self = (struct runner_cached_seq2seq *)runner;

    session_interrupt(&self->encoder);
    session_interrupt(&self->first.session);
    if (self->next != &self->first)
        session_interrupt(&self->next->session);
}

static void free_runner(struct runner *runner)
{
    struct runner_cached_seq2seq *self = (struct runner_cached_seq2seq *)runner;

    value_release(&self->first.session, self->no_kv);
    session_close(&self->encoder);
    session_close(&self->first.session);
    session_close(&self->second.session);
    free(self->own.past);
    free(self->own.present);
    free(self->cross.past);
    free(self->cross.present);
    free(self->inputs);
    free(self->outputs);
    free(self->pending);
    output_rows_clear(&self->logits);
    free(self);
}

static struct kv_names make_names(size_t n_kv, const char *part)
{
    struct kv_names names = {.past = new_or_abort(n_kv * sizeof *names.past),
                             .present = new_or_abort(n_kv * sizeof *names.present)};

    for (size_t i = 0; i < n_kv; i++) {
        const char *kind = i % 2 == 0 ? "key" : "value";

        snprintf(names.past[i], MAX_NAME, "past_key_values.%zu.%s.%s", i / 2, part, kind);
        snprintf(names.present[i], MAX_NAME, "present.%zu.%s.%s", i / 2, part, kind);
    }
    return names;
}

/* Runs a source of one token and two tokens of an answer: sizes that the graphs leave open show as
 * wrong here, not in a user's first step. */
static kvern_status try_tokens(struct runner_cached_seq2seq *self, kvern_error *err)
{
    int64_t zero[] = {0};
    int32_t start[] = {0, 1};
    int32_t context_len[] = {0};
    int32_t source_len[] = {1};
    struct kv_table table = {0};
    struct kv_table *tables[] = {&table};
    struct batch batch = {.has_sources = true,
                          .n_source_tokens = 1,
                          .n_sources = 1,
                          .input_ids = zero,
                          .query_start = start,
                          .context_len = context_len,
                          .tables = tables,
                          .source_ids = zero,
                          .source_start = start,
                          .source_tables = tables,
                          .source_len = source_len,
                          .output_rows = zero,
                          .logit_rows = zero};
    struct runner_output output;
    kvern_status status = run(&self->base, &batch, &output, err);

    batch.n_sources = 0;
    batch.n_tokens = batch.n_sequences = batch.n_output_rows = batch.n_logit_rows = 1;
    for (context_len[0] = 1; status == KVERN_OK && context_len[0] <= 2; context_len[0]++)
        status = run(&self->base, &batch, &output, err);
    if (status == KVERN_RUNTIME)
        status = fail_in(err, KVERN_FORMAT,
                         "one token cannot be run with %zu kv heads of %zu values, as the model's "
                         "config says",
                         self->layout.n_kv_heads, self->layout.head_size);
    kv_values_release(table.values);
    return status;
}

static kvern_status open_sessions(struct runner_cached_seq2seq *self,
                                  const struct export_seq2seq *export,
                                  const struct session_options *options, kvern_error *err)
{
    kvern_status status = session_open(&self->encoder, export->encoder.path, options, err);

    if (status == KVERN_OK)
        status = session_open(&self->first.session, export->decoder.path, options, err);
    if (status == KVERN_OK && export->next.path)
        status = session_open(&self->second.session, export->next.path, options, err);
    if (status == KVERN_OK)
        status = export_kv_new(&self->first.session, self->first.graph.kv_type, &self->layout, 0,
                               &self->no_kv, err);
    return status;
}

kvern_status runner_cached_seq2seq_open(struct runner **out, const struct export_seq2seq *export,
                                        const struct model_config *config,
                                        const struct kv_layout *layout, size_t n_kv_blocks,
                                        int n_threads, const char *provider, kvern_error *err)
{
    const struct session_options options = {
        .n_threads = n_threads, .is_export = true, .provider = provider};
    struct runner_cached_seq2seq *self = new_or_abort(sizeof *self);
    kvern_status status;

    self->base = (struct runner){.run = run,
                                 .interrupt = interrupt,
                                 .free = free_runner,
                                 .vocab_size = config->vocab_size,
                                 .n_kv_blocks = n_kv_blocks,
                                 .has_fixed_chunks = true,
                                 .is_seq2seq = true,
                                 .decoder_start = config->decoder_start,
                                 .has_rigid_kv = true};
    self->encoder_graph = export->encoder.graph;
    self->first.graph = export->decoder.graph;
    self->second.graph = export->next.graph;
    self->next = export->next.path ? &self->second : &self->first;
    self->layout = *layout;
    self->hidden_size = config->hidden_size;
    self->n_kv = 2 * export->decoder.graph.n_layers;
    self->logits.row_size = config->vocab_size;
    self->own = make_names(self->n_kv, "decoder");
    self->cross = make_names(self->n_kv, "encoder");
    self->inputs = new_or_abort((N_FIXED_INPUTS + 2 * self->n_kv) * sizeof *self->inputs);
    self->outputs = new_or_abort((1 + 2 * self->n_kv) * sizeof *self->outputs);
    status = open_sessions(self, export, &options, err);
    if (status == KVERN_OK)
        status = try_tokens(self, err);
    if (status == KVERN_OK)
        *out = &self->base;
    else
        free_runner(&self->base);
    return status;
}
