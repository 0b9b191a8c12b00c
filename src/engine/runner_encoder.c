/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts in, hidden states out. The packed graph takes the batch's own arrays; an export is fed text
 * by text.
 */
#include "engine/runner_encoder.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/export_rows.h"
#include "engine/export_tensors.h"
#include "engine/output_rows.h"
#include "ort/value.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_EXPORT_INPUTS = 4 };

struct runner_encoder {
    struct runner base; /* first */
    struct session session;
    struct export_graph graph; /* of an export */
    struct output_rows rows;   /* what the packed graph writes; of an export, what is wanted */
    struct output_rows wanted; /* the batch's output rows of the packed graph */
};

/* ---- the packed graph ---- */

static kvern_status run_packed(struct runner *runner, const struct batch *batch,
                               struct runner_output *output, kvern_error *err)
{
    struct runner_encoder *self = (struct runner_encoder *)runner;
    size_t row_size = runner->hidden_size;
    int64_t n_tokens = (int64_t)batch->n_tokens;
    const struct session_tensor inputs[] = {
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
         {(int64_t)batch->n_sequences + 1},
         1},
    };
    struct session_tensor hidden = {.name = "last_hidden_state",
                                    .type = SESSION_F32,
                                    .n_bytes = batch->n_tokens * row_size * sizeof(float),
                                    .dims = {n_tokens, (int64_t)row_size},
                                    .n_dims = 2};
    kvern_status status = output_rows_reserve(&self->rows, batch->n_tokens, "hidden states", err);

    hidden.data = self->rows.values;
    if (status == KVERN_OK)
        status =
            session_run(&self->session, inputs, sizeof inputs / sizeof inputs[0], &hidden, 1, err);
    output->hidden = self->rows.values;
    if (status != KVERN_OK || batch->n_output_rows == batch->n_tokens)
        return status;
    status = output_rows_reserve(&self->wanted, batch->n_output_rows, "hidden states", err);
    for (size_t i = 0; status == KVERN_OK && i < batch->n_output_rows; i++)
        memcpy(self->wanted.values + i * row_size,
               self->rows.values + (size_t)batch->output_rows[i] * row_size,
               row_size * sizeof(float));
    output->hidden = self->wanted.values;
    return status;
}

/* ---- an export ---- */

/* Copies the rows the batch wants of the text [begin, end), from *row of its output rows on. */
static kvern_status copy_wanted(struct runner_encoder *self, const struct batch *batch,
                                size_t begin, size_t end, const struct OrtValue *value, size_t *row,
                                kvern_error *err)
{
    size_t row_size = self->base.hidden_size;
    int64_t dims[SESSION_MAX_DIMS] = {0};
    size_t n_dims = 0;
    void *data = NULL;
    kvern_status status = value_dims(&self->session, value, dims, &n_dims, err);
    bool is_pooled = self->graph.is_pooled;

    if (status == KVERN_OK)
        status = value_data(&self->session, value, &data, err);
    if (status == KVERN_OK &&
        (n_dims != (is_pooled ? 2u : 3u) || dims[0] != 1 || dims[n_dims - 1] != (int64_t)row_size ||
         (!is_pooled && dims[1] != (int64_t)(end - begin))))
        status = fail(err, KVERN_RUNTIME,
                      "the model's %s has %zu dims that are not those of %zu tokens of %zu values",
                      self->graph.hidden, n_dims, end - begin, row_size);
    for (; status == KVERN_OK && *row < batch->n_output_rows &&
           (size_t)batch->output_rows[*row] < end;
         ++*row) {
        size_t token = is_pooled ? 0 : (size_t)batch->output_rows[*row] - begin;

        export_values_copy(self->graph.hidden_type, data, token * row_size,
                           self->rows.values + *row * row_size, row_size);
    }
    return status;
}

static kvern_status run_text(struct runner_encoder *self, const struct batch *batch, size_t s,
                             size_t *row, kvern_error *err)
{
    const struct export_graph *graph = &self->graph;
    size_t begin = (size_t)batch->query_start[s];
    size_t end = (size_t)batch->query_start[s + 1];
    size_t n = end - begin;
    struct value_input inputs[MAX_EXPORT_INPUTS];
    struct value_output output = {.name = graph->hidden};
    size_t n_inputs = 0;
    const struct session *session = &self->session;
    kvern_status status = export_add_ids(session, "input_ids", batch->input_ids + begin, 0, n,
                                         inputs, &n_inputs, err);

    if (status == KVERN_OK && graph->has_mask)
        status = export_add_ids(session, "attention_mask", NULL, 1, n, inputs, &n_inputs, err);
    if (status == KVERN_OK && graph->has_token_types)
        status = export_add_ids(session, "token_type_ids", NULL, 0, n, inputs, &n_inputs, err);
    if (status == KVERN_OK && graph->has_positions)
        status = export_add_ids(session, "position_ids", batch->positions + begin, 0, n, inputs,
                                &n_inputs, err);
    if (status == KVERN_OK)
        status = value_run(&self->session, inputs, n_inputs, &output, 1, err);
    if (status == KVERN_OK)
        status = copy_wanted(self, batch, begin, end, output.value, row, err);
    value_release(session, output.value);
    export_inputs_release(session, inputs, n_inputs);
    return status;
}

static kvern_status run_export(struct runner *runner, const struct batch *batch,
                               struct runner_output *output, kvern_error *err)
{
    struct runner_encoder *self = (struct runner_encoder *)runner;
    size_t row = 0;
    kvern_status status =
        output_rows_reserve(&self->rows, batch->n_output_rows, "hidden states", err);

    for (size_t s = 0; status == KVERN_OK && s < batch->n_sequences; s++)
        status = run_text(self, batch, s, &row, err);
    output->hidden = self->rows.values;
    return status;
}

/* ---- both ---- */

static void interrupt(struct runner *runner)
{
    session_interrupt(&((struct runner_encoder *)runner)->session);
}

static void free_runner(struct runner *runner)
{
    struct runner_encoder *self = (struct runner_encoder *)runner;

    session_close(&self->session);
    output_rows_clear(&self->rows);
    output_rows_clear(&self->wanted);
    free(self);
}

static kvern_status open_runner(struct runner **out, struct runner_encoder *self, const char *path,
                                const struct session_options *options, kvern_error *err)
{
    kvern_status status = session_open(&self->session, path, options, err);

    self->rows.row_size = self->wanted.row_size = self->base.hidden_size;

    if (status == KVERN_OK)
        *out = &self->base;
    else
        free_runner(&self->base);
    return status;
}

kvern_status runner_encoder_open(struct runner **out, const char *path,
                                 const struct model_config *config, int n_threads, kvern_error *err)
{
    const struct session_options options = {.n_threads = n_threads};
    struct runner_encoder *self = new_or_abort(sizeof *self);

    self->base = (struct runner){.run = run_packed,
                                 .interrupt = interrupt,
                                 .free = free_runner,
                                 .vocab_size = config->vocab_size,
                                 .has_no_logits = true,
                                 .hidden_size = config->hidden_size};
    return open_runner(out, self, path, &options, err);
}

kvern_status runner_encoder_open_export(struct runner **out, const char *path,
                                        const struct export_graph *graph,
                                        const struct model_config *config, int n_threads,
                                        const char *provider, kvern_error *err)
{
    const struct session_options options = {
        .n_threads = n_threads, .is_export = true, .provider = provider};
    struct runner_encoder *self = new_or_abort(sizeof *self);

    self->base = (struct runner){.run = run_export,
                                 .interrupt = interrupt,
                                 .free = free_runner,
                                 .vocab_size = config->vocab_size,
                                 .has_no_logits = true,
                                 .pools_itself = graph->is_pooled,
                                 .hidden_size = config->hidden_size};
    self->graph = *graph;
    return open_runner(out, self, path, &options, err);
}
