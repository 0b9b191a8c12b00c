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

static void other_configurations_equal_pythons(void **state)
{
    (void)state;
    golden_check_variants("variants.json", 40, &lines, lines.n, 61);
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
    golden_check_variants("bert_variants.json", 25, &bert_lines, N_HARD, 5);
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
