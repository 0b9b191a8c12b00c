/* SPDX-License-Identifier: Apache-2.0
 *
 * See support_golden.h.
 */
#include "support_golden.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

char *golden_file(const char *name, size_t *n_bytes)
{
    struct buffer path = {0};
    char *text = NULL;
    kvern_error err;

    buffer_add_format(&path, "%s/tests/golden/tokens/%s", KVERN_SOURCE_DIR, name);
    if (file_read(path.data, 1 << 24, &text, n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    buffer_clear(&path);
    return text;
}

void golden_lines_load(struct golden_lines *lines)
{
    size_t n_bytes;
    char *text = golden_file("lines.json", &n_bytes);
    size_t capacity = 0;

    *lines = (struct golden_lines){0};
    for (size_t i = 0; i < n_bytes;) {
        size_t n = (size_t)((char *)memchr(text + i, '\n', n_bytes - i) - (text + i));

        if (lines->n == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            lines->lines = resize_or_abort(lines->lines, capacity * sizeof(json_t *));
        }
        lines->lines[lines->n] = json_loadb(text + i, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(lines->lines[lines->n]));
        lines->n++;
        i += n + 1;
    }
    free(text);
}

void golden_lines_free(struct golden_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        json_decref(lines->lines[i]);
    free(lines->lines);
}

uint32_t golden_crc(const char *bytes, size_t n_bytes)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

uint32_t golden_crc_of_ids(const kvern_tokens *tokens)
{
    struct buffer text = {0};

    for (size_t i = 0; i < tokens->n; i++)
        buffer_add_format(&text, "%s%d", i ? "," : "", tokens->ids[i]);
    uint32_t crc = golden_crc(text.data, text.n_bytes);
    buffer_clear(&text);
    return crc;
}

struct tokenizer *golden_open(const char *json, size_t n_bytes)
{
    struct tokenizer *tokenizer = NULL;
    kvern_error err;

    if (tokenizer_open_json(&tokenizer, json, n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}
