/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON and JSON Lines: both read back, hold the same objects, and the same bytes whatever order
 * results came in. Names of formats, and reports into files.
 */
#include "summary/report_write.h"
#include "support_report.h"
#include "test.h"

#include "base/file.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *read_json(const struct report *report)
{
    struct buffer out = {0};
    json_error_t error;
    json_t *json;

    report_write_json(report, &out);
    json = json_loads(out.data, 0, &error);
    if (!json)
        fail_msg("%s in %s", error.text, out.data);
    buffer_clear(&out);
    return json;
}

/* a.b.0.c: members by name, elements by number */
static const json_t *find(const json_t *json, const char *path)
{
    while (json && *path) {
        size_t n = strcspn(path, ".");
        char name[64] = {0};

        memcpy(name, path, n);
        json = json_is_array(json) ? json_array_get(json, strtoul(name, NULL, 10))
                                   : json_object_get(json, name);
        path += n + (path[n] == '.');
    }
    return json;
}

static void members_are_where_they_belong(void **state)
{
    static const struct {
        const char *path, *value;
    } cases[] = {
        {"totals.title", "\"demo\""},
        {"totals.model", "\"smollm2\""},
        {"totals.options", "{\"level\":\"chunk\"}"},
        {"totals.started", "\"2026-01-02 03:04\""},
        {"totals.note", "\"the disk is full\""},
        {"totals.seconds", "75.200000000000003"},
        {"totals.model_seconds", "0.113"},
        {"totals.interrupted", "true"},
        {"totals.chunks", "6"},
        {"totals.pending", "2"},
        {"totals.cached", "1"},
        {"totals.tokens_in", "1800"},
        {"totals.success", "0.75"},
        {"totals.skipped", "3"},
        {"totals.languages.Python.lines", "30"},
        {"directories.1.path", "\"src\""},
        {"directories.2.path", "\"src/base\""},
        {"directories.2.summary", "\"Memory and maps.\""},
        {"directories.1.files.0.status", "\"pending\""},
        {"directories.1.files.0.summary", "null"},
        {"directories.1.files.0.chunks.0",
         "{\"first_line\":1,\"last_line\":12,\"status\":\"ok\",\"summary\":\"Reads options and "
         "runs a "
         "command.\",\"cached\":true,\"tokens_in\":90,\"tokens_out\":9}"},
        {"directories.2.files.0.chunks.1.reason", "\"answer over 64 tokens\""},
        {"directories.2.files.0.chunks.2.name", "\"map_clear\""},
        {"directories.2.files.0.chunks.2.status", "\"failed\""},
        {"directories.3.files.0.chunks_planned", "2"},
        {"directories.3.files.0.chunks", "[]"},
        {"skipped.2", "{\"path\":\"vendor/\",\"reason\":\"vendored\"}"},
    };
    struct report report;
    json_t *json;

    (void)state;
    support_sample_report(&report, 0);
    json = read_json(&report);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *found = json_dumps(find(json, cases[i].path), JSON_COMPACT | JSON_ENCODE_ANY);

        if (!found || strcmp(found, cases[i].value) != 0)
            fail_msg("%s is %s, not %s", cases[i].path, found ? found : "missing", cases[i].value);
        free(found);
    }
    json_decref(json);
    report_clear(&report);
}

static void order_makes_no_difference(void **state)
{
    static const enum report_format formats[] = {REPORT_JSON, REPORT_JSONL};

    (void)state;
    for (size_t i = 0; i < COUNT(formats); i++) {
        struct buffer out[2] = {{0}, {0}};

        for (int order = 0; order < 2; order++) {
            struct report report;

            support_sample_report(&report, order);
            assert_int_equal(report_write(&report, formats[i], &out[order], NULL), KVERN_OK);
            report_clear(&report);
        }
        assert_string_equal(out[0].data, out[1].data);
        buffer_clear(&out[0]);
        buffer_clear(&out[1]);
    }
}

static void lines_say_the_same(void **state)
{
    static const char *const types[] = {"directory", "chunk",   "file",    "directory", "chunk",
                                        "chunk",     "chunk",   "file",    "directory", "file",
                                        "directory", "skipped", "skipped", "skipped",   "totals"};
    struct report report;
    struct buffer out = {0};
    json_t *json;
    size_t n = 0;

    (void)state;
    support_sample_report(&report, 0);
    json = read_json(&report);
    report_write_jsonl(&report, &out);
    for (const char *line = out.data; *line; n++) {
        size_t n_bytes = strcspn(line, "\n");
        json_t *object = json_loadb(line, n_bytes, 0, NULL);

        assert_true(n < COUNT(types));
        assert_non_null(object);
        assert_string_equal(json_string_value(json_object_get(object, "type")), types[n]);
        if (n == 4) { /* a chunk names its file, and is else what JSON has */
            assert_string_equal(json_string_value(json_object_get(object, "file")),
                                "src/base/map.c");
            json_object_del(object, "file");
            json_object_del(object, "type");
            assert_true(json_equal(object, find(json, "directories.2.files.0.chunks.0")));
        } else if (strcmp(types[n], "totals") == 0) {
            json_object_del(object, "type");
            assert_true(json_equal(object, find(json, "totals")));
        }
        json_decref(object);
        line += n_bytes + 1;
    }
    assert_int_equal(n, COUNT(types));
    json_decref(json);
    buffer_clear(&out);
    report_clear(&report);
}

/* Whatever bytes a text has, the file is JSON. */
static void foreign_texts(void **state)
{
    static const char *const texts[] = {"\"",           "\\",        "\xff\xfe",        "a\x01\n",
                                        "\xed\xa0\x80", "</script>", "\xf0\x9f\x98\x80"};

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct report report;

        support_hostile_report(&report, texts[i]);
        json_decref(read_json(&report));
        report_clear(&report);
    }
}

static void formats_have_names(void **state)
{
    static const struct {
        const char *name;
        enum report_format format;
    } cases[] = {{"md", REPORT_MARKDOWN},
                 {"json", REPORT_JSON},
                 {"jsonl", REPORT_JSONL},
                 {"html", REPORT_HTML}};
    enum report_format format = REPORT_MARKDOWN;
    kvern_error err = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(report_format_parse(cases[i].name, &format, NULL), KVERN_OK);
        assert_int_equal(format, cases[i].format);
    }
    assert_int_equal(report_format_parse("xml", &format, &err), KVERN_INVALID);
    assert_string_equal(err.message, "a report has the format md, json, jsonl or html, not xml");
}

static void files_appear_whole(void **state)
{
    char directory[] = "/tmp/kvern-report-XXXXXX";
    struct report report;
    char *path;
    char *text = NULL;

    (void)state;
    assert_non_null(mkdtemp(directory));
    path = path_join(directory, "r.md");
    support_sample_report(&report, 0);
    for (int i = 0; i < 2; i++) /* a report that is there is replaced */
        assert_int_equal(report_write_file(&report, REPORT_MARKDOWN, path, NULL), KVERN_OK);
    assert_int_equal(file_read(path, 1 << 20, &text, NULL, NULL), KVERN_OK);
    assert_int_equal(strncmp(text, "# Summary of `demo`\n", 20), 0);
    free(text);
    unlink(path);
    assert_int_equal(report_write_file(&report, REPORT_MARKDOWN, "/nowhere/r.md", NULL),
                     KVERN_NOT_FOUND);
    assert_int_equal(rmdir(directory), 0); /* nothing else was left */
    free(path);
    report_clear(&report);
}

static void no_memory_for_the_text(void **state)
{
    static const enum report_format formats[] = {REPORT_MARKDOWN, REPORT_JSON, REPORT_JSONL,
                                                 REPORT_HTML};

    (void)state;
    for (size_t i = 0; i < COUNT(formats); i++) {
        bool has_failed = true;

        for (int64_t n = 0; has_failed; n++) {
            struct report report;
            struct buffer out = {0};
            kvern_status status;

            support_sample_report(&report, 0);
            memory_fail_after(n);
            status = report_write(&report, formats[i], &out, NULL);
            has_failed = memory_fail_after(-1);
            assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
            buffer_clear(&out);
            report_clear(&report);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_where_they_belong),
        cmocka_unit_test(order_makes_no_difference),
        cmocka_unit_test(lines_say_the_same),
        cmocka_unit_test(foreign_texts),
        cmocka_unit_test(formats_have_names),
        cmocka_unit_test(files_appear_whole),
        cmocka_unit_test(no_memory_for_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
