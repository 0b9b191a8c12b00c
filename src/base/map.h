/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash map from byte strings to uint32_t values: vocabularies, merges, tensor names.
 * Open addressing with linear probing; keys are copied; entries are never removed.
 */
#ifndef KVERN_BASE_MAP_H
#define KVERN_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint32_t key_offset; /* into keys */
    uint32_t key_bytes;
    uint32_t value;
    uint32_t hash; /* 0 marks a free slot */
};

struct map {
    struct map_slot *slots; /* [n_slots], a power of two */
    size_t n_slots;
    size_t n_entries;
    char *keys; /* all keys, one after the other */
    size_t n_key_bytes;
    size_t key_capacity;
};

/* Zeroed is a valid empty map. false: out of memory (or over 4 GiB of keys); the map is unchanged.
 * An existing key gets the new value. */
bool map_put(struct map *map, const void *key, size_t n_key_bytes, uint32_t value);
bool map_get(const struct map *map, const void *key, size_t n_key_bytes, uint32_t *value);
void map_clear(struct map *map);

#endif
