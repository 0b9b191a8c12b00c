/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids and decoded text equal to Python's `tokenizers` over the committed lines: three BPE
 * tokenizers over all of them, and some fifty other configurations over every 61st; two WordPiece
 * tokenizers, offsets too, over 4,082, and some thirty other configurations over 400
 * (tests/golden/make_tokens.py).
 */
#include "support_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

enum { CONTROL_AND_SPECIAL = KVERN_TOKENIZE_CONTROL | KVERN_TOKENIZE_SPECIAL };

static struct golden_lines lines;
static struct golden_lines bert_lines;

static int load_lines(void **state)
{
    (void)state;
    golden_lines_add(&lines, "lines.json", 1);
    golden_lines_add_bert(&bert_lines);
    assert_true(lines.n >= 10000);
    assert_true(bert_lines.n >= 4000);
    return 0;
}

static int free_lines(void **state)
{
    (void)state;
    golden_lines_free(&lines);
    golden_lines_free(&bert_lines);
    return 0;
}

static void encode(const struct tokenizer *tokenizer, const json_t *line, kvern_tokens *tokens)
{
    kvern_error err;

    if (tokenizer_encode(tokenizer, json_string_value(line), json_string_length(line),
                         CONTROL_AND_SPECIAL, tokens, &err) != KVERN_OK)
        fail_msg("\"%s\": %s", json_string_value(line), err.message);
}

static struct tokenizer *open_golden(const char *name)
{
    char file[64];
    size_t n_bytes;

    snprintf(file, sizeof file, "%s.json", name);
    char *json = golden_file(file, &n_bytes);
    struct tokenizer *tokenizer = golden_open(json, n_bytes);
    free(json);
    return tokenizer;
}

static void check_digest(const char *name)
{
    struct tokenizer *tokenizer = open_golden(name);
    char file[64];

    snprintf(file, sizeof file, "%s.digest", name);
    golden_check_ids(tokenizer, &lines, file);
    tokenizer_close(tokenizer);
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

static const char *member_of(const json_t *variant, const char *member)
{
    return json_string_value(json_object_get(variant, member));
}

static void check_variant_line(const struct tokenizer *tokenizer, const char *name,
                               const json_t *line, const char **ids, const char **texts)
{
    kvern_tokens tokens = {0};
    char *text = NULL;
    size_t n_bytes;
    kvern_error err;

    encode(tokenizer, line, &tokens);
    if (golden_crc_of_ids(&tokens) != golden_next_crc(ids))
        fail_msg("%s, \"%s\": ids differ from Python's", name, json_string_value(line));
    assert_int_equal(tokenizer_decode(tokenizer, tokens.ids, tokens.n, true, &text, &n_bytes, &err),
                     KVERN_OK);
    if (golden_crc(text, n_bytes) != golden_next_crc(texts))
        fail_msg("%s, \"%s\": decoded text differs from Python's: \"%s\"", name,
                 json_string_value(line), text);
    free(text);
    kvern_tokens_clear(&tokens);
}

/* The variants of a file over every stride-th of the first n lines. */
static void check_variants(const char *file, size_t n_variants, const struct golden_lines *of,
                           size_t n, size_t stride)
{
    size_t n_bytes;
    char *text = golden_file(file, &n_bytes);
    json_t *variants = json_loadb(text, n_bytes, 0, NULL);

    assert_true(json_array_size(variants) > n_variants);
    for (size_t v = 0; v < json_array_size(variants); v++) {
        const json_t *variant = json_array_get(variants, v);
        const char *ids = member_of(variant, "ids");
        const char *texts = member_of(variant, "texts");
        char *merged = golden_variant(variant);
        struct tokenizer *tokenizer = golden_open(merged, strlen(merged));

        for (size_t i = 0; i < n; i += stride)
            check_variant_line(tokenizer, member_of(variant, "name"), of->lines[i], &ids, &texts);
        assert_string_equal(ids, "");
        assert_string_equal(texts, "");
        tokenizer_close(tokenizer);
        free(merged);
    }
    json_decref(variants);
    free(text);
}

static void other_configurations_equal_pythons(void **state)
{
    (void)state;
    check_variants("variants.json", 40, &lines, lines.n, 61);
}

static void check_wordpiece(const char *name)
{
    struct tokenizer *tokenizer = open_golden(name);
    char file[64];

    snprintf(file, sizeof file, "%s.digest", name);
    golden_check_bert(tokenizer, &bert_lines, file);
    tokenizer_close(tokenizer);
}

static void uncased_wordpieces_equal_pythons(void **state)
{
    (void)state;
    check_wordpiece("bert");
}

static void cased_wordpieces_equal_pythons(void **state)
{
    (void)state;
    check_wordpiece("cased");
}

static void other_wordpieces_equal_pythons(void **state)
{
    enum { N_HARD = 2000 }; /* of bert_lines.json */

    (void)state;
    check_variants("bert_variants.json", 25, &bert_lines, N_HARD, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_style_ids_equal_pythons),
        cmocka_unit_test(llama3_style_ids_equal_pythons),
        cmocka_unit_test(qwen2_style_ids_equal_pythons),
        cmocka_unit_test(other_configurations_equal_pythons),
        cmocka_unit_test(uncased_wordpieces_equal_pythons),
        cmocka_unit_test(cased_wordpieces_equal_pythons),
        cmocka_unit_test(other_wordpieces_equal_pythons),
    };

    return cmocka_run_group_tests(tests, load_lines, free_lines);
}
