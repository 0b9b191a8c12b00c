/* SPDX-License-Identifier: Apache-2.0
 *
 * Python's view of text for chat templates: white space, string escapes, printable characters. Pure
 * functions on UTF-8 bytes; code points where Python has code points.
 */
#ifndef KVERN_TEXT_JINJA_STRING_H
#define KVERN_TEXT_JINJA_STRING_H

#include "text/jinja_ast.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the white space character (Python's str.isspace) at text, 0 if it is none. */
size_t jinja_space_bytes(const char *text, size_t n_bytes);
/* The length of text without white space at its end. */
size_t jinja_rstrip_bytes(const char *text, size_t n_bytes);
/* Decodes the escapes of a string literal into the arena; false without memory. */
bool jinja_unescape(struct jinja_arena *arena, const char *text, size_t n_bytes,
                    struct jinja_text *out);
size_t jinja_count_code_points(const char *text, size_t n_bytes);
/* The byte offset of code point `index`, at most n_bytes. */
size_t jinja_offset_of(const char *text, size_t n_bytes, size_t index);
/* The byte offset of `needle` at or after `from`; SIZE_MAX if it is not there. */
size_t jinja_find(const char *text, size_t n_bytes, size_t from, const char *needle,
                  size_t n_needle);
/* Python's str.isprintable for one code point. */
bool jinja_is_printable(uint32_t code_point);
/* Python's repr of a float, at most 32 bytes. */
void jinja_format_float(double number, char text[32]);

#endif
