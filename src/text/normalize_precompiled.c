/* SPDX-License-Identifier: Apache-2.0
 *
 * The map's trie is darts-clone's: a unit of 32 bits has a label (bits 0-7, with bit 31), whether a
 * key ends here (bit 8) and the offset of its children (bits 10-30, times 256 if bit 9 is set);
 * child of node n by byte b is n ^ offset ^ b, and a key's value is in the unit at n ^ offset. No
 * unit is trusted: every step is checked.
 */
#include "text/normalize_precompiled.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BASE64_BYTES = 16 << 20, MAX_WHOLE_CLUSTER_BYTES = 5 };

/* ---- reading ---- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* false: not base64 with its padding. `out` has room for n / 4 * 3 bytes. */
static bool decode_base64(const char *text, size_t n, uint8_t *out, size_t *n_out)
{
    size_t n_padding = n > 0 && text[n - 1] == '=' ? 1 + (n > 1 && text[n - 2] == '=') : 0;

    if (n % 4 != 0)
        return false;
    *n_out = n / 4 * 3 - n_padding;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = 0;

        for (size_t j = i; j < i + 4; j++) {
            int value = j < n - n_padding ? base64_value(text[j]) : 0;

            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (size_t j = 0; j < 3; j++)
            out[i / 4 * 3 + j] = (uint8_t)(bits >> (16 - 8 * j));
    }
    return true;
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* The map: how many bytes the trie has, the trie, the texts. */
static kvern_status read_map(struct precompiled *precompiled, const uint8_t *map, size_t n_bytes,
                             kvern_error *err)
{
    size_t n_trie = n_bytes >= 4 ? read_u32(map) : 0;

    if (n_bytes < 4 || n_trie > n_bytes - 4 || n_trie < 4 || n_trie % 4 != 0)
        return fail(err, KVERN_FORMAT,
                    "precompiled_charsmap of %zu bytes cannot hold a trie of %zu bytes", n_bytes,
                    n_trie);

    const char *texts = (const char *)map + 4 + n_trie;
    size_t n_texts = n_bytes - 4 - n_trie;
    if (!utf8_is_valid(texts, n_texts))
        return fail(err, KVERN_FORMAT, "the texts of precompiled_charsmap are not valid UTF-8");
    precompiled->n_units = n_trie / 4;
    precompiled->n_texts = n_texts;
    precompiled->units = try_new(precompiled->n_units, sizeof *precompiled->units);
    precompiled->texts = try_new(n_texts, 1);
    if (!precompiled->units || !precompiled->texts)
        return fail(err, KVERN_MEMORY, "out of memory for a precompiled_charsmap of %zu bytes",
                    n_bytes);
    for (size_t i = 0; i < precompiled->n_units; i++)
        precompiled->units[i] = read_u32(map + 4 + 4 * i);
    memcpy(precompiled->texts, texts, n_texts);
    return KVERN_OK;
}

/* ---- looking up ---- */

static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* Where the text begins that the shortest key at the start of `bytes` stands for; -1: no key does.
 */
static int32_t find_key(const struct precompiled *precompiled, const char *bytes, size_t n_bytes)
{
    enum { LABEL = 0xff, HAS_KEY = 1 << 8 };
    const uint32_t *units = precompiled->units;
    size_t at = unit_offset(units[0]);

    for (size_t i = 0; i < n_bytes && bytes[i]; i++) {
        uint8_t byte = (uint8_t)bytes[i];

        at ^= byte;
        if (at >= precompiled->n_units || (units[at] & (LABEL | 1u << 31)) != byte)
            return -1;
        uint32_t unit = units[at];
        at ^= unit_offset(unit);
        if (!(unit & HAS_KEY))
            continue;
        return at < precompiled->n_units ? (int32_t)(units[at] & INT32_MAX) : -1;
    }
    return -1;
}

/* The text at `offset`, or NULL where a hostile map has none. */
static const char *find_text(const struct precompiled *precompiled, int32_t offset, size_t *n_bytes)
{
    const char *texts = precompiled->texts;

    if (offset < 0 || (size_t)offset > precompiled->n_texts)
        return NULL;

    size_t n_rest = precompiled->n_texts - (size_t)offset;
    size_t n_seen =
        n_rest < PRECOMPILED_MAX_TEXT_BYTES + 1 ? n_rest : PRECOMPILED_MAX_TEXT_BYTES + 1;
    *n_bytes = strnlen(texts + offset, n_seen);
    if (*n_bytes > PRECOMPILED_MAX_TEXT_BYTES ||
        (*n_bytes > 0 && ((unsigned char)texts[offset] & 0xc0) == 0x80))
        return NULL;
    return texts + offset;
}

static const char *find(const struct precompiled *precompiled, const char *bytes, size_t n_bytes,
                        size_t *n_text)
{
    /* a lone byte is ASCII, as the text is valid UTF-8 */
    int32_t offset =
        n_bytes == 1 ? precompiled->ascii[*bytes & 0x7f] : find_key(precompiled, bytes, n_bytes);

    return offset < 0 ? NULL : find_text(precompiled, offset, n_text);
}

kvern_status precompiled_open(struct precompiled *precompiled, const json_t *json, kvern_error *err)
{
    const json_t *member = json_object_get(json, "precompiled_charsmap");
    const char *text = json_string_value(member);
    size_t n_text = json_string_length(member);
    size_t n_map = 0;
    uint8_t *map = NULL;
    kvern_status status;

    *precompiled = (struct precompiled){0};
    if (!text || n_text > MAX_BASE64_BYTES)
        return fail(err, KVERN_FORMAT,
                    "normalizer Precompiled has no precompiled_charsmap of up to %d bytes",
                    MAX_BASE64_BYTES);
    map = try_new(n_text / 4 * 3, 1);
    if (!map)
        return fail(err, KVERN_MEMORY, "out of memory for precompiled_charsmap");
    if (decode_base64(text, n_text, map, &n_map))
        status = read_map(precompiled, map, n_map, err);
    else
        status = fail(err, KVERN_FORMAT, "precompiled_charsmap is not base64");
    free(map);
    if (status != KVERN_OK) {
        precompiled_close(precompiled);
        return status;
    }
    for (int c = 0; c < 128; c++) {
        char byte = (char)c;

        precompiled->ascii[c] = find_key(precompiled, &byte, 1);
    }
    return KVERN_OK;
}

void precompiled_close(struct precompiled *precompiled)
{
    if (!precompiled)
        return;
    free(precompiled->units);
    free(precompiled->texts);
    *precompiled = (struct precompiled){0};
}

/* ---- running ---- */

struct rewrite {
    const struct precompiled *precompiled;
    const struct aligned_text *text;
    struct aligned_text built;
    size_t n_copied; /* bytes of `text` that are in `built`, or were taken out */
};

/* Rewrites [begin, end) if it begins with a key; false: it does not. */
static bool replace(struct rewrite *rewrite, size_t begin, size_t end)
{
    const struct aligned_text *text = rewrite->text;
    size_t n_bytes = 0;
    const char *bytes = find(rewrite->precompiled, text->data + begin, end - begin, &n_bytes);

    if (!bytes)
        return false;
    if (n_bytes != end - begin || memcmp(bytes, text->data + begin, n_bytes) != 0) {
        aligned_text_copy(&rewrite->built, text, rewrite->n_copied, begin);
        aligned_text_insert(&rewrite->built, bytes, n_bytes, aligned_text_origin(text, begin, end));
        rewrite->n_copied = end;
    }
    return true;
}

/* The end of the grapheme cluster that begins at `begin`. */
static size_t cluster_end(const struct aligned_text *text, size_t begin)
{
    int32_t state = 0;
    uint32_t before;
    size_t end = begin + utf8_decode(text->data + begin, text->n_bytes - begin, &before);

    while (end < text->n_bytes) {
        uint32_t after;
        size_t n = utf8_decode(text->data + end, text->n_bytes - end, &after);

        if (unicode_ends_cluster(before, after, &state))
            break;
        before = after;
        end += n;
    }
    return end;
}

/* ASCII is a cluster by itself unless a mark or, after a carriage return, a line feed follows. */
static bool is_lone_ascii(const struct aligned_text *text, size_t at)
{
    const unsigned char *bytes = (const unsigned char *)text->data + at;

    return bytes[0] < 0x80 && (at + 1 == text->n_bytes || (bytes[1] < 0x80 && bytes[0] != '\r'));
}

/* Hugging Face counts what goes from the text's start to the first character that stays, which
 * Metaspace's prepend_scheme "first" depends on. */
static void start_at_beginning(struct rewrite *rewrite)
{
    struct origin *origins = (struct origin *)(void *)rewrite->built.origin_storage.data;
    uint32_t begin = aligned_text_origin(rewrite->text, 0, 1).begin;
    size_t n = rewrite->built.origin_storage.n_bytes / sizeof *origins;

    for (size_t i = 0;
         i < n && (i == 0 || ((unsigned char)rewrite->built.storage.data[i] & 0xc0) == 0x80); i++)
        origins[i].begin = begin;
}

kvern_status precompiled_run(const struct precompiled *precompiled, struct aligned_text *text,
                             kvern_error *err)
{
    struct rewrite rewrite = {.precompiled = precompiled, .text = text};

    for (size_t i = 0; i < text->n_bytes;) {
        bool is_lone = is_lone_ascii(text, i);

        if (is_lone && precompiled->ascii[(unsigned char)text->data[i]] < 0) {
            i++;
            continue;
        }
        size_t end = is_lone ? i + 1 : cluster_end(text, i);
        if (end - i > MAX_WHOLE_CLUSTER_BYTES || !replace(&rewrite, i, end)) {
            for (uint32_t character; i < end;) {
                size_t n = utf8_decode(text->data + i, end - i, &character);

                replace(&rewrite, i, i + n);
                i += n;
            }
        }
        i = end;
        if (rewrite.built.storage.n_bytes > ALIGNED_TEXT_MAX_BYTES)
            break;
    }
    if (rewrite.n_copied == 0)
        return KVERN_OK;
    aligned_text_copy(&rewrite.built, text, rewrite.n_copied, text->n_bytes);
    if (!rewrite.built.storage.has_failed && !rewrite.built.origin_storage.has_failed)
        start_at_beginning(&rewrite);
    return aligned_text_replace(text, &rewrite.built)
               ? KVERN_OK
               : fail(err, KVERN_MEMORY, "out of memory normalizing text");
}
