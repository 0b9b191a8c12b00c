/* SPDX-License-Identifier: Apache-2.0
 *
 * The lines of a file of prompts: ids, bad lines, fingerprints, what has its result, and a pipe
 * that is slow.
 */
#include "cli/prompt_file.h"
#include "test.h"

#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/kvern-prompts-XXXXXX";
static char path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/p.jsonl", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void write_prompts(const char *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

/* "number key;" of every line, "!" and the message of a bad one. */
static char *gather(kvern_status expected, kvern_error *err)
{
    struct prompt_file file;
    struct buffer all = {0};
    kvern_status status = prompt_file_open(&file, path, 1, NULL, err);
    bool has_line = true;

    while (status == KVERN_OK && has_line) {
        struct prompt_line line;

        status = prompt_file_next(&file, -1, &line, &has_line, err);
        if (status != KVERN_OK || !has_line)
            break;
        buffer_add_format(&all, "%zu %s", file.lines.number, line.key);
        if (line.error.status != KVERN_OK)
            buffer_add_format(&all, "!%s", line.error.message);
        buffer_add_byte(&all, ';');
        prompt_line_clear(&line);
    }
    prompt_file_close(&file);
    assert_int_equal(status, expected);
    return buffer_take(&all, NULL);
}

static void ids_and_line_numbers(void **state)
{
    static const struct {
        const char *text;
        const char *gathered;
        const char *says; /* NULL: it goes well */
    } cases[] = {
        {"", "", NULL},
        {"\n\r\n \t \n", "", NULL},
        {"{\"prompt\":\"a\"}", "1 0;", NULL},
        {"\n{\"prompt\":\"a\"}\r\n \n{\"id\":\"1\"}\n{}\n", "2 0;4 \"1\";5 2;", NULL},
        {"{\"id\":{\"b\":1,\"a\":[null]}}", "1 {\"a\":[null],\"b\":1};", NULL},
        {"[]\n7\n", "1 0;2 1!line 2: not JSON: '[' or '{' expected near '7';", NULL},
        {"{\"id\":1}\n{\"id\":\"1\"}\n", "1 1;2 \"1\";", NULL},
        {"{\"id\":\"a\"}\n\n{\"id\":\"b\"}\n{\"id\":\"a\"}\n", "1 \"a\";3 \"b\";",
         "lines 1 and 4 of "},
        {"{\"id\":1}\n{}\n", "1 1;", "lines 1 and 2 of "}, /* its number is an id too */
        {"{\"id\":null}\n{\"id\":null}\n", "1 null;", "have the same id null"},
        {"{\"id\":{\"a\":1,\"b\":2}}\n{\"id\":{\"b\":2,\"a\":1}}\n", "1 {\"a\":1,\"b\":2};",
         "lines 1 and 2 of "},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_error err = {0};

        write_prompts(cases[i].text, strlen(cases[i].text));
        char *gathered = gather(cases[i].says ? KVERN_INVALID : KVERN_OK, &err);
        if (strcmp(gathered, cases[i].gathered) != 0)
            fail_msg("%s: '%s', not '%s'", cases[i].text, gathered, cases[i].gathered);
        if (cases[i].says && !strstr(err.message, cases[i].says))
            fail_msg("%s: %s", cases[i].text, err.message);
        free(gathered);
    }
}

static void lines_that_are_not_json(void **state)
{
    static const char *const lines[] = {
        "{\"prompt\": ",
        "{\"prompt\": \"a\"",
        "{\"prompt\": \"a\"} x",
        "{\"prompt\": \"a\"}{\"prompt\": \"b\"}",
        "{'prompt': 'a'}",
        "{\"prompt\": \"a\xff\"}",
        "{\"prompt\": \"a\\ud800\"}",
        "{\"prompt\": \"a\\u0000\"}",
        "{\"prompt\": \"a\", \"prompt\": \"b\"}",
        "{\"prompt\": \"a\", \"seed\": 18446744073709551616}",
        "{\"prompt\": \"a\", \"top_p\": 1e999}",
        "hello",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct buffer text = {0};

        buffer_add_format(&text, "{}\n%s\n{}\n", lines[i]);
        write_prompts(text.data, text.n_bytes);
        char *gathered = gather(KVERN_OK, NULL);
        if (strncmp(gathered, "1 0;2 1!line 2: not JSON: ", 26) != 0 ||
            strcmp(gathered + strlen(gathered) - 5, ";3 2;") != 0)
            fail_msg("%s: %s", lines[i], gathered);
        free(gathered);
        buffer_clear(&text);
    }

    struct buffer deep = {0};
    for (int i = 0; i < 100000; i++)
        buffer_add_byte(&deep, '[');
    write_prompts(deep.data, deep.n_bytes);
    char *gathered = gather(KVERN_OK, NULL);
    assert_non_null(strstr(gathered, "not JSON"));
    free(gathered);
    buffer_clear(&deep);
}

static uint64_t fingerprint(const char *text, uint64_t seed)
{
    struct prompt_file file;
    struct prompt_line line;
    bool has_line;
    uint64_t value;

    write_prompts(text, strlen(text));
    assert_int_equal(prompt_file_open(&file, path, seed, NULL, NULL), KVERN_OK);
    assert_int_equal(prompt_file_next(&file, -1, &line, &has_line, NULL), KVERN_OK);
    assert_true(has_line);
    value = line.fingerprint;
    prompt_line_clear(&line);
    prompt_file_close(&file);
    return value;
}

static void fingerprints_are_of_what_is_asked(void **state)
{
    static const char first[] = "{\"id\": 1, \"prompt\": \"a\", \"seed\": 5}";
    static const struct {
        const char *text;
        uint64_t seed;
        bool is_same;
    } cases[] = {
        {"{\"seed\":5,\"prompt\":\"\\u0061\",\"id\":2}", 1, true},
        {"{\"prompt\":\"a\",\"seed\":5}", 1, true},
        {"{\"id\": 1, \"prompt\": \"a\", \"seed\": 5}", 2, false},
        {"{\"id\": 1, \"prompt\": \"a\", \"seed\": 6}", 1, false},
        {"{\"id\": 1, \"prompt\": \"b\", \"seed\": 5}", 1, false},
        {"{\"id\": 1, \"prompt\": \"a\"}", 1, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool is_same = fingerprint(cases[i].text, cases[i].seed) == fingerprint(first, 1);

        if (is_same != cases[i].is_same)
            fail_msg("%s: the fingerprint is %s", cases[i].text, is_same ? "the same" : "another");
    }
}

/* Lines around the size of a chunk, the last without an end, and one over the limit. */
static void long_lines(void **state)
{
    enum { CHUNK = 1 << 16 };
    struct lines lines;
    struct buffer text = {0};
    size_t lengths[] = {CHUNK - 1, CHUNK, 1, CHUNK + 1, 3 * CHUNK, 2};
    char *line;
    size_t n;
    kvern_error err = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        for (size_t j = 0; j < lengths[i]; j++)
            buffer_add_byte(&text, (char)('a' + i));
        if (i + 1 < COUNT(lengths))
            buffer_add_string(&text, i % 2 ? "\r\n" : "\n");
    }
    write_prompts(text.data, text.n_bytes);
    assert_int_equal(lines_open(&lines, path, NULL), KVERN_OK);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        assert_int_equal(lines_next(&lines, -1, &line, &n, &err), KVERN_OK);
        assert_non_null(line);
        assert_int_equal(n, lengths[i]);
        assert_int_equal(line[0], 'a' + (int)i);
        assert_int_equal(strlen(line), n);
        assert_int_equal(lines.number, i + 1);
    }
    assert_int_equal(lines_next(&lines, -1, &line, &n, &err), KVERN_OK);
    assert_null(line);
    lines_close(&lines);
    buffer_clear(&text);

    assert_int_equal(lines_open(&lines, "/dev/zero", NULL), KVERN_OK);
    assert_int_equal(lines_next(&lines, -1, &line, &n, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "line 1 of /dev/zero has over 64 MiB, the limit of a line");
    lines_close(&lines);
    assert_int_equal(lines_open(&lines, "/no/such/file", &err), KVERN_NOT_FOUND);
    lines_close(&lines);
}

/* Half a line is not waited for. */
static void a_slow_pipe(void **state)
{
    struct lines lines;
    int pipes[2];
    int kept = dup(STDIN_FILENO);
    char *line;
    size_t n;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(dup2(pipes[0], STDIN_FILENO), STDIN_FILENO);
    close(pipes[0]);
    assert_int_equal(lines_open(&lines, "-", NULL), KVERN_OK);
    assert_int_equal(lines_next(&lines, 0, &line, &n, NULL), KVERN_TIMEOUT);
    assert_int_equal(write(pipes[1], "one\ntw", 6), 6);
    assert_int_equal(lines_next(&lines, 0, &line, &n, NULL), KVERN_OK);
    assert_string_equal(line, "one");
    assert_int_equal(lines_next(&lines, 1, &line, &n, NULL), KVERN_TIMEOUT);
    assert_int_equal(write(pipes[1], "o", 1), 1);
    assert_int_equal(lines_next(&lines, 1, &line, &n, NULL), KVERN_TIMEOUT);
    close(pipes[1]);
    assert_int_equal(lines_next(&lines, -1, &line, &n, NULL), KVERN_OK);
    assert_string_equal(line, "two");
    assert_int_equal(lines_next(&lines, -1, &line, &n, NULL), KVERN_OK);
    assert_null(line);
    lines_close(&lines);
    assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
    close(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_line_numbers),
        cmocka_unit_test(lines_that_are_not_json),
        cmocka_unit_test(fingerprints_are_of_what_is_asked),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(a_slow_pipe),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
