/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the tokenizer goldens of tests/golden/tokens. Every failure ends the test.
 */
#ifndef TESTS_TEXT_SUPPORT_GOLDEN_H
#define TESTS_TEXT_SUPPORT_GOLDEN_H

#include "kvern.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <stddef.h>

/* A file of tests/golden/tokens, NUL-terminated; the caller frees it. */
char *golden_file(const char *name, size_t *n_bytes);

/* JSON strings. Zeroed is empty. */
struct golden_lines {
    json_t **lines; /* [n] */
    size_t n;
    size_t capacity;
};
/* Appends every stride-th line of a file of tests/golden/tokens. */
void golden_lines_add(struct golden_lines *lines, const char *file, size_t stride);
void golden_lines_free(struct golden_lines *lines);

/* The goldens hold 16 bits of each CRC-32: it is a line with wrong ids among 65,536 that would not
 * be seen, and no rule is wrong in a single line. */
enum { GOLDEN_HEX = 4 };
unsigned golden_crc(const char *bytes, size_t n_bytes);
/* Of the ids written as "id,id,...", as make_tokens.py takes it. */
unsigned golden_crc_of_ids(const kvern_tokens *tokens);
/* Of the offsets written as "begin,end,begin,...". */
unsigned golden_crc_of_offsets(const kvern_tokens *tokens);
/* The CRC that `next` stands at, in hex; moves on. */
unsigned golden_next_crc(const char **next);

/* Each line's ids, tokenized with `flags`, against `crcs`; `what` is named where they differ. */
void golden_check_crcs(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                       unsigned flags, const char *crcs, const char *what);
/* The same without special tokens against the file's. */
void golden_check_ids(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                      const char *file);

/* WordPiece: the lines bert.digest and its kin are of. */
void golden_lines_add_bert(struct golden_lines *lines);
/* Each line against its row of the file: ids, offsets, and ids where control tokens are text. */
void golden_check_bert(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                       const char *file);

/* The tokenizer.json of a row of variants.json: its base with the members replaced; of the member
 * "model" only what it names. The caller frees it. */
char *golden_variant(const json_t *variant);

/* Ids and decoded texts of the variants of a file, which are over n_variants, over every stride-th
 * of the first n lines. */
void golden_check_variants(const char *file, size_t n_variants, const struct golden_lines *of,
                           size_t n, size_t stride);

struct tokenizer *golden_open(const char *json, size_t n_bytes);

#endif
