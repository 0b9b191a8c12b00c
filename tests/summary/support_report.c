/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports for tests.
 */
#include "support_report.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>

static void check(kvern_status status, const kvern_error *err)
{
    if (status != KVERN_OK)
        fail_msg("%s", err->message);
}

static struct report_file *add_file(struct report *report, const char *path, const char *language,
                                    size_t n_lines, size_t n_chunks)
{
    struct report_file *file = NULL;
    kvern_error err;

    check(report_add_file(report, path, language, n_lines, 10 * n_lines, n_chunks, &file, &err),
          &err);
    return file;
}

static void add_one_chunk(struct report *report)
{
    struct report_file *file = add_file(report, "src/main.c", "C", 12, 1);
    struct report_chunk chunk = {
        1, 12, NULL, {REPORT_OK, "Reads options and runs a command.", NULL, true, 90, 9, 0}};
    kvern_error err;

    check(report_add_chunk(file, &chunk, &err), &err);
}

static void add_three_chunks(struct report *report, int order)
{
    struct report_chunk chunks[] = {
        {1, 300, "map_put", {REPORT_OK, "Adds an entry to the map.", NULL, false, 900, 8, 40}},
        {301,
         600,
         NULL,
         {REPORT_CUT, "Grows the table.", "answer over 64 tokens", false, 800, 64, 60}},
        {601, 601, "map_clear", {REPORT_FAILED, NULL, "the answer is empty", false, 30, 1, 2}},
    };
    struct report_result whole = {
        REPORT_OK, "A hash map from strings to numbers.", NULL, false, 50, 10, 8};
    kvern_error err;
    struct report_file *file;

    if (order == 1) { /* the chunks come backwards, the file's summary before them */
        file = add_file(report, "src/base/map.c", "C", 601, 3);
        check(report_set_file(file, &whole, &err), &err);
    }
    for (size_t i = 0; i < COUNT(chunks); i++) {
        file = add_file(report, "src/base/map.c", "C", 601, 3);
        check(report_add_chunk(file, &chunks[order == 1 ? 2 - i : i], &err), &err);
    }
    check(report_set_file(file, &whole, &err), &err);
}

void support_sample_report(struct report *report, int order)
{
    struct report_result base = {REPORT_OK, "Memory and maps.", NULL, false, 20, 4, 3};
    kvern_error err;

    check(report_init(report, "demo", "smollm2", "2026-01-02 03:04", &err), &err);
    check(report_add_option(report, "level", "chunk", &err), &err);
    check(report_set_note(report, "replaced", &err), &err);
    check(report_set_note(report, "the disk is full", &err), &err);
    if (order == 1)
        add_one_chunk(report);
    add_three_chunks(report, order);
    if (order == 0)
        add_one_chunk(report);
    add_file(report, "tools/run.py", "Python", 30, 2);
    check(report_set_directory(report, "src/base", &base, &err), &err);
    check(report_add_skip(report, "logo.png", "binary", &err), &err);
    check(report_add_skip(report, order == 0 ? "a.bin" : "vendor/",
                          order == 0 ? "binary" : "vendored", &err),
          &err);
    check(report_add_skip(report, order == 0 ? "vendor/" : "a.bin",
                          order == 0 ? "vendored" : "binary", &err),
          &err);
    check(report_finish(report, 75.2, true, &err), &err);
}

void support_hostile_report(struct report *report, const char *text)
{
    char path[256];
    char *bytes = (char *)text;
    struct report_result result = {REPORT_CUT, bytes, bytes, false, 1, 1, 1};
    struct report_result failed = {REPORT_FAILED, NULL, bytes, false, 1, 1, 1};
    struct report_chunk chunk = {1, 2, bytes, result};
    struct report_file *file;
    kvern_error err;

    check(report_init(report, text, text, text, &err), &err);
    check(report_add_option(report, text, text, &err), &err);
    check(report_set_note(report, text, &err), &err);
    snprintf(path, sizeof path, "d%s/f%s", text, text);
    file = add_file(report, path, text, 9, 2);
    check(report_add_chunk(file, &chunk, &err), &err);
    chunk.result = failed;
    check(report_add_chunk(file, &chunk, &err), &err);
    check(report_set_file(file, &result, &err), &err);
    check(report_set_directory(report, ".", &result, &err), &err);
    check(report_add_skip(report, text, text, &err), &err);
    check(report_finish(report, 1, false, &err), &err);
}
