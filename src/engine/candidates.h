/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokens that may be drawn, with their weights, and the filters that make them fewer. Each
 * filter leaves at least one. Equal values rank by id, lowest first, so every choice is one choice.
 * Pure: an array of the caller's.
 */
#ifndef KVERN_ENGINE_CANDIDATES_H
#define KVERN_ENGINE_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct candidate {
    float value; /* a weight relative to the likeliest token's, which is 1; over 0 */
    int32_t id;
};

struct candidates {
    struct candidate *items; /* [n], in no order */
    size_t n;                /* at least 1 */
};

/* Where the weights are from: exp((logits[id] - max) / temperature). */
struct candidate_source {
    const float *logits; /* [vocab_size] */
    size_t vocab_size;
    float max; /* of the logits; finite */
    float temperature;
};

/* All tokens into items [vocab_size], but those whose weight is 0. */
struct candidates candidates_all(const struct candidate_source *source, struct candidate *items);
/* The k likeliest of them; k is from 1 to vocab_size. */
struct candidates candidates_top_k(const struct candidate_source *source, size_t k,
                                   struct candidate *items);
/* Keeps the fewest likeliest whose weights reach top_p of the sum. */
void candidates_keep_top_p(struct candidates *candidates, float top_p);
/* Keeps those of weight min_p and more, min_p at most 1. */
void candidates_keep_min_p(struct candidates *candidates, float min_p);
/* Keeps the fewest whose weights reach typical_p of the sum, those first whose information
 * -log(p) is next to its mean, the entropy (locally typical sampling: Meister, Pimentel, Wiher and
 * Cotterell, 2023). */
void candidates_keep_typical(struct candidates *candidates, const struct candidate_source *source,
                             float typical_p);

double candidates_sum(const struct candidates *candidates);
/* The token that u, in [0, 1), falls on. */
int32_t candidates_draw(const struct candidates *candidates, double u);

/* a is likelier than b */
bool candidate_ranks_before(struct candidate a, struct candidate b);

#endif
