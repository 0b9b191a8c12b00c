/* SPDX-License-Identifier: Apache-2.0
 *
 * Greedy longest match by hash lookups. The word is copied behind room for the prefix, so that a
 * piece inside it is looked up where it stands: the prefix is written over bytes already spelled.
 */
#include "text/wordpiece.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static kvern_status fail_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory encoding a word");
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Measures the pieces and checks that each has an id of its own. */
static kvern_status survey(struct wordpiece *wordpiece, kvern_error *err)
{
    const struct vocabulary *vocabulary = wordpiece->vocabulary;
    size_t n_ids = 0; /* that a piece has */

    for (size_t id = 0; id < vocabulary->n_ids; id++) {
        size_t n_bytes;
        const char *piece = vocabulary_piece(vocabulary, (int32_t)id, &n_bytes);

        if (!piece)
            continue;
        n_ids++;
        if (n_bytes > wordpiece->max_first_bytes)
            wordpiece->max_first_bytes = n_bytes;
        if (n_bytes < wordpiece->n_prefix_bytes ||
            memcmp(piece, wordpiece->prefix, wordpiece->n_prefix_bytes) != 0)
            continue;
        if (n_bytes - wordpiece->n_prefix_bytes > wordpiece->max_next_bytes)
            wordpiece->max_next_bytes = n_bytes - wordpiece->n_prefix_bytes;
    }
    if (n_ids != vocabulary->pieces.n_entries)
        return fail(err, KVERN_FORMAT, "the %zu pieces of the vocabulary have only %zu ids",
                    vocabulary->pieces.n_entries, n_ids);
    return KVERN_OK;
}

kvern_status wordpiece_open(struct wordpiece *wordpiece, const struct vocabulary *vocabulary,
                            const struct wordpiece_options *options, kvern_error *err)
{
    int32_t unknown_id = vocabulary_find(vocabulary, options->unknown, strlen(options->unknown));
    kvern_status status;

    *wordpiece = (struct wordpiece){0};
    if (unknown_id < 0)
        return fail(err, KVERN_FORMAT, "unk_token \"%.80s\" is not in the vocabulary",
                    options->unknown);
    *wordpiece = (struct wordpiece){
        .vocabulary = vocabulary,
        .unknown_id = unknown_id,
        .max_characters = options->max_characters,
        .prefix = copy_string_or_abort(options->prefix),
        .n_prefix_bytes = strlen(options->prefix),
    };
    status = survey(wordpiece, err);

    size_t max_bytes = wordpiece->max_first_bytes;     /* no shorter than max_next_bytes */
    if (options->max_characters < (max_bytes + 3) / 4) /* a character has at most 4 */
        max_bytes = options->max_characters * 4;
    if (status == KVERN_OK && max_bytes > WORDPIECE_MAX_PIECE_BYTES)
        status = fail(err, KVERN_LIMIT,
                      "with max_input_chars_per_word %zu, the longest piece a word can hold has "
                      "%zu bytes, over the limit of %d",
                      options->max_characters, max_bytes, WORDPIECE_MAX_PIECE_BYTES);
    if (status != KVERN_OK)
        wordpiece_close(wordpiece);
    return status;
}

void wordpiece_close(struct wordpiece *wordpiece)
{
    if (!wordpiece)
        return;
    free(wordpiece->prefix);
    *wordpiece = (struct wordpiece){0};
}

static bool has_too_many_characters(const struct wordpiece *wordpiece, const char *word,
                                    size_t n_bytes)
{
    size_t n_characters = 0;

    if (n_bytes <= wordpiece->max_characters)
        return false;
    for (size_t i = 0; i < n_bytes; i++)
        n_characters += !is_continuation(word[i]);
    return n_characters > wordpiece->max_characters;
}

/* The longest piece that is `n_before` bytes (a prefix) and whole characters of text[0, n_bytes),
 * behind which a byte can be read: its id, or -1; *n_matched is without the prefix. */
static int32_t find_longest(const struct vocabulary *vocabulary, const char *text, size_t n_before,
                            size_t n_bytes, size_t *n_matched)
{
    for (size_t n = n_bytes; n > 0; n--) {
        if (is_continuation(text[n]))
            continue;
        int32_t id = vocabulary_find(vocabulary, text - n_before, n_before + n);
        if (id < 0 || vocabulary_is_control(vocabulary, id))
            continue;
        *n_matched = n;
        return id;
    }
    return -1;
}

static void put(struct buffer *out, int32_t id, size_t end)
{
    struct word_token token = {id, (uint32_t)end};

    buffer_add(out, &token, sizeof token);
}

kvern_status wordpiece_encode(const struct wordpiece *wordpiece, struct buffer *scratch,
                              const char *word, size_t n_bytes, struct buffer *out,
                              kvern_error *err)
{
    size_t n_prefix = wordpiece->n_prefix_bytes;
    size_t n_out = out->n_bytes;
    bool is_unknown = has_too_many_characters(wordpiece, word, n_bytes);

    buffer_truncate(scratch, 0);
    buffer_add(scratch, wordpiece->prefix, n_prefix);
    buffer_add(scratch, word, n_bytes);
    if (scratch->has_failed)
        return fail_memory(err);
    for (size_t begin = 0; !is_unknown && begin < n_bytes;) {
        char *rest = scratch->data + n_prefix + begin;
        size_t n_before = begin > 0 ? n_prefix : 0;
        size_t max_bytes = begin > 0 ? wordpiece->max_next_bytes : wordpiece->max_first_bytes;
        size_t n_matched = 0;

        memcpy(rest - n_before, wordpiece->prefix, n_before);
        int32_t id = find_longest(wordpiece->vocabulary, rest, n_before,
                                  smaller(max_bytes, n_bytes - begin), &n_matched);
        is_unknown = id < 0;
        begin += n_matched;
        put(out, id, begin);
    }
    if (is_unknown) {
        buffer_truncate(out, n_out);
        put(out, wordpiece->unknown_id, n_bytes);
    }
    return out->has_failed ? fail_memory(err) : KVERN_OK;
}
