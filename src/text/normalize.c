/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalizer steps. Each either leaves the text untouched or builds a new one with origins; a text
 * that is already in the wanted form is never copied for NFC and its kin.
 */
#include "text/normalize.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/json_member.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_STEPS = 64, MAX_NESTING = 8 };

static kvern_status fail_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory normalizing text");
}

/* ---- canonical and compatibility forms ---- */

static utf8proc_option_t form_options(enum normalize_kind kind)
{
    bool is_compat = kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD;
    bool composes = kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC;

    return UTF8PROC_STABLE | (is_compat ? UTF8PROC_COMPAT : 0) |
           (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
}

/* One code point's full decomposition; returns its length, at most 18 in Unicode. */
static size_t decompose(uint32_t code_point, utf8proc_option_t options, utf8proc_int32_t out[32])
{
    int boundary = 0;
    utf8proc_option_t decompose_options = (options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code_point, out, 32,
                                                 decompose_options, &boundary);

    if (n <= 0 || n > 32) {
        out[0] = (utf8proc_int32_t)code_point;
        return 1;
    }
    return (size_t)n;
}

/* Can nothing before this decomposed character change with it? Composition and reordering reach
 * back only from marks and from Hangul's vowel and trailing jamo. */
static bool starts_chunk(utf8proc_int32_t first)
{
    if (first >= 0x1160 && first <= 0x11ff)
        return false;
    return first < 0x300 || !unicode_is_mark((uint32_t)first);
}

/* Canonical ordering: a stable counting sort by combining class of each run of non-starters. The
 * library's own exchange sort is quadratic, which a megabyte of marks would turn into a hang. */
static bool order_marks(utf8proc_int32_t *points, size_t n)
{
    utf8proc_int32_t *copy = NULL;

    for (size_t i = 0; i < n;) {
        size_t counts[257] = {0};
        size_t end = i;

        while (end < n && utf8proc_get_property(points[end])->combining_class != 0)
            end++;
        if (end - i < 2) {
            i = end + (end == i);
            continue;
        }
        if (!copy && !(copy = try_new(n, sizeof *copy)))
            return false;
        memcpy(copy + i, points + i, (end - i) * sizeof *copy);
        for (size_t j = i; j < end; j++)
            counts[utf8proc_get_property(copy[j])->combining_class + 1]++;
        for (size_t c = 1; c < 257; c++)
            counts[c] += counts[c - 1];
        for (size_t j = i; j < end; j++)
            points[i + counts[utf8proc_get_property(copy[j])->combining_class]++] = copy[j];
        i = end;
    }
    free(copy);
    return true;
}

/* Rewriting a text piece by piece: what did not change waits in [n_copied, ...) and is copied in
 * one go, or never when nothing changes. */
struct rewrite {
    const struct aligned_text *text;
    struct aligned_text built;
    size_t n_copied;      /* bytes of `text` that are in `built` */
    struct buffer points; /* utf8proc_int32_t: the chunk's decomposed characters */
    struct buffer bytes;
};

static void rewrite_part(struct rewrite *rewrite, size_t begin, size_t end, const char *bytes,
                         size_t n_bytes)
{
    const struct aligned_text *text = rewrite->text;

    if (n_bytes == end - begin && !memcmp(bytes, text->data + begin, n_bytes))
        return;
    aligned_text_copy(&rewrite->built, text, rewrite->n_copied, begin);
    aligned_text_insert(&rewrite->built, bytes, n_bytes, aligned_text_origin(text, begin, end));
    rewrite->n_copied = end;
}

/* Moves the result into `text`; what `rewrite` holds is cleared in every case. */
static kvern_status rewrite_finish(struct rewrite *rewrite, struct aligned_text *text,
                                   bool has_memory, kvern_error *err)
{
    bool has_changed = rewrite->n_copied > 0;

    buffer_clear(&rewrite->points);
    buffer_clear(&rewrite->bytes);
    if (has_memory && !has_changed)
        return KVERN_OK;
    if (has_memory) {
        aligned_text_copy(&rewrite->built, text, rewrite->n_copied, text->n_bytes);
        has_memory = aligned_text_replace(text, &rewrite->built);
    }
    aligned_text_clear(&rewrite->built);
    return has_memory ? KVERN_OK : fail_memory(err);
}

/* Normalizes the code points gathered for the chunk [begin, end). */
static bool finish_chunk(struct rewrite *rewrite, utf8proc_option_t options, size_t begin,
                         size_t end)
{
    utf8proc_int32_t *list = (utf8proc_int32_t *)(void *)rewrite->points.data;
    size_t n = rewrite->points.n_bytes / sizeof *list;

    if (rewrite->points.has_failed || !order_marks(list, n))
        return false;
    if (options & UTF8PROC_COMPOSE) {
        utf8proc_ssize_t composed = utf8proc_normalize_utf32(list, (utf8proc_ssize_t)n, options);
        if (composed >= 0)
            n = (size_t)composed;
    }
    buffer_truncate(&rewrite->bytes, 0);
    for (size_t i = 0; i < n; i++)
        buffer_add_code_point(&rewrite->bytes, (unsigned)list[i]);
    buffer_truncate(&rewrite->points, 0);
    if (rewrite->bytes.has_failed)
        return false;
    rewrite_part(rewrite, begin, end, rewrite->bytes.data, rewrite->bytes.n_bytes);
    return true;
}

/* ASCII changes only when a mark follows: the bytes from `at` that are followed by ASCII. */
static size_t count_fixed(const struct aligned_text *text, size_t at)
{
    size_t i = at;

    while (i < text->n_bytes && (unsigned char)text->data[i] < 0x80)
        i++;
    return i == text->n_bytes || i == at ? i - at : i - at - 1;
}

static kvern_status run_form(enum normalize_kind kind, struct aligned_text *text, kvern_error *err)
{
    utf8proc_option_t options = form_options(kind);
    struct rewrite rewrite = {.text = text};
    size_t begin = 0; /* of the chunk being gathered */
    bool has_memory = true;

    for (size_t i = 0; has_memory && i < text->n_bytes;) {
        utf8proc_int32_t parts[32];
        uint32_t code_point;
        size_t n = count_fixed(text, i);

        if (n > 0) {
            has_memory = i == begin || finish_chunk(&rewrite, options, begin, i);
            begin = i += n;
            continue;
        }
        n = utf8_decode(text->data + i, text->n_bytes - i, &code_point);
        size_t n_parts = decompose(code_point, options, parts);
        if (i > begin && starts_chunk(parts[0])) {
            has_memory = finish_chunk(&rewrite, options, begin, i);
            begin = i;
        }
        buffer_add(&rewrite.points, parts, n_parts * sizeof parts[0]);
        i += n;
    }
    if (has_memory && begin < text->n_bytes)
        has_memory = finish_chunk(&rewrite, options, begin, text->n_bytes);
    return rewrite_finish(&rewrite, text, has_memory, err);
}

/* ---- the other steps ---- */

static kvern_status run_lowercase(struct aligned_text *text, kvern_error *err)
{
    struct rewrite rewrite = {.text = text};

    for (size_t i = 0; i < text->n_bytes && !rewrite.bytes.has_failed;) {
        uint32_t code_point;
        size_t n = utf8_decode(text->data + i, text->n_bytes - i, &code_point);

        buffer_truncate(&rewrite.bytes, 0);
        if (code_point == 0x130) /* the one letter whose lower case is two */
            buffer_add_string(&rewrite.bytes, "i\xcc\x87");
        else
            buffer_add_code_point(&rewrite.bytes,
                                  (unsigned)utf8proc_tolower((utf8proc_int32_t)code_point));
        if (!rewrite.bytes.has_failed)
            rewrite_part(&rewrite, i, i + n, rewrite.bytes.data, rewrite.bytes.n_bytes);
        i += n;
    }
    return rewrite_finish(&rewrite, text, !rewrite.bytes.has_failed, err);
}

static void run_strip(const struct normalize_step *step, struct aligned_text *text)
{
    size_t begin = 0;
    size_t end = text->n_bytes;
    uint32_t code_point;

    while (step->strips_left && begin < end) {
        size_t n = utf8_decode(text->data + begin, end - begin, &code_point);

        if (!unicode_is_white_space(code_point))
            break;
        begin += n;
    }
    while (step->strips_right && end > begin) {
        size_t last = end - 1;

        while (last > begin && ((unsigned char)text->data[last] & 0xc0) == 0x80)
            last--;
        utf8_decode(text->data + last, end - last, &code_point);
        if (!unicode_is_white_space(code_point))
            break;
        end = last;
    }
    text->data += begin;
    text->n_bytes = end - begin;
    text->base += begin;
    if (text->origins)
        text->origins += begin;
}

static kvern_status run_strip_accents(struct aligned_text *text, kvern_error *err)
{
    struct rewrite rewrite = {.text = text};

    for (size_t i = 0; i < text->n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(text->data + i, text->n_bytes - i, &code_point);

        if (code_point >= 0x80 && unicode_is_mark(code_point))
            rewrite_part(&rewrite, i, i + n, "", 0);
        i += n;
    }
    return rewrite_finish(&rewrite, text, true, err);
}

/* SentencePiece's oldest rule: control characters go, and what is a space in disguise is one. */
static kvern_status run_nmt(struct aligned_text *text, kvern_error *err)
{
    struct rewrite rewrite = {.text = text};

    for (size_t i = 0; i < text->n_bytes;) {
        uint32_t c;
        size_t n = utf8_decode(text->data + i, text->n_bytes - i, &c);
        bool goes = (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f ||
                    c == 0x8f || c == 0x9f;
        bool is_space = c == '\t' || c == '\n' || c == '\f' || c == '\r' || c == 0x1680 ||
                        (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                        c == 0xfeff || c == 0xfffd;

        if (goes || is_space)
            rewrite_part(&rewrite, i, i + n, " ", is_space);
        i += n;
    }
    return rewrite_finish(&rewrite, text, true, err);
}

static kvern_status run_replace(const struct normalize_step *step, struct regex_scratch *scratch,
                                struct aligned_text *text, kvern_error *err)
{
    struct aligned_text built = {0};
    size_t copied = 0;
    size_t from = 0;
    size_t n_content = strlen(step->content);

    while (from <= text->n_bytes) {
        bool found;
        size_t begin;
        size_t end;
        kvern_status status = regex_find(&step->pattern, scratch, text->data, text->n_bytes, from,
                                         &found, &begin, &end, err);

        if (status != KVERN_OK) {
            aligned_text_clear(&built);
            return status;
        }
        if (!found)
            break;
        if (begin == end) { /* an empty match replaces nothing */
            uint32_t code_point;

            if (end >= text->n_bytes)
                break;
            from = end + utf8_decode(text->data + end, text->n_bytes - end, &code_point);
            continue;
        }
        aligned_text_copy(&built, text, copied, begin);
        aligned_text_insert(&built, step->content, n_content,
                            aligned_text_origin(text, begin, end));
        copied = from = end;
        if (built.storage.n_bytes > ALIGNED_TEXT_MAX_BYTES)
            break;
    }
    if (copied == 0)
        return KVERN_OK;
    aligned_text_copy(&built, text, copied, text->n_bytes);
    return aligned_text_replace(text, &built) ? KVERN_OK : fail_memory(err);
}

static kvern_status run_prepend(const struct normalize_step *step, struct aligned_text *text,
                                kvern_error *err)
{
    struct aligned_text built = {0};

    if (text->n_bytes == 0)
        return KVERN_OK;
    struct origin first = aligned_text_origin(text, 0, 1);
    first.end = first.begin;
    aligned_text_insert(&built, step->content, strlen(step->content), first);
    aligned_text_copy(&built, text, 0, text->n_bytes);
    return aligned_text_replace(text, &built) ? KVERN_OK : fail_memory(err);
}

kvern_status normalizer_run(const struct normalizer *normalizer, struct regex_scratch *scratch,
                            struct aligned_text *text, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < normalizer->n_steps; i++) {
        const struct normalize_step *step = &normalizer->steps[i];

        switch (step->kind) {
        case NORMALIZE_NFC:
        case NORMALIZE_NFD:
        case NORMALIZE_NFKC:
        case NORMALIZE_NFKD:
            status = run_form(step->kind, text, err);
            break;
        case NORMALIZE_LOWERCASE:
            status = run_lowercase(text, err);
            break;
        case NORMALIZE_STRIP:
            run_strip(step, text);
            break;
        case NORMALIZE_STRIP_ACCENTS:
            status = run_strip_accents(text, err);
            break;
        case NORMALIZE_REPLACE:
            status = run_replace(step, scratch, text, err);
            break;
        case NORMALIZE_PREPEND:
            status = run_prepend(step, text, err);
            break;
        case NORMALIZE_BERT:
            status = bert_normalizer_run(&step->bert, text, err);
            break;
        case NORMALIZE_PRECOMPILED:
            status = precompiled_run(&step->precompiled, text, err);
            break;
        case NORMALIZE_NMT:
            status = run_nmt(text, err);
            break;
        }
    }
    return status;
}

/* ---- reading ---- */

static const struct {
    const char *type;
    enum normalize_kind kind;
} kinds[] = {
    {"NFC", NORMALIZE_NFC},
    {"NFD", NORMALIZE_NFD},
    {"NFKC", NORMALIZE_NFKC},
    {"NFKD", NORMALIZE_NFKD},
    {"Lowercase", NORMALIZE_LOWERCASE},
    {"Strip", NORMALIZE_STRIP},
    {"StripAccents", NORMALIZE_STRIP_ACCENTS},
    {"Replace", NORMALIZE_REPLACE},
    {"Prepend", NORMALIZE_PREPEND},
    {"BertNormalizer", NORMALIZE_BERT},
    {"Precompiled", NORMALIZE_PRECOMPILED},
    {"Nmt", NORMALIZE_NMT},
};

static kvern_status add_step(struct normalizer *normalizer, const json_t *json, int depth,
                             kvern_error *err);

static kvern_status add_sequence(struct normalizer *normalizer, const json_t *json, int depth,
                                 kvern_error *err)
{
    const json_t *list = json_object_get(json, "normalizers");
    kvern_status status = KVERN_OK;

    if (!json_is_array(list) || depth >= MAX_NESTING)
        return fail(err, KVERN_FORMAT,
                    "normalizer Sequence has no list \"normalizers\" or is nested over %d deep",
                    MAX_NESTING);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
        status = add_step(normalizer, json_array_get(list, i), depth + 1, err);
    return status;
}

static kvern_status read_step(struct normalize_step *step, const json_t *json, kvern_error *err)
{
    const char *content =
        json_member_string(json, step->kind == NORMALIZE_PREPEND ? "prepend" : "content");

    if (step->kind == NORMALIZE_BERT) {
        bert_normalizer_read(&step->bert, json);
        return KVERN_OK;
    }
    if (step->kind == NORMALIZE_PRECOMPILED)
        return precompiled_open(&step->precompiled, json, err);
    step->strips_left = json_member_bool(json, "strip_left", true);
    step->strips_right = json_member_bool(json, "strip_right", true);
    if (step->kind != NORMALIZE_REPLACE && step->kind != NORMALIZE_PREPEND)
        return KVERN_OK;
    if (!content)
        return fail(err, KVERN_FORMAT, "normalizer %s has no text to put in",
                    json_member_type(json));
    step->content = copy_string_or_abort(content);
    if (step->kind == NORMALIZE_PREPEND)
        return KVERN_OK;
    return regex_open_json(&step->pattern, json_object_get(json, "pattern"), err);
}

static kvern_status add_step(struct normalizer *normalizer, const json_t *json, int depth,
                             kvern_error *err)
{
    const char *type = json_member_type(json);

    if (!strcmp(type, "Sequence"))
        return add_sequence(normalizer, json, depth, err);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        if (normalizer->n_steps == MAX_STEPS)
            return fail(err, KVERN_LIMIT, "the normalizer has over %d steps", MAX_STEPS);
        struct normalize_step *step = &normalizer->steps[normalizer->n_steps++];
        step->kind = kinds[i].kind;
        return read_step(step, json, err);
    }
    return fail(err, KVERN_UNSUPPORTED, "normalizer type \"%.80s\" is not supported", type);
}

kvern_status normalizer_open(struct normalizer *normalizer, const json_t *json, kvern_error *err)
{
    kvern_status status;

    *normalizer = (struct normalizer){0};
    if (!json || json_is_null(json))
        return KVERN_OK;
    normalizer->steps = new_or_abort(MAX_STEPS * sizeof *normalizer->steps);
    status = add_step(normalizer, json, 0, err);
    if (status != KVERN_OK)
        normalizer_close(normalizer);
    return status;
}

void normalizer_close(struct normalizer *normalizer)
{
    if (!normalizer)
        return;
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        regex_close(&normalizer->steps[i].pattern);
        precompiled_close(&normalizer->steps[i].precompiled);
        free(normalizer->steps[i].content);
    }
    free(normalizer->steps);
    *normalizer = (struct normalizer){0};
}
