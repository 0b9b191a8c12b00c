/* SPDX-License-Identifier: Apache-2.0
 *
 * What a model is asked, as tokens: a chat model is given an instruction and the text, an
 * encoder-decoder the text behind the prefix it was trained with. Equal input gives equal tokens;
 * whoever changes a word here changes ASK_VERSION, so that no old answer is taken for a new one.
 */
#ifndef KVERN_SUMMARY_ASK_H
#define KVERN_SUMMARY_ASK_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>

enum { ASK_VERSION = 1 };

enum ask_kind {
    ASK_CHUNK,     /* a part of a source file */
    ASK_PATCH,     /* a part of a change */
    ASK_FILE,      /* the text is summaries of its parts, a line each */
    ASK_DIRECTORY, /* the text is summaries of what is in it, a line each */
};

struct ask {
    enum ask_kind kind;
    const char *path;     /* of the file or directory */
    const char *language; /* of a chunk; NULL: not known */
    const char *name;     /* of a chunk's function or class; NULL: none */
    const char *text;     /* [n_bytes] */
    size_t n_bytes;
};

/* An encoder-decoder summarises sources alone: what it wrote itself is no input it knows. */
bool ask_is_possible(const kvern_model *model, enum ask_kind kind);
/* What a chat model's answer is made to begin with, as the question asks for it; "" of others. */
const char *ask_answer_begin(const kvern_model *model, enum ask_kind kind);
/* `tokens` is cleared by the caller. *instruction, malloc'ed, is what an answer might echo: all
 * that was asked but the text. */
kvern_status ask_tokens(const kvern_model *model, const struct ask *ask, kvern_tokens *tokens,
                        char **instruction, kvern_error *err);
/* The tokens that are not the text's own, at most, for a path of usual length. */
kvern_status ask_count_overhead(const kvern_model *model, enum ask_kind kind, size_t *n_tokens,
                                kvern_error *err);

#endif
