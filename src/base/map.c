/* SPDX-License-Identifier: Apache-2.0
 *
 * struct map: at most 3/4 of the slots are in use, so a probe always meets a free slot.
 */
#include "base/map.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static uint32_t hash_key(const void *key, size_t n_key_bytes)
{
    uint32_t hash = (uint32_t)XXH3_64bits(key, n_key_bytes);

    return hash ? hash : 1;
}

static struct map_slot *find(const struct map *map, const void *key, size_t n_key_bytes,
                             uint32_t hash)
{
    size_t mask = map->n_slots - 1;

    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_slot *slot = &map->slots[i];

        if (slot->hash == 0)
            return slot;
        if (slot->hash == hash && slot->key_bytes == n_key_bytes &&
            memcmp(map->keys + slot->key_offset, key, n_key_bytes) == 0)
            return slot;
    }
}

static bool grow_slots(struct map *map)
{
    size_t n_slots = map->n_slots ? map->n_slots * 2 : 64;
    struct map_slot *slots = try_new(n_slots, sizeof *slots);

    if (!slots)
        return false;
    for (size_t i = 0; i < map->n_slots; i++) {
        size_t j = map->slots[i].hash & (n_slots - 1);

        if (map->slots[i].hash == 0)
            continue;
        while (slots[j].hash != 0)
            j = (j + 1) & (n_slots - 1);
        slots[j] = map->slots[i];
    }
    free(map->slots);
    map->slots = slots;
    map->n_slots = n_slots;
    return true;
}

static bool grow_keys(struct map *map, size_t n_key_bytes)
{
    size_t needed = map->n_key_bytes + n_key_bytes;

    if (needed > UINT32_MAX)
        return false;
    if (needed <= map->key_capacity && map->keys)
        return true;

    size_t capacity = map->key_capacity ? map->key_capacity * 2 : 1024;
    if (capacity < needed)
        capacity = needed;
    char *keys = try_resize(map->keys, capacity, 1);
    if (!keys)
        return false;
    map->keys = keys;
    map->key_capacity = capacity;
    return true;
}

bool map_put(struct map *map, const void *key, size_t n_key_bytes, uint32_t value)
{
    if ((map->n_entries + 1) * 4 > map->n_slots * 3 && !grow_slots(map))
        return false;

    uint32_t hash = hash_key(key, n_key_bytes);
    struct map_slot *slot = find(map, key, n_key_bytes, hash);
    if (slot->hash == 0) {
        if (!grow_keys(map, n_key_bytes))
            return false;
        if (n_key_bytes)
            memcpy(map->keys + map->n_key_bytes, key, n_key_bytes);
        *slot = (struct map_slot){.key_offset = (uint32_t)map->n_key_bytes,
                                  .key_bytes = (uint32_t)n_key_bytes,
                                  .hash = hash};
        map->n_key_bytes += n_key_bytes;
        map->n_entries++;
    }
    slot->value = value;
    return true;
}

bool map_get(const struct map *map, const void *key, size_t n_key_bytes, uint32_t *value)
{
    if (map->n_entries == 0)
        return false;

    const struct map_slot *slot = find(map, key, n_key_bytes, hash_key(key, n_key_bytes));
    if (slot->hash == 0)
        return false;
    *value = slot->value;
    return true;
}

void map_clear(struct map *map)
{
    free(map->slots);
    free(map->keys);
    *map = (struct map){0};
}
