/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8: decoding one code point, validation, and where an incomplete tail begins.
 */
#ifndef KVERN_BASE_UTF8_H
#define KVERN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes the code point at `text` (n_bytes >= 1 left) and returns its length in bytes, 1 to 4.
 * Ill-formed input (overlong, surrogate, over U+10FFFF, cut short) gives 0 and U+FFFD. */
size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point);
bool utf8_is_valid(const char *text, size_t n_bytes);
/* The length of the longest prefix that does not end inside a code point: what a stream may show
 * now. Bytes that can never become valid count as complete. */
size_t utf8_complete_bytes(const char *text, size_t n_bytes);

#endif
