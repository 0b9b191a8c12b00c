/* SPDX-License-Identifier: Apache-2.0
 *
 * Text on its way to tokens, which knows for every byte where in the caller's text it came from.
 * A view of the caller's own bytes costs nothing; only a step that changes the text builds a new
 * one, with an origin per byte. The bytes are always valid UTF-8.
 */
#ifndef KVERN_TEXT_ALIGNED_TEXT_H
#define KVERN_TEXT_ALIGNED_TEXT_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes [begin, end) of the caller's text. */
struct origin {
    uint32_t begin;
    uint32_t end;
};

struct aligned_text {
    const char *data; /* [n_bytes]; into `storage`, or borrowed */
    size_t n_bytes;
    const struct origin
        *origins; /* [n_bytes]; NULL: byte i is byte base + i of the caller's text */
    size_t base;
    struct buffer storage;        /* owned; empty in a view */
    struct buffer origin_storage; /* owned; empty in a view */
};

/* The longest text that offsets can address. */
#define ALIGNED_TEXT_MAX_BYTES ((size_t)1 << 30)

/* The caller's text: a view of it, or where it is ill-formed a copy with U+FFFD in place. false:
 * out of memory. */
bool aligned_text_init(struct aligned_text *out, const char *text, size_t n_bytes);
/* A view of [begin, end) of `whole`, which must outlive it. */
struct aligned_text aligned_text_slice(const struct aligned_text *whole, size_t begin, size_t end);
/* Where [begin, end), begin < end, came from: whole characters of the caller's text. */
struct origin aligned_text_origin(const struct aligned_text *text, size_t begin, size_t end);
void aligned_text_clear(struct aligned_text *text);

/* Building a changed text: start with {0}, add, then replace. */
void aligned_text_copy(struct aligned_text *out, const struct aligned_text *from, size_t begin,
                       size_t end);
void aligned_text_insert(struct aligned_text *out, const char *bytes, size_t n_bytes,
                         struct origin origin);
/* Bytes with an origin each. */
void aligned_text_add(struct aligned_text *out, const char *bytes, const struct origin *origins,
                      size_t n_bytes);
/* Clears `text`, moves `built` into it. false: memory ran out on the way; `text` is as it was and
 * `built` is cleared. */
bool aligned_text_replace(struct aligned_text *text, struct aligned_text *built);

#endif
