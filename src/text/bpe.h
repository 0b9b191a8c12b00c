/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-pair encoding: one word in, token ids out. Merges are applied lowest rank first, leftmost
 * first among equals, in O(n log n) whatever the word's length. The model is read-only while
 * encoding; what changes is in a bpe_scratch, one per thread or call.
 */
#ifndef KVERN_TEXT_BPE_H
#define KVERN_TEXT_BPE_H

#include "base/buffer.h"
#include "kvern.h"
#include "text/vocabulary.h"

struct bpe_merge {
    int32_t left; /* -1 marks a free slot */
    int32_t right;
    int32_t rank;
    int32_t id; /* of the joined piece */
};

struct bpe {
    const struct vocabulary *vocabulary; /* borrowed */
    struct bpe_merge *merges;            /* [n_slots] open addressing; n_slots is a power of two */
    size_t n_slots;
    size_t n_merges;
    bool is_byte_level;  /* words are bytes, pieces spell them as printable characters */
    bool ignores_merges; /* a word that is a piece is that piece */
    bool has_byte_fallback;
    bool fuses_unknown;
    int32_t unknown_id;        /* -1: none */
    int32_t byte_ids[256];     /* byte-level: the piece of a byte, or -1 */
    int32_t fallback_ids[256]; /* <0x00>..<0xFF>, or -1 */
    char *continuing_prefix;   /* owned; NULL: none */
    char *end_suffix;          /* owned; NULL: none */
};

struct bpe_options {
    bool is_byte_level;
    bool ignores_merges;
    bool has_byte_fallback;
    bool fuses_unknown;
    const char *unknown; /* NULL: none */
    const char *continuing_prefix;
    const char *end_suffix;
    size_t n_merges; /* that will be added */
};

struct bpe_symbol;
struct bpe_candidate;
struct bpe_cache;

struct bpe_scratch {
    struct bpe_symbol *symbols;
    size_t symbol_capacity;
    struct bpe_candidate *heap;
    size_t heap_capacity;
    struct bpe_cache *cache; /* words of this call that were seen before; NULL: none */
    struct buffer piece;
};

/* The vocabulary must be complete and outlive the model. */
kvern_status bpe_open(struct bpe *bpe, const struct vocabulary *vocabulary,
                      const struct bpe_options *options, kvern_error *err);
/* Adds the merge of next lower priority; at most options.n_merges of them. */
kvern_status bpe_add_merge(struct bpe *bpe, const char *left, size_t n_left, const char *right,
                           size_t n_right, kvern_error *err);
void bpe_close(struct bpe *bpe);

/* Appends the tokens of a word (struct word_token) to `out`. Characters the vocabulary cannot spell
 * are dropped, as Hugging Face does, if there is neither byte fallback nor an unknown token. */
kvern_status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *word,
                        size_t n_bytes, struct buffer *out, kvern_error *err);
/* Lets `scratch` remember words: worth its memory from about a kilobyte of text. */
void bpe_scratch_use_cache(struct bpe_scratch *scratch);
void bpe_scratch_clear(struct bpe_scratch *scratch);

#endif
