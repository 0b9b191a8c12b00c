/* SPDX-License-Identifier: Apache-2.0
 *
 * Summaries by the content they were made from, kept on disk between runs: a second run asks no
 * model for what has not changed, and a killed one goes on. Each result is appended as it comes. A
 * kill at any moment costs at most the record being written; damaged records are passed over.
 *
 * A directory holds "current", which grows, "previous", which does not, and "lock". When current
 * is full it becomes previous, and the previous one goes; what is found in previous is copied to
 * current, so what is used stays. Many processes may use one directory at once: they append whole
 * records, one at a time. It never decides what is worth keeping: callers put no failures in.
 */
#ifndef KVERN_SUMMARY_SUMMARY_CACHE_H
#define KVERN_SUMMARY_SUMMARY_CACHE_H

#include "base/map.h"
#include "kvern.h"
#include "summary/cache_record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUMMARY_CACHE_MAX_BYTES = 64 << 20 }; /* by default: some 200,000 summaries */

/* What a result depends on. */
struct summary_source {
    const uint8_t *fingerprint; /* [16] of the model */
    const char *options;        /* all that changes answers, as text */
    const char *prompt_version; /* of the prompt's wording and the cleaning */
    const void *content;        /* [n_content] the chunk's bytes, or the summaries put together */
    size_t n_content;
};

/* The hash (XXH3, 128 bit) of all of them. */
void summary_cache_key(const struct summary_source *source, uint8_t key[CACHE_KEY_BYTES]);

struct cached_summary {
    char *text; /* owned, with a NUL behind it */
    size_t n_text;
    uint32_t flags; /* the caller's own */
    uint32_t n_tokens_in;
    uint32_t n_tokens_out;
};

void cached_summary_clear(struct cached_summary *cached);

/* One of the two files, and how far it is known. */
struct cache_segment {
    int fd;         /* -1: not there */
    size_t n_known; /* bytes that were read */
};

struct cache_place {
    uint8_t segment; /* 0: current, 1: previous */
    uint32_t n_text;
    uint64_t offset;
};

/* One thread at a time. */
struct summary_cache {
    char *directory; /* owned; NULL: closed */
    size_t max_bytes;
    int lock;
    struct cache_segment segments[2];
    struct cache_place *places; /* [n_places] */
    size_t n_places;
    size_t place_capacity;
    struct map by_key; /* key -> index of its place */
};

/* "summaries-1" in kvern's cache directory; malloc'ed. */
char *summary_cache_directory(void);
/* Makes the directory if it is not there, and cuts a torn record off. KVERN_BUSY: another process
 * has held the lock for seconds. Both files together stay under `max_bytes` (0: the default). */
kvern_status summary_cache_open(struct summary_cache *cache, const char *directory,
                                size_t max_bytes, kvern_error *err);
/* Zeroed is fine. */
void summary_cache_close(struct summary_cache *cache);

/* Is it there? Then `cached` is filled. What other processes wrote since the last put or open is
 * not seen. */
bool summary_cache_get(struct summary_cache *cache, const uint8_t key[CACHE_KEY_BYTES],
                       struct cached_summary *cached);
/* Appends a result; a later one of the same key counts. On failure the cache is as before and can
 * be used on: KVERN_LIMIT for a text over CACHE_MAX_TEXT_BYTES, KVERN_IO, KVERN_BUSY. */
kvern_status summary_cache_put(struct summary_cache *cache, const struct cache_record *record,
                               kvern_error *err);

#endif
