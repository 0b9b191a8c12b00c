/* SPDX-License-Identifier: Apache-2.0
 *
 * all-MiniLM-L6-v2's own tokenizer.json (WordPiece, with truncation and padding that kvern must not
 * apply): ids and offsets equal to Python's over 4,082 golden lines. Skipped where the model is
 * not.
 */
#include "base/file.h"
#include "text/support_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

#define MODEL KVERN_SOURCE_DIR "/.deps/models/all-MiniLM-L6-v2/tokenizer.json"

enum { MAX_BYTES = 1 << 24, MAX_LENGTH = 128 /* of the file's "truncation" and "padding" */ };

static struct tokenizer *minilm;

static int open_minilm(void **state)
{
    char *json = NULL;
    size_t n_bytes;

    (void)state;
    if (!file_exists(MODEL)) {
        print_message("%s is not there: skipped\n", MODEL);
        return 0;
    }
    assert_int_equal(file_read(MODEL, MAX_BYTES, &json, &n_bytes, NULL), KVERN_OK);
    minilm = golden_open(json, n_bytes);
    free(json);
    return 0;
}

static int close_minilm(void **state)
{
    (void)state;
    tokenizer_close(minilm);
    return 0;
}

static void ids_and_offsets_equal_pythons(void **state)
{
    struct golden_lines lines = {0};

    (void)state;
    if (!minilm)
        skip();
    golden_lines_add_bert(&lines);
    assert_true(lines.n >= 4000);
    golden_check_bert(minilm, &lines, "minilm.digest");
    golden_lines_free(&lines);
}

/* The file says: cut to 128 and fill up to 128. */
static void nothing_is_cut_or_filled_up(void **state)
{
    static const size_t lengths[] = {0, 1, MAX_LENGTH - 2, MAX_LENGTH - 1, MAX_LENGTH, 1000};

    (void)state;
    if (!minilm)
        skip();
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buffer text = {0};
        kvern_tokens tokens = {0};

        for (size_t j = 0; j < lengths[i]; j++)
            buffer_add_string(&text, "mill ");
        assert_int_equal(tokenizer_encode(minilm, text.data ? text.data : "", text.n_bytes,
                                          KVERN_TOKENIZE_SPECIAL, &tokens, NULL),
                         KVERN_OK);
        assert_int_equal(tokens.n, lengths[i] + 2); /* [CLS] and [SEP] */
        kvern_tokens_clear(&tokens);
        buffer_clear(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_offsets_equal_pythons),
        cmocka_unit_test(nothing_is_cut_or_filled_up),
    };

    return cmocka_run_group_tests(tests, open_minilm, close_minilm);
}
