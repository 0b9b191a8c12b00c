/* SPDX-License-Identifier: Apache-2.0
 *
 * The stop filter: the same text comes out however the stream is cut, and at every moment what is
 * out is valid UTF-8.
 */
#include "engine/stop_filter.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *text;
    const char *stops[3];
    const char *shown;
    bool is_stopped;
} cases[] = {
    {"hello world", {NULL}, "hello world", false},
    {"hello world", {"o w"}, "hell", true},
    {"hello world", {"world!"}, "hello world", false},
    {"aaab", {"aab"}, "a", true},
    {"abababc", {"ababc"}, "ab", true},
    {"xabc", {"xabc", "ab"}, "x", true}, /* "ab" is complete first */
    {"xabc", {"xab", "ab"}, "", true},   /* both at once: the longer */
    {"caf\xc3\xa9 au lait", {"\xc3\xa9 au"}, "caf", true},
    {"caf\xc3\xa8 au lait", {"\xc3\xa9 au"}, "caf\xc3\xa8 au lait", false},
    {"\xf0\x9f\x98\x80\xf0\x9f\x98\x81", {"\xf0\x9f\x98\x81"}, "\xf0\x9f\x98\x80", true},
    {"half \xf0\x9f", {NULL}, "half \xef\xbf\xbd", false},
};

static void test_any_cut(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t n_stops = 0;

        while (n_stops < 3 && cases[c].stops[n_stops])
            n_stops++;
        for (size_t step = 1; step <= 12; step++) {
            struct stop_filter filter;
            struct buffer out = {0};
            bool is_stopped = false;
            size_t n = strlen(cases[c].text);

            assert_int_equal(stop_filter_init(&filter, cases[c].stops, n_stops, NULL), KVERN_OK);
            buffer_add_string(&out, "");
            for (size_t i = 0; i < n && !is_stopped; i += step) {
                is_stopped =
                    stop_filter_add(&filter, cases[c].text + i, i + step < n ? step : n - i, &out);
                assert_true(utf8_is_valid(out.data, out.n_bytes));
            }
            if (!is_stopped)
                stop_filter_finish(&filter, &out);
            assert_int_equal(is_stopped, cases[c].is_stopped);
            assert_string_equal(out.data, cases[c].shown);
            buffer_clear(&out);
            stop_filter_clear(&filter);
        }
    }
}

/* Nothing is held back without need. */
static void test_shows_at_once(void **state)
{
    const char *stops[] = {"END"};
    struct stop_filter filter;
    struct buffer out = {0};
    (void)state;

    assert_int_equal(stop_filter_init(&filter, stops, 1, NULL), KVERN_OK);
    stop_filter_add(&filter, "abc", 3, &out);
    assert_string_equal(out.data, "abc");
    stop_filter_add(&filter, "dEN", 3, &out);
    assert_string_equal(out.data, "abcd");
    stop_filter_add(&filter, "E", 1, &out);
    assert_string_equal(out.data, "abcdEN");
    buffer_clear(&out);
    stop_filter_clear(&filter);
}

/* While no stop string counts, one passes; what only began then counts when it is complete. */
static void test_passes(void **state)
{
    static const struct {
        const char *passed, *shown_then, *added, *shown;
        bool is_stopped;
    } passes[] = {
        {"abEND", "abEND", "c", "abENDc", false},    {"aENDEN", "aEND", "D", "aEND", true},
        {"aENDEN", "aEND", "d", "aENDENd", false},   {"ENDENDx", "ENDENDx", "END", "ENDENDx", true},
        {"\xc3", "", "\xa9 END", "\xc3\xa9 ", true},
    };
    const char *stops[] = {"END"};
    (void)state;

    for (size_t c = 0; c < sizeof passes / sizeof passes[0]; c++) {
        struct stop_filter filter;
        struct buffer out = {0};

        assert_int_equal(stop_filter_init(&filter, stops, 1, NULL), KVERN_OK);
        stop_filter_pass(&filter, passes[c].passed, strlen(passes[c].passed), &out);
        assert_string_equal(out.data ? out.data : "", passes[c].shown_then);
        assert_int_equal(stop_filter_add(&filter, passes[c].added, strlen(passes[c].added), &out),
                         passes[c].is_stopped);
        assert_string_equal(out.data, passes[c].shown);
        buffer_clear(&out);
        stop_filter_clear(&filter);
    }
}

static void test_refusals(void **state)
{
    static char long_string[STOP_MAX_BYTES + 2];
    const char *strings[STOP_MAX_STRINGS + 1];
    struct stop_filter filter;
    (void)state;

    memset(long_string, 'x', STOP_MAX_BYTES + 1);
    for (size_t i = 0; i <= STOP_MAX_STRINGS; i++)
        strings[i] = "x";
    assert_int_equal(stop_filter_init(&filter, strings, STOP_MAX_STRINGS + 1, NULL), KVERN_LIMIT);
    strings[0] = long_string;
    assert_int_equal(stop_filter_init(&filter, strings, 1, NULL), KVERN_LIMIT);
    strings[0] = "\xc3";
    assert_int_equal(stop_filter_init(&filter, strings, 1, NULL), KVERN_INVALID);
    strings[0] = "";
    assert_int_equal(stop_filter_init(&filter, strings, 1, NULL), KVERN_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_shows_at_once),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
