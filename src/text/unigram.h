/* SPDX-License-Identifier: Apache-2.0
 *
 * Unigram (SentencePiece's): one word in, the ids of its likeliest cut into pieces out. Each piece
 * has a score, the logarithm of its probability; the cut with the largest sum is found in one pass
 * over the word (Viterbi), in O(n) for the pieces of a vocabulary. As Hugging Face's models/unigram
 * does, to the bit of each sum, but that a control token is never found: only text that may write
 * one spells it, and that is taken out before. The model is read-only while encoding.
 */
#ifndef KVERN_TEXT_UNIGRAM_H
#define KVERN_TEXT_UNIGRAM_H

#include "base/buffer.h"
#include "kvern.h"
#include "text/piece_trie.h"
#include "text/vocabulary.h"

#include <stdbool.h>

struct unigram {
    const struct vocabulary *vocabulary; /* borrowed */
    double *scores;                      /* [n_scores], by id; owned */
    size_t n_scores;
    double unknown_score;      /* of a character that no piece spells */
    int32_t unknown_id;        /* -1: none */
    int32_t fallback_ids[256]; /* <0x00>..<0xFF>, or -1; all -1 without byte fallback */
    struct piece_trie trie;    /* of the pieces that text can hold */
};

/* No piece that text can hold may be longer: a tokenizer.json must not be able to make encoding
 * take quadratic time. Known vocabularies stay below 100. */
enum { UNIGRAM_MAX_PIECE_BYTES = 1024 };

struct unigram_options {
    bool has_byte_fallback;
    int32_t unknown_id; /* -1: none */
};

/* Takes `scores` ([n_scores], malloc'ed) in every case; piece i of the vocabulary, which must hold
 * the model's own and outlive the model, has score i. KVERN_FORMAT: unknown_id is no piece. */
kvern_status unigram_open(struct unigram *unigram, const struct vocabulary *vocabulary,
                          double *scores, size_t n_scores, const struct unigram_options *options,
                          kvern_error *err);
/* To be called once, when the vocabulary has its added tokens: which are control tokens is known.
 * KVERN_LIMIT: over UNIGRAM_MAX_PIECE_BYTES. */
kvern_status unigram_index(struct unigram *unigram, kvern_error *err);
void unigram_close(struct unigram *unigram);

struct unigram_step;

/* What one thread needs to encode; zeroed is empty. */
struct unigram_scratch {
    struct unigram_step *steps; /* [capacity], owned */
    size_t capacity;
};

/* Appends the tokens of a word (struct word_token), which is valid UTF-8, to `out`.
 * KVERN_UNSUPPORTED: there is a character that no piece spells, and no unknown token. */
kvern_status unigram_encode(const struct unigram *unigram, struct unigram_scratch *scratch,
                            const char *word, size_t n_bytes, struct buffer *out, kvern_error *err);
void unigram_scratch_clear(struct unigram_scratch *scratch);

#endif
