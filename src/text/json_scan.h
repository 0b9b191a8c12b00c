/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the two large parts of a tokenizer.json, vocabulary and merges, straight out of the text:
 * a tree of a hundred thousand strings would take three quarters of the loading time. Strict where
 * it reads; what it only steps over is left for the real parser to judge.
 */
#ifndef KVERN_TEXT_JSON_SCAN_H
#define KVERN_TEXT_JSON_SCAN_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_scan {
    const char *at;
    const char *end;
};

/* A value inside a text. */
struct json_span {
    const char *begin; /* NULL: no such value */
    const char *end;
    size_t n_items; /* an upper bound on an object's members or an array's items */
};

/* The last member `name` of the object at the start of [begin, end): where its value lies. false:
 * the text is not an object as far as one can see by stepping over it. */
bool json_scan_member(const char *begin, const char *end, const char *name,
                      struct json_span *value);

/* Each skips white space; false: something else stands there, and the scan is where it was. */
bool json_scan_mark(struct json_scan *scan, char mark);
/* Gives the string's text, in place or in `scratch`, until the next call. */
bool json_scan_string(struct json_scan *scan, struct buffer *scratch, const char **text,
                      size_t *n_bytes);
bool json_scan_integer(struct json_scan *scan, int64_t *value);
/* Rounds as Rust's serde_json does, which may be one unit away from the nearest double: scores must
 * be Hugging Face's to the bit for ties to break alike. false also for a number over the range. */
bool json_scan_number(struct json_scan *scan, double *value);

#endif
