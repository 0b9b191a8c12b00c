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
#include <stdint.h>
#include <stdio.h>
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

void golden_lines_add(struct golden_lines *lines, const char *file, size_t stride)
{
    size_t n_bytes;
    char *text = golden_file(file, &n_bytes);
    size_t number = 0;

    for (size_t i = 0; i < n_bytes; number++) {
        size_t n = (size_t)((char *)memchr(text + i, '\n', n_bytes - i) - (text + i));

        if (number % stride != 0) {
            i += n + 1;
            continue;
        }
        if (lines->n == lines->capacity) {
            lines->capacity = lines->capacity ? lines->capacity * 2 : 1024;
            lines->lines = resize_or_abort(lines->lines, lines->capacity * sizeof(json_t *));
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
    *lines = (struct golden_lines){0};
}

void golden_lines_add_bert(struct golden_lines *lines)
{
    golden_lines_add(lines, "bert_lines.json", 1);
    golden_lines_add(lines, "lines.json", 5);
}

unsigned golden_crc(const char *bytes, size_t n_bytes)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc & 0xffff;
}

unsigned golden_crc_of_ids(const kvern_tokens *tokens)
{
    struct buffer text = {0};

    for (size_t i = 0; i < tokens->n; i++)
        buffer_add_format(&text, "%s%d", i ? "," : "", tokens->ids[i]);
    unsigned crc = golden_crc(text.data, text.n_bytes);
    buffer_clear(&text);
    return crc;
}

unsigned golden_crc_of_offsets(const kvern_tokens *tokens)
{
    struct buffer text = {0};

    for (size_t i = 0; i < tokens->n; i++)
        buffer_add_format(&text, "%s%zu,%zu", i ? "," : "", tokens->begins[i], tokens->ends[i]);
    unsigned crc = golden_crc(text.data, text.n_bytes);
    buffer_clear(&text);
    return crc;
}

unsigned golden_next_crc(const char **next)
{
    char hex[GOLDEN_HEX + 1] = "";

    memcpy(hex, *next, strnlen(*next, GOLDEN_HEX));
    if (strspn(hex, "0123456789abcdef") != GOLDEN_HEX)
        fail_msg("\"%.40s\" does not begin with the CRC of a line", *next);
    *next += GOLDEN_HEX;
    return (unsigned)strtoul(hex, NULL, 16);
}

/* The CRC that `*next` stands at in a digest; moves on. */
static unsigned next_of_digest(const unsigned char **next)
{
    unsigned crc = (unsigned)(*next)[0] << 8 | (*next)[1];

    *next += 2;
    return crc;
}

static void encode(const struct tokenizer *tokenizer, const json_t *line, unsigned flags,
                   kvern_tokens *tokens)
{
    kvern_error err;

    if (tokenizer_encode(tokenizer, json_string_value(line), json_string_length(line),
                         KVERN_TOKENIZE_SPECIAL | flags, tokens, &err) != KVERN_OK)
        fail_msg("\"%s\": %s", json_string_value(line), err.message);
}

static void check_line(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                       size_t i, unsigned flags, unsigned expected, const char *what)
{
    kvern_tokens tokens = {0};

    encode(tokenizer, lines->lines[i], flags, &tokens);
    if (golden_crc_of_ids(&tokens) != expected)
        fail_msg("%s, line %zu, \"%s\": %zu ids with CRC %04x, Python's have %04x", what, i + 1,
                 json_string_value(lines->lines[i]), tokens.n, golden_crc_of_ids(&tokens),
                 expected);
    kvern_tokens_clear(&tokens);
}

void golden_check_crcs(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                       unsigned flags, const char *crcs, const char *what)
{
    for (size_t i = 0; i < lines->n; i++)
        check_line(tokenizer, lines, i, flags, golden_next_crc(&crcs), what);
    assert_string_equal(crcs + (*crcs == '\n'), "");
}

void golden_check_ids(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                      const char *file)
{
    size_t n_bytes;
    char *digest = golden_file(file, &n_bytes);
    const unsigned char *next = (const unsigned char *)digest;

    assert_int_equal(n_bytes, lines->n * 2);
    for (size_t i = 0; i < lines->n; i++)
        check_line(tokenizer, lines, i, KVERN_TOKENIZE_CONTROL, next_of_digest(&next), file);
    free(digest);
}

void golden_check_bert(const struct tokenizer *tokenizer, const struct golden_lines *lines,
                       const char *file)
{
    size_t n_bytes;
    char *digest = golden_file(file, &n_bytes);
    const unsigned char *next = (const unsigned char *)digest;

    assert_int_equal(n_bytes, lines->n * 6);
    for (size_t i = 0; i < lines->n; i++) {
        kvern_tokens tokens = {0};
        kvern_tokens as_text = {0};
        unsigned ids_expected = next_of_digest(&next);
        unsigned offsets_expected = next_of_digest(&next);
        unsigned text_expected = next_of_digest(&next);

        encode(tokenizer, lines->lines[i], KVERN_TOKENIZE_CONTROL, &tokens);
        encode(tokenizer, lines->lines[i], 0, &as_text);
        if (golden_crc_of_ids(&tokens) != ids_expected)
            fail_msg("%s, line %zu, \"%s\": %zu ids with CRC %04x, Python's have %04x", file, i + 1,
                     json_string_value(lines->lines[i]), tokens.n, golden_crc_of_ids(&tokens),
                     ids_expected);
        if (offsets_expected != 0 && golden_crc_of_offsets(&tokens) != offsets_expected)
            fail_msg("%s, line %zu, \"%s\": offsets with CRC %04x, Python's have %04x", file, i + 1,
                     json_string_value(lines->lines[i]), golden_crc_of_offsets(&tokens),
                     offsets_expected);
        if (golden_crc_of_ids(&as_text) != text_expected)
            fail_msg("%s, line %zu, \"%s\": as text, ids with CRC %04x, Python's have %04x", file,
                     i + 1, json_string_value(lines->lines[i]), golden_crc_of_ids(&as_text),
                     text_expected);
        kvern_tokens_clear(&tokens);
        kvern_tokens_clear(&as_text);
    }
    free(digest);
}

char *golden_variant(const json_t *variant)
{
    const json_t *members = json_object_get(variant, "members");
    const json_t *model_members = json_object_get(members, "model");
    char file[64];
    size_t n_base;

    snprintf(file, sizeof file, "%s.json", json_string_value(json_object_get(variant, "base")));
    char *base_text = golden_file(file, &n_base);
    json_t *base = json_loadb(base_text, n_base, 0, NULL);
    json_t *model = json_incref(json_object_get(base, "model"));
    json_object_update(base, (json_t *)members);
    if (model_members) {
        json_object_update(model, (json_t *)model_members);
        json_object_set(base, "model", model);
    }
    char *merged = json_dumps(base, JSON_COMPACT);
    json_decref(model);
    json_decref(base);
    free(base_text);
    return merged;
}

struct tokenizer *golden_open(const char *json, size_t n_bytes)
{
    struct tokenizer *tokenizer = NULL;
    kvern_error err;

    if (tokenizer_open_json(&tokenizer, json, n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return tokenizer;
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

    encode(tokenizer, line, KVERN_TOKENIZE_CONTROL, &tokens);
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

void golden_check_variants(const char *file, size_t n_variants, const struct golden_lines *of,
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
