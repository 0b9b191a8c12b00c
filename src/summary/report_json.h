/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a report as JSON objects: JSON has them nested, JSON Lines one by one.
 */
#ifndef KVERN_SUMMARY_REPORT_JSON_H
#define KVERN_SUMMARY_REPORT_JSON_H

#include "summary/report.h"

#include <jansson.h>

/* New references; NULL: no memory. None has the parts below it. */
json_t *report_chunk_json(const struct report_chunk *chunk);
json_t *report_file_json(const struct report_file *file);
json_t *report_directory_json(const struct report_directory *directory);
json_t *report_skip_json(const struct report_skip *skip);
/* Model, options, counts, times, languages. */
json_t *report_totals_json(const struct report *report);

#endif
