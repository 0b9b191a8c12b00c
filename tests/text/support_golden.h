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
#include <stdint.h>

/* A file of tests/golden/tokens, NUL-terminated; the caller frees it. */
char *golden_file(const char *name, size_t *n_bytes);

/* The lines of lines.json: JSON strings. */
struct golden_lines {
    json_t **lines; /* [n] */
    size_t n;
};
void golden_lines_load(struct golden_lines *lines);
void golden_lines_free(struct golden_lines *lines);

uint32_t golden_crc(const char *bytes, size_t n_bytes);
/* CRC-32 of the ids written as "id,id,...", as make_tokens.py takes it. */
uint32_t golden_crc_of_ids(const kvern_tokens *tokens);

struct tokenizer *golden_open(const char *json, size_t n_bytes);

#endif
