/* SPDX-License-Identifier: Apache-2.0
 *
 * The "added_tokens" of a tokenizer.json: texts that become one token before the model sees the
 * rest. A control token (special, or spelled like markup: <...> or [...]) is only recognised where
 * the caller allows it.
 */
#ifndef KVERN_TEXT_ADDED_TOKENS_H
#define KVERN_TEXT_ADDED_TOKENS_H

#include "base/map.h"
#include "kvern.h"
#include "text/aligned_text.h"

struct added_token {
    int32_t id;
    bool is_control;
    bool is_single_word;
    bool strips_left;
    bool strips_right;
};

/* Tokens looked for in one pass: the longest at each place wins. */
struct added_set {
    struct map texts;           /* text -> index into tokens */
    struct added_token *tokens; /* [n_tokens], owned */
    size_t n_tokens;
    uint32_t *lengths; /* [n_lengths] distinct text lengths, longest first; owned */
    size_t n_lengths;
    uint64_t starts[1024]; /* bit (first byte << 8 | second) set: a token may start so */
};

/* A part of the text: one added token, or ordinary text. */
struct added_part {
    size_t begin;
    size_t end;
    int32_t id; /* -1: ordinary */
};

/* Ranges of the caller's text that may hold control tokens, in order, none touching another. */
struct trusted_ranges {
    const struct origin *ranges; /* [n] */
    size_t n;
};

bool added_set_add(struct added_set *set, const char *text, size_t n_bytes,
                   struct added_token token);
/* Appends the parts of `text` (struct added_part) to `parts`; false: out of memory. */
bool added_set_split(const struct added_set *set, const struct aligned_text *text,
                     struct trusted_ranges trusted, struct buffer *parts);
void added_set_clear(struct added_set *set);

#endif
