/* SPDX-License-Identifier: Apache-2.0
 *
 * Source text read byte by byte without what is in its comments and strings, by a few rules that
 * hold for many languages. What it gets wrong (a regular expression with a quote, nested comments)
 * ends with the line or the next quote: it finds borders, it is no compiler. Pure.
 */
#ifndef KVERN_SUMMARY_SCANNER_H
#define KVERN_SUMMARY_SCANNER_H

#include "summary/language.h"

enum scanner_state {
    SCANNER_CODE,
    SCANNER_LINE_COMMENT,
    SCANNER_BLOCK_COMMENT,
    SCANNER_STRING,
    SCANNER_SKIPPED_LINE, /* of the preprocessor */
};

/* What scanner_next() gives besides bytes of code and '\n'. */
enum { SCANNER_END = -1, SCANNER_COMMENT = 256, SCANNER_TEXT, SCANNER_PREPROCESSOR };

struct scanner {
    const struct language *language;
    const char *text;
    size_t n_bytes;
    size_t at; /* the next byte */
    enum scanner_state state;
    char quote;         /* of SCANNER_STRING */
    unsigned n_quotes;  /* 1, or 3 of a triple quote */
    bool is_multiline;  /* the string may hold newlines */
    bool is_line_begin; /* nothing but spaces since the last newline */
};

void scanner_init(struct scanner *scanner, const struct language *language, const char *text,
                  size_t n_bytes);
/* The next byte of code, each newline (also those inside comments and strings: `state` says), one
 * SCANNER_COMMENT where a comment begins, one SCANNER_TEXT for a string, one SCANNER_PREPROCESSOR
 * for a line of it, or SCANNER_END. `position` is where it stands in the text. Spaces are given,
 * too. */
int scanner_next(struct scanner *scanner, size_t *position);

#endif
