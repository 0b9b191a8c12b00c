/* SPDX-License-Identifier: Apache-2.0
 *
 * SmolLM2's own tokenizer, made from the GGUF file by the converter: ids equal to Python's over all
 * golden lines (make_tokens.py --digest wrote the file of digests). Skipped where the model is not.
 */
#include "base/file.h"
#include "convert/tokenizer_export.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

#define MODEL KVERN_SOURCE_DIR "/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define GOLDEN KVERN_SOURCE_DIR "/tests/golden/tokens/"

enum { MAX_BYTES = 1 << 24 };

static uint32_t crc_of_ids(const kvern_tokens *tokens)
{
    struct buffer text = {0};
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < tokens->n; i++)
        buffer_add_format(&text, "%s%d", i ? "," : "", tokens->ids[i]);
    for (size_t i = 0; i < text.n_bytes; i++) {
        crc ^= (unsigned char)text.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    buffer_clear(&text);
    return ~crc;
}

static struct tokenizer *open_from_gguf(void)
{
    struct file_map map = {0};
    struct gguf gguf = {0};
    char *json = NULL;
    char *chat = NULL;
    struct tokenizer *tokenizer = NULL;
    kvern_error err;

    if (file_map_open(&map, MODEL, &err) != KVERN_OK ||
        gguf_parse(&gguf, map.data, map.n_bytes, &err) != KVERN_OK ||
        tokenizer_export(&gguf, &json, &chat, &err) != KVERN_OK ||
        tokenizer_open_json(&tokenizer, json, strlen(json), &err) != KVERN_OK)
        fail_msg("%s", err.message);
    gguf_clear(&gguf);
    file_map_close(&map);
    free(json);
    free(chat);
    return tokenizer;
}

/* One golden line against its row "COUNT CRC" of the digest; moves both on. */
static void check_line(const struct tokenizer *tokenizer, size_t number, const char *line,
                       size_t n_bytes, const char **row)
{
    json_t *text = json_loadb(line, n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    kvern_tokens tokens = {0};
    char *end;
    size_t n_expected = strtoul(*row, &end, 10);
    uint32_t crc_expected = (uint32_t)strtoul(end, &end, 16);

    *row = end;
    assert_int_equal(tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                                      KVERN_TOKENIZE_CONTROL, &tokens, NULL),
                     KVERN_OK);
    if (tokens.n != n_expected || crc_of_ids(&tokens) != crc_expected)
        fail_msg("line %zu: %zu ids with CRC %08x, Python has %zu with %08x", number, tokens.n,
                 crc_of_ids(&tokens), n_expected, crc_expected);
    kvern_tokens_clear(&tokens);
    json_decref(text);
}

static void ids_equal_pythons(void **state)
{
    char *lines = NULL;
    char *digest = NULL;
    size_t n_bytes;
    size_t number = 0;

    (void)state;
    if (!file_exists(MODEL))
        skip();
    struct tokenizer *tokenizer = open_from_gguf();
    assert_int_equal(file_read(GOLDEN "lines.json", MAX_BYTES, &lines, &n_bytes, NULL), KVERN_OK);
    assert_int_equal(file_read(GOLDEN "smollm2.digest", MAX_BYTES, &digest, NULL, NULL), KVERN_OK);
    const char *row = digest;
    for (char *line = lines; line < lines + n_bytes;) {
        char *end = strchr(line, '\n');

        check_line(tokenizer, ++number, line, (size_t)(end - line), &row);
        line = end + 1;
    }
    assert_true(number >= 10000);
    tokenizer_close(tokenizer);
    free(lines);
    free(digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_pythons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
