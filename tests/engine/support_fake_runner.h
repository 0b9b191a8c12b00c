/* SPDX-License-Identifier: Apache-2.0
 *
 * A runner with no model: it keeps the token id of every KV slot, reads each sequence's history
 * back through its block table, and makes logits and hidden states out of that history by hashing.
 * A wrong block, slot or position shows as another answer. With a window that slides, the history
 * is what the window holds. It can also keep KV beside the blocks, as the cached contract does.
 */
#ifndef KVERN_TESTS_FAKE_RUNNER_H
#define KVERN_TESTS_FAKE_RUNNER_H

#include "engine/engine.h"

#include <stdatomic.h>

enum { FAKE_VOCAB = 300, FAKE_STOP_ID = 299, FAKE_POISON = 298, FAKE_NAN = 297, FAKE_HIDDEN = 4 };

struct fake_runner {
    struct runner runner;
    int32_t *slots; /* [n_kv_blocks * 16]: token id + 1; 0: never written */
    float *logits;
    size_t logit_capacity;
    float *hidden;
    size_t hidden_capacity;
    bool keeps_values;   /* set before the engine starts: each run makes new kv_values */
    bool is_rigid;       /* those are */
    atomic_int n_values; /* kv_values there are; freed after the runner: a bad read */
    atomic_int n_runs;
    atomic_int n_gates; /* runs that may start; negative: all */
    atomic_bool is_interrupted;
    atomic_int n_interrupted; /* runs */
    atomic_int n_bad_reads;   /* history slots that were never written, wrong positions */
    atomic_bool is_freed;
    atomic_size_t widest; /* most tokens of a run */
};

/* n_kv_blocks 0: an encoder, which gives hidden states only. */
struct fake_runner *fake_runner_new(size_t n_kv_blocks);
void fake_runner_destroy(struct fake_runner *fake);
/* The logits the fake gives after this history. */
void fake_logits(const int32_t *history, size_t n, float *logits);
/* The hidden state [FAKE_HIDDEN] of its last token. */
void fake_hidden(const int32_t *history, size_t n, float *hidden);
/* The id a greedy choice takes after this history. */
int32_t fake_next(const int32_t *history, size_t n);
/* Decodes id to the byte id & 0xff. */
extern const struct text_decoder_maker fake_decoder;

#endif
