/* SPDX-License-Identifier: Apache-2.0
 *
 * struct buffer: doubles its memory as it grows; data[n_bytes] is always NUL once data exists.
 */
#include "base/buffer.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct buffer *buffer, size_t n_more)
{
    size_t needed;

    if (buffer->has_failed)
        return false;
    if (!add_sizes(buffer->n_bytes, n_more, &needed) || !add_sizes(needed, 1, &needed)) {
        buffer->has_failed = true;
        return false;
    }
    if (needed <= buffer->capacity)
        return true;

    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed)
        capacity = capacity > (size_t)-1 / 2 ? needed : capacity * 2;

    char *data = try_resize(buffer->data, capacity, 1);
    if (!data) {
        buffer->has_failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t n_bytes)
{
    if (!reserve(buffer, n_bytes))
        return;
    if (n_bytes)
        memcpy(buffer->data + buffer->n_bytes, bytes, n_bytes);
    buffer->n_bytes += n_bytes;
    buffer->data[buffer->n_bytes] = '\0';
}

void buffer_add_string(struct buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text));
}

void buffer_add_byte(struct buffer *buffer, char byte)
{
    buffer_add(buffer, &byte, 1);
}

void buffer_add_format(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_list again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(buffer, (size_t)n)) {
        vsnprintf(buffer->data + buffer->n_bytes, (size_t)n + 1, format, again);
        buffer->n_bytes += (size_t)n;
    }
    va_end(again);
}

void buffer_add_code_point(struct buffer *buffer, unsigned code_point)
{
    char bytes[4];
    size_t n;

    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point <= 0xdfff))
        code_point = 0xfffd;
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        n = 1;
    } else if (code_point < 0x800) {
        bytes[0] = (char)(0xc0 | code_point >> 6);
        bytes[1] = (char)(0x80 | (code_point & 0x3f));
        n = 2;
    } else if (code_point < 0x10000) {
        bytes[0] = (char)(0xe0 | code_point >> 12);
        bytes[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (code_point & 0x3f));
        n = 3;
    } else {
        bytes[0] = (char)(0xf0 | code_point >> 18);
        bytes[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (code_point & 0x3f));
        n = 4;
    }
    buffer_add(buffer, bytes, n);
}

void buffer_truncate(struct buffer *buffer, size_t n_bytes)
{
    if (n_bytes < buffer->n_bytes) {
        buffer->n_bytes = n_bytes;
        buffer->data[n_bytes] = '\0';
    }
}

char *buffer_take(struct buffer *buffer, size_t *n_bytes)
{
    char *data = NULL;

    if (reserve(buffer, 0)) {
        data = buffer->data;
        data[buffer->n_bytes] = '\0';
        if (n_bytes)
            *n_bytes = buffer->n_bytes;
        *buffer = (struct buffer){0};
    } else {
        buffer_clear(buffer);
    }
    return data;
}

void buffer_clear(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
