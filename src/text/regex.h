/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns of tokenizer files, which are written for Oniguruma, run on PCRE2: the few spellings
 * that mean something else there are translated, and those that cannot be are refused. A match has
 * a bound on its work, so that a hostile pattern ends in an error. A literal string is a pattern
 * too.
 */
#ifndef KVERN_TEXT_REGEX_H
#define KVERN_TEXT_REGEX_H

#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct regex {
    void *code;    /* compiled PCRE2 code; NULL for a literal */
    char *literal; /* [n_literal], owned */
    size_t n_literal;
};

/* What one thread needs to match; any regex may use it. */
struct regex_scratch {
    void *data;
    void *context;
};

kvern_status regex_open(struct regex *regex, const char *pattern, size_t n_bytes, kvern_error *err);
kvern_status regex_open_literal(struct regex *regex, const char *text, size_t n_bytes,
                                kvern_error *err);
/* A "pattern" of a tokenizer.json: {"Regex": "..."} or {"String": "..."}. */
kvern_status regex_open_json(struct regex *regex, const json_t *json, kvern_error *err);
void regex_close(struct regex *regex);

kvern_status regex_scratch_init(struct regex_scratch *scratch, kvern_error *err);
void regex_scratch_clear(struct regex_scratch *scratch);

/* The first match at or after `from` in `text` (valid UTF-8, from at a character's start); *found
 * is false when there is none. */
kvern_status regex_find(const struct regex *regex, struct regex_scratch *scratch, const char *text,
                        size_t n_bytes, size_t from, bool *found, size_t *begin, size_t *end,
                        kvern_error *err);

#endif
