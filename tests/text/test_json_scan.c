/* SPDX-License-Identifier: Apache-2.0
 *
 * The scanner reads strings and integers as jansson does, and refuses what jansson refuses; numbers
 * are rounded as in Rust's serde_json, which the rows were checked against.
 */
#include "text/json_scan.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

static void strings_are_read_as_jansson_reads_them(void **state)
{
    static const char *const rows[] = {
        "\"plain\"",
        "\"\"",
        "  \"space before\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u00e9\\u4F60\"",
        "\"\\ud83d\\ude00!\"",
        "\"\xc3\xa9\"",
        "\"\\u0000x\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\x41\"",
        "\"\\u12g4\"",
        "\"\\u12",
        "\"open",
        "\"\\",
        "\"\\\"",
        "\"\n\"",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "'x'",
        "",
        "\"\\u\"",
        "\"a\\u00e9b\\n\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_scan scan = {rows[i], rows[i] + strlen(rows[i])};
        struct buffer scratch = {0};
        const char *text = NULL;
        size_t n_bytes = 0;
        json_t *expected = json_loads(rows[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        bool is_read = json_scan_string(&scan, &scratch, &text, &n_bytes);

        if (is_read != json_is_string(expected))
            fail_msg("row %zu: read %d, jansson %d", i, is_read, json_is_string(expected));
        if (is_read) {
            assert_int_equal(n_bytes, json_string_length(expected));
            assert_memory_equal(text, json_string_value(expected), n_bytes);
            assert_ptr_equal(scan.at, scan.end);
        } else {
            assert_ptr_equal(scan.at, rows[i]);
        }
        json_decref(expected);
        buffer_clear(&scratch);
    }
}

static void integers_are_read(void **state)
{
    static const struct {
        const char *text;
        bool is_read;
        int64_t value;
    } rows[] = {
        {"0", true, 0},
        {" 42,", true, 42},
        {"-7", true, -7},
        {"999999999999999999", true, 999999999999999999},
        {"9999999999999999999", false, 0},
        {"x", false, 0},
        {"01", false, 0},
        {"-", false, 0},
        {"", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_scan scan = {rows[i].text, rows[i].text + strlen(rows[i].text)};
        int64_t value = 0;

        if (json_scan_integer(&scan, &value) != rows[i].is_read || value != rows[i].value)
            fail_msg("row %zu: got %lld", i, (long long)value);
    }
}

static void numbers_are_rounded_as_by_serde_json(void **state)
{
    static const struct {
        const char *text;
        bool is_read;
        double value;
    } rows[] = {
        {"0", true, 0},
        {" -2.5,", true, -2.5},
        {"-7.7544941902160645", true, -7.754494190216064}, /* nearest: -7.7544941902160645 */
        {"-77544941902160645e-16", true, -7.754494190216064},
        {"123456789012345678901234567890", true, 12345678901234567890e10},
        {"0.123456789012345678901234567890", true, 0.12345678901234568},
        {"12345678901234567890123.999", true, 12345678901234567890e3},
        {"1e5", true, 1e5},
        {"-1.5E+2", true, -150},
        {"25e-1", true, 2.5},
        {"1e-308", true, 1e-308},
        {"1e-320", true, 1e-320},
        {"0e99999999999999999999", true, 0},
        {"1e-99999999999999999999", true, 0},
        {"1e309", false, 0},
        {"1e99999999999999999999", false, 0},
        {"01", false, 0},
        {"-", false, 0},
        {".5", false, 0},
        {"1.", false, 0},
        {"1e", false, 0},
        {"1e+", false, 0},
        {"+1", false, 0},
        {"NaN", false, 0},
        {"", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_scan scan = {rows[i].text, rows[i].text + strlen(rows[i].text)};
        double value = 0;
        bool is_read = json_scan_number(&scan, &value);

        if (is_read != rows[i].is_read || value != rows[i].value)
            fail_msg("row %zu: read %d, %.17g", i, is_read, value);
        if (!is_read)
            assert_ptr_equal(scan.at, rows[i].text);
    }
}

static void members_are_found(void **state)
{
    static const struct {
        const char *text;
        bool is_object;
        const char *value; /* of "m"; NULL: none */
        size_t n_items;
    } rows[] = {
        {"{\"m\":{\"a\":1,\"b\":[1,2]}}", true, "{\"a\":1,\"b\":[1,2]}", 2},
        {"{\"x\":\"m\", \"m\" : [ \"]\", \"\\\"\" ] , \"y\":3}", true, "[ \"]\", \"\\\"\" ]", 2},
        {"{\"m\":1,\"m\":22}", true, "22", 1}, /* the last one counts, as in jansson */
        {"{\"n\":{\"m\":1}}", true, NULL, 0},
        {"{}", true, NULL, 0},
        {"{\"m\":\"open}", false, NULL, 0},
        {"{\"m\":[1}", false, NULL, 0},
        {"[\"m\"]", false, NULL, 0},
        {"{\"m\":}", false, NULL, 0},
        {"", false, NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_span value;
        bool is_object =
            json_scan_member(rows[i].text, rows[i].text + strlen(rows[i].text), "m", &value);

        if (is_object != rows[i].is_object)
            fail_msg("row %zu: object %d", i, is_object);
        if (!is_object)
            continue;
        if (!rows[i].value) {
            assert_null(value.begin);
            continue;
        }
        assert_int_equal(value.end - value.begin, strlen(rows[i].value));
        assert_memory_equal(value.begin, rows[i].value, strlen(rows[i].value));
        assert_int_equal(value.n_items, rows[i].n_items);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_read_as_jansson_reads_them),
        cmocka_unit_test(integers_are_read),
        cmocka_unit_test(numbers_are_rounded_as_by_serde_json),
        cmocka_unit_test(members_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
