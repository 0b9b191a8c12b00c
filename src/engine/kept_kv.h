/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV of conversations between their requests: when a request of a conversation ends, its tokens
 * and blocks are kept here; its next request takes them over and runs only what is new. Blocks that
 * a request waits for are taken from the conversation that has been idle longest. Pure. Prompts
 * that others may begin with are kept in the same way (sharing.h), each under a number of its own.
 */
#ifndef KVERN_ENGINE_KEPT_KV_H
#define KVERN_ENGINE_KEPT_KV_H

#include "engine/kv_blocks.h"
#include "engine/sequence.h"

enum { KEPT_KV_MAX = 4096 }; /* conversations */

struct kept {
    uint64_t conversation;
    int32_t *tokens; /* [n_tokens], owned: those whose KV is in the table */
    size_t n_tokens;
    struct sequence_window window;
    bool is_foreign;        /* see struct sequence */
    struct prefix_key root; /* of a prompt: see struct sequence */
    struct kv_table table;
};

/* In order of their last use, oldest first. */
struct kept_kv {
    struct kept *items; /* [n], owned */
    size_t n;
};

/* Adds an entry, whose tokens and table are taken over, in place of an older one of the same
 * conversation, and of the oldest of all when there is no room. */
void kept_kv_add(struct kept_kv *kept, struct kv_blocks *blocks, struct kept item);
/* Keeps the sequence's computed tokens; its table and tokens are taken over. An older entry of the
 * same conversation, or the oldest of all when there is no room, is dropped. */
void kept_kv_put(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence);
/* Gives the conversation's blocks to the sequence (whose table is empty) for the tokens that both
 * have in common at the start, but the last prompt token is left to be run; sets n_computed and
 * is_foreign. A window must be the same, and nothing that slid out be missing at the common end:
 * else nothing is taken over. The entry is gone afterwards. Nothing happens if there is none. */
void kept_kv_take(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence);
/* Makes an entry `to` of the first n_tokens of the entry `from` (all of them if it has less), which
 * share its blocks. KVERN_NOT_FOUND: there is no `from`. */
kvern_status kept_kv_fork(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t from,
                          uint64_t to, size_t n_tokens, kvern_error *err);
/* The entry of a conversation, if it has more, becomes its first n_tokens tokens; if nothing could
 * go on from there, it is dropped. */
void kept_kv_cut(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t conversation,
                 size_t n_tokens);
/* The entry at i becomes the one used last. */
void kept_kv_touch(struct kept_kv *kept, size_t i);
/* The entry of a conversation, until the next change; NULL: there is none. */
struct kept *kept_kv_find(const struct kept_kv *kept, uint64_t conversation);
/* Releases the conversation's blocks, if it has any. */
void kept_kv_drop(struct kept_kv *kept, struct kv_blocks *blocks, uint64_t conversation);
/* Blocks of all entries; one that several share counts for each. */
size_t kept_kv_count_blocks(const struct kept_kv *kept);
/* Releases the oldest entry's blocks; false: there is none. */
bool kept_kv_drop_oldest(struct kept_kv *kept, struct kv_blocks *blocks);

#endif
