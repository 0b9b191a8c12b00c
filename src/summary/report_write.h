/* SPDX-License-Identifier: Apache-2.0
 *
 * A finished report as text: Markdown, JSON, JSON Lines or one HTML page. Equal reports give equal
 * bytes; times, and which results came from the cache, stand nowhere but in totals (JSON tells of
 * each result whether it was cached). No text of a model or name of a file can leave its place.
 */
#ifndef KVERN_SUMMARY_REPORT_WRITE_H
#define KVERN_SUMMARY_REPORT_WRITE_H

#include "base/buffer.h"
#include "summary/report.h"

enum report_format { REPORT_MARKDOWN, REPORT_JSON, REPORT_JSONL, REPORT_HTML };

/* "md", "json", "jsonl", "html"; else KVERN_INVALID, naming those. */
kvern_status report_format_parse(const char *name, enum report_format *format, kvern_error *err);

/* Each appends to `out`, whose has_failed tells that memory ran out. The report must be finished.
 */
void report_write_markdown(const struct report *report, struct buffer *out);
void report_write_json(const struct report *report, struct buffer *out);
void report_write_jsonl(const struct report *report, struct buffer *out);
void report_write_html(const struct report *report, struct buffer *out);

/* One of the four. */
kvern_status report_write(const struct report *report, enum report_format format,
                          struct buffer *out, kvern_error *err);
/* The same into a file that appears whole or not at all. */
kvern_status report_write_file(const struct report *report, enum report_format format,
                               const char *path, kvern_error *err);

/* Single lines of JSON Lines, for results as they come; report_write_jsonl() is made of the same.
 * {"type": "chunk" | "file" | "directory" | "skipped" | "totals", ...}; the report need be finished
 * for totals only. */
void report_jsonl_chunk(const struct report_file *file, const struct report_chunk *chunk,
                        struct buffer *out);
void report_jsonl_file(const struct report_file *file, struct buffer *out);
void report_jsonl_directory(const struct report_directory *directory, struct buffer *out);
void report_jsonl_skip(const struct report_skip *skip, struct buffer *out);
void report_jsonl_totals(const struct report *report, struct buffer *out);

#endif
