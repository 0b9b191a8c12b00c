/* SPDX-License-Identifier: Apache-2.0
 *
 * Running pre-tokenizer steps. Every step walks the pieces of the one before and emits its own in
 * order; reading the configuration is in pretokenize_read.c.
 */
#include "text/pretokenize.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static kvern_status fail_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory splitting text");
}

static bool push(struct piece_list *pieces, size_t begin, size_t end)
{
    if (pieces->n == pieces->capacity) {
        size_t capacity = pieces->capacity ? pieces->capacity * 2 : 64;
        struct piece *items = try_resize(pieces->items, capacity, sizeof *items);

        if (!items)
            return false;
        pieces->items = items;
        pieces->capacity = capacity;
    }
    pieces->items[pieces->n++] = (struct piece){begin, end};
    return true;
}

/* Cutting one piece: matches and gaps arrive in order and are joined as the behavior says. */
struct cutter {
    struct piece_list *out;
    enum split_behavior behavior;
    bool is_inverted;
    bool has_last; /* something of this piece was pushed */
    bool was_match;
};

static bool cut(struct cutter *cutter, size_t begin, size_t end, bool is_match)
{
    bool joins = false;
    bool was_match = cutter->was_match;

    if (begin == end)
        return true;
    is_match ^= cutter->is_inverted;
    cutter->was_match = is_match;
    switch (cutter->behavior) {
    case SPLIT_ISOLATED:
        break;
    case SPLIT_REMOVED:
        if (is_match)
            return true;
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = is_match && !was_match;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = !is_match && was_match;
        break;
    case SPLIT_CONTIGUOUS:
        joins = is_match == was_match;
        break;
    }
    if (joins && cutter->has_last) {
        cutter->out->items[cutter->out->n - 1].end = end;
        return true;
    }
    cutter->has_last = true;
    return push(cutter->out, begin, end);
}

static kvern_status cut_by_pattern(const struct pretokenize_step *step,
                                   struct regex_scratch *scratch, const struct aligned_text *text,
                                   struct piece piece, struct cutter *cutter, kvern_error *err)
{
    const char *data = text->data + piece.begin;
    size_t n_bytes = piece.end - piece.begin;
    size_t gap = 0;
    size_t from = 0;

    while (from < n_bytes) {
        bool found;
        size_t begin;
        size_t end;
        kvern_status status =
            regex_find(&step->pattern, scratch, data, n_bytes, from, &found, &begin, &end, err);

        if (status != KVERN_OK)
            return status;
        if (!found)
            break;
        if (begin == end) { /* an empty match still ends the gap before it */
            uint32_t code_point;

            if (!cut(cutter, piece.begin + gap, piece.begin + begin, false))
                return fail_memory(err);
            gap = begin;
            if (end == n_bytes)
                break;
            from = end + utf8_decode(data + end, n_bytes - end, &code_point);
            continue;
        }
        if (!cut(cutter, piece.begin + gap, piece.begin + begin, false) ||
            !cut(cutter, piece.begin + begin, piece.begin + end, true))
            return fail_memory(err);
        gap = from = end;
    }
    return cut(cutter, piece.begin + gap, piece.end, false) ? KVERN_OK : fail_memory(err);
}

/* Each character of the class is a match of its own; the others between them are one gap. */
static kvern_status cut_by_class(bool (*is_in_class)(uint32_t), const struct aligned_text *text,
                                 struct piece piece, struct cutter *cutter, kvern_error *err)
{
    size_t gap = piece.begin;

    for (size_t i = piece.begin; i < piece.end;) {
        uint32_t code_point = (unsigned char)text->data[i];
        size_t n = 1;

        if (code_point >= 0x80)
            n = utf8_decode(text->data + i, piece.end - i, &code_point);
        if (is_in_class(code_point)) {
            if (!cut(cutter, gap, i, false) || !cut(cutter, i, i + n, true))
                return fail_memory(err);
            gap = i + n;
        }
        i += n;
    }
    return cut(cutter, gap, piece.end, false) ? KVERN_OK : fail_memory(err);
}

/* White space goes, each punctuation mark is a word. */
static kvern_status cut_as_bert(const struct aligned_text *text, struct piece piece,
                                struct piece_list *out, kvern_error *err)
{
    size_t word = piece.begin;

    for (size_t i = piece.begin; i < piece.end;) {
        uint32_t code_point = (unsigned char)text->data[i];
        size_t n = 1;

        if (code_point >= 0x80)
            n = utf8_decode(text->data + i, piece.end - i, &code_point);
        bool is_mark = unicode_is_punctuation(code_point);
        if (is_mark || unicode_is_white_space(code_point)) {
            if ((word < i && !push(out, word, i)) || (is_mark && !push(out, i, i + n)))
                return fail_memory(err);
            word = i + n;
        }
        i += n;
    }
    return word == piece.end || push(out, word, piece.end) ? KVERN_OK : fail_memory(err);
}

static kvern_status cut_piece(const struct pretokenize_step *step, struct regex_scratch *scratch,
                              const struct aligned_text *text, struct piece piece,
                              struct piece_list *out, kvern_error *err)
{
    struct cutter cutter = {out, step->behavior, step->is_inverted, false, false};

    switch (step->kind) {
    case PRETOKENIZE_BYTE_LEVEL:
    case PRETOKENIZE_METASPACE:
        if (!step->splits)
            return push(out, piece.begin, piece.end) ? KVERN_OK : fail_memory(err);
        return cut_by_pattern(step, scratch, text, piece, &cutter, err);
    case PRETOKENIZE_SPLIT:
        return cut_by_pattern(step, scratch, text, piece, &cutter, err);
    case PRETOKENIZE_DIGITS:
        return cut_by_class(unicode_is_numeric, text, piece, &cutter, err);
    case PRETOKENIZE_PUNCTUATION:
        return cut_by_class(unicode_is_punctuation, text, piece, &cutter, err);
    case PRETOKENIZE_WHITESPACE_SPLIT:
        return cut_by_class(unicode_is_white_space, text, piece, &cutter, err);
    case PRETOKENIZE_BERT:
        return cut_as_bert(text, piece, out, err);
    }
    return KVERN_OK;
}

/* ---- steps that rewrite the text first ---- */

static bool starts_with(const struct aligned_text *text, struct piece piece, const char *prefix)
{
    size_t n = strlen(prefix);

    return piece.end - piece.begin >= n && !memcmp(text->data + piece.begin, prefix, n);
}

static void copy_replacing_spaces(struct aligned_text *built, const struct aligned_text *text,
                                  struct piece piece, const char *replacement)
{
    size_t begin = piece.begin;

    for (size_t i = piece.begin; i < piece.end; i++) {
        if (text->data[i] != ' ')
            continue;
        aligned_text_copy(built, text, begin, i);
        aligned_text_insert(built, replacement, strlen(replacement),
                            aligned_text_origin(text, i, i + 1));
        begin = i + 1;
    }
    aligned_text_copy(built, text, begin, piece.end);
}

/* Puts the prefix before each piece that wants one and, for Metaspace, replaces spaces. Does
 * nothing when no piece would change. */
static kvern_status rewrite(const struct pretokenize_step *step, struct aligned_text *text,
                            struct piece_list *pieces, kvern_error *err)
{
    bool is_metaspace = step->kind == PRETOKENIZE_METASPACE;
    const char *prefix = is_metaspace ? step->replacement : " ";
    struct aligned_text built = {0};

    if (step->prepend == PREPEND_NEVER && !is_metaspace)
        return KVERN_OK;
    for (size_t i = 0; i < pieces->n; i++) {
        struct piece *piece = &pieces->items[i];
        struct origin first = aligned_text_origin(text, piece->begin, piece->begin + 1);
        bool has_prefix =
            starts_with(text, *piece, prefix) || (is_metaspace && starts_with(text, *piece, " "));
        size_t begin = built.storage.n_bytes;

        if (!has_prefix && (step->prepend == PREPEND_ALWAYS ||
                            (step->prepend == PREPEND_FIRST && first.begin == 0)))
            aligned_text_insert(&built, prefix, strlen(prefix),
                                (struct origin){first.begin, first.begin});
        if (is_metaspace)
            copy_replacing_spaces(&built, text, *piece, prefix);
        else
            aligned_text_copy(&built, text, piece->begin, piece->end);
        *piece = (struct piece){begin, built.storage.n_bytes};
    }
    return aligned_text_replace(text, &built) ? KVERN_OK : fail_memory(err);
}

kvern_status pretokenizer_run(const struct pretokenizer *pretokenizer,
                              struct regex_scratch *scratch, struct aligned_text *text,
                              struct piece_list *pieces, kvern_error *err)
{
    struct piece_list next = {0};
    kvern_status status = KVERN_OK;

    pieces->n = 0;
    if (text->n_bytes == 0)
        return KVERN_OK;
    if (!push(pieces, 0, text->n_bytes))
        return fail_memory(err);
    for (size_t i = 0; status == KVERN_OK && i < pretokenizer->n_steps; i++) {
        const struct pretokenize_step *step = &pretokenizer->steps[i];

        if (step->kind == PRETOKENIZE_BYTE_LEVEL || step->kind == PRETOKENIZE_METASPACE)
            status = rewrite(step, text, pieces, err);
        next.n = 0;
        for (size_t j = 0; status == KVERN_OK && j < pieces->n; j++)
            status = cut_piece(step, scratch, text, pieces->items[j], &next, err);

        struct piece_list swap = *pieces;
        *pieces = next;
        next = swap;
    }
    piece_list_clear(&next);
    return status;
}

void piece_list_clear(struct piece_list *pieces)
{
    free(pieces->items);
    *pieces = (struct piece_list){0};
}
