/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of a report, its sums, and walks in that order: equal results give an equal report, in
 * whatever order they came. Finishing again after more was added is fine.
 */
#include "summary/report.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- order ---- */

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int compare_chunks(const void *left, const void *right)
{
    const struct report_chunk *a = left;
    const struct report_chunk *b = right;
    int order;

    if (a->first_line != b->first_line)
        return a->first_line < b->first_line ? -1 : 1;
    if (a->last_line != b->last_line)
        return a->last_line < b->last_line ? -1 : 1;
    order = compare_texts(a->name, b->name);
    return order != 0 ? order : compare_texts(a->result.summary, b->result.summary);
}

static int compare_files(const void *left, const void *right)
{
    const struct report_file *const *a = left;
    const struct report_file *const *b = right;

    return strcmp((*a)->path, (*b)->path);
}

static int compare_directories(const void *left, const void *right)
{
    const struct report_directory *const *a = left;
    const struct report_directory *const *b = right;

    return strcmp((*a)->path, (*b)->path);
}

/* Groups by reason: the largest is not known here, so by name. */
static int compare_skips(const void *left, const void *right)
{
    const struct report_skip *a = left;
    const struct report_skip *b = right;
    int order = strcmp(a->reason, b->reason);

    return order != 0 ? order : strcmp(a->path, b->path);
}

static int compare_languages(const void *left, const void *right)
{
    const struct report_language *a = left;
    const struct report_language *b = right;

    if (a->counts.n_lines != b->counts.n_lines)
        return a->counts.n_lines > b->counts.n_lines ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* qsort() wants a pointer even for nothing. */
static void sort(void *items, size_t n, size_t item_bytes,
                 int (*compare)(const void *, const void *))
{
    if (n > 1)
        qsort(items, n, item_bytes, compare);
}

void report_sort_chunks(struct report_file *file)
{
    sort(file->chunks, file->n_chunks, sizeof *file->chunks, compare_chunks);
}

/* Each directory before those in it, brothers by name: down to the first child, else on to the next
 * brother of the nearest that has one. */
static void order_directories(struct report *report)
{
    struct report_directory *at = report->root;
    size_t n = 0;

    while (at) {
        report->sorted[n++] = at;
        if (at->n_directories > 0) {
            at = at->directories[0];
            continue;
        }
        while (at->parent && at->place + 1 == at->parent->n_directories)
            at = at->parent;
        at = at->parent ? at->parent->directories[at->place + 1] : NULL;
    }
}

/* ---- sums ---- */

static void add_counts(struct report_counts *to, const struct report_counts *from)
{
    to->n_files += from->n_files;
    to->n_lines += from->n_lines;
    to->n_bytes += from->n_bytes;
    to->n_chunks += from->n_chunks;
    to->n_ok += from->n_ok;
    to->n_cut += from->n_cut;
    to->n_failed += from->n_failed;
    to->n_pending += from->n_pending;
    to->n_cached += from->n_cached;
    to->n_failed_above += from->n_failed_above;
    to->n_tokens_in += from->n_tokens_in;
    to->n_tokens_out += from->n_tokens_out;
    to->ms += from->ms;
}

static void add_work(struct report_counts *to, const struct report_result *result)
{
    if (result->is_cached)
        return;
    to->n_tokens_in += result->n_tokens_in;
    to->n_tokens_out += result->n_tokens_out;
    to->ms += result->ms;
}

static void count_above(struct report_counts *to, const struct report_result *result)
{
    to->n_failed_above += result->status == REPORT_FAILED;
    add_work(to, result);
}

static void count_file(struct report_file *file)
{
    struct report_counts *counts = &file->counts;

    *counts =
        (struct report_counts){.n_files = 1, .n_lines = file->n_lines, .n_bytes = file->n_bytes};
    for (size_t i = 0; i < file->n_chunks; i++) {
        const struct report_result *result = &file->chunks[i].result;

        counts->n_ok += result->status == REPORT_OK;
        counts->n_cut += result->status == REPORT_CUT;
        counts->n_failed += result->status == REPORT_FAILED;
        counts->n_pending += result->status == REPORT_PENDING;
        counts->n_cached += result->is_cached;
        add_work(counts, result);
    }
    if (file->n_planned > file->n_chunks)
        counts->n_pending += file->n_planned - file->n_chunks;
    counts->n_chunks = counts->n_ok + counts->n_cut + counts->n_failed + counts->n_pending;
    count_above(counts, &file->result);
}

static kvern_status count_languages(struct report *report, kvern_error *err)
{
    struct map places = {0};
    kvern_status status = KVERN_OK;

    free(report->languages);
    report->n_languages = 0;
    report->languages = try_new(report->n_files, sizeof *report->languages);
    if (!report->languages)
        status = fail(err, KVERN_MEMORY, "out of memory for the report");
    for (size_t i = 0; status == KVERN_OK && i < report->n_files; i++) {
        const struct report_file *file = report->files[i];
        size_t n_bytes = strlen(file->language);
        uint32_t place = 0;

        if (!map_get(&places, file->language, n_bytes, &place)) {
            place = (uint32_t)report->n_languages;
            if (!map_put(&places, file->language, n_bytes, place)) {
                status = fail(err, KVERN_MEMORY, "out of memory for the report");
                break;
            }
            report->languages[report->n_languages++].name = file->language;
        }
        add_counts(&report->languages[place].counts, &file->counts);
    }
    sort(report->languages, report->n_languages, sizeof *report->languages, compare_languages);
    map_clear(&places);
    return status;
}

kvern_status report_finish(struct report *report, double seconds, bool is_interrupted,
                           kvern_error *err)
{
    free(report->sorted);
    report->sorted = try_new(report->n_directories, sizeof(struct report_directory *));
    if (!report->sorted)
        return fail(err, KVERN_MEMORY, "out of memory for the report");
    report->seconds = seconds;
    report->is_interrupted = is_interrupted;
    for (size_t i = 0; i < report->n_files; i++) {
        struct report_file *file = report->files[i];

        report_sort_chunks(file);
        count_file(file);
    }
    for (size_t i = 0; i < report->n_directories; i++) {
        struct report_directory *directory = report->directories[i];

        sort(directory->files, directory->n_files, sizeof(void *), compare_files);
        sort(directory->directories, directory->n_directories, sizeof(void *), compare_directories);
        for (size_t j = 0; j < directory->n_directories; j++)
            directory->directories[j]->place = j;
        directory->counts = (struct report_counts){0};
        for (size_t j = 0; j < directory->n_files; j++)
            add_counts(&directory->counts, &directory->files[j]->counts);
        count_above(&directory->counts, &directory->result);
        directory->below = directory->counts;
    }
    order_directories(report);
    for (size_t i = report->n_directories; i-- > 1;)
        add_counts(&report->sorted[i]->parent->below, &report->sorted[i]->below);
    report->counts = report->root->below;
    sort(report->skips, report->n_skips, sizeof *report->skips, compare_skips);
    return count_languages(report, err);
}

/* ---- walks ---- */

static void see_if_failed(report_failure_fn see, const char *path, const struct report_chunk *chunk,
                          const struct report_result *result, void *data)
{
    if (result->status == REPORT_FAILED)
        see(path, chunk, result->reason ? result->reason : "", data);
}

void report_each_failure(const struct report *report, report_failure_fn see, void *data)
{
    for (size_t i = 0; i < report->n_directories; i++) {
        const struct report_directory *directory = report->sorted[i];

        see_if_failed(see, directory->path, NULL, &directory->result, data);
        for (size_t j = 0; j < directory->n_files; j++) {
            const struct report_file *file = directory->files[j];

            see_if_failed(see, file->path, NULL, &file->result, data);
            for (size_t k = 0; k < file->n_chunks; k++)
                see_if_failed(see, file->path, &file->chunks[k], &file->chunks[k].result, data);
        }
    }
}

size_t report_skip_group(const struct report *report, size_t first)
{
    size_t n = 0;

    while (first + n < report->n_skips &&
           strcmp(report->skips[first + n].reason, report->skips[first].reason) == 0)
        n++;
    return n;
}
