/* SPDX-License-Identifier: Apache-2.0
 *
 * Building the tree of a report, its order, and its sums. Arrays grow by doubling at powers of two,
 * so that they need no capacity beside their count.
 */
#include "summary/report.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "summary/plain_text.h"

#include <stdlib.h>
#include <string.h>

static kvern_status no_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory for the report");
}

/* Makes room for one more of `n` items; `items` is a pointer to the array's pointer. */
static bool make_room(void *items, size_t n, size_t item_bytes)
{
    void *old;
    void *grown;

    if (n > 0 && (n < 4 || (n & (n - 1)) != 0))
        return true;
    memcpy(&old, items, sizeof old);
    grown = try_resize(old, n == 0 ? 4 : 2 * n, item_bytes);
    if (!grown)
        return false;
    memcpy(items, &grown, sizeof grown);
    return true;
}

static bool copy_line(char **to, const char *text)
{
    *to = text ? plain_text_line(text) : NULL;
    return !text || *to;
}

/* ---- results ---- */

static void clear_result(struct report_result *result)
{
    free(result->summary);
    free(result->reason);
    *result = (struct report_result){0};
}

static kvern_status copy_result(struct report_result *to, const struct report_result *from,
                                kvern_error *err)
{
    struct report_result copy = *from;

    copy.summary = copy.reason = NULL;
    if (!copy_line(&copy.summary, from->summary) || !copy_line(&copy.reason, from->reason)) {
        clear_result(&copy);
        return no_memory(err);
    }
    clear_result(to);
    *to = copy;
    return KVERN_OK;
}

kvern_status report_add_chunk(struct report_file *file, const struct report_chunk *chunk,
                              kvern_error *err)
{
    struct report_chunk copy = {.first_line = chunk->first_line, .last_line = chunk->last_line};
    kvern_status status = copy_result(&copy.result, &chunk->result, err);

    if (status == KVERN_OK && (!copy_line(&copy.name, chunk->name) ||
                               !make_room(&file->chunks, file->n_chunks, sizeof copy)))
        status = no_memory(err);
    if (status == KVERN_OK) {
        file->chunks[file->n_chunks++] = copy;
        return KVERN_OK;
    }
    clear_result(&copy.result);
    free(copy.name);
    return status;
}

kvern_status report_set_file(struct report_file *file, const struct report_result *result,
                             kvern_error *err)
{
    return copy_result(&file->result, result, err);
}

kvern_status report_set_directory(struct report *report, const char *path,
                                  const struct report_result *result, kvern_error *err)
{
    const char *key = strcmp(path, ".") == 0 ? "" : path;
    uint32_t place;

    if (!map_get(&report->directory_places, key, strlen(key), &place))
        return fail(err, KVERN_NOT_FOUND, "the report has no directory %s", path);
    return copy_result(&report->directories[place]->result, result, err);
}

/* ---- files and directories ---- */

static void free_file(struct report_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_chunks; i++) {
        clear_result(&file->chunks[i].result);
        free(file->chunks[i].name);
    }
    clear_result(&file->result);
    free(file->chunks);
    free(file->path);
    free(file->language);
    free(file);
}

static void free_directory(struct report_directory *directory)
{
    if (!directory)
        return;
    clear_result(&directory->result);
    free(directory->directories);
    free(directory->files);
    free(directory->path);
    free(directory);
}

/* The bytes of the directory's name in a path; 0: the root. */
static size_t directory_bytes(const char *path, size_t n_bytes)
{
    while (n_bytes > 0 && path[n_bytes - 1] != '/')
        n_bytes--;
    while (n_bytes > 0 && path[n_bytes - 1] == '/')
        n_bytes--;
    return n_bytes;
}

/* Adds a directory that is not there, below `parent` (NULL: it is the root). */
static struct report_directory *add_directory(struct report *report, const char *key,
                                              size_t n_bytes, struct report_directory *parent)
{
    struct report_directory *directory = try_new(1, sizeof *directory);
    char *name = copy_bytes_or_abort(key, n_bytes);

    if (directory)
        directory->path = plain_text_path(n_bytes > 0 ? name : ".");
    free(name);
    if (!directory || !directory->path ||
        !make_room(&report->directories, report->n_directories, sizeof(void *)) ||
        (parent && !make_room(&parent->directories, parent->n_directories, sizeof(void *))) ||
        !map_put(&report->directory_places, key, n_bytes, (uint32_t)report->n_directories)) {
        free_directory(directory);
        return NULL;
    }
    directory->name = path_base(directory->path);
    directory->parent = parent;
    report->directories[report->n_directories++] = directory;
    if (parent)
        parent->directories[parent->n_directories++] = directory;
    return directory;
}

/* The directory path[0, n_bytes), made with all it is in. NULL: no memory. */
static struct report_directory *find_directory(struct report *report, const char *path,
                                               size_t n_bytes)
{
    struct report_directory *at = NULL;
    size_t n_found = n_bytes;
    uint32_t place;

    /* the nearest that is there; the root always is */
    while (!map_get(&report->directory_places, path, n_found, &place))
        n_found = directory_bytes(path, n_found);
    at = report->directories[place];
    while (at && n_found < n_bytes) {
        size_t n_next = n_bytes;

        /* the shortest prefix that is longer than what is there */
        for (size_t n = n_bytes; n > n_found; n = directory_bytes(path, n))
            n_next = n;
        at = add_directory(report, path, n_next, at);
        n_found = n_next;
    }
    return at;
}

kvern_status report_add_file(struct report *report, const char *path, const char *language,
                             size_t n_lines, size_t n_bytes, size_t n_chunks,
                             struct report_file **file, kvern_error *err)
{
    struct report_directory *directory = NULL;
    struct report_file *made = NULL;
    uint32_t place;

    if (map_get(&report->file_places, path, strlen(path), &place)) {
        *file = report->files[place];
        return KVERN_OK;
    }
    directory = find_directory(report, path, directory_bytes(path, strlen(path)));
    made = directory ? try_new(1, sizeof *made) : NULL;
    if (!made)
        return no_memory(err);
    made->path = plain_text_path(path);
    made->n_lines = n_lines;
    made->n_bytes = n_bytes;
    made->n_planned = n_chunks;
    made->directory = directory;
    if (!made->path || !copy_line(&made->language, language ? language : "") ||
        !make_room(&report->files, report->n_files, sizeof(void *)) ||
        !make_room(&directory->files, directory->n_files, sizeof(void *)) ||
        !map_put(&report->file_places, path, strlen(path), (uint32_t)report->n_files)) {
        free_file(made);
        return no_memory(err);
    }
    made->name = path_base(made->path);
    report->files[report->n_files++] = made;
    directory->files[directory->n_files++] = made;
    *file = made;
    return KVERN_OK;
}

/* ---- the whole ---- */

kvern_status report_init(struct report *report, const char *title, const char *model,
                         const char *started, kvern_error *err)
{
    *report = (struct report){0};
    if (copy_line(&report->title, title ? title : "") &&
        copy_line(&report->model, model ? model : "") &&
        copy_line(&report->started, started ? started : ""))
        report->root = add_directory(report, "", 0, NULL);
    if (report->root)
        return KVERN_OK;
    report_clear(report);
    return no_memory(err);
}

void report_clear(struct report *report)
{
    if (!report)
        return;
    for (size_t i = 0; i < report->n_files; i++)
        free_file(report->files[i]);
    for (size_t i = 0; i < report->n_directories; i++)
        free_directory(report->directories[i]);
    for (size_t i = 0; i < report->n_skips; i++) {
        free(report->skips[i].path);
        free(report->skips[i].reason);
    }
    for (size_t i = 0; i < report->n_options; i++) {
        free(report->options[i].name);
        free(report->options[i].value);
    }
    map_clear(&report->directory_places);
    map_clear(&report->file_places);
    free(report->directories);
    free(report->sorted);
    free(report->files);
    free(report->skips);
    free(report->options);
    free(report->languages);
    free(report->title);
    free(report->model);
    free(report->started);
    free(report->note);
    *report = (struct report){0};
}

kvern_status report_add_option(struct report *report, const char *name, const char *value,
                               kvern_error *err)
{
    struct report_option option = {0};

    if (copy_line(&option.name, name) && copy_line(&option.value, value ? value : "") &&
        make_room(&report->options, report->n_options, sizeof option)) {
        report->options[report->n_options++] = option;
        return KVERN_OK;
    }
    free(option.name);
    free(option.value);
    return no_memory(err);
}

kvern_status report_set_note(struct report *report, const char *note, kvern_error *err)
{
    char *copy = plain_text_line(note);

    if (!copy)
        return no_memory(err);
    free(report->note);
    report->note = copy;
    return KVERN_OK;
}

kvern_status report_add_skip(struct report *report, const char *path, const char *reason,
                             kvern_error *err)
{
    struct report_skip skip = {.path = plain_text_path(path)};

    if (skip.path && copy_line(&skip.reason, reason ? reason : "") &&
        make_room(&report->skips, report->n_skips, sizeof skip)) {
        report->skips[report->n_skips++] = skip;
        return KVERN_OK;
    }
    free(skip.path);
    free(skip.reason);
    return no_memory(err);
}

double report_success(const struct report *report)
{
    size_t n_good = report->counts.n_ok + report->counts.n_cut;
    size_t n_done = n_good + report->counts.n_failed;

    return n_done > 0 ? (double)n_good / (double)n_done : 1;
}

const char *report_status_name(enum report_status status)
{
    static const char *const names[] = {"pending", "ok", "cut", "failed"};

    return names[status];
}

const struct report_result *report_file_result(const struct report_file *file)
{
    if (file->result.summary)
        return &file->result;
    if (file->n_planned == 1 && file->n_chunks == 1 && file->chunks[0].result.summary)
        return &file->chunks[0].result;
    return NULL;
}
