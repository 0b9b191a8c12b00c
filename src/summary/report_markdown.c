/* SPDX-License-Identifier: Apache-2.0
 *
 * A report as Markdown: what was found, totals, then a section for each directory that holds files
 * and one for each of those, then what failed and what was skipped.
 */
#include "summary/markdown.h"
#include "summary/report_text.h"
#include "summary/report_write.h"

#include <string.h>

enum { MAX_SKIPS_SHOWN = 20 }; /* of one reason; JSON has them all */

static void add(struct buffer *out, const char *text)
{
    buffer_add_string(out, text);
}

/* ---- totals ---- */

static void add_row_text(struct buffer *out, const char *name, const char *value)
{
    add(out, "| ");
    markdown_text(out, name);
    add(out, " | ");
    markdown_text(out, value);
    add(out, " |\n");
}

static void add_overview(const struct report *report, struct buffer *out)
{
    const struct report_counts *counts = &report->counts;

    add(out, "# Summary of ");
    markdown_code(out, report->title, false);
    add(out, "\n\n");
    report_text_counted(out, counts->n_files, "file");
    add(out, " of ");
    report_text_counted(out, counts->n_lines, "line");
    add(out, "; ");
    report_text_outcome(out, counts);
    add(out, ".");
    if (report->is_interrupted)
        add(out, " **The run was interrupted: this is what was done until then.**");
    if (report->n_skips > 0) {
        add(out, " ");
        report_text_counted(out, report->n_skips, "path");
        add(out, report->n_skips == 1 ? " was skipped." : " were skipped.");
    }
    add(out, "\n\n| | |\n|---|---|\n");
    report_text_facts(out, report, add_row_text);
}

static void add_counts_row(struct buffer *out, const struct report_counts *counts)
{
    const size_t columns[] = {counts->n_files, counts->n_lines, counts->n_chunks, counts->n_failed,
                              counts->n_pending};

    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        add(out, " | ");
        report_text_count(out, columns[i]);
    }
    add(out, " |\n");
}

static void add_table_head(struct buffer *out, const char *first)
{
    buffer_add_format(out,
                      "\n| %s | files | lines | chunks | failed | not reached |\n"
                      "|---|---:|---:|---:|---:|---:|\n",
                      first);
}

static void add_tables(const struct report *report, struct buffer *out)
{
    if (report->n_files == 0)
        return;
    add(out, "\n## Totals\n");
    add_table_head(out, "language");
    for (size_t i = 0; i < report->n_languages; i++) {
        const char *name = report->languages[i].name;

        add(out, "| ");
        markdown_text(out, name[0] ? name : "other");
        add_counts_row(out, &report->languages[i].counts);
    }
    add(out, "| **all**");
    add_counts_row(out, &report->counts);
    add_table_head(out, "directory");
    for (size_t i = 0; i < report->n_directories; i++) {
        if (report->sorted[i]->n_files == 0)
            continue;
        add(out, "| ");
        markdown_code(out, report->sorted[i]->path, true);
        add_counts_row(out, &report->sorted[i]->counts);
    }
}

/* ---- directories, files, chunks ---- */

static void add_lines(struct buffer *out, size_t first, size_t last)
{
    if (first == last)
        buffer_add_format(out, "line %zu", first);
    else
        buffer_add_format(out, "lines %zu-%zu", first, last);
}

/* What came of it in words: the summary, what was cut, or why there is none. */
static void add_result(struct buffer *out, const struct report_result *result)
{
    if (result->summary)
        markdown_text(out, result->summary);
    if (result->status != REPORT_CUT && result->status != REPORT_FAILED)
        return;
    add(out, result->summary ? " *(" : "*(");
    add(out, report_status_name(result->status));
    if (result->reason) {
        add(out, ": ");
        markdown_text(out, result->reason);
    }
    add(out, ")*");
}

static void add_chunk(struct buffer *out, const struct report_chunk *chunk)
{
    add(out, "- **");
    add_lines(out, chunk->first_line, chunk->last_line);
    add(out, "**");
    if (chunk->name) {
        add(out, " ");
        markdown_code(out, chunk->name, false);
    }
    add(out, ": ");
    if (chunk->result.status == REPORT_PENDING)
        add(out, "*(not reached)*");
    add_result(out, &chunk->result);
    add(out, "\n");
}

static void add_file(struct buffer *out, const struct report_file *file)
{
    const struct report_result *shown = report_file_result(file);
    /* a file of one chunk says all in its own lines */
    bool has_list =
        file->n_chunks > 1 ||
        (file->n_chunks == 1 &&
         (!shown || !file->chunks[0].result.summary ||
          strcmp(shown->summary, file->chunks[0].result.summary) != 0 || file->chunks[0].name));

    add(out, "\n### ");
    markdown_code(out, file->path, false);
    add(out, "\n\n");
    if (shown || file->result.status == REPORT_FAILED) {
        add_result(out, shown ? shown : &file->result);
        add(out, "\n\n");
    }
    add(out, "*");
    markdown_text(out, file->language[0] ? file->language : "other");
    add(out, ", ");
    report_text_counted(out, file->n_lines, "line");
    if (file->n_planned > file->n_chunks)
        buffer_add_format(out, "; %zu of %zu chunks reached", file->n_chunks, file->n_planned);
    add(out, "*\n");
    if (has_list)
        add(out, "\n");
    for (size_t i = 0; has_list && i < file->n_chunks; i++)
        add_chunk(out, &file->chunks[i]);
}

static void add_directory(struct buffer *out, const struct report_directory *directory)
{
    if (directory->n_files == 0 && directory->result.status == REPORT_PENDING)
        return;
    add(out, "\n## ");
    markdown_code(out, directory->path, false);
    add(out, "\n");
    if (directory->result.status != REPORT_PENDING) {
        add(out, "\n");
        add_result(out, &directory->result);
        add(out, "\n");
    }
    for (size_t i = 0; i < directory->n_files; i++)
        add_file(out, directory->files[i]);
}

/* ---- what has no summary ---- */

static void add_failure(const char *path, const struct report_chunk *chunk, const char *reason,
                        void *data)
{
    struct buffer *out = data;

    add(out, "| ");
    markdown_code(out, path, true);
    add(out, " | ");
    if (chunk)
        add_lines(out, chunk->first_line, chunk->last_line);
    else
        add(out, "as a whole");
    add(out, " | ");
    markdown_text(out, reason);
    add(out, " |\n");
}

static void add_failures(const struct report *report, struct buffer *out)
{
    if (report->counts.n_failed + report->counts.n_failed_above == 0)
        return;
    add(out, "\n## Failed\n\n| path | what | why |\n|---|---|---|\n");
    report_each_failure(report, add_failure, out);
}

static void add_skips(const struct report *report, struct buffer *out)
{
    const struct report_skip *skips = report->skips;

    if (report->n_skips > 0)
        add(out, "\n## Skipped\n\n");
    for (size_t first = 0, end; first < report->n_skips; first = end) {
        end = first + report_skip_group(report, first);
        add(out, "- **");
        markdown_text(out, skips[first].reason[0] ? skips[first].reason : "no reason");
        add(out, "** (");
        report_text_count(out, end - first);
        add(out, "): ");
        for (size_t i = first; i < end && i < first + MAX_SKIPS_SHOWN; i++) {
            add(out, i > first ? ", " : "");
            markdown_code(out, skips[i].path, false);
        }
        if (end - first > MAX_SKIPS_SHOWN) {
            add(out, " and ");
            report_text_count(out, end - first - MAX_SKIPS_SHOWN);
            add(out, " more");
        }
        add(out, "\n");
    }
}

void report_write_markdown(const struct report *report, struct buffer *out)
{
    add_overview(report, out);
    add_tables(report, out);
    for (size_t i = 0; i < report->n_directories; i++)
        add_directory(out, report->sorted[i]);
    add_failures(report, out);
    add_skips(report, out);
}
