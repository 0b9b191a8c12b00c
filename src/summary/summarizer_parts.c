/* SPDX-License-Identifier: Apache-2.0
 *
 * Summaries that are made of summaries: a file's of its chunks', a directory's of its files' and of
 * the directories' in it, the deepest first.
 */
#include "summary/summarizer_state.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PARTS_BYTES = 4096, /* of summaries that one of the whole is made from */
    MAX_PARTS = 24,
    MAX_JOINED = 3,
};

/* "name: summary", a line each, as many as there is room for. */
static void add_part(struct buffer *out, size_t *n, const char *name, const char *summary)
{
    if (*n >= MAX_PARTS || out->n_bytes + strlen(summary) > MAX_PARTS_BYTES)
        return;
    buffer_add_format(out, "%s: %s\n", name, summary);
    ++*n;
}

static kvern_status queue_parts(struct summarizer *s, enum ask_kind kind, struct report_file *file,
                                struct report_directory *directory, struct buffer *parts,
                                kvern_error *err)
{
    struct task *task = new_or_abort(sizeof *task);

    *task = (struct task){.kind = kind, .file = file, .directory = directory};
    task->text = buffer_take(parts, &task->n_bytes);
    if (!task->text) {
        task_free(task);
        return fail(err, KVERN_MEMORY, "out of memory for the summary of %s",
                    directory ? directory->path : file->path);
    }
    task_list_put(&s->waiting, task);
    return KVERN_OK;
}

/* An encoder-decoder's own summaries, one after the other, where it cannot be asked. */
static kvern_status join_parts(struct report_file *file, kvern_error *err)
{
    struct buffer joined = {0};
    struct report_result result = {.status = REPORT_OK};
    size_t n = 0;
    kvern_status status;

    for (size_t i = 0; i < file->n_chunks && n < MAX_JOINED; i++) {
        const char *summary = file->chunks[i].result.summary;

        if (summary)
            buffer_add_format(&joined, "%s%s", n++ > 0 ? " " : "", summary);
    }
    result.summary = joined.data;
    if (joined.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory for the summary of %s", file->path);
    else
        status = n > 0 ? report_set_file(file, &result, err) : KVERN_OK;
    buffer_clear(&joined);
    return status;
}

static kvern_status queue_file(struct summarizer *s, struct report_file *file, bool *is_queued,
                               kvern_error *err)
{
    struct buffer parts = {0};
    size_t n = 0;

    for (size_t i = 0; i < file->n_chunks; i++) {
        const struct report_chunk *chunk = &file->chunks[i];
        char lines[64];

        snprintf(lines, sizeof lines, "lines %zu to %zu", chunk->first_line, chunk->last_line);
        if (chunk->result.summary)
            add_part(&parts, &n, chunk->name ? chunk->name : lines, chunk->result.summary);
    }
    *is_queued = n > 0;
    if (n > 0)
        return queue_parts(s, ASK_FILE, file, NULL, &parts, err);
    buffer_clear(&parts);
    return KVERN_OK;
}

/* One chunk's summary is its file's, too. */
kvern_status summarize_file(struct summarizer *s, struct report_file *file, kvern_error *err)
{
    bool is_queued = false;
    kvern_status status = KVERN_OK;

    report_sort_chunks(file); /* or the question would depend on which was done first */
    if (!s->options.has_no_files && file->n_chunks > 1)
        status = ask_is_possible(s->model, ASK_FILE) ? queue_file(s, file, &is_queued, err)
                                                     : join_parts(file, err);
    if (status == KVERN_OK && !is_queued && s->options.on_file)
        s->options.on_file(file, s->options.on_result_data);
    return status;
}

static size_t depth_of(const struct report_directory *directory)
{
    size_t depth = 0;

    for (; directory->parent; directory = directory->parent)
        depth++;
    return depth;
}

/* One file or folder is all there is: what is said of that says it. */
static bool has_one_part(const struct report_directory *directory)
{
    return directory->n_files + directory->n_directories == 1;
}

/* What a folder is to the one around it; NULL: nothing is known. */
static const char *tell_directory(const struct report_directory *directory)
{
    const struct report_result *result;

    while (!directory->result.summary && has_one_part(directory) && directory->n_files == 0)
        directory = directory->directories[0];
    if (directory->result.summary || !has_one_part(directory))
        return directory->result.summary;
    result = report_file_result(directory->files[0]);
    return result ? result->summary : NULL;
}

static kvern_status queue_directory(struct summarizer *s, struct report_directory *directory,
                                    kvern_error *err)
{
    struct buffer parts = {0};
    size_t n = 0;

    if (has_one_part(directory))
        return KVERN_OK;
    for (size_t i = 0; i < directory->n_directories; i++) {
        const char *summary = tell_directory(directory->directories[i]);

        if (summary)
            add_part(&parts, &n, directory->directories[i]->name, summary);
    }
    for (size_t i = 0; i < directory->n_files; i++) {
        const struct report_result *result = report_file_result(directory->files[i]);

        if (result && result->summary)
            add_part(&parts, &n, directory->files[i]->name, result->summary);
    }
    if (n > 0)
        return queue_parts(s, ASK_DIRECTORY, NULL, directory, &parts, err);
    buffer_clear(&parts);
    return KVERN_OK;
}

/* The deepest first, since a directory is told by those in it. */
kvern_status summarize_directories(struct summarizer *s, kvern_error *err)
{
    struct report *report = s->report;
    size_t deepest = 0;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < report->n_directories; i++) {
        size_t depth = depth_of(report->directories[i]);

        deepest = depth > deepest ? depth : deepest;
    }
    for (size_t depth = deepest + 1; status == KVERN_OK && depth-- > 0;) {
        for (size_t i = 0; status == KVERN_OK && i < report->n_directories; i++) {
            if (depth_of(report->directories[i]) == depth)
                status = queue_directory(s, report->directories[i], err);
        }
        if (status == KVERN_OK)
            status = summarizer_work(s, err);
    }
    return status;
}
