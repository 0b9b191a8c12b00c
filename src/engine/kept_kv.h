/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV of conversations between their requests: when a request of a conversation ends, its tokens
 * and blocks are kept here; its next request takes them over and runs only what is new. Blocks that
 * a request waits for are taken from the conversation that has been idle longest. Pure.
 */
#ifndef KVERN_ENGINE_KEPT_KV_H
#define KVERN_ENGINE_KEPT_KV_H

#include "engine/kv_blocks.h"
#include "engine/sequence.h"

enum { KEPT_KV_MAX = 64 }; /* conversations */

struct kept {
    uint64_t conversation;
    int32_t *tokens; /* [n_tokens], owned: those whose KV is in the table */
    size_t n_tokens;
    struct kv_table table;
};

/* In order of their last use, oldest first. */
struct kept_kv {
    struct kept items[KEPT_KV_MAX];
    size_t n;
};

/* Keeps the sequence's computed tokens; its table and tokens are taken over. An older entry of the
 * same conversation, or the oldest of all when there is no room, is dropped. */
void kept_kv_put(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence);
/* Gives the conversation's blocks to the sequence (whose table is empty) for the tokens that both
 * have in common at the start, but the last prompt token is left to be run; sets n_computed and
 * n_cached. The entry is gone afterwards. Nothing happens if there is none. */
void kept_kv_take(struct kept_kv *kept, struct kv_blocks *blocks, struct sequence *sequence);
/* Releases the oldest entry's blocks; false: there is none. */
bool kept_kv_drop_oldest(struct kept_kv *kept, struct kv_blocks *blocks);

#endif
