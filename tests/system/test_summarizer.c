/* SPDX-License-Identifier: Apache-2.0
 *
 * How often a model is asked, with a random model of bytes whose two tokens end no sentence. It is
 * asked twice, and its half sentence kept with its mark; the cache then has that answer, but not
 * for another length of answers, and has the file's whichever chunk was done first.
 */
#include "summary/summarizer.h"
#include "system/support_command.h"
#include "system/support_files.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kvern_model *model;
static kvern_engine *engine;
static char *directory; /* of the cache */

static int set_up(void **state)
{
    kvern_error err;

    (void)state;
    if (kvern_model_open(&model, tiny_model(), &err) != KVERN_OK)
        fail_msg("%s", err.message);
    engine = open_test_engine(model, 1, 64, NULL);
    directory = make_directory();
    return 0;
}

static int tear_down(void **state)
{
    kvern_engine_close(engine);
    kvern_model_close(model);
    bool is_gone = directory_remove(directory, NULL) == KVERN_OK;
    free(directory);
    return is_gone && remove_tiny_model(state) == 0 ? 0 : -1;
}

static void count(const struct summarizer_counts *counts, void *data)
{
    *(struct summarizer_counts *)data = *counts;
}

/* Summarises one file; the report is cleared by the caller. */
static struct summarizer_counts summarize(const char *text, struct summarizer_options options,
                                          struct report *report)
{
    struct summarizer_counts counts = {0};
    struct summary_cache cache;
    struct summarizer *summarizer;
    kvern_error err;

    options.on_progress = count;
    options.on_progress_data = &counts;
    if (summary_cache_open(&cache, directory, 0, &err) ||
        report_init(report, "test", "tiny", "", &err) ||
        summarizer_new(&summarizer, engine, model, report, &cache, &options, &err) ||
        summarizer_add(summarizer, "a.c", language_find("c"), text, strlen(text), &err) ||
        summarizer_finish(summarizer, &err) || report_finish(report, 1, false, &err))
        fail_msg("%s", err.message);
    summarizer_free(summarizer);
    summary_cache_close(&cache);
    return counts;
}

static void half_sentences_are_asked_for_twice(void **state)
{
    static const char text[] = "int a;\nint b;\n";
    const struct summarizer_options of_two = {.max_answer_tokens = 2, .has_no_files = true};
    const struct summarizer_options of_one = {.max_answer_tokens = 1, .has_no_files = true};
    struct report report;
    struct summarizer_counts counts = summarize(text, of_two, &report);
    const struct report_result *result = &report.files[0]->chunks[0].result;
    char *first = strdup(result->summary);

    (void)state;
    assert_int_equal(counts.n_asked, 2);
    assert_int_equal(result->status, REPORT_CUT);
    assert_string_equal(result->reason, "the answer ended in the middle of a sentence");
    assert_int_equal(strncmp(first, "This code", 9), 0);
    assert_string_equal(first + strlen(first) - 3, "...");
    report_clear(&report);

    counts = summarize(text, of_two, &report);
    result = &report.files[0]->chunks[0].result;
    assert_int_equal(counts.n_asked, 0);
    assert_int_equal(counts.n_cached, 1);
    assert_int_equal(result->status, REPORT_CUT);
    assert_string_equal(result->summary, first);
    report_clear(&report);

    counts = summarize(text, of_one, &report);
    assert_int_equal(counts.n_cached, 0);
    assert_int_equal(counts.n_asked, 2);
    report_clear(&report);
    free(first);
}

/* The long first chunk is done after the short second one; from the cache they come in order. What
 * is asked of the file is the same. */
static void a_file_is_asked_about_in_the_order_of_its_lines(void **state)
{
    const struct summarizer_options options = {.max_answer_tokens = 2, .max_lines = 20};
    char text[400];
    size_t n = 0;
    struct report report;
    struct summarizer_counts counts;

    (void)state;
    for (int line = 0; line < 20; line++)
        n += (size_t)snprintf(text + n, sizeof text - n, "int a%02d = %d;\n", line, line);
    snprintf(text + n, sizeof text - n, "int z;\n");
    counts = summarize(text, options, &report);
    assert_int_equal(report.files[0]->n_chunks, 2);
    assert_int_equal(report.files[0]->chunks[1].first_line, 21);
    assert_int_equal(counts.n_asked, 6); /* two chunks and the file, each twice */
    report_clear(&report);
    counts = summarize(text, options, &report);
    assert_int_equal(counts.n_asked, 0);
    report_clear(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_sentences_are_asked_for_twice),
        cmocka_unit_test(a_file_is_asked_about_in_the_order_of_its_lines),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
