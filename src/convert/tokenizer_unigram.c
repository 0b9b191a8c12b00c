/* SPDX-License-Identifier: Apache-2.0
 *
 * Unigram out of SentencePiece. Scores are written so that json_scan_number(), which rounds as
 * Hugging Face's reader does, gives them back exactly where any text can: sums of exact scores tie
 * where transformers' own tie.
 */
#include "convert/tokenizer_unigram.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/json_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define META_SPACE "\xe2\x96\x81"

kvern_status tokenizer_unigram_ids(const struct sentencepiece *model, size_t n_extra_ids,
                                   json_t **ids, kvern_error *err)
{
    json_t *made = json_object();

    for (size_t i = 0; i < model->n_pieces + n_extra_ids; i++) {
        char extra[32];
        const char *text = extra;
        size_t n_bytes = 0;

        if (i < model->n_pieces) {
            text = model->pieces[i].text;
            n_bytes = model->pieces[i].n_bytes;
        } else {
            n_bytes = (size_t)snprintf(extra, sizeof extra, "<extra_id_%zu>",
                                       model->n_pieces + n_extra_ids - 1 - i);
        }
        bool is_known = json_object_getn(made, text, n_bytes) != NULL;
        if (is_known ||
            json_object_setn_new(made, text, n_bytes, json_integer((json_int_t)i)) != 0) {
            json_decref(made);
            return is_known ? fail(err, KVERN_FORMAT, "piece %zu, \"%.*s\", stands there twice", i,
                                   (int)(n_bytes < 80 ? n_bytes : 80), text)
                            : fail(err, KVERN_MEMORY, "out of memory for %zu pieces", i);
        }
    }
    *ids = made;
    return KVERN_OK;
}

static char *encode_base64(const uint8_t *bytes, size_t n_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buffer out = {0};

    for (size_t i = 0; i < n_bytes; i += 3) {
        size_t n = n_bytes - i < 3 ? n_bytes - i : 3;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        char text[4] = "====";

        if (n > 1)
            bits |= (uint32_t)bytes[i + 1] << 8;
        if (n > 2)
            bits |= bytes[i + 2];
        for (size_t j = 0; j <= n; j++)
            text[j] = digits[bits >> (18 - 6 * j) & 63];
        buffer_add(&out, text, sizeof text);
    }
    char *text = buffer_take(&out, NULL);
    buffer_clear(&out);
    return text;
}

static json_t *make_metaspace(const char *prepend_scheme)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", META_SPACE,
                     "prepend_scheme", prepend_scheme, "split", 1);
}

json_t *tokenizer_unigram_members(const struct sentencepiece *model, const char *prepend_scheme)
{
    json_t *steps = json_array();
    char *map = NULL;
    bool has_map = model->n_charsmap > 0;

    if (has_map) {
        map = encode_base64(model->charsmap, model->n_charsmap);
        if (map)
            json_array_append_new(
                steps, json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap", map));
    }
    json_array_append_new(
        steps, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", 0, "strip_right", 1));
    json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                           "Regex", " {2,}", "content", META_SPACE));
    bool is_whole = json_array_size(steps) == 2 + (size_t)has_map;
    json_t *members = json_pack(
        "{s:{s:s, s:o}, s:o, s:o}", "normalizer", "type", "Sequence", "normalizers", steps,
        "pre_tokenizer", make_metaspace(prepend_scheme), "decoder", make_metaspace(prepend_scheme));
    free(map);
    if (is_whole)
        return members;
    json_decref(members);
    return NULL;
}

static bool reads_back(const char *text, double value)
{
    struct json_scan scan = {text, text + strlen(text)};
    double read;

    return json_scan_number(&scan, &read) && scan.at == scan.end && read == value;
}

/* Writes a number that is read back as `value`, in at most 40 bytes: the shortest plain one, or for
 * those that the reader's two roundings keep out of reach, digits close by. */
static void write_score(char text[40], double value)
{
    for (int n_digits = 1; n_digits <= 19; n_digits++) {
        snprintf(text, 40, "%.*g", n_digits, value);
        if (reads_back(text, value))
            return;
    }
    for (int n_digits = 17; n_digits <= 19; n_digits++) {
        char digits[32]; /* d.ddde-dd */

        snprintf(digits, sizeof digits, "%.*e", n_digits - 1, value < 0 ? -value : value);
        int exponent = atoi(strchr(digits, 'e') + 1) - (n_digits - 1);
        uint64_t middle = 0;
        for (const char *p = digits; *p != 'e'; p++)
            middle = *p == '.' ? middle : middle * 10 + (uint64_t)(*p - '0');
        for (uint64_t i = 0; i < 64; i++) {
            uint64_t near = i % 2 ? middle - i / 2 : middle + i / 2;

            snprintf(text, 40, "%s%" PRIu64 "e%d", value < 0 ? "-" : "", near, exponent);
            if (reads_back(text, value))
                return;
        }
    }
    snprintf(text, 40, "%.17g", value); /* one unit off */
}

void tokenizer_unigram_put_model(const struct sentencepiece *model, size_t n_extra_ids,
                                 struct buffer *out)
{
    buffer_add_format(out,
                      "{\"type\":\"Unigram\",\"unk_id\":%d,\"byte_fallback\":false,\"vocab\":[",
                      model->unknown_id);
    for (size_t i = 0; i < model->n_pieces && !out->has_failed; i++) {
        const struct sentencepiece_piece *piece = &model->pieces[i];
        json_t *name = json_stringn(piece->text, piece->n_bytes);
        char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
        char score[40];

        write_score(score, (double)piece->score);
        if (quoted)
            buffer_add_format(out, "%s[%s,%s]", i ? "," : "", quoted, score);
        else
            out->has_failed = true;
        free(quoted);
        json_decref(name);
    }
    for (size_t i = n_extra_ids; i > 0; i--)
        buffer_add_format(out, "%s[\"<extra_id_%zu>\",0]",
                          model->n_pieces || i < n_extra_ids ? "," : "", i - 1);
    buffer_add_string(out, "]}");
}
