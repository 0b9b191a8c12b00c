/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors in files: each format byte for byte, and what becomes of a text that failed.
 */
#include "cli/vectors.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/kvern-vectors-XXXXXX";
static char path[64];

static int make_directory(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/out", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

/* Writes two good rows and, between them, one that failed unless `is_whole`; gives the file. */
static kvern_status write_rows(enum vector_format format, bool is_whole, char **bytes,
                               size_t *n_bytes, kvern_error *err)
{
    static const float first[] = {1, -0.1f};
    static const float second[] = {1e-8f, 3};
    struct vector_writer writer;
    json_t *ids[] = {json_string("a,\"b\""), json_integer(1), json_null()};
    json_t *more = json_pack("{s:s}", "tokenizer", "bytes");
    struct vector_row rows[] = {
        {.id = ids[0], .values = first, .n_values = 2, .n_tokens = 7, .is_truncated = true},
        {.id = ids[1], .error = "it is \"empty\""},
        {.id = ids[2], .values = second, .n_values = 2, .n_tokens = 3, .more = more},
    };
    kvern_status status = vector_writer_open(&writer, format, path, err);

    for (size_t i = 0; status == KVERN_OK && i < COUNT(rows); i++) {
        if (!is_whole || !rows[i].error)
            status = vector_writer_put(&writer, &rows[i], err);
    }
    assert_int_equal(access(path, F_OK), -1);
    if (status == KVERN_OK)
        status = vector_writer_commit(&writer, err);
    vector_writer_clear(&writer);
    for (size_t i = 0; i < COUNT(ids); i++)
        json_decref(ids[i]);
    json_decref(more);
    if (status == KVERN_OK)
        status = file_read(path, 1 << 20, bytes, n_bytes, err);
    unlink(path);
    return status;
}

static void text_formats(void **state)
{
    static const struct {
        enum vector_format format;
        const char *text;
    } cases[] = {
        {VECTORS_JSONL,
         "{\"id\":\"a,\\\"b\\\"\",\"embedding\":[1,-0.100000001],\"tokens\":7,\"truncated\":true}\n"
         "{\"id\":1,\"error\":\"it is \\\"empty\\\"\"}\n"
         "{\"id\":null,\"embedding\":[9.99999994e-09,3],\"tokens\":3,\"truncated\":false,"
         "\"tokenizer\":\"bytes\"}\n"},
        {VECTORS_JSON,
         "[{\"id\":\"a,\\\"b\\\"\",\"embedding\":[1,-0.100000001],\"tokens\":7,\"truncated\":true},"
         "\n{\"id\":1,\"error\":\"it is \\\"empty\\\"\"},\n"
         "{\"id\":null,\"embedding\":[9.99999994e-09,3],\"tokens\":3,\"truncated\":false,"
         "\"tokenizer\":\"bytes\"}]\n"},
        {VECTORS_CSV, "id,tokens,truncated,0,1\n"
                      "\"a,\"\"b\"\"\",7,true,1,-0.100000001\n"
                      "null,3,false,9.99999994e-09,3\n"},
        {VECTORS_TABLE, "ID                         TOKENS   SIZE  VALUES\n"
                        "a,\"b\"                          7+      2   1.00000 -0.10000\n"
                        "null                           3       2   0.00000  3.00000\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = NULL;
        size_t n_bytes;
        kvern_error err;

        if (write_rows(cases[i].format, false, &text, &n_bytes, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
}

static void npy_has_its_header_and_rows(void **state)
{
    static const char begin[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, "
                                "'shape': (2, 2), } ";
    static const unsigned char rows[] = {0,    0,    0x80, 0x3f, 0xcd, 0xcc, 0xcc, 0xbd,
                                         0x77, 0xcc, 0x2b, 0x32, 0,    0,    0x40, 0x40};
    char *bytes = NULL;
    size_t n_bytes;
    kvern_error err;

    (void)state;
    if (write_rows(VECTORS_NPY, true, &bytes, &n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n_bytes, 128 + sizeof rows);
    assert_memory_equal(bytes, begin, sizeof begin - 1);
    assert_int_equal(bytes[127], '\n');
    assert_memory_equal(bytes + 128, rows, sizeof rows);
    free(bytes);
}

static void npy_has_no_holes(void **state)
{
    char *bytes = NULL;
    size_t n_bytes;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(write_rows(VECTORS_NPY, false, &bytes, &n_bytes, &err), KVERN_INVALID);
    assert_non_null(strstr(err.message, "no place for a text that failed"));
}

/* What is read again is the same float. */
static void floats_survive(void **state)
{
    static const float values[] = {0.1f,          1.0f / 3, 16777216, 1.17549435e-38f,
                                   3.4028235e38f, -0.0f,    1e-45f};

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        struct buffer text = {0};

        add_float(&text, values[i]);
        float again = strtof(text.data, NULL);
        if (memcmp(&again, &values[i], sizeof again) != 0)
            fail_msg("%s is not %a", text.data, (double)values[i]);
        buffer_clear(&text);
    }
}

static void beginnings(void **state)
{
    static const struct {
        const char *text;
        size_t n_max;
        const char *shown;
    } cases[] = {
        {"", 5, ""},
        {"short", 5, "short"},
        {"longer", 5, "longe..."},
        {"a\nb\tc\x1b[31m", 20, "a b c [31m"},
        {"\xc3\xa9t\xc3\xa9 \xc3\xa9", 3, "\xc3\xa9t\xc3\xa9..."},
        {"bad \xff byte", 20, "bad \xef\xbf\xbd byte"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer shown = {0};

        add_beginning(&shown, cases[i].text, strlen(cases[i].text), cases[i].n_max);
        assert_string_equal(shown.data ? shown.data : "", cases[i].shown);
        buffer_clear(&shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_formats),     cmocka_unit_test(npy_has_its_header_and_rows),
        cmocka_unit_test(npy_has_no_holes), cmocka_unit_test(floats_survive),
        cmocka_unit_test(beginnings),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
