/* SPDX-License-Identifier: Apache-2.0
 *
 * Two hashes make a record: one of the header, so that no length is believed that was not written,
 * and one of all.
 */
#include "summary/cache_record.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "cache files are little-endian");

static const char magic[4] = {'k', 'v', 'S', '1'};

struct header {
    char magic[4];
    uint32_t n_text;
    uint8_t key[CACHE_KEY_BYTES];
    uint32_t flags;
    uint32_t n_tokens_in;
    uint32_t n_tokens_out;
    uint32_t head_hash; /* of what is above */
    uint64_t hash;      /* of what is above, and of the text */
};

static_assert(sizeof(struct header) == CACHE_HEADER_BYTES, "the header has no padding");

static uint32_t hash_head(const struct header *header)
{
    return (uint32_t)XXH3_64bits(header, offsetof(struct header, head_hash));
}

static uint64_t hash_all(const struct header *header, const char *text)
{
    XXH64_hash_t seed = XXH3_64bits(header, offsetof(struct header, hash));

    return XXH3_64bits_withSeed(text, header->n_text, seed);
}

void cache_record_write(const struct cache_record *record, struct buffer *out)
{
    struct header header = {
        .n_text = (uint32_t)record->n_text,
        .flags = record->flags,
        .n_tokens_in = record->n_tokens_in,
        .n_tokens_out = record->n_tokens_out,
    };

    assert(record->n_text <= CACHE_MAX_TEXT_BYTES);
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.key, record->key, sizeof header.key);
    header.head_hash = hash_head(&header);
    header.hash = hash_all(&header, record->text);
    buffer_add(out, &header, sizeof header);
    buffer_add(out, record->text, record->n_text);
}

/* Reads the record at bytes[0]. */
static bool read_record(const uint8_t *bytes, size_t n_bytes, struct cache_record *record)
{
    const char *text = (const char *)bytes + sizeof(struct header);
    struct header header;

    if (n_bytes < sizeof header)
        return false;
    memcpy(&header, bytes, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.head_hash != hash_head(&header) ||
        header.n_text > CACHE_MAX_TEXT_BYTES || header.n_text > n_bytes - sizeof header ||
        header.hash != hash_all(&header, text))
        return false;
    *record = (struct cache_record){
        .flags = header.flags,
        .n_tokens_in = header.n_tokens_in,
        .n_tokens_out = header.n_tokens_out,
        .text = text,
        .n_text = header.n_text,
    };
    memcpy(record->key, header.key, sizeof record->key);
    return true;
}

bool cache_record_find(const uint8_t *bytes, size_t n_bytes, size_t *at,
                       struct cache_record *record)
{
    for (size_t i = *at; i < n_bytes; i++) {
        const uint8_t *found = memmem(bytes + i, n_bytes - i, magic, sizeof magic);

        if (!found)
            return false;
        i = (size_t)(found - bytes);
        if (read_record(found, n_bytes - i, record)) {
            *at = i;
            return true;
        }
    }
    return false;
}
