/* SPDX-License-Identifier: Apache-2.0
 *
 * The tree of a report: directories made on the way, order, sums, strings made plain, and memory
 * that runs out at every place.
 */
#include "summary/report.h"
#include "support_report.h"
#include "test.h"

#include "base/memory.h"
#include "summary/plain_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void sums_and_order(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        static const char *const paths[] = {".", "src", "src/base", "tools"};
        struct report report;

        support_sample_report(&report, order);
        assert_int_equal(report.n_directories, COUNT(paths));
        for (size_t i = 0; i < COUNT(paths); i++)
            assert_string_equal(report.sorted[i]->path, paths[i]);
        assert_string_equal(report.sorted[2]->name, "base");
        assert_int_equal(report.counts.n_files, 3);
        assert_int_equal(report.counts.n_lines, 643);
        assert_int_equal(report.counts.n_bytes, 6430);
        assert_int_equal(report.counts.n_chunks, 6);
        assert_int_equal(report.counts.n_ok, 2);
        assert_int_equal(report.counts.n_cut, 1);
        assert_int_equal(report.counts.n_failed, 1);
        assert_int_equal(report.counts.n_pending, 2);
        assert_int_equal(report.counts.n_cached, 1);
        /* a cached result's tokens did not run */
        assert_int_equal(report.counts.n_tokens_in, 900 + 800 + 30 + 50 + 20);
        assert_int_equal(report.counts.n_tokens_out, 8 + 64 + 1 + 10 + 4);
        assert_float_equal(report.counts.ms, 113, 1e-9);
        assert_float_equal(report_success(&report), 0.75, 1e-9);
        assert_int_equal(report.sorted[1]->counts.n_files, 1); /* src */
        assert_int_equal(report.sorted[1]->below.n_files, 2);
        assert_int_equal(report.n_languages, 2);
        assert_string_equal(report.languages[0].name, "C");
        assert_int_equal(report.languages[0].counts.n_lines, 613);
        assert_string_equal(report.skips[0].path, "a.bin");
        assert_string_equal(report.skips[2].path, "vendor/");
        assert_int_equal(report.sorted[2]->files[0]->chunks[2].first_line, 601);
        /* once more changes nothing */
        assert_int_equal(report_finish(&report, 1, false, NULL), KVERN_OK);
        assert_int_equal(report.counts.n_chunks, 6);
        assert_int_equal(report.sorted[1]->below.n_files, 2);
        report_clear(&report);
    }
}

static void directories_are_made_on_the_way(void **state)
{
    static const struct {
        const char *path;
        const char *directory;
        size_t n_directories; /* with the root */
    } cases[] = {
        {"a", ".", 1},     {"a/b", "a", 2},  {"a/b/c/d", "a/b/c", 4},
        {"/a/b", "/a", 2}, {"a//b", "a", 2}, {"-", ".", 1},
        {"", ".", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct report report;
        struct report_file *file = NULL;
        struct report_file *again = NULL;
        struct report_result result = {.status = REPORT_OK, .summary = "x"};
        kvern_error err = {0};

        assert_int_equal(report_init(&report, NULL, NULL, NULL, NULL), KVERN_OK);
        assert_int_equal(report_add_file(&report, cases[i].path, NULL, 1, 1, 1, &file, &err), 0);
        assert_string_equal(file->directory->path, cases[i].directory);
        assert_int_equal(report.n_directories, cases[i].n_directories);
        assert_int_equal(report_add_file(&report, cases[i].path, "C", 2, 2, 2, &again, &err), 0);
        assert_ptr_equal(file, again);
        assert_int_equal(report_set_directory(&report, cases[i].directory, &result, &err), 0);
        assert_string_equal(file->directory->result.summary, "x");
        assert_int_equal(report_set_directory(&report, "no", &result, &err), KVERN_NOT_FOUND);
        assert_string_equal(err.message, "the report has no directory no");
        report_clear(&report);
    }
}

/* Many siblings and a deep path: arrays grow, and the order is a walk of the tree. */
static void large_trees_are_in_order(void **state)
{
    struct report report;
    struct report_file *file = NULL;
    char deep[2001];

    (void)state;
    assert_int_equal(report_init(&report, "t", "m", "", NULL), KVERN_OK);
    for (int i = 999; i >= 0; i--) {
        char path[64];

        snprintf(path, sizeof path, "d%03d/e%d/f%d.c", i % 100, i % 3, i);
        assert_int_equal(report_add_file(&report, path, "C", 1, 1, 1, &file, NULL), KVERN_OK);
    }
    for (size_t i = 0; i < 2000; i++)
        deep[i] = i % 2 == 0 ? 'z' : '/';
    deep[2000] = '\0';
    deep[1999] = 'z';
    assert_int_equal(report_add_file(&report, deep, "C", 1, 1, 1, &file, NULL), KVERN_OK);
    assert_int_equal(report_finish(&report, 1, false, NULL), KVERN_OK);
    assert_int_equal(report.n_directories, 1 + 100 + 300 + 999);
    assert_int_equal(report.counts.n_files, 1001);
    for (size_t i = 1; i < report.n_directories; i++) {
        if (strcmp(report.sorted[i - 1]->path, report.sorted[i]->path) >= 0)
            fail_msg("%s is before %s", report.sorted[i - 1]->path, report.sorted[i]->path);
    }
    report_clear(&report);
}

static void strings_are_made_plain(void **state)
{
    static const struct {
        const char *text, *line, *path;
    } cases[] = {
        {"a b", "a b", "a b"},
        {" a\r\n\tb  ", "a b",
         " a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "b  "},
        {"\x1b[1mx", "[1mx", "\xef\xbf\xbd[1mx"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"a\xe2\x80\xae"
         "b",
         "ab",
         "a\xef\xbf\xbd"
         "b"}, /* written right to left */
        {"\xef\xbb\xbf", "", "\xef\xbf\xbd"},
        {"\xe2\x80\xa8x\xc2\xa0y", "x y", "\xef\xbf\xbdx\xc2\xa0y"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *line = plain_text_line(cases[i].text);
        char *path = plain_text_path(cases[i].text);

        assert_string_equal(line, cases[i].line);
        assert_string_equal(path, cases[i].path);
        free(line);
        free(path);
    }
}

/* Files whose names differ only in what cannot be shown are two files. */
static void unshowable_paths_stay_apart(void **state)
{
    struct report report;
    struct report_file *a = NULL;
    struct report_file *b = NULL;

    (void)state;
    assert_int_equal(report_init(&report, "t", "m", "", NULL), KVERN_OK);
    assert_int_equal(report_add_file(&report, "x\x01", "C", 1, 1, 1, &a, NULL), KVERN_OK);
    assert_int_equal(report_add_file(&report, "x\x02", "C", 1, 1, 1, &b, NULL), KVERN_OK);
    assert_ptr_not_equal(a, b);
    assert_string_equal(a->path, b->path);
    report_clear(&report);
}

/* Whichever allocation fails, the call says so and nothing is lost or freed twice. */
static void no_memory_anywhere(void **state)
{
    bool has_failed = true;

    (void)state;
    for (int64_t n = 0; has_failed; n++) {
        struct report report;
        struct report_file *file = NULL;
        struct report_result result = {REPORT_CUT, "s", "r", false, 1, 1, 1};
        struct report_chunk chunk = {1, 2, "n", result};
        kvern_status status;

        memory_fail_after(n);
        status = report_init(&report, "t", "m", "now", NULL);
        if (status == KVERN_OK)
            status = report_add_file(&report, "a/b/c", "C", 1, 1, 1, &file, NULL);
        for (int i = 0; status == KVERN_OK && i < 5; i++)
            status = report_add_chunk(file, &chunk, NULL);
        if (status == KVERN_OK)
            status = report_set_file(file, &result, NULL);
        if (status == KVERN_OK)
            status = report_set_directory(&report, "a", &result, NULL);
        if (status == KVERN_OK)
            status = report_add_option(&report, "o", "v", NULL);
        if (status == KVERN_OK)
            status = report_set_note(&report, "n", NULL);
        if (status == KVERN_OK)
            status = report_add_skip(&report, "p", "r", NULL);
        if (status == KVERN_OK)
            status = report_finish(&report, 1, false, NULL);
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        report_clear(&report);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_order),
        cmocka_unit_test(directories_are_made_on_the_way),
        cmocka_unit_test(large_trees_are_in_order),
        cmocka_unit_test(strings_are_made_plain),
        cmocka_unit_test(unshowable_paths_stay_apart),
        cmocka_unit_test(no_memory_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
