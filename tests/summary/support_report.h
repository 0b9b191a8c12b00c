/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports for the writers' tests. Anything that fails ends the test.
 */
#ifndef KVERN_TESTS_SUMMARY_SUPPORT_REPORT_H
#define KVERN_TESTS_SUMMARY_SUPPORT_REPORT_H

#include "summary/report.h"

/* A small run with one of each: a file of one chunk, one of three (ok, cut, failed), one that was
 * not reached, a directory's summary, skips of two reasons. `order` 0 or 1: two orders in which the
 * same results come. */
void support_sample_report(struct report *report, int order);

/* All its texts, paths and names are `text`, or hold it. */
void support_hostile_report(struct report *report, const char *text);

#endif
