/* SPDX-License-Identifier: Apache-2.0
 *
 * The "pre_tokenizer" of a tokenizer.json: a list of steps that cut text into the words within
 * which tokens are sought. Steps: ByteLevel, Split, Digits, Punctuation, Whitespace,
 * WhitespaceSplit, Metaspace, BertPreTokenizer; a Sequence is flattened. ByteLevel's spelling of
 * bytes as printable characters is not done here: is_byte_level tells the model to read the words
 * as bytes.
 */
#ifndef KVERN_TEXT_PRETOKENIZE_H
#define KVERN_TEXT_PRETOKENIZE_H

#include "kvern.h"
#include "text/aligned_text.h"
#include "text/regex.h"

#include <jansson.h>

enum pretokenize_kind {
    PRETOKENIZE_BYTE_LEVEL,
    PRETOKENIZE_SPLIT, /* Split and Whitespace */
    PRETOKENIZE_DIGITS,
    PRETOKENIZE_PUNCTUATION,
    PRETOKENIZE_WHITESPACE_SPLIT,
    PRETOKENIZE_METASPACE,
    PRETOKENIZE_BERT,
};

/* What becomes of the matches of a step's pattern. */
enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
};

enum prepend_scheme { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

struct pretokenize_step {
    enum pretokenize_kind kind;
    enum split_behavior behavior;
    bool is_inverted;            /* Split: the gaps are the matches */
    bool splits;                 /* ByteLevel's use_regex, Metaspace's split */
    enum prepend_scheme prepend; /* ByteLevel's add_prefix_space, Metaspace's prepend_scheme */
    char *replacement;           /* Metaspace; owned */
    struct regex pattern;        /* Split, ByteLevel */
};

struct pretokenizer {
    struct pretokenize_step *steps; /* [n_steps] */
    size_t n_steps;
    bool is_byte_level;
};

/* A word: bytes [begin, end) of the text; never empty. */
struct piece {
    size_t begin;
    size_t end;
};

struct piece_list {
    struct piece *items; /* [n], owned */
    size_t n;
    size_t capacity;
};

/* `json` may be NULL or null: the text is one word. */
kvern_status pretokenizer_open(struct pretokenizer *pretokenizer, const json_t *json,
                               kvern_error *err);
void pretokenizer_close(struct pretokenizer *pretokenizer);
/* Cuts `text`, which a step may replace, into `pieces` (what was in it goes). */
kvern_status pretokenizer_run(const struct pretokenizer *pretokenizer,
                              struct regex_scratch *scratch, struct aligned_text *text,
                              struct piece_list *pieces, kvern_error *err);
void piece_list_clear(struct piece_list *pieces);

#endif
