/* SPDX-License-Identifier: Apache-2.0
 *
 * Leftmost-longest search by a table of first two bytes and a hash map over the few lengths that
 * occur. Follows Hugging Face's AddedVocabulary for strips and single words.
 */
#include "text/added_tokens.h"

#include "base/memory.h"
#include "base/utf8.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static bool add_length(struct added_set *set, uint32_t length)
{
    size_t at = 0;

    while (at < set->n_lengths && set->lengths[at] > length)
        at++;
    if (at < set->n_lengths && set->lengths[at] == length)
        return true;

    uint32_t *lengths = try_resize(set->lengths, set->n_lengths + 1, sizeof *lengths);
    if (!lengths)
        return false;
    memmove(lengths + at + 1, lengths + at, (set->n_lengths - at) * sizeof *lengths);
    lengths[at] = length;
    set->lengths = lengths;
    set->n_lengths++;
    return true;
}

bool added_set_add(struct added_set *set, const char *text, size_t n_bytes,
                   struct added_token token)
{
    struct added_token *tokens;
    uint32_t first = (unsigned char)text[0];

    if (n_bytes == 0)
        return true;
    if ((set->n_tokens & (set->n_tokens - 1)) == 0) { /* at powers of two the array doubles */
        tokens = try_resize(set->tokens, set->n_tokens ? set->n_tokens * 2 : 1, sizeof *tokens);
        if (!tokens)
            return false;
        set->tokens = tokens;
    }
    if (!add_length(set, (uint32_t)n_bytes) ||
        !map_put(&set->texts, text, n_bytes, (uint32_t)set->n_tokens))
        return false;
    set->tokens[set->n_tokens++] = token;
    for (uint32_t second = 0; second < 256; second++) {
        uint32_t bit = first << 8 | second;

        if (n_bytes == 1 || second == (unsigned char)text[1])
            set->starts[bit >> 6] |= (uint64_t)1 << (bit & 63);
    }
    return true;
}

static bool is_trusted(struct trusted_ranges trusted, struct origin origin)
{
    size_t low = 0;
    size_t high = trusted.n;

    while (low < high) { /* the last range that begins at or before the origin */
        size_t middle = low + (high - low) / 2;

        if (trusted.ranges[middle].begin <= origin.begin)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && origin.end <= trusted.ranges[low - 1].end;
}

static size_t previous_character(const char *data, size_t at, uint32_t *code_point)
{
    size_t begin = at - 1;

    while (begin > 0 && ((unsigned char)data[begin] & 0xc0) == 0x80)
        begin--;
    utf8_decode(data + begin, at - begin, code_point);
    return begin;
}

static bool stands_alone(const struct aligned_text *text, size_t begin, size_t end)
{
    uint32_t code_point;

    if (begin > 0) {
        previous_character(text->data, begin, &code_point);
        if (unicode_is_word(code_point))
            return false;
    }
    if (end < text->n_bytes) {
        utf8_decode(text->data + end, text->n_bytes - end, &code_point);
        if (unicode_is_word(code_point))
            return false;
    }
    return true;
}

/* The longest token that may start at `at`, or NULL. */
static const struct added_token *match(const struct added_set *set, const struct aligned_text *text,
                                       size_t at, struct trusted_ranges trusted, size_t *n_bytes)
{
    for (size_t i = 0; i < set->n_lengths; i++) {
        size_t length = set->lengths[i];
        uint32_t index;

        if (length > text->n_bytes - at || !map_get(&set->texts, text->data + at, length, &index))
            continue;
        const struct added_token *token = &set->tokens[index];
        if (token->is_control && !is_trusted(trusted, aligned_text_origin(text, at, at + length)))
            continue;
        *n_bytes = length;
        return token;
    }
    return NULL;
}

static bool may_start(const struct added_set *set, const struct aligned_text *text, size_t at)
{
    uint32_t second = at + 1 < text->n_bytes ? (unsigned char)text->data[at + 1] : 0;
    uint32_t bit = (uint32_t)(unsigned char)text->data[at] << 8 | second;

    return set->starts[bit >> 6] >> (bit & 63) & 1;
}

static void add_part(struct buffer *parts, size_t begin, size_t end, int32_t id)
{
    struct added_part part = {begin, end, id};

    if (begin < end)
        buffer_add(parts, &part, sizeof part);
}

bool added_set_split(const struct added_set *set, const struct aligned_text *text,
                     struct trusted_ranges trusted, struct buffer *parts)
{
    size_t done = 0; /* all before is in parts */

    for (size_t i = 0; set->n_tokens > 0 && i < text->n_bytes;) {
        const struct added_token *token;
        uint32_t code_point;
        size_t n = 1;

        if (!may_start(set, text, i) || !(token = match(set, text, i, trusted, &n))) {
            i++;
            continue;
        }
        size_t begin = i;
        size_t end = i + n;
        i = end; /* the search goes on behind the bare match, whatever is stripped */
        if (token->is_single_word && !stands_alone(text, begin, end))
            continue;
        while (token->strips_left && begin > done) {
            size_t before = previous_character(text->data, begin, &code_point);

            if (!unicode_is_white_space(code_point))
                break;
            begin = before;
        }
        while (token->strips_right && end < text->n_bytes) {
            size_t step = utf8_decode(text->data + end, text->n_bytes - end, &code_point);

            if (!unicode_is_white_space(code_point))
                break;
            end += step;
        }
        if (begin < done) /* its first bytes went with the space after the token before */
            continue;
        add_part(parts, done, begin, -1);
        add_part(parts, begin, end, token->id);
        done = end;
    }
    add_part(parts, done, text->n_bytes, -1);
    return !parts->has_failed;
}

void added_set_clear(struct added_set *set)
{
    map_clear(&set->texts);
    free(set->tokens);
    free(set->lengths);
    *set = (struct added_set){0};
}
