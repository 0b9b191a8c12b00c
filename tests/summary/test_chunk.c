/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks: where tables of small texts are cut, and for random texts and for Python's own library
 * (where it is installed) that they join to the text, keep every limit and do not cut characters.
 */
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "summary/chunk.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Like a tokenizer: words of at most six letters with the space before them, and single marks. */
static size_t count_words(void *ctx, const char *text, size_t n_bytes)
{
    size_t n = 0;
    size_t *n_counted = ctx;

    if (n_counted)
        *n_counted += n_bytes;
    for (size_t i = 0; i < n_bytes; n++) {
        size_t begin = i;

        i += text[i] == ' ' && i + 1 < n_bytes;
        while (i < n_bytes && i - begin < 7 && ((text[i] | 32) >= 'a' && (text[i] | 32) <= 'z'))
            i++;
        if (i - begin <= 1)
            i = begin + 1;
    }
    return n;
}

static size_t count_bytes(void *ctx, const char *text, size_t n_bytes)
{
    (void)ctx;
    (void)text;
    return n_bytes;
}

static size_t count_fails(void *ctx, const char *text, size_t n_bytes)
{
    (void)ctx;
    (void)text;
    (void)n_bytes;
    return CHUNK_COUNT_FAILED;
}

/* Odd on purpose: an even number of bytes takes six tokens more. */
static size_t count_unsteadily(void *ctx, const char *text, size_t n_bytes)
{
    (void)ctx;
    (void)text;
    return n_bytes + (n_bytes % 2 ? 0 : 6);
}

struct row {
    const char *language;
    enum chunk_level level;
    size_t max_lines;
    size_t max_tokens; /* of count_bytes */
    const char *text;
    const char *expected; /* "name first-last", '!' where cut (kept bytes after it), '~' blank */
};

#define FILE_LEVEL CHUNK_LEVEL_FILE
#define FUNCTION_LEVEL CHUNK_LEVEL_FUNCTION

static const char two_functions[] = "import a\n\ndef f():\n    x\n    y\n\n\ndef g():\n    z\n";
static const char class_text[] = "class A:\n    x = 1\n\n    def f(self):\n        pass\n\n    def "
                                 "g(self):\n        pass\n\ny = 2\n";

static const struct row rows[] = {
    {"Python", FILE_LEVEL, 300, 0, "", ""},
    {"Python", FILE_LEVEL, 300, 0, "x", "? 1-1"},
    {"Python", FILE_LEVEL, 300, 0, "\n\n", "~? 1-2"},
    {"Python", FILE_LEVEL, 300, 0, two_functions, "? 1-9"},
    {"Python", FILE_LEVEL, 8, 0, two_functions, "? 1-7, g 8-9"},
    {"Python", FILE_LEVEL, 6, 0, two_functions, "? 1-2, f 3-7, g 8-9"},
    {"Python", FILE_LEVEL, 3, 0, two_functions, "? 1-2, f 3-5, ~? 6-7, g 8-9"},
    {"Python", FILE_LEVEL, 6, 0,
     "import a\n\ndef f():\n  b\n  b\n  b\n  b\n  b\n  b\n  b\n  b\n  b\n  b\n",
     "? 1-6, f 7-12, f 13-13"},
    {"Python", FILE_LEVEL, 1, 0, "a\nb\n", "? 1-1, ? 2-2"},
    {"Python", FUNCTION_LEVEL, 300, 0, two_functions, "? 1-2, f 3-7, g 8-9"},
    {"Python", FUNCTION_LEVEL, 300, 0, class_text, "A 1-3, A.f 4-6, A.g 7-9, ? 10-10"},
    {"Python", FUNCTION_LEVEL, 2, 0, class_text,
     "A 1-2, ~? 3-3, A.f 4-5, ~? 6-6, A.g 7-8, ~? 9-9, ? 10-10"},
    {"C++", FUNCTION_LEVEL, 300, 0, "namespace a {\nint f()\n{\n}\n\nint g()\n{\n}\n\n} // a\n",
     "a 1-1, a.f 2-5, a.g 6-10"},
    {"Text", FILE_LEVEL, 4, 0, "a\nb\n\nc\nd\n", "? 1-3, ? 4-5"},
    {"Text", FILE_LEVEL, 4, 0, "a\n\nb\nc\nd\n", "? 1-2, ? 3-5"},
    {"Text", FILE_LEVEL, 4, 0, "a\nb\nc\nd\ne\n", "? 1-4, ? 5-5"},
    {"Text", FILE_LEVEL, 300, 4, "aa\nb\nccc\n", "? 1-1, ? 2-2, ? 3-3"},
    {"Text", FILE_LEVEL, 300, 5, "aa\nb\nccc\n", "? 1-2, ? 3-3"},
    {"Text", FILE_LEVEL, 300, 4, "a\nlonger\nb", "? 1-1, !4 ? 2-2, ? 3-3"},
    {"Text", FILE_LEVEL, 300, 4, "\xc3\xa9\xe2\x82\xac\n", "!2 ? 1-1"},
    {"Text", FILE_LEVEL, 300, 5, "\xc3\xa9\xe2\x82\xac\n", "!5 ? 1-1"},
    {"Text", FILE_LEVEL, 300, 3, "\x80\x80\x80\x80\x80", "!3 ? 1-1"},
    {"Text", FILE_LEVEL, 300, 100, "a\r\nb\r\n", "? 1-2"},
    {"patch", FILE_LEVEL, 300, 0,
     "Subject\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n@@ -9 +9 @@\n-a\n+b\n"
     "--- y\n+++ y\n@@ -1 +1 @@\n-a\n+b\n",
     "? 1-2, x 3-11, y 12-16"},
    {"patch", FILE_LEVEL, 7, 0,
     "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n@@ -9 +9 @@\n-a\n+b\n",
     "x 1-6, x 7-9"},
};

static char *describe(const struct chunk_list *list)
{
    struct buffer out = {0};

    for (size_t i = 0; i < list->n_chunks; i++) {
        const struct chunk *chunk = &list->chunks[i];

        buffer_add_string(&out, i ? ", " : "");
        if (chunk->is_cut)
            buffer_add_format(&out, "!%zu ", chunk->n_kept_bytes);
        buffer_add_format(&out, "%s%s %zu-%zu", chunk->is_blank ? "~" : "",
                          chunk->name ? chunk->name : "?", chunk->first_line, chunk->last_line);
    }
    return buffer_take(&out, NULL);
}

static void cuts_are_where_they_should_be(void **state)
{
    size_t n_failed = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct chunk_options options = {.max_lines = rows[i].max_lines,
                                        .max_tokens = rows[i].max_tokens,
                                        .level = rows[i].level,
                                        .count_tokens = count_bytes};
        const struct language *language = language_find(rows[i].language);
        struct chunk_list list;
        size_t n = strlen(rows[i].text);

        if (strcmp(rows[i].language, "patch") == 0)
            assert_int_equal(chunk_patch(&list, rows[i].text, n, &options, NULL), KVERN_OK);
        else
            assert_int_equal(chunk_text(&list, language, rows[i].text, n, &options, NULL),
                             KVERN_OK);
        char *found = describe(&list);
        if (strcmp(found, rows[i].expected) != 0) {
            print_error(
                "row %zu, at most %zu lines, %zu tokens of\n%s\n  found    %s\n  expected %s\n", i,
                rows[i].max_lines, rows[i].max_tokens, rows[i].text, found, rows[i].expected);
            n_failed++;
        }
        free(found);
        chunk_list_clear(&list);
    }
    assert_int_equal(n_failed, 0);
}

/* Everything that holds for every text. */
static void check_chunks(const struct chunk_list *list, const char *text, size_t n_bytes,
                         const struct chunk_options *options, const char *what)
{
    size_t at = 0;
    size_t line = 1;

    for (size_t i = 0; i < list->n_chunks; i++) {
        const struct chunk *chunk = &list->chunks[i];
        const char *begin = text + chunk->begin;
        size_t n_lines = chunk->last_line - chunk->first_line + 1;
        size_t n_newlines = 0;
        size_t n_tokens = options->count_tokens(NULL, begin, chunk->n_kept_bytes);

        for (size_t j = 0; j < chunk->n_bytes; j++)
            n_newlines += begin[j] == '\n';
        if (chunk->begin != at || chunk->first_line != line || chunk->n_bytes == 0)
            fail_msg("%s: chunk %zu begins at byte %zu, line %zu: expected %zu, %zu", what, i,
                     chunk->begin, chunk->first_line, at, line);
        at += chunk->n_bytes;
        line = chunk->last_line + 1;
        if (n_newlines != n_lines && !(at == n_bytes && n_newlines + 1 == n_lines))
            fail_msg("%s: chunk %zu has %zu newlines and %zu lines", what, i, n_newlines, n_lines);
        if (at < n_bytes && text[at - 1] != '\n')
            fail_msg("%s: chunk %zu ends within line %zu", what, i, chunk->last_line);
        if (n_lines > options->max_lines)
            fail_msg("%s: chunk %zu has %zu lines", what, i, n_lines);
        if (options->max_tokens > 0 &&
            (n_tokens > options->max_tokens || n_tokens != chunk->n_tokens))
            fail_msg("%s: chunk %zu has %zu tokens, says %zu, may have %zu", what, i, n_tokens,
                     chunk->n_tokens, options->max_tokens);
        if (chunk->is_cut != (chunk->n_kept_bytes < chunk->n_bytes) ||
            (chunk->is_cut && n_lines != 1))
            fail_msg("%s: chunk %zu keeps %zu of %zu bytes", what, i, chunk->n_kept_bytes,
                     chunk->n_bytes);
        if (chunk->is_cut && utf8_is_valid(begin, chunk->n_bytes) &&
            !utf8_is_valid(begin, chunk->n_kept_bytes))
            fail_msg("%s: chunk %zu ends within a character", what, i);
    }
    assert_int_equal(at, n_bytes);
}

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state >> 11) % n;
}

static const char *const pieces[] = {
    "\n",
    "\n",
    "\n\n",
    "    ",
    "\t",
    "def f(x):\n",
    "class A:\n",
    "{",
    "}\n",
    "int f(",
    ")",
    "x",
    "/* ",
    "*/",
    "\"",
    "'",
    "#",
    "# H\n",
    "end\n",
    "\xc3\xa9",
    "\xe2\x82\xac",
    "\xf0\x9f\x98\x80",
    "\x80",
    "word word ",
    "function g() {\n",
    "@@ -1,2 +3 @@\n",
    "--- a/b\n",
    "+++ b/b\n",
    "diff --git a/x b/x\n",
    "+x\n",
    "-y\n",
    "=>",
    "(",
    ";",
    "a very long line that goes on and on without an end in sight ",
    "\\"};

static void random_texts_are_cut_within_limits(void **state)
{
    static const chunk_count_fn counters[] = {count_words, count_bytes, count_unsteadily};
    size_t n_chunks = 0;

    (void)state;
    for (int round = 0; round < 4000; round++) {
        struct buffer text = {0};
        struct chunk_options options = {.max_lines = 1 + random_below(12),
                                        .max_tokens = 10 + random_below(60),
                                        .level = random_below(2) ? FILE_LEVEL : FUNCTION_LEVEL,
                                        .count_tokens = counters[random_below(3)]};
        const struct language *language = language_at(random_below(75));
        struct chunk_list list;
        kvern_error err = {0};

        for (size_t n = random_below(150); n > 0; n--)
            buffer_add_string(&text, pieces[random_below(COUNT(pieces))]);
        kvern_status status =
            round % 4 ? chunk_text(&list, language, text.data, text.n_bytes, &options, &err)
                      : chunk_patch(&list, text.data, text.n_bytes, &options, &err);
        if (status != KVERN_OK)
            fail_msg("round %d: %s", round, err.message);
        check_chunks(&list, text.data, text.n_bytes, &options, "random text");
        n_chunks += list.n_chunks;
        chunk_list_clear(&list);
        buffer_clear(&text);
    }
    print_message("%zu chunks\n", n_chunks);
}

struct library {
    size_t n_files;
    size_t n_chunks;
    size_t n_named;
    size_t n_bytes;
    size_t n_counted; /* bytes given to the counter */
};

static void cut_file(struct library *library, const char *path)
{
    char *text = NULL;
    size_t n_bytes = 0;

    if (file_read(path, 4 << 20, &text, &n_bytes, NULL) != KVERN_OK)
        return;
    for (int level = 0; level < 2; level++) {
        struct chunk_options options = {.max_lines = level ? 40 : 300,
                                        .max_tokens = level ? 200 : 480,
                                        .level = level ? FUNCTION_LEVEL : FILE_LEVEL,
                                        .count_tokens = count_words,
                                        .ctx = &library->n_counted};
        struct chunk_list list;

        assert_int_equal(chunk_text(&list, language_find("Python"), text, n_bytes, &options, NULL),
                         KVERN_OK);
        check_chunks(&list, text, n_bytes, &options, path);
        for (size_t i = 0; i < list.n_chunks; i++)
            library->n_named += list.chunks[i].name != NULL;
        library->n_chunks += list.n_chunks;
        library->n_bytes += n_bytes;
        chunk_list_clear(&list);
    }
    library->n_files++;
    free(text);
}

static void cut_folder(struct library *library, const char *folder, int depth)
{
    DIR *directory = depth > 0 ? opendir(folder) : NULL;
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        size_t n = strlen(entry->d_name);
        char *path = path_join(folder, entry->d_name);

        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            !strstr(entry->d_name, "-packages"))
            cut_folder(library, path, depth - 1);
        else if (entry->d_type == DT_REG && n > 3 && strcmp(entry->d_name + n - 3, ".py") == 0)
            cut_file(library, path);
        free(path);
    }
    if (directory)
        closedir(directory);
}

static void pythons_own_library_is_cut_within_limits(void **state)
{
    FILE *python = popen("python3 -c 'import os; print(os.path.dirname(os.__file__))' 2>&1", "r");
    char folder[4096] = "";
    struct library library = {0};
    clock_t begin = clock();

    (void)state;
    if (!python || !fgets(folder, sizeof folder, python) || pclose(python) != 0)
        skip();
    folder[strcspn(folder, "\n")] = '\0';
    cut_folder(&library, folder, 4);
    print_message("%zu files: %zu chunks, %zu with a name, %.1f bytes counted for a byte, %.2f s\n",
                  library.n_files, library.n_chunks, library.n_named,
                  (double)library.n_counted / (double)library.n_bytes,
                  (double)(clock() - begin) / CLOCKS_PER_SEC);
    if (library.n_files > 100) {
        assert_true(library.n_named * 2 > library.n_chunks);
        assert_true(library.n_counted < 20 * library.n_bytes);
    }
}

static void counting_stays_near_a_chunks_size(void **state)
{
    enum { LINES = 60000 };
    struct buffer text = {0};
    size_t n_counted = 0;
    struct chunk_options options = {
        .max_tokens = 100, .count_tokens = count_words, .ctx = &n_counted};
    struct chunk_list list;

    (void)state;
    for (size_t i = 0; i < LINES; i++)
        buffer_add_string(&text, i % 7 ? "x = word + word\n" : "\n");
    for (size_t i = 0; i < 4 << 20; i++) /* and one line that goes on for ever */
        buffer_add_byte(&text, 'x');
    assert_int_equal(chunk_text(&list, language_plain(), text.data, text.n_bytes, &options, NULL),
                     KVERN_OK);
    assert_true(list.chunks[list.n_chunks - 1].is_cut);
    assert_true(n_counted < 20 * (size_t)LINES * 16);
    chunk_list_clear(&list);
    buffer_clear(&text);
}

static void failures_are_told(void **state)
{
    static const char text[] = "aaaa\nbbbb\n";
    struct chunk_options options = {.max_tokens = 5, .count_tokens = count_fails};
    struct chunk_list list;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(chunk_text(&list, language_plain(), text, sizeof text - 1, &options, &err),
                     KVERN_RUNTIME);
    assert_int_equal(list.n_chunks, 0);
    options = (struct chunk_options){.max_tokens = 1, .count_tokens = count_unsteadily};
    assert_int_equal(chunk_text(&list, language_plain(), "\xc3\xa9", 2, &options, &err),
                     KVERN_LIMIT);
    for (int64_t n = 0;; n++) {
        options = (struct chunk_options){.max_lines = 1};
        memory_fail_after(n);
        kvern_status status =
            chunk_text(&list, language_plain(), text, sizeof text - 1, &options, &err);
        bool has_failed = memory_fail_after(-1);
        if (!has_failed) {
            assert_int_equal(status, KVERN_OK);
            assert_true(n >= 4);
            break;
        }
        assert_int_equal(status, KVERN_MEMORY);
        assert_null(list.chunks);
    }
    chunk_list_clear(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_are_where_they_should_be),
        cmocka_unit_test(random_texts_are_cut_within_limits),
        cmocka_unit_test(pythons_own_library_is_cut_within_limits),
        cmocka_unit_test(counting_stays_near_a_chunks_size),
        cmocka_unit_test(failures_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
