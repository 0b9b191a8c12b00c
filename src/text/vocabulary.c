/* SPDX-License-Identifier: Apache-2.0
 *
 * Two maps and a table by id. Texts live once, in the maps' key memory.
 */
#include "text/vocabulary.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

void vocabulary_init(struct vocabulary *vocabulary, size_t n_pieces)
{
    *vocabulary = (struct vocabulary){.id_limit = n_pieces + VOCABULARY_MAX_GAP};
}

static kvern_status reserve_id(struct vocabulary *vocabulary, int64_t id, kvern_error *err)
{
    if (id < 0 || id >= INT32_MAX || (size_t)id >= vocabulary->id_limit)
        return fail(err, KVERN_FORMAT, "token id %lld is out of range or far beyond the %zu tokens",
                    (long long)id, vocabulary->id_limit - VOCABULARY_MAX_GAP);
    if ((size_t)id >= vocabulary->capacity) {
        size_t capacity = vocabulary->capacity ? vocabulary->capacity * 2 : 1024;

        if (capacity <= (size_t)id)
            capacity = (size_t)id + 1;
        struct vocabulary_piece *by_id = try_resize(vocabulary->by_id, capacity, sizeof *by_id);
        if (!by_id)
            return fail(err, KVERN_MEMORY, "out of memory for %zu tokens", capacity);
        vocabulary->by_id = by_id;
        vocabulary->capacity = capacity;
    }
    while (vocabulary->n_ids <= (size_t)id)
        vocabulary->by_id[vocabulary->n_ids++] = (struct vocabulary_piece){0};
    return KVERN_OK;
}

/* Puts a text into one of the maps and says where in its key memory it stands. */
static kvern_status put(struct map *map, const char *text, size_t n_bytes, int64_t id,
                        struct vocabulary_piece *piece, kvern_error *err)
{
    size_t n_entries = map->n_entries;
    uint32_t offset = (uint32_t)map->n_key_bytes;
    uint32_t old_id;

    if (map_get(map, text, n_bytes, &old_id) && old_id == (uint32_t)id)
        return KVERN_OK;
    if (!map_put(map, text, n_bytes, (uint32_t)id))
        return fail(err, KVERN_MEMORY, "out of memory for the vocabulary");
    if (map->n_entries == n_entries) /* the text was there under another id: keep that one's copy */
        return fail(err, KVERN_FORMAT, "token \"%.*s\" is listed twice",
                    (int)(n_bytes < 80 ? n_bytes : 80), text);
    piece->offset = offset;
    piece->n_bytes = (uint32_t)n_bytes;
    piece->is_used = true;
    return KVERN_OK;
}

kvern_status vocabulary_put(struct vocabulary *vocabulary, const char *piece, size_t n_bytes,
                            int64_t id, kvern_error *err)
{
    kvern_status status = reserve_id(vocabulary, id, err);

    if (status == KVERN_OK)
        status = put(&vocabulary->pieces, piece, n_bytes, id, &vocabulary->by_id[id], err);
    return status;
}

static bool is_markup(const char *text, size_t n_bytes)
{
    return n_bytes > 2 && ((text[0] == '<' && text[n_bytes - 1] == '>') ||
                           (text[0] == '[' && text[n_bytes - 1] == ']'));
}

kvern_status vocabulary_put_added(struct vocabulary *vocabulary, const char *text, size_t n_bytes,
                                  int64_t id, bool is_special, kvern_error *err)
{
    kvern_status status = reserve_id(vocabulary, id, err);

    if (status == KVERN_OK)
        status = put(&vocabulary->added, text, n_bytes, id, &vocabulary->by_id[id], err);
    if (status == KVERN_OK) {
        vocabulary->by_id[id].is_added = true;
        vocabulary->by_id[id].is_special |= is_special;
        vocabulary->by_id[id].is_control |= is_special || is_markup(text, n_bytes);
    }
    return status;
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *piece, size_t n_bytes)
{
    uint32_t id;

    return map_get(&vocabulary->pieces, piece, n_bytes, &id) ? (int32_t)id : -1;
}

int32_t vocabulary_find_any(const struct vocabulary *vocabulary, const char *piece, size_t n_bytes)
{
    uint32_t id;

    if (map_get(&vocabulary->added, piece, n_bytes, &id))
        return (int32_t)id;
    return vocabulary_find(vocabulary, piece, n_bytes);
}

const char *vocabulary_piece(const struct vocabulary *vocabulary, int32_t id, size_t *n_bytes)
{
    if (id < 0 || (size_t)id >= vocabulary->n_ids || !vocabulary->by_id[id].is_used)
        return NULL;

    const struct vocabulary_piece *piece = &vocabulary->by_id[id];
    *n_bytes = piece->n_bytes;
    return (piece->is_added ? vocabulary->added.keys : vocabulary->pieces.keys) + piece->offset;
}

bool vocabulary_is_special(const struct vocabulary *vocabulary, int32_t id)
{
    return id >= 0 && (size_t)id < vocabulary->n_ids && vocabulary->by_id[id].is_special;
}

bool vocabulary_is_control(const struct vocabulary *vocabulary, int32_t id)
{
    return id >= 0 && (size_t)id < vocabulary->n_ids && vocabulary->by_id[id].is_control;
}

void vocabulary_clear(struct vocabulary *vocabulary)
{
    map_clear(&vocabulary->pieces);
    map_clear(&vocabulary->added);
    free(vocabulary->by_id);
    *vocabulary = (struct vocabulary){0};
}

/* GPT-2 keeps the printable bytes of Latin-1 and moves the 68 others, in order, to U+0100 and on.
 */
static bool is_kept(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
           (byte >= 0xae && byte <= 0xff);
}

uint32_t byte_level_code_point(uint8_t byte)
{
    if (is_kept(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte <= 0xa0)
        return 0x121u + (byte - 0x7fu);
    return 0x143; /* 0xad */
}

int byte_level_byte(uint32_t c)
{
    if (c < 0x100)
        return is_kept(c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}
