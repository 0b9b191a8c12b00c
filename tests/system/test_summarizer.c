/* SPDX-License-Identifier: Apache-2.0
 *
 * How often a model is asked: a random model of bytes, whose two tokens end no sentence, is asked
 * twice and its half sentence kept with its mark; the cache then has that answer, but not for
 * another length of answers.
 */
#include "summary/summarizer.h"
#include "system/support_command.h"
#include "system/support_files.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

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

/* Summarises one small file; the report is cleared by the caller. */
static struct summarizer_counts summarize(size_t n_answer_tokens, struct report *report)
{
    static const char text[] = "int a;\nint b;\n";
    struct summarizer_counts counts = {0};
    struct summarizer_options options = {
        .max_answer_tokens = n_answer_tokens,
        .has_no_files = true,
        .on_progress = count,
        .on_progress_data = &counts,
    };
    struct summary_cache cache;
    struct summarizer *summarizer;
    kvern_error err;

    if (summary_cache_open(&cache, directory, 0, &err) ||
        report_init(report, "test", "tiny", "", &err) ||
        summarizer_new(&summarizer, engine, model, report, &cache, &options, &err) ||
        summarizer_add(summarizer, "a.c", language_find("c"), text, sizeof text - 1, &err) ||
        summarizer_finish(summarizer, &err) || report_finish(report, 1, false, &err))
        fail_msg("%s", err.message);
    summarizer_free(summarizer);
    summary_cache_close(&cache);
    return counts;
}

static void half_sentences_are_asked_for_twice(void **state)
{
    struct report report;
    struct summarizer_counts counts = summarize(2, &report);
    const struct report_result *result = &report.files[0]->chunks[0].result;
    char *first = strdup(result->summary);

    (void)state;
    assert_int_equal(counts.n_asked, 2);
    assert_int_equal(result->status, REPORT_CUT);
    assert_string_equal(result->reason, "the answer ended in the middle of a sentence");
    assert_int_equal(strncmp(first, "This code", 9), 0);
    assert_string_equal(first + strlen(first) - 3, "...");
    report_clear(&report);

    counts = summarize(2, &report);
    result = &report.files[0]->chunks[0].result;
    assert_int_equal(counts.n_asked, 0);
    assert_int_equal(counts.n_cached, 1);
    assert_int_equal(result->status, REPORT_CUT);
    assert_string_equal(result->summary, first);
    report_clear(&report);

    counts = summarize(1, &report);
    assert_int_equal(counts.n_cached, 0);
    assert_int_equal(counts.n_asked, 2);
    report_clear(&report);
    free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_sentences_are_asked_for_twice),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
