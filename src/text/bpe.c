/* SPDX-License-Identifier: Apache-2.0
 *
 * The merge table, a word's symbols as a doubly linked list in an array, and a heap of candidate
 * merges. A popped candidate is stale if one of its symbols has changed since; then it is skipped.
 */
#include "text/bpe.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    MAX_PIECE_BYTES = 256,   /* longer words are not looked up whole in byte-level form */
    SHORT_WORD_SYMBOLS = 24, /* up to here a scan for the best pair beats the heap */
    CACHE_SLOTS = 4096,
    CACHE_WORD_BYTES = 24,
    CACHE_TOKENS = 6,
};

struct bpe_symbol {
    int32_t id;
    uint32_t n_bytes;
    int32_t previous; /* index, -1: none */
    int32_t next;     /* index, -1: none */
};

struct bpe_candidate {
    int32_t rank;
    int32_t at; /* index of the left symbol */
    int32_t id;
};

struct bpe_cache {
    struct cache_slot {
        uint8_t n_bytes; /* 0: free */
        uint8_t n_tokens;
        char word[CACHE_WORD_BYTES];
        struct word_token tokens[CACHE_TOKENS];
    } slots[CACHE_SLOTS];
};

/* ---- the merge table ---- */

static size_t hash_pair(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key >> 29);
}

static struct bpe_merge *find_slot(const struct bpe *bpe, int32_t left, int32_t right)
{
    size_t mask = bpe->n_slots - 1;

    for (size_t i = hash_pair(left, right) & mask;; i = (i + 1) & mask) {
        struct bpe_merge *slot = &bpe->merges[i];

        if (slot->left == -1 || (slot->left == left && slot->right == right))
            return slot;
    }
}

static const struct bpe_merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right)
{
    const struct bpe_merge *slot = find_slot(bpe, left, right);

    return slot->left == -1 ? NULL : slot;
}

/* As much of a piece as an error message shows. */
static int shown(size_t n_bytes)
{
    return n_bytes < 80 ? (int)n_bytes : 80;
}

kvern_status bpe_add_merge(struct bpe *bpe, const char *left, size_t n_left, const char *right,
                           size_t n_right, kvern_error *err)
{
    int32_t left_id = vocabulary_find(bpe->vocabulary, left, n_left);
    int32_t right_id = vocabulary_find(bpe->vocabulary, right, n_right);
    size_t n_skip = bpe->continuing_prefix ? strlen(bpe->continuing_prefix) : 0;
    struct buffer joined = {0};
    char local[128];
    const char *text = local;

    if (left_id < 0 || right_id < 0)
        return fail(err, KVERN_FORMAT, "merge %zu is of \"%.*s\", which is not in the vocabulary",
                    bpe->n_merges, shown(left_id < 0 ? n_left : n_right),
                    left_id < 0 ? left : right);
    if (n_skip > n_right)
        n_skip = n_right;
    if (n_left + n_right <= sizeof local) {
        memcpy(local, left, n_left);
        memcpy(local + n_left, right + n_skip, n_right - n_skip);
    } else {
        buffer_add(&joined, left, n_left);
        buffer_add(&joined, right + n_skip, n_right - n_skip);
        text = joined.data;
    }
    if (joined.has_failed) {
        buffer_clear(&joined);
        return fail(err, KVERN_MEMORY, "out of memory for merge %zu", bpe->n_merges);
    }
    int32_t id = vocabulary_find(bpe->vocabulary, text, n_left + n_right - n_skip);
    buffer_clear(&joined);
    if (id < 0)
        return fail(
            err, KVERN_FORMAT,
            "merge %zu of \"%.*s\" and \"%.*s\" gives a piece that is not in the vocabulary",
            bpe->n_merges, shown(n_left), left, shown(n_right), right);
    *find_slot(bpe, left_id, right_id) =
        (struct bpe_merge){left_id, right_id, (int32_t)bpe->n_merges, id};
    bpe->n_merges++;
    return KVERN_OK;
}

/* ---- opening ---- */

/* false: out of memory. */
static bool find_byte_pieces(struct bpe *bpe)
{
    struct buffer spelled = {0};
    bool is_ok = true;

    for (int byte = 0; byte < 256 && is_ok; byte++) {
        char name[8];

        buffer_truncate(&spelled, 0);
        buffer_add_code_point(&spelled, byte_level_code_point((uint8_t)byte));
        is_ok = !spelled.has_failed;
        if (is_ok)
            bpe->byte_ids[byte] = vocabulary_find(bpe->vocabulary, spelled.data, spelled.n_bytes);
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        bpe->fallback_ids[byte] = vocabulary_find(bpe->vocabulary, name, 6);
    }
    buffer_clear(&spelled);
    return is_ok;
}

static char *copy_affix(const char *text)
{
    return text && *text ? copy_string_or_abort(text) : NULL;
}

kvern_status bpe_open(struct bpe *bpe, const struct vocabulary *vocabulary,
                      const struct bpe_options *options, kvern_error *err)
{
    size_t n_slots = 64;

    *bpe = (struct bpe){
        .vocabulary = vocabulary,
        .is_byte_level = options->is_byte_level,
        .ignores_merges = options->ignores_merges,
        .has_byte_fallback = options->has_byte_fallback,
        .fuses_unknown = options->fuses_unknown,
        .unknown_id = -1,
        .continuing_prefix = copy_affix(options->continuing_prefix),
        .end_suffix = copy_affix(options->end_suffix),
    };
    while (n_slots / 3 * 2 <= options->n_merges && n_slots < (size_t)1 << 32)
        n_slots *= 2;
    bpe->merges = try_new(n_slots, sizeof *bpe->merges);
    if (!bpe->merges || options->n_merges >= INT32_MAX) {
        bpe_close(bpe);
        return fail(err, KVERN_MEMORY, "out of memory for %zu merges", options->n_merges);
    }
    bpe->n_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++)
        bpe->merges[i].left = -1;
    if (!find_byte_pieces(bpe)) {
        bpe_close(bpe);
        return fail(err, KVERN_MEMORY, "out of memory for the pieces of bytes");
    }
    if (options->unknown) {
        bpe->unknown_id = vocabulary_find(vocabulary, options->unknown, strlen(options->unknown));
        if (bpe->unknown_id < 0) {
            bpe_close(bpe);
            return fail(err, KVERN_FORMAT, "unk_token \"%.80s\" is not in the vocabulary",
                        options->unknown);
        }
    }
    return KVERN_OK;
}

void bpe_close(struct bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->merges);
    free(bpe->continuing_prefix);
    free(bpe->end_suffix);
    *bpe = (struct bpe){0};
}

/* ---- a word's first symbols ---- */

struct symbol_list {
    struct bpe_symbol *items; /* with room for two more than the word has bytes */
    size_t n;
};

static void add_symbol(struct symbol_list *list, int32_t id, size_t n_bytes)
{
    int32_t i = (int32_t)list->n++;

    list->items[i] = (struct bpe_symbol){id, (uint32_t)n_bytes, i - 1, i + 1};
}

/* The id of one character with the model's affixes around it, or -1. */
static int32_t find_character(const struct bpe *bpe, struct buffer *piece, const char *text,
                              size_t n_bytes, bool is_first, bool is_last)
{
    bool has_prefix = bpe->continuing_prefix && !is_first;
    bool has_suffix = bpe->end_suffix && is_last;

    if (!has_prefix && !has_suffix) {
        if (bpe->is_byte_level)
            return bpe->byte_ids[(unsigned char)text[0]];
        return vocabulary_find(bpe->vocabulary, text, n_bytes);
    }
    buffer_truncate(piece, 0);
    if (has_prefix)
        buffer_add_string(piece, bpe->continuing_prefix);
    if (bpe->is_byte_level)
        buffer_add_code_point(piece, byte_level_code_point((uint8_t)text[0]));
    else
        buffer_add(piece, text, n_bytes);
    if (has_suffix)
        buffer_add_string(piece, bpe->end_suffix);
    return piece->has_failed ? -1 : vocabulary_find(bpe->vocabulary, piece->data, piece->n_bytes);
}

static bool add_fallback(const struct bpe *bpe, struct symbol_list *list, const char *text,
                         size_t n_bytes)
{
    if (!bpe->has_byte_fallback)
        return false;
    for (size_t i = 0; i < n_bytes; i++) {
        if (bpe->fallback_ids[(unsigned char)text[i]] < 0)
            return false;
    }
    for (size_t i = 0; i < n_bytes; i++)
        add_symbol(list, bpe->fallback_ids[(unsigned char)text[i]], 1);
    return true;
}

static void split_word(const struct bpe *bpe, struct buffer *piece, const char *word,
                       size_t n_bytes, struct symbol_list *list)
{
    size_t n_unknown = 0; /* bytes of an unknown token not yet added */
    size_t n_dropped = 0; /* bytes no token spells: they count to the next, or to the last one */

    for (size_t i = 0; i < n_bytes;) {
        uint32_t code_point;
        size_t n = bpe->is_byte_level ? 1 : utf8_decode(word + i, n_bytes - i, &code_point);
        int32_t id = find_character(bpe, piece, word + i, n, i == 0, i + n == n_bytes);

        if (id >= 0) {
            if (n_unknown > 0)
                add_symbol(list, bpe->unknown_id, n_unknown);
            n_unknown = 0;
            add_symbol(list, id, n + n_dropped);
            n_dropped = 0;
        } else if (add_fallback(bpe, list, word + i, n)) {
            list->items[list->n - 1].n_bytes += (uint32_t)n_dropped;
            n_dropped = 0;
        } else if (bpe->unknown_id < 0) {
            n_dropped += n;
        } else {
            if (n_unknown > 0 && !bpe->fuses_unknown) {
                add_symbol(list, bpe->unknown_id, n_unknown);
                n_unknown = 0;
            }
            n_unknown += n;
        }
        i += n;
    }
    if (n_unknown > 0)
        add_symbol(list, bpe->unknown_id, n_unknown);
    if (list->n > 0) {
        list->items[list->n - 1].n_bytes += (uint32_t)n_dropped;
        list->items[list->n - 1].next = -1;
    }
}

/* ---- merging ---- */

/* Joins symbol `at` with the one after it. */
static void join(struct bpe_symbol *symbols, int32_t at, int32_t id)
{
    struct bpe_symbol *left = &symbols[at];
    struct bpe_symbol *right = &symbols[left->next];

    left->id = id;
    left->n_bytes += right->n_bytes;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0)
        symbols[left->next].previous = at;
}

/* Few symbols: keep each one's merge with its right neighbour, and scan for the best. */
static void merge_short(const struct bpe *bpe, struct symbol_list *list)
{
    const struct bpe_merge *merges[SHORT_WORD_SYMBOLS];
    struct bpe_symbol *s = list->items;
    size_t n = list->n;

    for (size_t i = 0; i + 1 < n; i++)
        merges[i] = find_merge(bpe, s[i].id, s[i + 1].id);
    while (n > 1) {
        const struct bpe_merge *best = NULL;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            if (merges[i] && (!best || merges[i]->rank < best->rank)) {
                best = merges[i];
                at = i;
            }
        }
        if (!best)
            break;
        s[at].id = best->id;
        s[at].n_bytes += s[at + 1].n_bytes;
        for (size_t i = at + 1; i + 1 < n; i++) {
            s[i] = s[i + 1];
            merges[i] = i + 2 < n ? merges[i + 1] : NULL;
        }
        n--;
        if (at > 0)
            merges[at - 1] = find_merge(bpe, s[at - 1].id, s[at].id);
        if (at + 1 < n)
            merges[at] = find_merge(bpe, s[at].id, s[at + 1].id);
    }
    for (size_t i = 0; i < n; i++)
        s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    list->n = n;
}

static bool is_before(struct bpe_candidate a, struct bpe_candidate b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void heap_push(struct bpe_candidate *heap, size_t *n, struct bpe_candidate item)
{
    size_t i = (*n)++;

    while (i > 0 && is_before(item, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = item;
}

static struct bpe_candidate heap_pop(struct bpe_candidate *heap, size_t *n)
{
    struct bpe_candidate top = heap[0];
    struct bpe_candidate last = heap[--*n];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= *n)
            break;
        if (child + 1 < *n && is_before(heap[child + 1], heap[child]))
            child++;
        if (!is_before(heap[child], last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void push_pair(const struct bpe *bpe, const struct bpe_symbol *symbols, int32_t at,
                      struct bpe_candidate *heap, size_t *n)
{
    int32_t next = symbols[at].next;
    const struct bpe_merge *merge =
        next < 0 ? NULL : find_merge(bpe, symbols[at].id, symbols[next].id);

    if (merge)
        heap_push(heap, n, (struct bpe_candidate){merge->rank, at, merge->id});
}

/* Each join takes one symbol away and adds at most two candidates: the heap needs room for 3 n. */
static void merge_long(const struct bpe *bpe, struct symbol_list *list, struct bpe_candidate *heap)
{
    struct bpe_symbol *symbols = list->items;
    size_t n_heap = 0;

    for (size_t i = 0; i + 1 < list->n; i++)
        push_pair(bpe, symbols, (int32_t)i, heap, &n_heap);
    while (n_heap > 0) {
        struct bpe_candidate top = heap_pop(heap, &n_heap);
        int32_t next = symbols[top.at].next;

        if (symbols[top.at].id < 0 || next < 0)
            continue;
        const struct bpe_merge *merge = find_merge(bpe, symbols[top.at].id, symbols[next].id);
        if (!merge || merge->id != top.id)
            continue;
        join(symbols, top.at, top.id);
        if (symbols[top.at].previous >= 0)
            push_pair(bpe, symbols, symbols[top.at].previous, heap, &n_heap);
        push_pair(bpe, symbols, top.at, heap, &n_heap);
    }
}

/* ---- whole words ---- */

/* The id of a whole word for ignore_merges, or -1. A control token is never found this way: only
 * text that was allowed to spells one, and that was taken out before. */
static int32_t find_word(const struct bpe *bpe, struct buffer *piece, const char *word,
                         size_t n_bytes)
{
    int32_t id = -1;

    if (!bpe->is_byte_level) {
        id = vocabulary_find(bpe->vocabulary, word, n_bytes);
    } else if (n_bytes <= MAX_PIECE_BYTES) {
        buffer_truncate(piece, 0);
        for (size_t i = 0; i < n_bytes; i++)
            buffer_add_code_point(piece, byte_level_code_point((uint8_t)word[i]));
        if (!piece->has_failed && piece->n_bytes > 0)
            id = vocabulary_find(bpe->vocabulary, piece->data, piece->n_bytes);
    }
    return vocabulary_is_control(bpe->vocabulary, id) ? -1 : id;
}

static bool reserve(struct bpe_scratch *scratch, size_t n_bytes)
{
    size_t n_symbols = n_bytes + 2;

    if (n_symbols > scratch->symbol_capacity) {
        size_t capacity = n_symbols < 256 ? 256 : n_symbols;
        struct bpe_symbol *symbols = try_resize(scratch->symbols, capacity, sizeof *symbols);

        if (!symbols)
            return false;
        scratch->symbols = symbols;
        scratch->symbol_capacity = capacity;
    }
    if (n_symbols > SHORT_WORD_SYMBOLS && n_symbols > scratch->heap_capacity / 3) {
        struct bpe_candidate *heap = try_resize(scratch->heap, n_symbols, 3 * sizeof *heap);

        if (!heap)
            return false;
        scratch->heap = heap;
        scratch->heap_capacity = 3 * n_symbols;
    }
    return true;
}

static struct cache_slot *cache_slot(struct bpe_scratch *scratch, const char *word, size_t n_bytes)
{
    if (!scratch->cache || n_bytes > CACHE_WORD_BYTES)
        return NULL;
    return &scratch->cache->slots[XXH3_64bits(word, n_bytes) % CACHE_SLOTS];
}

static void remember(struct cache_slot *slot, const char *word, size_t n_bytes,
                     const struct word_token *tokens, size_t n_tokens)
{
    if (n_tokens > CACHE_TOKENS)
        return;
    slot->n_bytes = (uint8_t)n_bytes;
    slot->n_tokens = (uint8_t)n_tokens;
    memcpy(slot->word, word, n_bytes);
    memcpy(slot->tokens, tokens, n_tokens * sizeof *tokens);
}

kvern_status bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *word,
                        size_t n_bytes, struct buffer *out, kvern_error *err)
{
    struct cache_slot *slot = cache_slot(scratch, word, n_bytes);
    struct symbol_list list = {0};
    size_t out_begin = out->n_bytes;
    uint32_t end = 0;

    if (n_bytes == 0)
        return KVERN_OK;
    if (slot && slot->n_bytes == n_bytes && !memcmp(slot->word, word, n_bytes)) {
        buffer_add(out, slot->tokens, slot->n_tokens * sizeof slot->tokens[0]);
        return out->has_failed ? fail(err, KVERN_MEMORY, "out of memory for tokens") : KVERN_OK;
    }
    if (bpe->ignores_merges) {
        int32_t id = find_word(bpe, &scratch->piece, word, n_bytes);

        if (id >= 0) {
            struct word_token token = {id, (uint32_t)n_bytes};
            buffer_add(out, &token, sizeof token);
            return out->has_failed ? fail(err, KVERN_MEMORY, "out of memory for tokens") : KVERN_OK;
        }
    }
    if (n_bytes >= INT32_MAX / 4 || !reserve(scratch, n_bytes))
        return fail(err, KVERN_MEMORY, "out of memory for a word of %zu bytes", n_bytes);
    list.items = scratch->symbols;
    split_word(bpe, &scratch->piece, word, n_bytes, &list);
    if (list.n > SHORT_WORD_SYMBOLS)
        merge_long(bpe, &list, scratch->heap);
    else
        merge_short(bpe, &list);
    for (int32_t i = list.n > 0 ? 0 : -1; i >= 0; i = list.items[i].next) {
        end += list.items[i].n_bytes;
        struct word_token token = {list.items[i].id, end};
        buffer_add(out, &token, sizeof token);
    }
    if (out->has_failed || scratch->piece.has_failed)
        return fail(err, KVERN_MEMORY, "out of memory for tokens");
    if (slot)
        remember(slot, word, n_bytes, (const struct word_token *)(void *)(out->data + out_begin),
                 (out->n_bytes - out_begin) / sizeof(struct word_token));
    return KVERN_OK;
}

void bpe_scratch_use_cache(struct bpe_scratch *scratch)
{
    if (!scratch->cache)
        scratch->cache = try_new(1, sizeof *scratch->cache); /* without it all is only slower */
}

void bpe_scratch_clear(struct bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    free(scratch->cache);
    buffer_clear(&scratch->piece);
    *scratch = (struct bpe_scratch){0};
}
