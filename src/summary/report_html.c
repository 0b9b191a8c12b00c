/* SPDX-License-Identifier: Apache-2.0
 *
 * A report as one HTML page that loads nothing: the tree in <details>, a search box, totals, and
 * what has no summary. Its policy (CSP) lets only its own style and script run, told by their
 * hashes; all other text is escaped.
 */
#include "summary/report_page.h"
#include "summary/report_text.h"
#include "summary/report_write.h"

#include <openssl/evp.h>
#include <string.h>

enum { OPEN_FILES = 40 }; /* a report of no more files begins with all its directories open */

static void add(struct buffer *out, const char *text)
{
    buffer_add_string(out, text);
}

static void add_escaped(struct buffer *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '&')
            add(out, "&amp;");
        else if (*c == '<')
            add(out, "&lt;");
        else if (*c == '>')
            add(out, "&gt;");
        else if (*c == '"')
            add(out, "&quot;");
        else if (*c == '\'')
            add(out, "&#39;");
        else
            buffer_add_byte(out, *c);
    }
}

/* <tag>text</tag> */
static void add_element(struct buffer *out, const char *tag, const char *text)
{
    buffer_add_format(out, "<%s>", tag);
    add_escaped(out, text);
    buffer_add_format(out, "</%s>", tag);
}

/* ---- the page's head ---- */

/* 'sha256-...' of what stands between an element's tags */
static void add_hash(struct buffer *out, const char *content)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned char base64[2 * EVP_MAX_MD_SIZE];
    unsigned n_bytes = 0;

    if (EVP_Digest(content, strlen(content), digest, &n_bytes, EVP_sha256(), NULL) != 1)
        n_bytes = 0; /* the page shows without style and script */
    EVP_EncodeBlock(base64, digest, (int)n_bytes);
    buffer_add_format(out, "'sha256-%s'", (const char *)base64);
}

static void add_head(const struct report *report, struct buffer *out)
{
    add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
             "style-src ");
    add_hash(out, report_page_style);
    add(out, "; script-src ");
    add_hash(out, report_page_script);
    add(out, "; base-uri 'none'; form-action 'none'\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    add(out, "Summary of ");
    add_escaped(out, report->title);
    add(out, "</title>\n<style>");
    add(out, report_page_style);
    add(out, "</style>\n</head>\n<body>\n");
}

static void add_overview(const struct report *report, struct buffer *out)
{
    const struct report_counts *counts = &report->counts;

    add(out, "<h1>Summary of ");
    add_element(out, "code", report->title);
    add(out, "</h1>\n<p>");
    report_text_counted(out, counts->n_files, "file");
    add(out, " of ");
    report_text_counted(out, counts->n_lines, "line");
    add(out, "; ");
    report_text_outcome(out, counts);
    add(out, ".");
    if (report->is_interrupted)
        add(out, " <strong class=\"bad\">The run was interrupted: this is what was done until "
                 "then.</strong>");
    add(out, "</p>\n<input id=\"search\" type=\"search\" placeholder=\"Search paths and "
             "summaries\" aria-label=\"Search paths and summaries\" hidden>\n"
             "<p id=\"found\" class=\"soft\" role=\"status\"></p>\n");
}

/* ---- the tree ---- */

static void add_lines(struct buffer *out, size_t first, size_t last)
{
    if (first == last)
        buffer_add_format(out, "line %zu", first);
    else
        buffer_add_format(out, "lines %zu\xe2\x80\x93%zu", first, last); /* an en dash */
}

static void add_result(struct buffer *out, const struct report_result *result)
{
    if (result->summary)
        add_escaped(out, result->summary);
    if (result->status != REPORT_CUT && result->status != REPORT_FAILED)
        return;
    add(out, result->status == REPORT_FAILED ? " <em class=\"bad\">" : " <em class=\"soft\">");
    add(out, report_status_name(result->status));
    if (result->reason) {
        add(out, ": ");
        add_escaped(out, result->reason);
    }
    add(out, "</em>");
}

static void add_chunk(struct buffer *out, const struct report_chunk *chunk)
{
    add(out, "<li><strong>");
    add_lines(out, chunk->first_line, chunk->last_line);
    add(out, "</strong> ");
    if (chunk->name) {
        add_element(out, "code", chunk->name);
        add(out, " ");
    }
    if (chunk->result.status == REPORT_PENDING)
        add(out, "<em class=\"soft\">not reached</em>");
    add_result(out, &chunk->result);
    add(out, "</li>\n");
}

static void add_file(struct buffer *out, const struct report_file *file)
{
    const struct report_result *shown = report_file_result(file);

    add(out, "<details class=\"file\" data-path=\"");
    add_escaped(out, file->path);
    add(out, "\"><summary>");
    add_element(out, "code", file->name);
    add(out, " <span class=\"soft\">");
    add_escaped(out, file->language[0] ? file->language : "other");
    add(out, ", ");
    report_text_counted(out, file->n_lines, "line");
    if (file->counts.n_failed > 0)
        buffer_add_format(out, ", <span class=\"bad\">%zu failed</span>", file->counts.n_failed);
    if (file->counts.n_pending > 0)
        buffer_add_format(out, ", %zu not reached", file->counts.n_pending);
    add(out, "</span>");
    if (shown || file->result.status == REPORT_FAILED) {
        add(out, " ");
        add_result(out, shown ? shown : &file->result);
    }
    add(out, "</summary>\n<ul>\n");
    for (size_t i = 0; i < file->n_chunks; i++)
        add_chunk(out, &file->chunks[i]);
    add(out, "</ul>\n</details>\n");
}

static void open_directory(struct buffer *out, const struct report_directory *directory,
                           bool is_open)
{
    add(out, is_open ? "<details class=\"directory\" open><summary>"
                     : "<details class=\"directory\"><summary>");
    add_element(out, "code", directory->name);
    add(out, " <span class=\"soft\">");
    report_text_counted(out, directory->below.n_files, "file");
    add(out, ", ");
    report_text_counted(out, directory->below.n_lines, "line");
    add(out, "</span></summary>\n");
    if (directory->result.status != REPORT_PENDING) {
        add(out, "<p>");
        add_result(out, &directory->result);
        add(out, "</p>\n");
    }
    for (size_t i = 0; i < directory->n_files; i++)
        add_file(out, directory->files[i]);
}

/* A directory's element stays open until one comes that is not in it. */
static void add_tree(const struct report *report, struct buffer *out)
{
    const struct report_directory *open = NULL;

    add(out, "<main id=\"tree\">\n");
    for (size_t i = 0; i < report->n_directories; i++) {
        const struct report_directory *directory = report->sorted[i];

        for (; open != directory->parent; open = open->parent)
            add(out, "</details>\n");
        open_directory(out, directory, i == 0 || report->n_files <= OPEN_FILES);
        open = directory;
    }
    for (; open; open = open->parent)
        add(out, "</details>\n");
    add(out, "</main>\n");
}

/* ---- totals, and what has no summary ---- */

static void add_counts_row(struct buffer *out, const char *name, const struct report_counts *counts)
{
    const size_t columns[] = {counts->n_files, counts->n_lines, counts->n_chunks, counts->n_failed,
                              counts->n_pending};

    add(out, "<tr>");
    add_element(out, "td", name);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        add(out, "<td class=\"n\">");
        report_text_count(out, columns[i]);
        add(out, "</td>");
    }
    add(out, "</tr>\n");
}

static void add_table_head(struct buffer *out, const char *first)
{
    buffer_add_format(out,
                      "<table>\n<tr><th>%s</th><th class=\"n\">files</th><th class=\"n\">lines</th>"
                      "<th class=\"n\">chunks</th><th class=\"n\">failed</th>"
                      "<th class=\"n\">not reached</th></tr>\n",
                      first);
}

static void add_pair(struct buffer *out, const char *name, const char *value)
{
    add(out, "<tr>");
    add_element(out, "td", name);
    add_element(out, "td", value);
    add(out, "</tr>\n");
}

static void add_totals(const struct report *report, struct buffer *out)
{
    const struct report_counts *counts = &report->counts;

    add(out, "<h2>Totals</h2>\n");
    add_table_head(out, "language");
    for (size_t i = 0; i < report->n_languages; i++) {
        const char *name = report->languages[i].name;

        add_counts_row(out, name[0] ? name : "other", &report->languages[i].counts);
    }
    add_counts_row(out, "all", counts);
    add(out, "</table>\n");
    add_table_head(out, "directory");
    for (size_t i = 0; i < report->n_directories; i++) {
        if (report->sorted[i]->n_files > 0)
            add_counts_row(out, report->sorted[i]->path, &report->sorted[i]->counts);
    }
    add(out, "</table>\n<table>\n");
    report_text_facts(out, report, add_pair);
    add(out, "</table>\n");
}

static void add_failure(const char *path, const struct report_chunk *chunk, const char *reason,
                        void *data)
{
    struct buffer *out = data;

    add(out, "<tr><td>");
    add_element(out, "code", path);
    add(out, "</td><td>");
    if (chunk)
        add_lines(out, chunk->first_line, chunk->last_line);
    else
        add(out, "as a whole");
    add(out, "</td>");
    add_element(out, "td", reason);
    add(out, "</tr>\n");
}

static void add_failures(const struct report *report, struct buffer *out)
{
    if (report->counts.n_failed + report->counts.n_failed_above == 0)
        return;
    add(out, "<h2>Failed</h2>\n<table>\n<tr><th>path</th><th>what</th><th>why</th></tr>\n");
    report_each_failure(report, add_failure, out);
    add(out, "</table>\n");
}

static void add_skips(const struct report *report, struct buffer *out)
{
    const struct report_skip *skips = report->skips;

    if (report->n_skips > 0)
        add(out, "<h2>Skipped</h2>\n");
    for (size_t first = 0, end; first < report->n_skips; first = end) {
        end = first + report_skip_group(report, first);
        add(out, "<details><summary>");
        add_escaped(out, skips[first].reason[0] ? skips[first].reason : "no reason");
        add(out, " <span class=\"soft\">");
        report_text_count(out, end - first);
        add(out, "</span></summary>\n<ul>\n");
        for (size_t i = first; i < end; i++) {
            add(out, "<li>");
            add_element(out, "code", skips[i].path);
            add(out, "</li>\n");
        }
        add(out, "</ul>\n</details>\n");
    }
}

void report_write_html(const struct report *report, struct buffer *out)
{
    add_head(report, out);
    add_overview(report, out);
    add_tree(report, out);
    add_totals(report, out);
    add_failures(report, out);
    add_skips(report, out);
    add(out, "<script>");
    add(out, report_page_script);
    add(out, "</script>\n</body>\n</html>\n");
}
