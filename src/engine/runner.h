/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's one seam: a runner runs a batch under one contract. The paged runner drives ONNX
 * Runtime; the fake one (tests) computes logits from token ids by a rule.
 */
#ifndef KVERN_ENGINE_RUNNER_H
#define KVERN_ENGINE_RUNNER_H

#include "engine/batch.h"
#include "kvern.h"

/* Belongs to the runner and is valid until its next run. */
struct runner_output {
    const float *logits; /* [batch->n_logit_rows, vocab_size] */
    const float *hidden; /* [batch->n_output_rows, hidden_size]; with batch->wants_hidden */
};

struct runner {
    /* Runs `batch`. On failure nothing that later runs read has changed but KV slots of this
     * batch's own tokens. */
    kvern_status (*run)(struct runner *runner, const struct batch *batch,
                        struct runner_output *output, kvern_error *err);
    /* Ends the run in progress, or the next one, with KVERN_CANCELLED as soon as it can. Any
     * thread. NULL: this runner cannot be interrupted. */
    void (*interrupt)(struct runner *runner);
    void (*free)(struct runner *runner);
    /* Copies what is in a block. NULL: blocks only count. */
    void (*kv_copy)(struct runner *runner, int32_t from, int32_t to);
    /* The bytes of a table's first n_tokens tokens' KV, out of it and into it (it has its blocks
     * then). NULL: this runner's KV cannot be moved. */
    size_t (*kv_bytes)(const struct runner *runner, size_t n_tokens);
    kvern_status (*kv_read)(struct runner *runner, const struct kv_table *table, size_t n_tokens,
                            void *bytes, kvern_error *err);
    kvern_status (*kv_write)(struct runner *runner, struct kv_table *table, size_t n_tokens,
                             const void *bytes, kvern_error *err);
    size_t vocab_size;     /* token ids it takes, and values of a row of logits */
    bool has_no_logits;    /* it gives hidden states only */
    bool pools_itself;     /* all rows of a text are its one vector */
    size_t hidden_size;    /* 0: it gives no hidden states */
    size_t n_kv_blocks;    /* blocks 0 .. n_kv_blocks - 1 may stand in a block table; 0: it keeps no
                              KV,    and a prompt must come whole */
    bool has_fixed_chunks; /* its bytes depend on how a prompt is cut */
    bool keeps_positions;  /* positions may go on past a window that slides */
    bool is_seq2seq;       /* a prompt is a source, which an encoder reads; answers begin with: */
    int32_t decoder_start; /* this token */
    bool has_rigid_kv;     /* its KV cannot be cut, so that no window slides over it */
};

#endif
