/* SPDX-License-Identifier: Apache-2.0
 *
 * The first half of cleaning: an answer's lines become one line of prose. Fences, echoes, code,
 * headings and labels go; list items are joined by ';' behind a ':' and are sentences elsewhere.
 */
#ifndef KVERN_SUMMARY_CLEAN_LINES_H
#define KVERN_SUMMARY_CLEAN_LINES_H

#include "base/buffer.h"
#include "summary/clean.h"

struct clean_prose {
    struct buffer text;   /* has_failed: out of memory */
    bool is_empty_answer; /* nothing but white space came */
    bool is_in_thought;   /* it ended inside <think> */
    size_t n_code;        /* lines dropped as code */
    size_t n_echoes;      /* lines dropped as the prompt's */
};

/* `keeps_all`: headings are prose too, and so are sentences in fences: for an answer that has
 * nothing else. */
void clean_lines(const char *answer, size_t n_bytes, const struct clean_options *options,
                 bool keeps_all, struct clean_prose *prose);

#endif
