/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern summarize as a user runs it, with SmolLM2 over a small tree: what the report says,
 * that a second run asks for nothing, that a change asks for its file alone, patches on stdin, an
 * interrupt, and what is refused.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"
#include "support_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *root; /* owned: holds tree/ and cache/ */
static char model_directory[1024];

static const char PYTHON[] = "def area(width, height):\n"
                             "    \"\"\"The area of a rectangle.\"\"\"\n"
                             "    return width * height\n";
static const char C[] = "#include <stdio.h>\n\n"
                        "int main(void)\n{\n    printf(\"hello\\n\");\n    return 0;\n}\n";

static void write_file(const char *name, const char *text, size_t n_bytes)
{
    char path[1200];

    snprintf(path, sizeof path, "%s/%s", root, name);
    write_whole(path, text, n_bytes);
}

static void make_folder(const char *name)
{
    char path[1200];

    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

static int set_up(void **state)
{
    kvern_model *model = open_test_model(smollm2_gguf, NULL);
    kvern_model_info info;

    (void)state;
    kvern_model_get_info(model, &info);
    snprintf(model_directory, sizeof model_directory, "%s", info.directory);
    kvern_model_close(model);
    root = make_directory();
    make_folder("tree");
    make_folder("tree/inner");
    make_folder("tree/node_modules");
    write_file("tree/area.py", PYTHON, strlen(PYTHON));
    write_file("tree/inner/hello.c", C, strlen(C));
    write_file("tree/node_modules/other.js", "let a = 1;\n", 11);
    write_file("tree/data.bin", "\0\1\2\3", 4);
    write_file("tree/.gitignore", "secret*\n", 8);
    write_file("tree/secret.py", PYTHON, strlen(PYTHON));
    return 0;
}

/* directory_remove() takes folders without folders. */
static int tear_down(void **state)
{
    static const char *const folders[] = {
        "/tree/inner", "/tree/node_modules", "/tree", "/many", "/cache", "/full", ""};
    kvern_status status = KVERN_OK;
    kvern_error err;

    (void)state;
    for (size_t i = 0; status == KVERN_OK && i < COUNT(folders); i++) {
        char path[1200];

        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        status = directory_remove(path, &err);
    }
    free(root);
    return status == KVERN_OK ? 0 : -1;
}

/* "summarize -m MODEL --cache-dir ROOT/cache <arguments>", where @ is ROOT. Short answers: under
 * ASan a token takes a tenth of a second. */
static const char *command(const char *arguments)
{
    static char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text,
                                "summarize -m %s -t 2 --answer-tokens 16 --cache-dir %s/cache ",
                                model_directory, root);

    for (; *arguments; arguments++) {
        if (*arguments == '@')
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", root);
        else
            text[n++] = *arguments;
    }
    text[n] = '\0';
    return text;
}

static json_t *totals_of(const char *arguments, const char *input)
{
    char *out = command_output(command(arguments), input, 0);
    json_t *report = json_loads(out, 0, NULL);
    json_t *totals = json_incref(json_object_get(report, "totals"));

    assert_non_null(totals);
    json_decref(report);
    free(out);
    return totals;
}

static int64_t count(const json_t *totals, const char *name)
{
    const json_t *value = json_object_get(totals, name);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void a_tree_becomes_a_report(void **state)
{
    char *out = command_output(command("@/tree -q"), NULL, 0);

    (void)state;
    assert_contains(out, "# Summary of");
    assert_contains(out, "area.py");
    assert_contains(out, "hello.c");
    assert_contains(out, "This code");
    assert_contains(out, "vendored, built or installed");
    assert_contains(out, "ignored by .gitignore");
    assert_contains(out, "no text");
    free(out);
}

/* The cache is what the test before left. */
static void a_second_run_asks_for_nothing(void **state)
{
    static const char edited[] = "def area(a, b):\n    return a * b  # of a rectangle\n";
    json_t *totals = totals_of("@/tree -q --format json", NULL);

    (void)state;
    assert_int_equal(count(totals, "chunks"), 2);
    assert_int_equal(count(totals, "ok") + count(totals, "cut"), 2);
    assert_int_equal(count(totals, "cached"), 2);
    assert_int_equal(count(totals, "tokens_in"), 0); /* of what ran, folders' summaries too */
    json_decref(totals);
    write_file("tree/area.py", edited, strlen(edited));
    totals = totals_of("@/tree -q --format json", NULL);
    assert_int_equal(count(totals, "chunks"), 2);
    assert_int_equal(count(totals, "cached"), 1);
    assert_true(count(totals, "tokens_in") > 0);
    json_decref(totals);
    totals = totals_of("@/tree -q --format json --no-cache --level chunk", NULL);
    assert_int_equal(count(totals, "cached"), 0);
    json_decref(totals);
}

static void lines_come_one_by_one(void **state)
{
    char *out = command_output(command("@/tree -q --format jsonl --language python"), NULL, 0);
    json_t *chunk = json_line(out, 0);
    json_t *last = json_line(out, count_lines(out) - 1);

    (void)state;
    assert_string_equal(json_string_value(json_object_get(chunk, "type")), "chunk");
    assert_non_null(strstr(json_string_value(json_object_get(chunk, "summary")), "This code"));
    assert_string_equal(json_string_value(json_object_get(last, "type")), "totals");
    assert_int_equal(count(last, "files"), 1);
    json_decref(chunk);
    json_decref(last);
    free(out);
}

static void a_patch_comes_on_stdin(void **state)
{
    static const char patch[] = "diff --git a/area.py b/area.py\n"
                                "--- a/area.py\n+++ b/area.py\n@@ -1,2 +1,3 @@\n"
                                " def area(width, height):\n+    assert width >= 0\n"
                                "     return width * height\n";
    char *out = command_output(command("- -q --no-cache"), patch, 0);
    json_t *totals;

    (void)state;
    assert_contains(out, "This change");
    free(out);
    totals = totals_of("- -q --no-cache --format json", "Any text at all is summarised, too.\n");
    assert_int_equal(count(totals, "chunks"), 1);
    json_decref(totals);
}

/* What is done by then is in the report, and in the cache. */
static void an_interrupt_writes_what_is_done(void **state)
{
    enum { N_FILES = 8 };
    struct command_run run = {.interrupt = "\"type\":\"chunk\""};
    json_t *last;

    (void)state;
    make_folder("many");
    for (int i = 0; i < N_FILES; i++) {
        char name[64], text[128];
        int n = snprintf(text, sizeof text, "def f%d(x):\n    return x + %d\n", i, i);

        snprintf(name, sizeof name, "many/f%02d.py", i);
        write_file(name, text, (size_t)n);
    }
    command_run(&run, command("@/many -q -j 2 --format jsonl"));
    assert_int_equal(run.status, 130);
    last = json_line(run.out, count_lines(run.out) - 1);
    assert_string_equal(json_string_value(json_object_get(last, "type")), "totals");
    assert_true(json_is_true(json_object_get(last, "interrupted")));
    assert_in_range(count(last, "ok") + count(last, "cut"), 1, N_FILES - 1);
    json_decref(last);
    command_clear(&run);
    last = totals_of("@/many -q --format json --level chunk", NULL);
    assert_true(count(last, "cached") >= 1);
    assert_int_equal(count(last, "chunks"), N_FILES);
    json_decref(last);
}

/* The disk fills up in the middle of the first record: the report is whole, and both stderr and the
 * report say that nothing more was kept. */
static void a_full_disk_is_told(void **state)
{
    static const char says[] = "summaries are not kept: cannot write to";
    struct command_run run = {.max_file_bytes = 40};
    json_t *report;
    const json_t *totals;
    const char *note;

    (void)state;
    command_run(&run, command("@/tree -q --format json --cache-dir @/full"));
    assert_int_equal(run.status, 0);
    assert_contains(run.err, "kvern: later summaries are not kept: cannot write to ");
    assert_null(strstr(strstr(run.err, says) + 1, says)); /* once */
    report = json_loads(run.out, 0, NULL);
    totals = json_object_get(report, "totals");
    note = json_string_value(json_object_get(totals, "note"));
    assert_non_null(note);
    assert_int_equal(strncmp(note, "later summaries were not kept: cannot write to ", 47), 0);
    assert_contains(note, "File too large");
    assert_int_equal(count(totals, "ok") + count(totals, "cut"), 2);
    json_decref(report);
    command_clear(&run);
}

/* The report of the run before is no part of the tree. */
static void a_report_is_not_summarised(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        char *out = command_output(command("@/tree -q -o @/tree/report.md"), NULL, 0);
        char *path = path_join(root, "tree/report.md");
        char *text = NULL;

        assert_int_equal(file_read(path, 1 << 20, &text, NULL, NULL), KVERN_OK);
        assert_contains(text, "2 of 2 chunks have a summary");
        assert_true((strstr(text, "the report is written there") != NULL) == (round == 1));
        free(text);
        free(path);
        free(out);
    }
}

static void nothing_may_have_changed(void **state)
{
    struct command_run run = {0};
    char script[1200];

    (void)state;
    snprintf(script, sizeof script,
             "cd '%s/many' && git init -q && git add . && git -c user.name=a -c user.email=a@b "
             "commit -qm one >/dev/null",
             root);
    if (system("git --version >/dev/null 2>&1") != 0)
        skip();
    assert_int_equal(system(script), 0);
    command_run(&run, command("@/many --changed-since HEAD"));
    assert_int_equal(run.status, 0);
    assert_contains(run.err, "nothing to summarise changed since HEAD");
    assert_contains(run.out, "# Summary of");
    command_clear(&run);
    snprintf(script, sizeof script, "rm -rf '%s/many/.git'", root);
    assert_int_equal(system(script), 0);
}

static void what_is_wrong_is_told(void **state)
{
    static const struct {
        const char *arguments;
        int status;
        const char *says;
    } cases[] = {
        {"", 2, "needs a PATH"},
        {"@/tree --format pdf", 2, "md"},
        {"@/tree --level line", 2, "file, chunk or function, not 'line'"},
        {"@/tree --language klingon", 2, "'klingon'"},
        {"@/nowhere", 1, "nowhere"},
        {"@/tree --include *.rs -q", 1, "nothing to summarise"},
        {"@/tree --chunk-tokens 100000 -q", 1, "chunks of 100000 tokens do not fit"},
        {"@/tree @/tree --changed-since main", 2, "takes one PATH"},
        {"@/tree -o @/nowhere/report.md", 1, "nowhere/report.md"},
        {"@/tree -o @/tree", 1, "Is a directory"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        command_refused(command(cases[i].arguments), NULL, cases[i].status, cases[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_becomes_a_report),
        cmocka_unit_test(a_second_run_asks_for_nothing),
        cmocka_unit_test(lines_come_one_by_one),
        cmocka_unit_test(a_patch_comes_on_stdin),
        cmocka_unit_test(an_interrupt_writes_what_is_done),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(a_report_is_not_summarised),
        cmocka_unit_test(nothing_may_have_changed),
        cmocka_unit_test(what_is_wrong_is_told),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
