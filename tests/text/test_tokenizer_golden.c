/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids and decoded text equal to Python's `tokenizers` over the committed lines: three tokenizers
 * over all of them, and some fifty other configurations over every 61st
 * (tests/golden/make_tokens.py).
 */
#include "support_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

enum {
    VARIANT_STRIDE = 61,
    CONTROL_AND_SPECIAL = KVERN_TOKENIZE_CONTROL | KVERN_TOKENIZE_SPECIAL,
};

static struct golden_lines lines;

static int load_lines(void **state)
{
    (void)state;
    golden_lines_load(&lines);
    assert_true(lines.n >= 10000);
    return 0;
}

static int free_lines(void **state)
{
    (void)state;
    golden_lines_free(&lines);
    return 0;
}

static void encode(const struct tokenizer *tokenizer, size_t line, kvern_tokens *tokens)
{
    kvern_error err;

    if (tokenizer_encode(tokenizer, json_string_value(lines.lines[line]),
                         json_string_length(lines.lines[line]), CONTROL_AND_SPECIAL, tokens,
                         &err) != KVERN_OK)
        fail_msg("line %zu: %s", line + 1, err.message);
}

static void check_digest(const char *name)
{
    char file[64];
    size_t n_json;
    size_t n_digest;
    snprintf(file, sizeof file, "%s.json", name);
    char *json = golden_file(file, &n_json);
    snprintf(file, sizeof file, "%s.digest", name);
    char *digest = golden_file(file, &n_digest);
    struct tokenizer *tokenizer = golden_open(json, n_json);
    const char *next = digest;

    for (size_t i = 0; i < lines.n; i++) {
        kvern_tokens tokens = {0};
        char *end;
        size_t n_expected = strtoul(next, &end, 10);
        uint32_t crc_expected = (uint32_t)strtoul(end, &end, 16);

        next = end;
        encode(tokenizer, i, &tokens);
        if (tokens.n != n_expected || golden_crc_of_ids(&tokens) != crc_expected)
            fail_msg("%s, line %zu: %zu ids with CRC %08x, Python has %zu with %08x", name, i + 1,
                     tokens.n, golden_crc_of_ids(&tokens), n_expected, crc_expected);
        kvern_tokens_clear(&tokens);
    }
    tokenizer_close(tokenizer);
    free(digest);
    free(json);
}

static void gpt2_style_ids_equal_pythons(void **state)
{
    (void)state;
    check_digest("gpt2");
}

static void llama3_style_ids_equal_pythons(void **state)
{
    (void)state;
    check_digest("llama3");
}

static void qwen2_style_ids_equal_pythons(void **state)
{
    (void)state;
    check_digest("qwen2");
}

static uint32_t hex_at(const json_t *variant, const char *member, size_t i)
{
    char hex[9] = "";

    memcpy(hex, json_string_value(json_object_get(variant, member)) + 8 * i, 8);
    return (uint32_t)strtoul(hex, NULL, 16);
}

static void check_variant_line(const struct tokenizer *tokenizer, const json_t *variant, size_t i)
{
    const char *name = json_string_value(json_object_get(variant, "name"));
    size_t line = VARIANT_STRIDE * i;
    kvern_tokens tokens = {0};
    char *text = NULL;
    size_t n_bytes;
    kvern_error err;

    encode(tokenizer, line, &tokens);
    if (golden_crc_of_ids(&tokens) != hex_at(variant, "ids", i))
        fail_msg("%s, line %zu: ids differ from Python's", name, line + 1);
    assert_int_equal(tokenizer_decode(tokenizer, tokens.ids, tokens.n, true, &text, &n_bytes, &err),
                     KVERN_OK);
    if (golden_crc(text, n_bytes) != hex_at(variant, "texts", i))
        fail_msg("%s, line %zu: decoded text differs from Python's: \"%s\"", name, line + 1, text);
    free(text);
    kvern_tokens_clear(&tokens);
}

static void other_configurations_equal_pythons(void **state)
{
    size_t n_bytes;
    char *text = golden_file("variants.json", &n_bytes);
    json_t *variants = json_loadb(text, n_bytes, 0, NULL);

    (void)state;
    assert_true(json_array_size(variants) > 40);
    for (size_t v = 0; v < json_array_size(variants); v++) {
        const json_t *variant = json_array_get(variants, v);
        char file[64];
        size_t n_base;
        snprintf(file, sizeof file, "%s.json", json_string_value(json_object_get(variant, "base")));
        char *base_text = golden_file(file, &n_base);
        json_t *base = json_loadb(base_text, n_base, 0, NULL);

        json_object_update(base, json_object_get(variant, "members"));
        char *merged = json_dumps(base, 0);
        struct tokenizer *tokenizer = golden_open(merged, strlen(merged));
        for (size_t i = 0; VARIANT_STRIDE * i < lines.n; i++)
            check_variant_line(tokenizer, variant, i);
        tokenizer_close(tokenizer);
        free(merged);
        json_decref(base);
        free(base_text);
    }
    json_decref(variants);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_style_ids_equal_pythons),
        cmocka_unit_test(llama3_style_ids_equal_pythons),
        cmocka_unit_test(qwen2_style_ids_equal_pythons),
        cmocka_unit_test(other_configurations_equal_pythons),
    };

    return cmocka_run_group_tests(tests, load_lines, free_lines);
}
