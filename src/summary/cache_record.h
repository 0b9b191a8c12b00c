/* SPDX-License-Identifier: Apache-2.0
 *
 * One result as bytes of the summary cache: a header of 48 bytes, little-endian, and the text.
 * Records stand one after another; any that is damaged is told by its hash and passed over. Pure.
 */
#ifndef KVERN_SUMMARY_CACHE_RECORD_H
#define KVERN_SUMMARY_CACHE_RECORD_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CACHE_KEY_BYTES = 16,
    CACHE_HEADER_BYTES = 48,
    CACHE_MAX_TEXT_BYTES = 65536,
};

struct cache_record {
    uint8_t key[CACHE_KEY_BYTES];
    uint32_t flags; /* the caller's */
    uint32_t n_tokens_in;
    uint32_t n_tokens_out;
    const char *text; /* [n_text], borrowed */
    size_t n_text;
};

/* Appends its bytes. n_text is CACHE_MAX_TEXT_BYTES at most. */
void cache_record_write(const struct cache_record *record, struct buffer *out);
/* The first whole record that begins at *at or later: fills `record`, whose text points into
 * `bytes`, and sets *at to its first byte. false: there is none. */
bool cache_record_find(const uint8_t *bytes, size_t n_bytes, size_t *at,
                       struct cache_record *record);

#endif
