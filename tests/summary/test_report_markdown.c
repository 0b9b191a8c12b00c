/* SPDX-License-Identifier: Apache-2.0
 *
 * Markdown: a whole small report, what is escaped and what is left to be read, and that no text,
 * path or name changes the document's structure.
 */
#include "summary/markdown.h"
#include "summary/report_write.h"
#include "support_report.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static const char sample[] =
    "# Summary of `demo`\n\n"
    "3 files of 643 lines; 3 of 6 chunks have a summary (1 of a cut text or answer), 1 failed, 2 "
    "were not reached. **The run was interrupted: this is what was done until then.** 3 paths were "
    "skipped.\n\n"
    "| | |\n|---|---|\n"
    "| model | smollm2 |\n"
    "| level | chunk |\n"
    "| started | 2026-01-02 03:04 |\n"
    "| note | the disk is full |\n"
    "| took | 1 min 15 s |\n"
    "| model work | 1,800 tokens read, 87 written |\n"
    "| from the cache | 1 chunk |\n\n"
    "## Totals\n\n"
    "| language | files | lines | chunks | failed | not reached |\n"
    "|---|---:|---:|---:|---:|---:|\n"
    "| C | 2 | 613 | 4 | 1 | 0 |\n"
    "| Python | 1 | 30 | 2 | 0 | 2 |\n"
    "| **all** | 3 | 643 | 6 | 1 | 2 |\n\n"
    "| directory | files | lines | chunks | failed | not reached |\n"
    "|---|---:|---:|---:|---:|---:|\n"
    "| `src` | 1 | 12 | 1 | 0 | 0 |\n"
    "| `src/base` | 1 | 601 | 3 | 1 | 0 |\n"
    "| `tools` | 1 | 30 | 2 | 0 | 2 |\n\n"
    "## `src`\n\n"
    "### `src/main.c`\n\n"
    "Reads options and runs a command.\n\n"
    "*C, 12 lines*\n\n"
    "## `src/base`\n\n"
    "Memory and maps.\n\n"
    "### `src/base/map.c`\n\n"
    "A hash map from strings to numbers.\n\n"
    "*C, 601 lines*\n\n"
    "- **lines 1-300** `map_put`: Adds an entry to the map.\n"
    "- **lines 301-600**: Grows the table. *(cut: answer over 64 tokens)*\n"
    "- **line 601** `map_clear`: *(failed: the answer is empty)*\n\n"
    "## `tools`\n\n"
    "### `tools/run.py`\n\n"
    "*Python, 30 lines; 0 of 2 chunks reached*\n\n"
    "## Failed\n\n"
    "| path | what | why |\n|---|---|---|\n"
    "| `src/base/map.c` | line 601 | the answer is empty |\n\n"
    "## Skipped\n\n"
    "- **binary** (2): `a.bin`, `logo.png`\n"
    "- **vendored** (1): `vendor/`\n";

static void a_small_report(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct report report;
        struct buffer out = {0};

        support_sample_report(&report, order);
        assert_int_equal(report_write(&report, REPORT_MARKDOWN, &out, NULL), KVERN_OK);
        assert_string_equal(out.data, sample);
        buffer_clear(&out);
        report_clear(&report);
    }
}

static void text_is_escaped(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"Adds snake_case to R&D -> x.", "Adds snake_case to R&D -> x."},
        {"# no heading", "\\# no heading"},
        {"- no list", "\\- no list"},
        {"+ no list", "\\+ no list"},
        {"12. no list", "12\\. no list"},
        {"3) no list", "3\\) no list"},
        {"3.5 times", "3\\.5 times"},
        {"12 times. 3. x", "12 times. 3. x"},
        {"=== no heading", "\\=== no heading"},
        {"> no quote", "\\> no quote"},
        {"a > b", "a > b"},
        {"*a* **b**", "\\*a\\* \\*\\*b\\*\\*"},
        {"_a_ __init__", "\\_a\\_ \\_\\_init\\_\\_"},
        {"`code`", "\\`code\\`"},
        {"a | b", "a \\| b"},
        {"a\\|b", "a\\\\\\|b"},
        {"<b>x</b>", "\\<b>x\\</b>"},
        {"&lt; & &#60; &&", "\\&lt; & \\&\\#60; &&"},
        {"[a](b)", "\\[a\\](b)"},
        {"$x$ ~~y~~", "\\$x\\$ \\~\\~y\\~\\~"},
        {"", ""},
        {"7", "7"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer out = {0};

        buffer_add_string(&out, "");
        markdown_text(&out, cases[i].text);
        assert_string_equal(out.data, cases[i].expected);
        buffer_clear(&out);
    }
}

static void code_is_fenced(void **state)
{
    static const struct {
        const char *text;
        bool is_in_table;
        const char *expected;
    } cases[] = {
        {"a/b.c", false, "`a/b.c`"},
        {"a`b", false, "``a`b``"},
        {"`a``b", false, "``` `a``b ```"},
        {"a`", false, "`` a` ``"},
        {" a", false, "`  a `"},
        {"a|b", false, "`a|b`"},
        {"a|b", true, "`a\\|b`"},
        {"a\\|b", true, "a\\\\\\|b"},
        {"a\\b", true, "`a\\b`"},
        {"*", false, "`*`"},
        {"", false, ""},
        {"<a>&amp;", true, "`<a>&amp;`"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer out = {0};

        buffer_add_string(&out, "");
        markdown_code(&out, cases[i].text, cases[i].is_in_table);
        assert_string_equal(out.data, cases[i].expected);
        buffer_clear(&out);
    }
}

/* Bars that divide cells: those without a backslash that counts. */
static size_t count_bars(const char *line, size_t n_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        if (line[i] == '\\' && i + 1 < n_bytes && (line[i + 1] == '\\' || line[i + 1] == '|'))
            i++;
        else
            n += line[i] == '|';
    }
    return n;
}

/* The first bytes of each line and the bars of table rows: what makes the structure. */
static void outline(const struct report *report, struct buffer *lines)
{
    struct buffer out = {0};

    report_write_markdown(report, &out);
    for (const char *line = out.data; *line;) {
        size_t n = strcspn(line, "\n");
        bool is_row = line[0] == '|';

        if (line[0] == '#' || is_row || line[0] == '-' || n == 0)
            buffer_add(lines, line, line[0] == '#' ? strspn(line, "#") : n > 0);
        else
            buffer_add_string(lines, "text");
        buffer_add_format(lines, " %zu\n", is_row ? count_bars(line, n) : 0);
        line += n + (line[n] == '\n');
    }
    buffer_clear(&out);
}

static void no_text_changes_the_structure(void **state)
{
    static const char *const texts[] = {
        "# x",       "x\n# y\n\n- z",   "| a | b |", "\\| a \\\\| b", "```",   "``` `` `",
        "<script>x", "<!-- x",          "- x",       "1. x",          "=====", "---",
        "* * *",     "[x]: y",          "    x",     "\r\n> x",       "~~~",   "x\\",
        "a\\|b`",    "&#124; x &vert;", "x  \ny",    "\xff\xfe|",
    };
    struct buffer plain = {0};
    struct report report;

    (void)state;
    support_hostile_report(&report, "plain");
    outline(&report, &plain);
    assert_true(plain.n_bytes > 100);
    report_clear(&report);
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct buffer found = {0};

        support_hostile_report(&report, texts[i]);
        outline(&report, &found);
        if (strcmp(found.data, plain.data) != 0)
            fail_msg("\"%s\" makes\n%s of\n%s", texts[i], found.data, plain.data);
        report_clear(&report);
        buffer_clear(&found);
    }
    buffer_clear(&plain);
}

static void long_groups_are_cut_short(void **state)
{
    struct report report;
    struct buffer out = {0};

    (void)state;
    assert_int_equal(report_init(&report, "t", "m", "", NULL), KVERN_OK);
    for (int i = 0; i < 1234; i++) {
        char name[] = {(char)('a' + i / 100), (char)('a' + i / 10 % 10), (char)('a' + i % 10), 0};

        assert_int_equal(report_add_skip(&report, name, "generated", NULL), KVERN_OK);
    }
    assert_int_equal(report_finish(&report, 1, false, NULL), KVERN_OK);
    report_write_markdown(&report, &out);
    assert_non_null(strstr(out.data, "- **generated** (1,234): `aaa`, `aab`"));
    assert_non_null(strstr(out.data, "`abj` and 1,214 more\n"));
    assert_null(strstr(out.data, "## Totals"));
    buffer_clear(&out);
    report_clear(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_report),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(code_is_fenced),
        cmocka_unit_test(no_text_changes_the_structure),
        cmocka_unit_test(long_groups_are_cut_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
