/* SPDX-License-Identifier: Apache-2.0
 *
 * What one step does: which sequences run how many tokens, and which KV blocks are copied before.
 * The scheduler makes it, the batch and the engine read it. Pure data.
 */
#ifndef KVERN_ENGINE_PLAN_H
#define KVERN_ENGINE_PLAN_H

#include "engine/sequence.h"

/* What one sequence does in a step: runs tokens n_computed .. n_computed + n_tokens - 1. */
struct plan_item {
    struct sequence *sequence;
    size_t n_tokens;
    size_t n_rows; /* of the last of these tokens: rows of logits, or of hidden states */
};

/* What a runner copies before the step, in order: a block that a sequence shares up to its middle
 * and goes on from. */
struct plan_copy {
    int32_t from;
    int32_t to;
};

struct plan {
    struct plan_item *items; /* [n_items], owned */
    size_t n_items;
    struct plan_copy *copies; /* [n_copies], at most one an item; owned */
    size_t n_copies;
    size_t capacity;
};

struct plan_tokens {
    size_t n_decoded; /* one a sequence */
    size_t n_prompt;
};

struct plan_tokens plan_count(const struct plan *plan);

kvern_status plan_init(struct plan *plan, size_t capacity, kvern_error *err);
void plan_clear(struct plan *plan);

#endif
