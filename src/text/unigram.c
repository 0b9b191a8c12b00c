/* SPDX-License-Identifier: Apache-2.0
 *
 * The likeliest cut: for every place in the word, from left to right, the best cut of the bytes
 * before it is known, and every piece that begins there offers a cut of a later place. Among equal
 * offers the first counts, which is the one of the longest piece. Reading back from the word's end
 * gives the cut.
 */
#include "text/unigram.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The best cut that ends at a place: its last piece and what all of it sums up to. */
struct unigram_step {
    double score;
    uint32_t begin; /* of the last piece; NOWHERE: no cut ends here */
    int32_t id;
};

#define NOWHERE UINT32_MAX
/* SentencePiece's: an unknown character is this much less likely than the unlikeliest piece. */
static const double unknown_penalty = 10.0;

static kvern_status fail_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory encoding a word");
}

kvern_status unigram_open(struct unigram *unigram, const struct vocabulary *vocabulary,
                          double *scores, size_t n_scores, const struct unigram_options *options,
                          kvern_error *err)
{
    double least = INFINITY;

    *unigram = (struct unigram){
        .vocabulary = vocabulary,
        .scores = scores,
        .n_scores = n_scores,
        .unknown_id = options->unknown_id,
    };
    for (size_t i = 0; i < n_scores; i++)
        least = scores[i] < least ? scores[i] : least;
    unigram->unknown_score = least - unknown_penalty;
    for (int byte = 0; byte < 256; byte++) {
        char piece[8];
        int n = snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)byte);

        unigram->fallback_ids[byte] =
            options->has_byte_fallback ? vocabulary_find(vocabulary, piece, (size_t)n) : -1;
    }
    if (options->unknown_id < -1 ||
        (options->unknown_id >= 0 && (size_t)options->unknown_id >= n_scores)) {
        unigram_close(unigram);
        return fail(err, KVERN_FORMAT, "unk_id %d is not one of the %zu pieces of the vocabulary",
                    options->unknown_id, n_scores);
    }
    return KVERN_OK;
}

kvern_status unigram_index(struct unigram *unigram, kvern_error *err)
{
    struct piece_trie_entry *entries = try_new(unigram->n_scores, sizeof *entries);
    size_t n = 0;
    kvern_status status = KVERN_OK;

    if (!entries)
        return fail(err, KVERN_MEMORY, "out of memory for %zu pieces", unigram->n_scores);
    for (size_t id = 0; status == KVERN_OK && id < unigram->n_scores; id++) {
        size_t n_bytes;
        const char *piece = vocabulary_piece(unigram->vocabulary, (int32_t)id, &n_bytes);

        if (!piece || vocabulary_is_control(unigram->vocabulary, (int32_t)id))
            continue;
        if (n_bytes > UNIGRAM_MAX_PIECE_BYTES)
            status = fail(err, KVERN_LIMIT, "piece %zu has %zu bytes, over the limit of %d", id,
                          n_bytes, UNIGRAM_MAX_PIECE_BYTES);
        else
            entries[n++] = (struct piece_trie_entry){piece, (uint32_t)n_bytes, (int32_t)id};
    }
    if (status == KVERN_OK)
        status = piece_trie_open(&unigram->trie, entries, n, err);
    free(entries);
    return status;
}

void unigram_close(struct unigram *unigram)
{
    if (!unigram)
        return;
    free(unigram->scores);
    piece_trie_close(&unigram->trie);
    *unigram = (struct unigram){0};
}

static bool reserve(struct unigram_scratch *scratch, size_t n)
{
    if (n <= scratch->capacity)
        return true;

    size_t capacity = scratch->capacity ? scratch->capacity : 64;
    while (capacity < n)
        capacity *= 2;
    struct unigram_step *steps = try_resize(scratch->steps, capacity, sizeof *steps);
    if (!steps)
        return false;
    scratch->steps = steps;
    scratch->capacity = capacity;
    return true;
}

void unigram_scratch_clear(struct unigram_scratch *scratch)
{
    free(scratch->steps);
    *scratch = (struct unigram_scratch){0};
}

static size_t character_bytes(char first)
{
    unsigned char c = (unsigned char)first;

    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static void offer(struct unigram_step *step, double score, size_t begin, int32_t id)
{
    if (step->begin == NOWHERE || score > step->score)
        *step = (struct unigram_step){score, (uint32_t)begin, id};
}

/* Fills steps[0, n_bytes]. false: an unknown character, and no token for it. */
static bool find_cuts(const struct unigram *unigram, struct unigram_step *steps, const char *word,
                      size_t n_bytes)
{
    const struct piece_trie *trie = &unigram->trie;

    steps[0] = (struct unigram_step){0, 0, -1};
    for (size_t i = 1; i <= n_bytes; i++)
        steps[i].begin = NOWHERE;
    for (size_t begin = 0; begin < n_bytes;) {
        double score = steps[begin].score;
        size_t character_end = begin + character_bytes(word[begin]);
        bool is_known = false; /* is the character a piece? */
        uint32_t node = 0;

        for (size_t i = begin; i < n_bytes && (node = piece_trie_step(trie, node, word[i]));) {
            int32_t id = trie->nodes[node].id;

            i++;
            if (id < 0)
                continue;
            offer(&steps[i], unigram->scores[id] + score, begin, id);
            is_known |= i == character_end;
        }
        if (!is_known) {
            if (unigram->unknown_id < 0)
                return false;
            offer(&steps[character_end], unigram->unknown_score + score, begin,
                  unigram->unknown_id);
        }
        begin = character_end;
    }
    return true;
}

static void put(struct buffer *out, int32_t id, size_t end)
{
    struct word_token token = {id, (uint32_t)end};

    buffer_add(out, &token, sizeof token);
}

/* Appends in reverse what a run of unknown characters is: a piece it happens to spell (where
 * all scores are above 0), else its bytes if each has a token, else the unknown token. */
static void put_unknown(const struct unigram *unigram, struct buffer *out, const char *word,
                        size_t begin, size_t end)
{
    int32_t id = vocabulary_find(unigram->vocabulary, word + begin, end - begin);

    if (id >= 0 && !vocabulary_is_control(unigram->vocabulary, id)) {
        put(out, id, end);
        return;
    }
    for (size_t i = begin; i < end; i++) {
        if (unigram->fallback_ids[(unsigned char)word[i]] < 0) {
            put(out, unigram->unknown_id, end);
            return;
        }
    }
    for (size_t i = end; i > begin; i--)
        put(out, unigram->fallback_ids[(unsigned char)word[i - 1]], i);
}

static void reverse(struct word_token *tokens, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        struct word_token token = tokens[i];

        tokens[i] = tokens[n - 1 - i];
        tokens[n - 1 - i] = token;
    }
}

kvern_status unigram_encode(const struct unigram *unigram, struct unigram_scratch *scratch,
                            const char *word, size_t n_bytes, struct buffer *out, kvern_error *err)
{
    size_t first = out->n_bytes;

    if (n_bytes == 0)
        return KVERN_OK;
    if (!reserve(scratch, n_bytes + 1))
        return fail_memory(err);

    const struct unigram_step *steps = scratch->steps;
    if (!find_cuts(unigram, scratch->steps, word, n_bytes))
        return fail(err, KVERN_UNSUPPORTED,
                    "the text has a character that no piece of the vocabulary spells, and the "
                    "tokenizer has no unknown token");
    for (size_t end = n_bytes; end > 0;) {
        size_t begin = steps[end].begin;

        if (steps[end].id != unigram->unknown_id) {
            put(out, steps[end].id, end);
        } else {
            while (begin > 0 && steps[begin].id == unigram->unknown_id)
                begin = steps[begin].begin;
            put_unknown(unigram, out, word, begin, end);
        }
        end = begin;
    }
    if (out->has_failed)
        return fail_memory(err);
    reverse((struct word_token *)(void *)(out->data + first),
            (out->n_bytes - first) / sizeof(struct word_token));
    return KVERN_OK;
}
