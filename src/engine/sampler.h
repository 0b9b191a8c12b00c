/* SPDX-License-Identifier: Apache-2.0
 *
 * From logits to a token, in one order (docs/sampling.md): repetition penalty, presence and
 * frequency penalties, bias, tokens that may not be chosen here; then, unless greedy, temperature,
 * top-k, top-p, min-p, typical, each of what the one before left, and a draw. A draw depends on the
 * request's seed and the token's index only, so that neighbours in a batch never change an answer.
 * Pure but for scratch memory.
 */
#ifndef KVERN_ENGINE_SAMPLER_H
#define KVERN_ENGINE_SAMPLER_H

#include "engine/candidates.h"
#include "kvern.h"

/* Where an id was met last, and how often in that round. */
struct token_mark {
    uint32_t round;
    uint32_t n;
};

/* Scratch for one vocabulary; one thread at a time. */
struct sampler {
    size_t vocab_size;
    float *logits;                /* [vocab_size]: after penalties and biases */
    struct candidate *candidates; /* [vocab_size] */
    struct candidates left;       /* what the last token was drawn from */
    struct token_mark *marks;     /* [vocab_size] */
    uint32_t round;
};

/* What a token is chosen after. All ids are below vocab_size. */
struct sampler_place {
    const float *logits;    /* [vocab_size], the model's */
    const int32_t *history; /* [n_history]: the prompt, then the answer */
    size_t n_history;
    size_t n_prompt;
    const int32_t *barred; /* [n_barred]: not chosen, unless nothing else is left */
    size_t n_barred;
};

kvern_status sampler_init(struct sampler *sampler, size_t vocab_size, kvern_error *err);
void sampler_clear(struct sampler *sampler);

/* The token that comes next; `sampling` is one that sampling_init() made. KVERN_RUNTIME: the logits
 * hold NaN or +infinity, or nothing but -infinity. */
kvern_status sampler_pick(struct sampler *sampler, const kvern_sampling *sampling,
                          const struct sampler_place *place, int32_t *token, kvern_error *err);
/* What a beam search chooses from: the log-probabilities [vocab_size] of the model's logits, with
 * penalties, biases and bars done to them as transformers does; what may not be chosen has
 * -infinity. The sampler's, until its next call. KVERN_RUNTIME: as above. */
kvern_status sampler_log_softmax(struct sampler *sampler, const kvern_sampling *sampling,
                                 const struct sampler_place *place, const float **log_probs,
                                 kvern_error *err);
/* Log-probabilities of the token just picked and of the n_top likeliest (ties: lowest id first; at
 * most MAX_TOP_LOGPROBS); {-1, -infinity} where fewer are left. */
void sampler_logprobs(const struct sampler *sampler, kvern_logprobs kind,
                      const struct sampler_place *place, int32_t token, float *logprob,
                      kvern_logprob *top, size_t n_top);

#endif
