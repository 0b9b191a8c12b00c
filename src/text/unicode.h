/* SPDX-License-Identifier: Apache-2.0
 *
 * The character classes tokenizers ask for, and the repair of ill-formed UTF-8. Pure; the tables
 * are utf8proc's.
 */
#ifndef KVERN_TEXT_UNICODE_H
#define KVERN_TEXT_UNICODE_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unicode's White_Space property. */
bool unicode_is_white_space(uint32_t code_point);
/* General categories Nd, Nl and No. */
bool unicode_is_numeric(uint32_t code_point);
/* ASCII punctuation and symbols, and categories P* as of Unicode 8, whose tables Hugging Face's
 * tokenizers use here. */
bool unicode_is_punctuation(uint32_t code_point);
/* A word character: letters, marks, decimal digits, connectors, joiners. */
bool unicode_is_word(uint32_t code_point);
/* Categories Mn, Mc and Me. */
bool unicode_is_mark(uint32_t code_point);
/* Category Mn as of Unicode 8. */
bool unicode_is_nonspacing_mark(uint32_t code_point);
/* Categories Cc, Cf (as of Unicode 8) and Co. */
bool unicode_is_other(uint32_t code_point);

/* Does a grapheme cluster (UAX #29, extended) end between these two characters? *state is 0 where a
 * cluster begins. */
bool unicode_ends_cluster(uint32_t before, uint32_t after, int32_t *state);

/* How many bytes at `text`, which is ill-formed there, stand for one U+FFFD: the maximal subpart of
 * the Unicode standard, as Python's errors="replace" and Rust's from_utf8_lossy take it. >= 1. */
size_t unicode_ill_formed_bytes(const char *text, size_t n_bytes);
/* Appends `text` with every ill-formed part replaced by U+FFFD. */
void unicode_add_lossy(struct buffer *out, const char *text, size_t n_bytes);

#endif
