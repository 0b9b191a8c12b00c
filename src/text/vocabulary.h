/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces and ids: the vocabulary of the model and the tokens added to it. A piece is looked up
 * among the model's; an id finds either. Also GPT-2's table that spells bytes as printable
 * characters.
 */
#ifndef KVERN_TEXT_VOCABULARY_H
#define KVERN_TEXT_VOCABULARY_H

#include "base/map.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vocabulary_piece {
    uint32_t offset; /* into pieces.keys or added.keys */
    uint32_t n_bytes;
    bool is_used;  /* ids may have holes */
    bool is_added; /* the text is in `added` */
    bool is_special;
    bool is_control; /* special, or an added token spelled like markup: <...> or [...] */
};

/* What a model makes of a word: each token spells the bytes from the end of the one before to
 * `end`. */
struct word_token {
    int32_t id;
    uint32_t end;
};

struct vocabulary {
    struct map pieces;              /* the model's piece -> id */
    struct map added;               /* added tokens' text -> id, also those the model has */
    struct vocabulary_piece *by_id; /* [n_ids] */
    size_t n_ids;
    size_t capacity;
    size_t id_limit; /* ids are below it */
};

/* Ids may leave holes, but no more than this beyond the number of pieces: a small file cannot ask
 * for a large table. */
enum { VOCABULARY_MAX_GAP = 1 << 16 };

/* An empty vocabulary for `n_pieces` pieces and added tokens. */
void vocabulary_init(struct vocabulary *vocabulary, size_t n_pieces);
/* Puts a model's piece in. The later of two equal pieces wins. */
kvern_status vocabulary_put(struct vocabulary *vocabulary, const char *piece, size_t n_bytes,
                            int64_t id, kvern_error *err);
/* Puts an added token in. */
kvern_status vocabulary_put_added(struct vocabulary *vocabulary, const char *text, size_t n_bytes,
                                  int64_t id, bool is_special, kvern_error *err);
/* The id of a model's piece, or -1. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *piece, size_t n_bytes);
/* The id of an added token or a model's piece, or -1. */
int32_t vocabulary_find_any(const struct vocabulary *vocabulary, const char *piece, size_t n_bytes);
/* The text of an id (not terminated), or NULL if there is none. */
const char *vocabulary_piece(const struct vocabulary *vocabulary, int32_t id, size_t *n_bytes);
bool vocabulary_is_special(const struct vocabulary *vocabulary, int32_t id);
/* Such a token comes only from text that may write it, never from a model. */
bool vocabulary_is_control(const struct vocabulary *vocabulary, int32_t id);
void vocabulary_clear(struct vocabulary *vocabulary);

/* The code point that stands for a byte in byte-level pieces, and back (-1: stands for none). */
uint32_t byte_level_code_point(uint8_t byte);
int byte_level_byte(uint32_t code_point);

#endif
