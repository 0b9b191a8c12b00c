/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing byte buffer that is always NUL-terminated, so that it doubles as a string builder.
 */
#ifndef KVERN_BASE_BUFFER_H
#define KVERN_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data; /* owned; NULL while nothing was added */
    size_t n_bytes;
    size_t capacity;
    bool has_failed; /* memory ran out: everything since was dropped */
};

/* Zero-initialised ({0}) is a valid empty buffer. Additions never return an error: they set
 * has_failed, which the caller checks once at the end. */
void buffer_add(struct buffer *buffer, const void *bytes, size_t n_bytes);
void buffer_add_string(struct buffer *buffer, const char *text);
void buffer_add_byte(struct buffer *buffer, char byte);
void buffer_add_format(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends the UTF-8 form of a code point (U+FFFD for surrogates and values over U+10FFFF). */
void buffer_add_code_point(struct buffer *buffer, unsigned code_point);
void buffer_truncate(struct buffer *buffer, size_t n_bytes);
/* Gives the string away (an empty one if nothing was added; NULL if memory ran out); the buffer is
 * empty afterwards. The caller frees it. */
char *buffer_take(struct buffer *buffer, size_t *n_bytes);
void buffer_clear(struct buffer *buffer);

#endif
