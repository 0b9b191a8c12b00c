/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters go through all steps one by one. What NFD could still move, marks that are not
 * nonspacing, waits until the next character that nothing can pass.
 */
#include "text/normalize_bert.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/json_member.h"
#include "text/unicode.h"

#include <utf8proc.h>

enum { BLOCK_BYTES = 512 };

struct waiting_mark {
    utf8proc_int32_t code_point;
    int combining_class;
    struct origin origin;
};

struct writer {
    const struct bert_normalizer *normalizer;
    struct aligned_text built;
    char bytes[BLOCK_BYTES]; /* [n_bytes], not yet in `built` */
    struct origin origins[BLOCK_BYTES];
    size_t n_bytes;
    struct buffer waiting; /* struct waiting_mark */
};

void bert_normalizer_read(struct bert_normalizer *normalizer, const json_t *json)
{
    bool lowers_case = json_member_bool(json, "lowercase", true);

    *normalizer = (struct bert_normalizer){
        .cleans_text = json_member_bool(json, "clean_text", true),
        .separates_chinese = json_member_bool(json, "handle_chinese_chars", true),
        .strips_accents = json_member_bool(json, "strip_accents", lowers_case),
        .lowers_case = lowers_case,
    };
}

static void flush_block(struct writer *writer)
{
    aligned_text_add(&writer->built, writer->bytes, writer->origins, writer->n_bytes);
    writer->n_bytes = 0;
}

static void put_byte(struct writer *writer, char byte, struct origin origin)
{
    if (writer->n_bytes == BLOCK_BYTES)
        flush_block(writer);
    writer->bytes[writer->n_bytes] = byte;
    writer->origins[writer->n_bytes++] = origin;
}

static void put_code_point(struct writer *writer, utf8proc_int32_t code_point, struct origin origin)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);

    for (utf8proc_ssize_t i = 0; i < n; i++)
        put_byte(writer, (char)bytes[i], origin);
}

static void put_cased(struct writer *writer, utf8proc_int32_t code_point, struct origin origin)
{
    if (!writer->normalizer->lowers_case) {
        put_code_point(writer, code_point, origin);
    } else if (code_point == 0x130) { /* the one letter whose lower case is two */
        put_byte(writer, 'i', origin);
        put_code_point(writer, 0x307, origin);
    } else {
        put_code_point(writer, utf8proc_tolower(code_point), origin);
    }
}

/* In canonical order: by class, and within a class as they came. Few classes occur among marks that
 * are not nonspacing, so the passes are few. */
static void put_waiting(struct writer *writer)
{
    const struct waiting_mark *marks = (const void *)writer->waiting.data;
    size_t n = writer->waiting.n_bytes / sizeof *marks;
    size_t counts[256] = {0};

    for (size_t i = 0; i < n; i++)
        counts[marks[i].combining_class]++;
    for (int class = 0; class < 256; class ++) {
        for (size_t i = 0; i < n && counts[class] > 0; i++) {
            if (marks[i].combining_class == class)
                put_cased(writer, marks[i].code_point, marks[i].origin);
        }
    }
    buffer_truncate(&writer->waiting, 0);
}

static void flush_waiting(struct writer *writer)
{
    if (writer->waiting.n_bytes > 0)
        put_waiting(writer);
}

/* NFD of one character, without its accents. */
static void put_stripped(struct writer *writer, utf8proc_int32_t code_point, struct origin origin)
{
    utf8proc_int32_t parts[32]; /* a decomposition has at most 4 */
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(code_point, parts, 32,
                                                 UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);

    for (utf8proc_ssize_t i = 0; i < n && i < 32; i++) {
        int class = (int)utf8proc_get_property(parts[i])->combining_class;
        bool is_accent = unicode_is_nonspacing_mark((uint32_t)parts[i]);

        if (class == 0)
            flush_waiting(writer);
        if (is_accent)
            continue;
        if (class == 0) {
            put_cased(writer, parts[i], origin);
        } else {
            struct waiting_mark mark = {parts[i], class, origin};
            buffer_add(&writer->waiting, &mark, sizeof mark);
        }
    }
}

static void put_space(struct writer *writer, struct origin origin)
{
    flush_waiting(writer);
    put_byte(writer, ' ', origin);
}

/* bert.rs's ranges: the ideographs of Unicode 8 and some of later blocks. */
static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
           (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x2f800 && c <= 0x2fa1f);
}

static void put_ascii(struct writer *writer, char byte, struct origin origin)
{
    const struct bert_normalizer *normalizer = writer->normalizer;

    if (normalizer->cleans_text && (byte < ' ' || byte == 0x7f)) {
        if (byte != '\t' && byte != '\n' && byte != '\r')
            return;
        byte = ' ';
    }
    if (normalizer->lowers_case && byte >= 'A' && byte <= 'Z')
        byte += 'a' - 'A';
    flush_waiting(writer);
    put_byte(writer, byte, origin);
}

static void put_wide(struct writer *writer, uint32_t code_point, struct origin origin)
{
    const struct bert_normalizer *normalizer = writer->normalizer;
    bool is_apart = normalizer->separates_chinese && is_chinese(code_point);

    if (normalizer->cleans_text) {
        if (code_point == 0xfffd || unicode_is_other(code_point))
            return;
        if (unicode_is_white_space(code_point)) {
            put_space(writer, origin);
            return;
        }
    }
    if (is_apart)
        put_space(writer, origin);
    if (normalizer->strips_accents)
        put_stripped(writer, (utf8proc_int32_t)code_point, origin);
    else
        put_cased(writer, (utf8proc_int32_t)code_point, origin);
    if (is_apart)
        put_space(writer, origin);
}

kvern_status bert_normalizer_run(const struct bert_normalizer *normalizer,
                                 struct aligned_text *text, kvern_error *err)
{
    struct writer writer;
    size_t n;

    writer.normalizer = normalizer;
    writer.built = (struct aligned_text){0};
    writer.waiting = (struct buffer){0};
    writer.n_bytes = 0;
    for (size_t i = 0; i < text->n_bytes; i += n) {
        uint32_t code_point = (unsigned char)text->data[i];

        n = 1;
        if (code_point < 0x80) {
            put_ascii(&writer, (char)code_point, aligned_text_origin(text, i, i + 1));
        } else {
            n = utf8_decode(text->data + i, text->n_bytes - i, &code_point);
            put_wide(&writer, code_point, aligned_text_origin(text, i, i + n));
        }
    }
    flush_waiting(&writer);
    flush_block(&writer);

    bool has_memory = !writer.waiting.has_failed;
    buffer_clear(&writer.waiting);
    if (has_memory && aligned_text_replace(text, &writer.built))
        return KVERN_OK;
    aligned_text_clear(&writer.built);
    return fail(err, KVERN_MEMORY, "out of memory normalizing text");
}
