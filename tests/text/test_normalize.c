/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalizer steps: the text each gives, where its bytes came from, and what is refused.
 */
#include "text/normalize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h> /* needs the headers above */

static kvern_status run(const char *json, const char *input, size_t n_bytes,
                        struct aligned_text *text, kvern_error *err)
{
    json_t *parsed = json_loads(json, 0, NULL);
    struct normalizer normalizer = {0};
    struct regex_scratch scratch = {0};
    kvern_status status = normalizer_open(&normalizer, parsed, err);

    assert_non_null(parsed);
    assert_int_equal(regex_scratch_init(&scratch, NULL), KVERN_OK);
    assert_true(aligned_text_init(text, input, n_bytes));
    if (status == KVERN_OK)
        status = normalizer_run(&normalizer, &scratch, text, err);
    normalizer_close(&normalizer);
    regex_scratch_clear(&scratch);
    json_decref(parsed);
    return status;
}

static void steps_give_their_text(void **state)
{
    static const struct {
        const char *json;
        const char *input;
        const char *output;
    } rows[] = {
        {"{\"type\":\"NFC\"}", "plain", "plain"},
        {"{\"type\":\"NFC\"}", "e\xcc\x81x", "\xc3\xa9x"},
        {"{\"type\":\"NFC\"}", "q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},
        {"{\"type\":\"NFC\"}", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"},
        {"{\"type\":\"NFD\"}", "\xc3\xa9", "e\xcc\x81"},
        {"{\"type\":\"NFKC\"}", "\xef\xac\x81", "fi"},
        {"{\"type\":\"NFKC\"}", "\xef\xbd\xb6\xef\xbe\x9e",
         "\xe3\x82\xac"}, /* halfwidth ka + voice */
        {"{\"type\":\"NFKD\"}", "\xc2\xbd",
         "1\xe2\x81\x84"
         "2"},
        {"{\"type\":\"Lowercase\"}", "A\xc3\x89Z", "a\xc3\xa9z"},
        {"{\"type\":\"Lowercase\"}", "\xc4\xb0", "i\xcc\x87"},
        {"{\"type\":\"Strip\"}", " \t a b \xe3\x80\x80", "a b"},
        {"{\"type\":\"Strip\",\"strip_right\":false}", " a ", "a "},
        {"{\"type\":\"Strip\"}", "   ", ""},
        {"{\"type\":\"StripAccents\"}", "e\xcc\x81x", "ex"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"}", "a b  c",
         "a_b__c"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\d+\"},\"content\":\"N\"}", "a12b3",
         "aNbN"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"y\"}", "axxb", "ayb"},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "a", "_a"},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "", ""},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},"
         "{\"type\":\"Lowercase\"}]}",
         "\xc3\x89t\xc3\xa9", "ete"},
        {"{\"type\":\"Nmt\"}",
         "a\x01\x0b"
         "b\tc\xe2\x80\x8b\xe2\x96\x81\x7f",
         "ab c  "},
        {"null", "\xff", "\xef\xbf\xbd"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct aligned_text text = {0};
        kvern_error err;
        char got[64] = "";

        if (!strcmp(rows[i].json, "null")) {
            assert_true(aligned_text_init(&text, rows[i].input, strlen(rows[i].input)));
        } else if (run(rows[i].json, rows[i].input, strlen(rows[i].input), &text, &err)) {
            fail_msg("row %zu: %s", i, err.message);
        }
        memcpy(got, text.data, text.n_bytes);
        if (strcmp(got, rows[i].output) != 0)
            fail_msg("row %zu: got \"%s\", expected \"%s\"", i, got, rows[i].output);
        aligned_text_clear(&text);
    }
}

static void origins_point_into_the_input(void **state)
{
    struct aligned_text text = {0};
    struct origin origin;

    (void)state;
    /* x, e + acute, y -> x, é, y */
    assert_int_equal(run("{\"type\":\"NFC\"}", "xe\xcc\x81y", 5, &text, NULL), KVERN_OK);
    assert_int_equal(text.n_bytes, 4);
    origin = aligned_text_origin(&text, 1, 3);
    assert_int_equal(origin.begin, 1);
    assert_int_equal(origin.end, 4);
    origin = aligned_text_origin(&text, 3, 4);
    assert_int_equal(origin.begin, 4);
    assert_int_equal(origin.end, 5);
    aligned_text_clear(&text);

    /* a strip of a view moves its base */
    assert_int_equal(run("{\"type\":\"Strip\"}", "  ab", 4, &text, NULL), KVERN_OK);
    origin = aligned_text_origin(&text, 1, 2);
    assert_int_equal(origin.begin, 3);
    assert_int_equal(origin.end, 4);
    aligned_text_clear(&text);
}

static void bad_steps_are_named(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *named;
    } rows[] = {
        {"{\"type\":\"ByteLevel\"}", KVERN_UNSUPPORTED, "ByteLevel"},
        {"{}", KVERN_UNSUPPORTED, "\"\""},
        {"{\"type\":\"Sequence\"}", KVERN_FORMAT, "normalizers"},
        {"{\"type\":\"Prepend\"}", KVERN_FORMAT, "Prepend"},
        {"{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(\"}}", KVERN_FORMAT,
         "\"(\""},
        {"{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"[a[b]]\"}}",
         KVERN_UNSUPPORTED, "nested"},
        {"{\"type\":\"Replace\",\"content\":\"\",\"pattern\":3}", KVERN_FORMAT, "pattern"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct aligned_text text = {0};
        kvern_error err = {0};

        assert_int_equal(run(rows[i].json, "a", 1, &text, &err), rows[i].status);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
        aligned_text_clear(&text);
    }
}

static void a_hostile_pattern_is_an_error(void **state)
{
    const char *json =
        "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(a|aa)+$\"}}";
    char input[200];
    struct aligned_text text = {0};
    kvern_error err = {0};

    (void)state;
    memset(input, 'a', sizeof input);
    input[sizeof input - 1] = 'c';
    assert_int_equal(run(json, input, sizeof input, &text, &err), KVERN_LIMIT);
    aligned_text_clear(&text);
}

/* Sorting marks must not be quadratic: 300,000 marks in falling order of class. */
static void many_marks_take_no_longer_than_text(void **state)
{
    enum { N = 300000 };
    char *input = malloc(2 * N);
    struct aligned_text text = {0};
    clock_t start = clock();

    (void)state;
    for (size_t i = 0; i < N; i++)
        memcpy(input + 2 * i, i < N / 2 ? "\xcc\x81" : "\xcc\xa3", 2); /* class 230, then 220 */
    assert_int_equal(run("{\"type\":\"NFC\"}", input, 2 * N, &text, NULL), KVERN_OK);
    assert_int_equal(text.n_bytes, 2 * N);
    assert_memory_equal(text.data, "\xcc\xa3", 2);
    assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
    aligned_text_clear(&text);
    free(input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_give_their_text),
        cmocka_unit_test(origins_point_into_the_input),
        cmocka_unit_test(bad_steps_are_named),
        cmocka_unit_test(a_hostile_pattern_is_an_error),
        cmocka_unit_test(many_marks_take_no_longer_than_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
