/* SPDX-License-Identifier: Apache-2.0
 *
 * Where texts come from: their order, ids, and lines that are none.
 */
#include "cli/texts.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/kvern-texts-XXXXXX";

static int enter_directory(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    return chdir(directory);
}

static int remove_directory(void **state)
{
    static const char *const names[] = {"whole", "jsonl", "lines", "zero"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++)
        unlink(names[i]);
    return rmdir(directory);
}

static void write_file(const char *name, const char *bytes, size_t n_bytes)
{
    FILE *file = fopen(name, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

/* The texts as "id=text;" or "id!error;". */
static void gather(struct texts *texts, char gathered[1024])
{
    bool has_text = true;

    *gathered = '\0';
    while (has_text) {
        struct text text;
        kvern_error err;

        if (texts_next(texts, &text, &has_text, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        if (!has_text)
            break;
        char *id = json_dumps(text.id, JSON_ENCODE_ANY | JSON_COMPACT);
        size_t n = strlen(gathered);
        snprintf(gathered + n, 1024 - n, "%s%s%s;", id, text.text ? "=" : "!",
                 text.text ? text.text : text.error.message);
        if (text.text)
            assert_int_equal(strlen(text.text), text.n_bytes);
        free(id);
        text_clear(&text);
    }
    texts_close(texts);
}

static void sources_follow_each_other(void **state)
{
    static const char jsonl[] =
        "{\"id\":\"x\",\"text\":\"one\"}\n\n\"two\"\r\n{\"input\":\"three\"}";
    static const char lines[] = "four\r\n   \n five \n";
    char *arguments[] = {"zero"};
    struct texts texts = {.arguments = {arguments, 1}, .jsonl = "jsonl", .lines = "lines"};
    char gathered[1024];

    (void)state;
    write_file("whole", "all\nof it\n", 10);
    write_file("jsonl", jsonl, strlen(jsonl));
    write_file("lines", lines, strlen(lines));
    texts.files.items[texts.files.n++] = "whole";
    assert_int_equal(texts_count(&texts), 2 + 4 + 3); /* blank lines too */
    gather(&texts, gathered);
    assert_string_equal(gathered,
                        "0=zero;\"whole\"=all\nof it\n;\"x\"=one;3=two;4=three;5=four;6= five ;");
}

static void a_bad_line_fails_alone(void **state)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"nonsense", "0!jsonl line 1: not JSON"},
        {"{\"id\": 7}", "7!jsonl line 1: needs a string"},
        {"{\"text\": 7}", "0!jsonl line 1: needs a string"},
        {"[1]", "0!jsonl line 1: needs a string"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "0!jsonl line 1: not JSON: duplicate"},
        {"{\"text\": \"a\\u0000b\"}", "0!jsonl line 1: not JSON"},
        {"\"\xff\"", "0!jsonl line 1: not JSON"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct texts texts = {.jsonl = "jsonl"};
        char file[256];
        char gathered[1024];

        snprintf(file, sizeof file, "%s\n\"fine\"\n", cases[i].line);
        write_file("jsonl", file, strlen(file));
        gather(&texts, gathered);
        if (strncmp(gathered, cases[i].says, strlen(cases[i].says)) != 0)
            fail_msg("%s: '%s', not '%s'", cases[i].line, gathered, cases[i].says);
        assert_non_null(strstr(gathered, ";1=fine;"));
    }
}

static void what_is_no_text_fails_alone(void **state)
{
    struct texts texts = {.lines = "lines"};
    char gathered[1024];

    (void)state;
    write_file("zero", "a\0b", 3);
    write_file("lines", "c\0d\ne\n", 6);
    texts.files.items[texts.files.n++] = "zero";
    texts.files.items[texts.files.n++] = "absent";
    gather(&texts, gathered);
    assert_string_equal(gathered,
                        "\"zero\"!zero: not text: byte 1 is NUL;\"absent\"!cannot open absent: No "
                        "such file or directory;2!lines line 1: not text: byte 1 is "
                        "NUL;3=e;");
}

static void a_missing_source_of_many_is_an_error(void **state)
{
    struct texts texts = {.jsonl = "absent"};
    struct text text;
    bool has_text;
    kvern_error err;

    (void)state;
    assert_int_equal(texts_next(&texts, &text, &has_text, &err), KVERN_NOT_FOUND);
    assert_int_equal(texts_count(&texts), 0);
    texts_close(&texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_follow_each_other),
        cmocka_unit_test(a_bad_line_fails_alone),
        cmocka_unit_test(what_is_no_text_fails_alone),
        cmocka_unit_test(a_missing_source_of_many_is_an_error),
    };

    return cmocka_run_group_tests(tests, enter_directory, remove_directory);
}
