/* SPDX-License-Identifier: Apache-2.0
 *
 * A report as JSON Lines: one object a chunk, file, directory and skipped file, the totals last.
 */
#include "summary/report_json.h"
#include "summary/report_write.h"

#include <stdlib.h>

/* One line {"type": type, "file": path, members of `fields`}; takes the reference. */
static void add_line(const char *type, const char *path, json_t *fields, struct buffer *out)
{
    json_t *line = json_object();
    char *text = NULL;

    if (!fields || !line || json_object_set_new(line, "type", json_string(type)) != 0 ||
        (path && json_object_set_new(line, "file", json_string(path)) != 0) ||
        json_object_update(line, fields) != 0)
        goto done;
    text = json_dumps(line, JSON_COMPACT);
done:
    if (text) {
        buffer_add_string(out, text);
        buffer_add_byte(out, '\n');
    } else {
        out->has_failed = true;
    }
    free(text);
    json_decref(fields);
    json_decref(line);
}

void report_jsonl_chunk(const struct report_file *file, const struct report_chunk *chunk,
                        struct buffer *out)
{
    add_line("chunk", file->path, report_chunk_json(chunk), out);
}

void report_jsonl_file(const struct report_file *file, struct buffer *out)
{
    add_line("file", NULL, report_file_json(file), out);
}

void report_jsonl_directory(const struct report_directory *directory, struct buffer *out)
{
    add_line("directory", NULL, report_directory_json(directory), out);
}

void report_jsonl_skip(const struct report_skip *skip, struct buffer *out)
{
    add_line("skipped", NULL, report_skip_json(skip), out);
}

void report_jsonl_totals(const struct report *report, struct buffer *out)
{
    add_line("totals", NULL, report_totals_json(report), out);
}

void report_write_jsonl(const struct report *report, struct buffer *out)
{
    for (size_t i = 0; i < report->n_directories; i++) {
        const struct report_directory *directory = report->sorted[i];

        for (size_t j = 0; j < directory->n_files; j++) {
            const struct report_file *file = directory->files[j];

            for (size_t k = 0; k < file->n_chunks; k++)
                report_jsonl_chunk(file, &file->chunks[k], out);
            report_jsonl_file(file, out);
        }
        report_jsonl_directory(directory, out);
    }
    for (size_t i = 0; i < report->n_skips; i++)
        report_jsonl_skip(&report->skips[i], out);
    report_jsonl_totals(report, out);
}
