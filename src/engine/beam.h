/* SPDX-License-Identifier: Apache-2.0
 *
 * Beam search as Hugging Face transformers 4.57 does it (GenerationMixin._beam_search), for one
 * prompt: which beams go on after each step, which answers are finished, when it ends, and how the
 * answers rank. Pure: it sees log-probabilities and gives choices, no sequence and no KV. Sums are
 * float32, in the reference's order. Where two continuations are equal, the one of the lower beam,
 * then of the lower token id, comes first; torch.topk leaves that open. Rows may be seen in any
 * order: the choice is the same.
 */
#ifndef KVERN_ENGINE_BEAM_H
#define KVERN_ENGINE_BEAM_H

#include "kvern.h"

enum { MAX_BEAMS = 64 };

struct beam_options {
    size_t n_beams; /* 1 to MAX_BEAMS */
    float length_penalty;
    kvern_early_stopping early_stopping;
    size_t max_tokens;      /* of an answer, at least 1 */
    const int32_t *end_ids; /* [n_end_ids]: end an answer; the caller's, for the search's life */
    size_t n_end_ids;
    size_t vocab_size;
};

/* One of those that go on. */
struct beam {
    size_t parent; /* the beam it goes on from, as they were before the choice */
    int32_t token; /* its last */
    float score;   /* sum of its log-probabilities */
    int32_t node;
};

/* An answer, or a place for one. */
struct beam_answer {
    bool is_finished; /* else there were too few tokens to choose from: it has none */
    float score;
    size_t n_tokens;
    int32_t node;
};

struct beam_node;
struct beam_candidate;

struct beam_search {
    struct beam_options options;
    struct beam beams[MAX_BEAMS];          /* [n_beams], best first */
    struct beam_answer answers[MAX_BEAMS]; /* [n_beams], best first */
    size_t n_tokens;                       /* of every beam */
    bool is_done;
    /* its own */
    bool may_improve;
    struct beam_candidate *candidates; /* [n_candidates], best first */
    size_t n_candidates;
    size_t n_most;           /* of them */
    struct beam_node *nodes; /* [n_nodes]: all tokens, each behind its parent; owned */
    size_t n_nodes;
    size_t node_capacity;
};

kvern_status beam_search_init(struct beam_search *search, const struct beam_options *options,
                              kvern_error *err);
/* Fine on a zeroed one. */
void beam_search_clear(struct beam_search *search);

/* The log-probabilities [vocab_size] that follow a beam, none of them NaN. Each beam is seen once
 * before a choice; before the first one, all are the same, and beam 0 alone is seen. */
void beam_search_see(struct beam_search *search, size_t beam, const float *log_probs);
/* All of them were seen: the next beams, or is_done. KVERN_MEMORY: no room for their tokens. */
kvern_status beam_search_choose(struct beam_search *search, kvern_error *err);
/* The tokens that end at a node: of a beam [n_tokens], or of an answer [its n_tokens]. */
void beam_search_read(const struct beam_search *search, int32_t node, size_t n_tokens,
                      int32_t *tokens);

#endif
