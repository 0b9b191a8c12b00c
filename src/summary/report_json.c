/* SPDX-License-Identifier: Apache-2.0
 *
 * A report as JSON. jansson's setters take the reference they are given and fail on NULL, so a
 * failure anywhere inside makes the whole NULL. Members stand in the order they are set.
 */
#include "summary/report_json.h"

#include "summary/report_write.h"

#include <math.h>
#include <stdlib.h>

/* Sets one member; `*object` becomes NULL when that fails. */
static void set(json_t **object, const char *name, json_t *value)
{
    if (!*object) {
        json_decref(value);
    } else if (json_object_set_new(*object, name, value) != 0) {
        json_decref(*object);
        *object = NULL;
    }
}

static void set_count(json_t **object, const char *name, size_t count)
{
    set(object, name, json_integer((json_int_t)count));
}

/* Rounded, so that a sum of times prints short. */
static void set_seconds(json_t **object, const char *name, double seconds)
{
    set(object, name, json_real(isfinite(seconds) ? round(seconds * 1000) / 1000 : 0));
}

static void set_result(json_t **object, const struct report_result *result)
{
    set(object, "status", json_string(report_status_name(result->status)));
    set(object, "summary", result->summary ? json_string(result->summary) : json_null());
    if (result->reason)
        set(object, "reason", json_string(result->reason));
    if (result->status == REPORT_PENDING)
        return;
    set(object, "cached", json_boolean(result->is_cached));
    set_count(object, "tokens_in", result->n_tokens_in);
    set_count(object, "tokens_out", result->n_tokens_out);
}

static void set_counts(json_t **object, const struct report_counts *counts)
{
    set_count(object, "files", counts->n_files);
    set_count(object, "lines", counts->n_lines);
    set_count(object, "bytes", counts->n_bytes);
    set_count(object, "chunks", counts->n_chunks);
    set_count(object, "ok", counts->n_ok);
    set_count(object, "cut", counts->n_cut);
    set_count(object, "failed", counts->n_failed);
    set_count(object, "pending", counts->n_pending);
}

json_t *report_chunk_json(const struct report_chunk *chunk)
{
    json_t *object = json_object();

    set_count(&object, "first_line", chunk->first_line);
    set_count(&object, "last_line", chunk->last_line);
    if (chunk->name)
        set(&object, "name", json_string(chunk->name));
    set_result(&object, &chunk->result);
    return object;
}

json_t *report_file_json(const struct report_file *file)
{
    json_t *object = json_object();

    set(&object, "path", json_string(file->path));
    set(&object, "language", json_string(file->language));
    set_count(&object, "lines", file->n_lines);
    set_count(&object, "bytes", file->n_bytes);
    set_count(&object, "chunks_planned", file->n_planned);
    set_result(&object, &file->result);
    return object;
}

json_t *report_directory_json(const struct report_directory *directory)
{
    json_t *object = json_object();

    set(&object, "path", json_string(directory->path));
    set_result(&object, &directory->result);
    return object;
}

json_t *report_skip_json(const struct report_skip *skip)
{
    json_t *object = json_object();

    set(&object, "path", json_string(skip->path));
    set(&object, "reason", json_string(skip->reason));
    return object;
}

json_t *report_totals_json(const struct report *report)
{
    const struct report_counts *counts = &report->counts;
    json_t *object = json_object();
    json_t *options = json_object();
    json_t *languages = json_object();

    set(&object, "title", json_string(report->title));
    set(&object, "model", json_string(report->model));
    for (size_t i = 0; i < report->n_options; i++)
        set(&options, report->options[i].name, json_string(report->options[i].value));
    set(&object, "options", options);
    set(&object, "started", json_string(report->started));
    if (report->note)
        set(&object, "note", json_string(report->note));
    set_seconds(&object, "seconds", report->seconds);
    set_seconds(&object, "model_seconds", counts->ms / 1000);
    set(&object, "interrupted", json_boolean(report->is_interrupted));
    set_counts(&object, counts);
    set_count(&object, "cached", counts->n_cached);
    set_count(&object, "failed_above_chunks", counts->n_failed_above);
    set_count(&object, "skipped", report->n_skips);
    set_count(&object, "tokens_in", counts->n_tokens_in);
    set_count(&object, "tokens_out", counts->n_tokens_out);
    set(&object, "success", json_real(report_success(report)));
    for (size_t i = 0; i < report->n_languages; i++) {
        json_t *language = json_object();

        set_counts(&language, &report->languages[i].counts);
        set(&languages, report->languages[i].name, language);
    }
    set(&object, "languages", languages);
    return object;
}

/* ---- the whole ---- */

/* Appends to an array that a failure makes NULL. */
static void append(json_t **array, json_t *value)
{
    if (!*array) {
        json_decref(value);
    } else if (json_array_append_new(*array, value) != 0) {
        json_decref(*array);
        *array = NULL;
    }
}

static json_t *file_with_chunks(const struct report_file *file)
{
    json_t *object = report_file_json(file);
    json_t *chunks = json_array();

    for (size_t i = 0; i < file->n_chunks; i++)
        append(&chunks, report_chunk_json(&file->chunks[i]));
    set(&object, "chunks", chunks);
    return object;
}

static json_t *directory_with_files(const struct report_directory *directory)
{
    json_t *object = report_directory_json(directory);
    json_t *files = json_array();

    for (size_t i = 0; i < directory->n_files; i++)
        append(&files, file_with_chunks(directory->files[i]));
    set(&object, "files", files);
    return object;
}

static int add_bytes(const char *bytes, size_t n_bytes, void *out)
{
    buffer_add(out, bytes, n_bytes);
    return ((struct buffer *)out)->has_failed ? -1 : 0;
}

void report_write_json(const struct report *report, struct buffer *out)
{
    json_t *object = json_object();
    json_t *directories = json_array();
    json_t *skips = json_array();

    set(&object, "totals", report_totals_json(report));
    for (size_t i = 0; i < report->n_directories; i++)
        append(&directories, directory_with_files(report->sorted[i]));
    set(&object, "directories", directories);
    for (size_t i = 0; i < report->n_skips; i++)
        append(&skips, report_skip_json(&report->skips[i]));
    set(&object, "skipped", skips);
    if (!object || json_dump_callback(object, add_bytes, out, JSON_INDENT(2)) != 0)
        out->has_failed = true;
    buffer_add_byte(out, '\n');
    json_decref(object);
}
