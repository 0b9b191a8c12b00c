/* SPDX-License-Identifier: Apache-2.0
 *
 * From logits to a token. The order is that of Hugging Face transformers: repetition penalty,
 * temperature, top-k, top-p (of what top-k left), min-p (against the likeliest), draw. A draw
 * depends on the request's seed and the token's index only, so that neighbours in a batch never
 * change an answer. Pure but for scratch memory.
 */
#ifndef KVERN_ENGINE_SAMPLER_H
#define KVERN_ENGINE_SAMPLER_H

#include "kvern.h"

struct candidate {
    float value; /* a logit, later a weight */
    int32_t id;
};

/* Scratch for one vocabulary; one thread at a time. */
struct sampler {
    size_t vocab_size;
    float *logits;                /* [vocab_size]: after the repetition penalty */
    struct candidate *candidates; /* [vocab_size] */
    uint32_t *seen;               /* [vocab_size]: round in which an id was last seen */
    uint32_t round;
};

kvern_status sampler_init(struct sampler *sampler, size_t vocab_size, kvern_error *err);
void sampler_clear(struct sampler *sampler);

/* KVERN_INVALID names the field, its value and the range allowed. */
kvern_status sampling_check(const kvern_sampling *sampling, kvern_error *err);
/* The token that follows history [n_history] (prompt and answer, ids below vocab_size); draw_index
 * counts the answer's tokens. KVERN_RUNTIME: logits [vocab_size] hold NaN or +infinity, or nothing
 * but -infinity. */
kvern_status sampler_pick(struct sampler *sampler, const kvern_sampling *sampling,
                          const float *logits, const int32_t *history, size_t n_history,
                          uint64_t draw_index, int32_t *token, kvern_error *err);
/* log(softmax(logits)[token]), summed in the order of ids; NaN when the logits are not finite as
 * above. */
float log_probability(const float *logits, size_t vocab_size, int32_t token);

#endif
