/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers and facts as people read them, for the two formats made for people.
 */
#ifndef KVERN_SUMMARY_REPORT_TEXT_H
#define KVERN_SUMMARY_REPORT_TEXT_H

#include "base/buffer.h"
#include "summary/report.h"

/* "12,345". */
void report_text_count(struct buffer *out, size_t count);
/* "1 file", "2 files": `one` with an s. */
void report_text_counted(struct buffer *out, size_t count, const char *one);
/* "0.4 s", "3 min 20 s", "2 h 5 min". */
void report_text_duration(struct buffer *out, double seconds);
/* "3 of 5 chunks have a summary, 2 failed, 1 was not reached": what counts say. */
void report_text_outcome(struct buffer *out, const struct report_counts *counts);

typedef void (*report_fact_fn)(struct buffer *out, const char *name, const char *value);
/* How the run was made and what it took, by add(): model, options, time, the model's work. What is
 * not known is left out. */
void report_text_facts(struct buffer *out, const struct report *report, report_fact_fn add);

#endif
