/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of formats, and reports into files.
 */
#include "summary/report_write.h"

#include "base/error.h"
#include "base/file.h"

#include <string.h>

static const struct {
    const char *name;
    void (*write)(const struct report *report, struct buffer *out);
} formats[] = {
    [REPORT_MARKDOWN] = {"md", report_write_markdown},
    [REPORT_JSON] = {"json", report_write_json},
    [REPORT_JSONL] = {"jsonl", report_write_jsonl},
    [REPORT_HTML] = {"html", report_write_html},
};

kvern_status report_format_parse(const char *name, enum report_format *format, kvern_error *err)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *format = (enum report_format)i;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_INVALID, "a report has the format md, json, jsonl or html, not %s",
                name);
}

kvern_status report_write(const struct report *report, enum report_format format,
                          struct buffer *out, kvern_error *err)
{
    formats[format].write(report, out);
    if (out->has_failed)
        return fail(err, KVERN_MEMORY, "out of memory for a report of %zu files", report->n_files);
    return KVERN_OK;
}

kvern_status report_write_file(const struct report *report, enum report_format format,
                               const char *path, kvern_error *err)
{
    struct buffer text = {0};
    struct file_writer writer = {0};
    kvern_status status = report_write(report, format, &text, err);

    file_remove_leftovers(path);
    if (status == KVERN_OK)
        status = file_writer_open(&writer, path, err);
    if (status == KVERN_OK)
        status = file_writer_put(&writer, text.data, text.n_bytes, err);
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, err);
    file_writer_clear(&writer);
    buffer_clear(&text);
    return status;
}
