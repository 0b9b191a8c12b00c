/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of one parse or one render: taken piece by piece, given back all at once, bounded. Nothing
 * in a template's tree or a render's values is freed on its own, so no cycle or deep nesting of
 * values can leak or overflow the stack when freed.
 */
#ifndef KVERN_TEXT_JINJA_ARENA_H
#define KVERN_TEXT_JINJA_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct jinja_chunk;

struct jinja_arena {
    struct jinja_chunk *chunks; /* newest first */
    size_t n_bytes;             /* taken from the system so far */
    size_t max_bytes;           /* never more than this */
    bool has_failed;            /* the system had no memory: a NULL was not for max_bytes */
};

/* Zeroed, aligned for any object; NULL over max_bytes or without memory. Set max_bytes first. */
void *jinja_arena_take(struct jinja_arena *arena, size_t count, size_t item_bytes);
/* Grows the piece at `old` of old_bytes (or NULL, 0) to new_bytes, in place if it is the newest.
 * New bytes are zero. NULL: as above, and the old piece is unchanged. */
void *jinja_arena_grow(struct jinja_arena *arena, void *old, size_t old_bytes, size_t new_bytes);
void jinja_arena_clear(struct jinja_arena *arena);

#endif
