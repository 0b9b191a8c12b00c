/* SPDX-License-Identifier: Apache-2.0
 *
 * SentencePiece's precompiled maps: what a small one (SMALL_RULES of tests/golden/make_unigram.py)
 * makes of characters and grapheme clusters, as Python's tokenizers do; where the bytes came from;
 * and maps made by hand that lead astray.
 */
#include "test.h"
#include "text/support_golden.h"

#include "text/normalize_precompiled.h"

#include <stdlib.h>
#include <string.h>

static json_t *small_map(void)
{
    size_t n_bytes;
    char *text = golden_file("unigram_variants.json", &n_bytes);
    json_t *rows = json_loadb(text, n_bytes, 0, NULL);
    json_t *found = NULL;

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);

        if (!strcmp(json_string_value(json_object_get(row, "name")), "small map"))
            found = json_incref(json_object_get(json_object_get(row, "members"), "normalizer"));
    }
    assert_non_null(found);
    json_decref(rows);
    free(text);
    return found;
}

static void run(const json_t *json, const char *input, size_t n_bytes, struct aligned_text *text)
{
    struct precompiled precompiled;
    kvern_error err;

    if (precompiled_open(&precompiled, json, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_true(aligned_text_init(text, input, n_bytes));
    assert_int_equal(precompiled_run(&precompiled, text, NULL), KVERN_OK);
    precompiled_close(&precompiled);
}

static void clusters_are_replaced_as_in_python(void **state)
{
#define ACUTE "\xcc\x81"
#define DOT_BELOW "\xcc\xa3"
#define FI "\xef\xac\x81"
    static const struct {
        const char *input;
        const char *output;
    } rows[] = {
        {"", ""},
        {"plbin", "plbin"},
        {"banana", "bXnXnX"},
        /* a cluster of under 6 bytes becomes what its beginning stands for, marks and all */
        {"a" ACUTE "b", "Xb"},
        {FI ACUTE, "fi"},
        {"a\xf0\x9f\x8f\xbd", "X"},
        {"a\xe0\xa2\x97", "X"}, /* a mark new in Unicode 16 */
        {"\r\n", " "},
        {"\r\n\r\n", "  "},
        {"\n\r", "  "},
        /* of a longer one, or one of unknown beginning, each character by itself */
        {"a\xe2\x83\x9d\xe2\x83\x9d", "X\xe2\x83\x9d\xe2\x83\x9d"},
        {FI ACUTE ACUTE, "fi"},
        {FI "\xe2\x83\x9d", "fi\xe2\x83\x9d"}, /* 6 bytes */
        {"b" ACUTE "b", "bb"},
        {"e" DOT_BELOW ACUTE, "e" DOT_BELOW},
        /* a key of two characters */
        {"e" ACUTE, "\xc3\xa9"},
        {"e" ACUTE DOT_BELOW, "\xc3\xa9"},
        {"e" ACUTE "a" ACUTE, "\xc3\xa9X"},
        /* a mark that goes before its letter */
        {"\xd8\x80"
         "a",
         "\xd8\x80X"},
        {"\x07", ""},
        {"\x07"
         "b",
         "b"},
        {"b\x07"
         "c\x07",
         "bc"},
        {ACUTE ACUTE, ""},
        {"\xc2\xbd", "1/2"},
        {"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9"
         "a",
         "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9X"},
    };
    json_t *json = small_map();

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct aligned_text text = {0};

        run(json, rows[i].input, strlen(rows[i].input), &text);
        if (text.n_bytes != strlen(rows[i].output) ||
            memcmp(text.data, rows[i].output, text.n_bytes) != 0)
            fail_msg("row %zu: got \"%.*s\", expected \"%s\"", i, (int)text.n_bytes, text.data,
                     rows[i].output);
        aligned_text_clear(&text);
    }
    json_decref(json);
}

/* A NUL byte is no key's, and ends none. */
static void nul_bytes_stay(void **state)
{
    json_t *json = small_map();
    struct aligned_text text = {0};

    (void)state;
    run(json, "\0a\0", 3, &text);
    assert_int_equal(text.n_bytes, 3);
    assert_memory_equal(text.data, "\0X\0", 3);
    aligned_text_clear(&text);
    json_decref(json);
}

static void origins_are_whole_clusters(void **state)
{
    static const struct {
        const char *input;
        struct origin origins[8]; /* of each byte of the output */
    } rows[] = {
        {"b" FI "b", {{0, 1}, {1, 4}, {1, 4}, {4, 5}}},
        {"ba" ACUTE "b", {{0, 1}, {1, 4}, {4, 5}}},
        {"b\x07"
         "c",
         {{0, 1}, {2, 3}}},
        /* what goes at the start belongs to the first character that stays */
        {"\x07\x07"
         "bc",
         {{0, 3}, {3, 4}}},
        {"\x07\xc3\xa9"
         "b",
         {{0, 3}, {0, 3}, {3, 4}}},
    };
    json_t *json = small_map();

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct aligned_text text = {0};

        run(json, rows[i].input, strlen(rows[i].input), &text);
        for (size_t j = 0; j < text.n_bytes; j++) {
            if (text.origins[j].begin != rows[i].origins[j].begin ||
                text.origins[j].end != rows[i].origins[j].end)
                fail_msg("row %zu: byte %zu came from [%u, %u)", i, j, text.origins[j].begin,
                         text.origins[j].end);
        }
        aligned_text_clear(&text);
    }
    json_decref(json);
}

/* {"precompiled_charsmap": base64 of the trie's size, its units and the texts} */
static json_t *make_map(uint32_t n_trie, const uint32_t *units, size_t n_units, const char *texts,
                        size_t n_texts)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buffer map = {0};
    struct buffer text = {0};

    buffer_add(&map, &n_trie, sizeof n_trie); /* of a little-endian machine */
    buffer_add(&map, units, n_units * sizeof *units);
    buffer_add(&map, texts, n_texts);
    for (size_t n_bits = 0; n_bits < map.n_bytes * 8; n_bits += 6) {
        unsigned value = 0;

        for (size_t bit = n_bits; bit < n_bits + 6; bit++)
            value = value * 2 + (bit < map.n_bytes * 8 && (map.data[bit / 8] >> (7 - bit % 8) & 1));
        buffer_add_byte(&text, digits[value]);
    }
    while (text.n_bytes % 4)
        buffer_add_byte(&text, '=');
    json_t *json = json_pack("{s:s}", "precompiled_charsmap", text.data);
    buffer_clear(&map);
    buffer_clear(&text);
    return json;
}

/* A trie with the one key "a": unit 0 is the root, 0x161 is "a" and 0x160 its value. */
static void maps_that_lead_astray_replace_nothing(void **state)
{
    enum { N_UNITS = 0x200, ROOT = 0x100 << 10, A = 'a' | 1 << 8 | 1 << 10 };
    static const struct {
        uint32_t root;
        uint32_t a;
        uint32_t value;
        size_t n_texts; /* of the texts below */
        const char *output;
    } rows[] = {
        {ROOT, A, 0, 5, "xoneb"}, /* what is right */
        {ROOT, A, 4, 5, "xyb"},   /* ends with the last byte */
        {ROOT, A, 5, 5, "xb"},    /* behind it: an empty text */
        {ROOT, A, 6, 5, "xab"},
        {ROOT, A, INT32_MAX, 5, "xab"},
        {ROOT, A, 0, 0, "xb"},
        {ROOT, A, 6, 7, "xab"}, /* within a character */
        {UINT32_MAX, A, 0, 5, "xab"},
        {0x1fffff << 10, A, 0, 5, "xab"},
        {0, A, 0, 5, "xab"},
        {ROOT, A | 1u << 31, 0, 5, "xab"},
        {ROOT, 'a' | 1 << 8 | 0x1fffffu << 10, 0, 5, "xab"},
        {ROOT, 'a' | 1 << 8 | 1 << 9 | 0x1fffffu << 10, 0, 5, "xab"},
        {ROOT, 'a' | 1 << 10, 0, 5, "xab"}, /* no key ends there */
        {ROOT, 'b' | 1 << 8 | 1 << 10, 0, 5, "xab"},
        {ROOT, A, 7, 7 + PRECOMPILED_MAX_TEXT_BYTES + 1, "xab"}, /* too long a text */
    };
    static char texts[7 + PRECOMPILED_MAX_TEXT_BYTES + 1] = "one\0y\xc3\xa9";

    (void)state;
    memset(texts + 7, 'z', sizeof texts - 7);
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t units[N_UNITS] = {rows[i].root};
        struct aligned_text text = {0};

        units[0x161] = rows[i].a;
        units[0x160] = rows[i].value;
        json_t *json = make_map(sizeof units, units, N_UNITS, texts, rows[i].n_texts);
        run(json, "xab", 3, &text);
        if (text.n_bytes != strlen(rows[i].output) ||
            memcmp(text.data, rows[i].output, text.n_bytes) != 0)
            fail_msg("row %zu: got \"%.*s\"", i, (int)text.n_bytes, text.data);
        aligned_text_clear(&text);
        json_decref(json);
    }
}

static void damaged_maps_are_refused(void **state)
{
    static const uint32_t unit = 0;
    struct {
        json_t *json;
        const char *named;
    } rows[] = {
        {json_pack("{}"), "no precompiled_charsmap"},
        {json_pack("{s:n}", "precompiled_charsmap"), "no precompiled_charsmap"},
        {json_pack("{s:s}", "precompiled_charsmap", ""), "of 0 bytes"},
        {json_pack("{s:s}", "precompiled_charsmap", "AAA"), "not base64"},
        {json_pack("{s:s}", "precompiled_charsmap", "A=AA"), "not base64"},
        {json_pack("{s:s}", "precompiled_charsmap", "A==="), "not base64"},
        {json_pack("{s:s}", "precompiled_charsmap", "AAA\n"), "not base64"},
        {make_map(0, &unit, 1, "", 0), "a trie of 0 bytes"},
        {make_map(3, &unit, 1, "", 0), "a trie of 3 bytes"},
        {make_map(8, &unit, 1, "", 0), "a trie of 8 bytes"},
        {make_map(UINT32_MAX, &unit, 1, "", 0), "a trie of 4294967295 bytes"},
        {make_map(4, &unit, 1, "\xff", 1), "not valid UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct precompiled precompiled;
        kvern_error err = {0};

        assert_int_equal(precompiled_open(&precompiled, rows[i].json, &err), KVERN_FORMAT);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
        json_decref(rows[i].json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_are_replaced_as_in_python),
        cmocka_unit_test(nul_bytes_stay),
        cmocka_unit_test(origins_are_whole_clusters),
        cmocka_unit_test(maps_that_lead_astray_replace_nothing),
        cmocka_unit_test(damaged_maps_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
