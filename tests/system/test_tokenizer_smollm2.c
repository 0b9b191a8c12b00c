/* SPDX-License-Identifier: Apache-2.0
 *
 * SmolLM2's own tokenizer, made from the GGUF file by the converter: ids equal to Python's over all
 * golden lines (make_tokens.py --digest wrote the file of digests). Skipped where the model is not.
 */
#include "base/file.h"
#include "convert/tokenizer_export.h"
#include "text/support_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

#define MODEL KVERN_SOURCE_DIR "/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static struct tokenizer *open_from_gguf(void)
{
    struct file_map map = {0};
    struct gguf gguf = {0};
    char *json = NULL;
    char *chat = NULL;
    kvern_error err;

    if (file_map_open(&map, MODEL, &err) != KVERN_OK ||
        gguf_parse(&gguf, map.data, map.n_bytes, &err) != KVERN_OK ||
        tokenizer_export(&gguf, &json, &chat, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    struct tokenizer *tokenizer = golden_open(json, strlen(json));
    gguf_clear(&gguf);
    file_map_close(&map);
    free(json);
    free(chat);
    return tokenizer;
}

static void ids_equal_pythons(void **state)
{
    struct golden_lines lines = {0};

    (void)state;
    if (!file_exists(MODEL))
        skip();
    struct tokenizer *tokenizer = open_from_gguf();
    golden_lines_add(&lines, "lines.json", 1);
    assert_true(lines.n >= 10000);
    golden_check_ids(tokenizer, &lines, "smollm2.digest");
    golden_lines_free(&lines);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_pythons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
