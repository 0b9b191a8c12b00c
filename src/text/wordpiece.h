/* SPDX-License-Identifier: Apache-2.0
 *
 * WordPiece: one word in, token ids out. From the left, the longest piece of the vocabulary that
 * fits; pieces that go on inside a word are spelled with a prefix ("##ing"). A word that cannot be
 * spelled to its end is the unknown token. As Hugging Face's models/wordpiece does, but that a
 * control token is never found: only text that may write one spells it, and that is taken out
 * before. The model is read-only while encoding.
 */
#ifndef KVERN_TEXT_WORDPIECE_H
#define KVERN_TEXT_WORDPIECE_H

#include "base/buffer.h"
#include "kvern.h"
#include "text/vocabulary.h"

struct wordpiece {
    const struct vocabulary *vocabulary; /* borrowed */
    int32_t unknown_id;
    size_t max_characters; /* a longer word is unknown */
    char *prefix;          /* [n_prefix_bytes], owned */
    size_t n_prefix_bytes;
    size_t max_first_bytes; /* of the longest piece that can begin a word */
    size_t max_next_bytes;  /* of the longest that can go on, without its prefix */
};

/* No piece that a word can hold may be longer: a tokenizer.json must not be able to make encoding
 * take quadratic time. Known vocabularies stay below 100. */
enum { WORDPIECE_MAX_PIECE_BYTES = 1024 };

struct wordpiece_options {
    const char *unknown;
    const char *prefix;    /* of pieces inside a word; may be "" */
    size_t max_characters; /* of a word */
};

/* The vocabulary must be complete and outlive the model. KVERN_FORMAT: it lacks the unknown token,
 * or two of its pieces share an id; KVERN_LIMIT: over WORDPIECE_MAX_PIECE_BYTES. */
kvern_status wordpiece_open(struct wordpiece *wordpiece, const struct vocabulary *vocabulary,
                            const struct wordpiece_options *options, kvern_error *err);
void wordpiece_close(struct wordpiece *wordpiece);

/* Appends the tokens of a word (struct word_token) to `out`. `scratch` keeps its memory from call
 * to call; its content does not matter. */
kvern_status wordpiece_encode(const struct wordpiece *wordpiece, struct buffer *scratch,
                              const char *word, size_t n_bytes, struct buffer *out,
                              kvern_error *err);

#endif
