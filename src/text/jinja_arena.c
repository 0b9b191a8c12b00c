/* SPDX-License-Identifier: Apache-2.0
 *
 * A list of chunks, each filled from its start. Small pieces share a chunk; a piece larger than a
 * chunk gets one of its own. Chunks grow with the arena, so a large render makes few of them.
 */
#include "text/jinja_arena.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, ALIGNMENT = 16 };

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t n_bytes; /* capacity of data */
    size_t n_used;
    _Alignas(ALIGNMENT) char data[];
};

static struct jinja_chunk *add_chunk(struct jinja_arena *arena, size_t n_bytes)
{
    size_t capacity = arena->n_bytes < FIRST_CHUNK ? FIRST_CHUNK : arena->n_bytes;
    size_t left = arena->max_bytes > arena->n_bytes ? arena->max_bytes - arena->n_bytes : 0;

    if (n_bytes > left || left - n_bytes < sizeof(struct jinja_chunk))
        return NULL;
    if (capacity > LARGEST_CHUNK)
        capacity = LARGEST_CHUNK;
    if (capacity > left - sizeof(struct jinja_chunk))
        capacity = left - sizeof(struct jinja_chunk);
    if (capacity < n_bytes)
        capacity = n_bytes;

    struct jinja_chunk *chunk = try_new(sizeof *chunk + capacity, 1);
    if (chunk) {
        chunk->n_bytes = capacity;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->n_bytes += sizeof *chunk + capacity;
    }
    arena->has_failed |= !chunk;
    return chunk;
}

void *jinja_arena_take(struct jinja_arena *arena, size_t count, size_t item_bytes)
{
    struct jinja_chunk *chunk = arena->chunks;
    size_t n_bytes;

    if (!multiply_sizes(count, item_bytes, &n_bytes) || n_bytes > arena->max_bytes)
        return NULL;
    n_bytes = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!chunk || chunk->n_bytes - chunk->n_used < n_bytes)
        chunk = add_chunk(arena, n_bytes);
    if (!chunk)
        return NULL;
    void *memory = chunk->data + chunk->n_used;
    chunk->n_used += n_bytes;
    return memory;
}

void *jinja_arena_grow(struct jinja_arena *arena, void *old, size_t old_bytes, size_t new_bytes)
{
    struct jinja_chunk *chunk = arena->chunks;
    size_t old_padded = (old_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    if (old && chunk && new_bytes <= arena->max_bytes &&
        (char *)old + old_padded == chunk->data + chunk->n_used) {
        size_t begin = (size_t)((char *)old - chunk->data);
        size_t new_padded = (new_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

        if (new_padded <= chunk->n_bytes - begin) {
            chunk->n_used = begin + new_padded;
            return old;
        }
    }
    void *memory = jinja_arena_take(arena, new_bytes, 1);
    if (memory && old && old_bytes)
        memcpy(memory, old, old_bytes);
    return memory;
}

void jinja_arena_clear(struct jinja_arena *arena)
{
    struct jinja_chunk *chunk = arena->chunks;

    while (chunk) {
        struct jinja_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->n_bytes = 0;
}
