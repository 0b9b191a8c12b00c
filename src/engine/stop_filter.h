/* SPDX-License-Identifier: Apache-2.0
 *
 * Stop strings in a stream of text: passes text on, but holds back what may be the beginning of a
 * stop string or half a character. What is passed on is complete UTF-8 and never contains any part
 * of the stop string that ended it. Where tokens begin and end makes no difference.
 */
#ifndef KVERN_ENGINE_STOP_FILTER_H
#define KVERN_ENGINE_STOP_FILTER_H

#include "base/buffer.h"
#include "kvern.h"

enum { STOP_MAX_STRINGS = 64, STOP_MAX_BYTES = 1024 };

struct stop_filter {
    char **strings; /* [n_strings], owned */
    size_t n_strings;
    struct buffer held;
};

/* Copies the strings: at most STOP_MAX_STRINGS of 1 to STOP_MAX_BYTES bytes of valid UTF-8. */
kvern_status stop_filter_init(struct stop_filter *filter, const char *const *strings,
                              size_t n_strings, kvern_error *err);
void stop_filter_clear(struct stop_filter *filter);
/* Appends to `out` what may be shown now. true: a stop string came; the rest is dropped. */
bool stop_filter_add(struct stop_filter *filter, const char *text, size_t n_bytes,
                     struct buffer *out);
/* The same while no stop string counts: one that is complete passes on like other text. What may be
 * the beginning of one is still held back, so it counts if it is completed later. */
void stop_filter_pass(struct stop_filter *filter, const char *text, size_t n_bytes,
                      struct buffer *out);
/* The end of the text: appends what was held back; half a character becomes U+FFFD. */
void stop_filter_finish(struct stop_filter *filter, struct buffer *out);

#endif
