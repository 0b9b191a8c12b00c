/* SPDX-License-Identifier: Apache-2.0
 *
 * Which KV block belongs to whom: reference counts, block tables and promises. Pure: it never sees
 * the memory behind a block. The invariant, which kv_blocks_check() verifies: a block's references
 * are the tables it stands in; a block without one is free; what is promised is free.
 *
 * A full block may be remembered in the prefix cache. When its last table is gone, it is free, but
 * another table can still be given it, until it is the one that has been free longest of its kind
 * and a block is needed, or more are remembered than are to be. What is remembered, or stands in
 * two tables, is never written to.
 */
#ifndef KVERN_ENGINE_KV_BLOCKS_H
#define KVERN_ENGINE_KV_BLOCKS_H

#include "engine/prefix_cache.h"

#include <stdatomic.h>

struct kv_block {
    int32_t n_references;
    int32_t next_free;     /* -1: the last one, or not free */
    int32_t previous_free; /* of remembered ones */
};

/* Free blocks that hold nothing are a stack: the one given back last is taken first, because its
 * memory is there already. In the order of their age, every request would touch new pages until the
 * whole pool is resident, which costs a prefill of 512 tokens 1 to 2 % of its time. Remembered ones
 * are a queue in the order they became free; they are taken when the stack is empty. */
struct kv_blocks {
    struct kv_block *blocks; /* [n_blocks], owned */
    size_t n_blocks;
    size_t n_free;            /* of both kinds */
    size_t n_promised;        /* free blocks that tables may still take */
    int32_t first_free;       /* top of the stack; -1: none */
    int32_t first_remembered; /* free longest; -1: none */
    int32_t last_remembered;
    size_t n_remembered;   /* free ones */
    size_t max_remembered; /* of them; n_blocks at first, the owner may set another */
    struct prefix_cache prefixes;
    size_t n_evicted; /* remembered blocks taken, so far */
};

/* KV that a runner keeps beside the blocks, which then only count (the cached contract). Immutable:
 * a step makes new ones of the old, so that several tables may hold the same. */
struct kv_values {
    atomic_size_t
        n_references; /* a step that runs may give up one while a caller gives up another */
    size_t n_tokens;  /* whose keys and values these are */
    bool is_rigid;    /* no part of it can be had: it is used whole or not at all */
    void (*free)(struct kv_values *values);
};

/* One more reference; NULL gives NULL. */
struct kv_values *kv_values_share(struct kv_values *values);
/* Frees them with the last reference; NULL is fine. */
void kv_values_release(struct kv_values *values);

/* One sequence's blocks: block i holds its positions 16 i .. 16 i + 15. */
struct kv_table {
    int32_t *blocks;          /* [n_blocks], owned */
    struct kv_values *values; /* a reference; NULL: the KV is in the blocks, or there is none */
    size_t n_blocks;
    size_t capacity;
    size_t n_promised;
    size_t n_sinks;   /* the first blocks, which never slide out */
    size_t n_dropped; /* blocks after them that slid out: position p is in block
                         p / 16 - n_dropped if it is not a sink's */
};

kvern_status kv_blocks_init(struct kv_blocks *kv, size_t n_blocks, kvern_error *err);
void kv_blocks_clear(struct kv_blocks *kv);

/* Blocks that hold n_tokens positions. */
size_t kv_blocks_for_tokens(size_t n_tokens);
/* Free and promised to nobody. */
size_t kv_blocks_available(const struct kv_blocks *kv);

/* Room for at most `capacity` blocks; the table is empty. */
kvern_status kv_table_init(struct kv_table *table, size_t capacity, kvern_error *err);
/* The table must be empty. */
void kv_table_clear(struct kv_table *table);

/* Sets n_blocks free blocks aside for the table; false (nothing changed): not that many available.
 */
bool kv_blocks_promise(struct kv_blocks *kv, struct kv_table *table, size_t n_blocks);
/* Takes blocks, out of the table's promise, until the table holds n_tokens positions. */
void kv_blocks_extend(struct kv_blocks *kv, struct kv_table *table, size_t n_tokens);
/* Appends a block that is in another table or remembered: one more reference. The table must have
 * room. false (nothing changed): the block is free, and all free blocks are promised. */
bool kv_blocks_share(struct kv_blocks *kv, struct kv_table *table, int32_t block);
/* Remembers the table's block i, which is full of `tokens`, unless another one holds the same. */
void kv_blocks_remember(struct kv_blocks *kv, const struct kv_table *table, size_t i,
                        struct prefix_key key, const int32_t *tokens);
/* Whether the table's block i may be written to by nobody. */
bool kv_blocks_is_settled(const struct kv_blocks *kv, const struct kv_table *table, size_t i);
/* Puts a block of the table's promise in the place of its block i, whose number is returned: the
 * caller copies what is in it before anything is written. */
int32_t kv_blocks_replace(struct kv_blocks *kv, struct kv_table *table, size_t i);
/* Forgets the table's block i, which no other table holds: it may be written to. */
void kv_blocks_forget(struct kv_blocks *kv, const struct kv_table *table, size_t i);
/* Drops the oldest block that is no sink. If nobody else holds it, the table is promised another
 * one for it. */
void kv_blocks_slide(struct kv_blocks *kv, struct kv_table *table);
/* Blocks that no other table holds. */
size_t kv_blocks_count_own(const struct kv_blocks *kv, const struct kv_table *table);
/* Gives up the blocks after those that hold n_tokens positions. */
void kv_blocks_cut(struct kv_blocks *kv, struct kv_table *table, size_t n_tokens);
/* Gives up the promise; the blocks it has taken stay. */
void kv_blocks_forgo(struct kv_blocks *kv, struct kv_table *table);
/* Gives up all blocks and the promise; the table is empty afterwards. */
void kv_blocks_release(struct kv_blocks *kv, struct kv_table *table);

/* Verifies the invariant against all tables there are. KVERN_RUNTIME names the first block that
 * breaks it. */
kvern_status kv_blocks_check(const struct kv_blocks *kv, const struct kv_table *const *tables,
                             size_t n_tables, kvern_error *err);

#endif
