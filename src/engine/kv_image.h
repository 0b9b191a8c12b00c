/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV that an engine keeps of a conversation, as bytes: taken out, put back, shared, dropped.
 * These run on the engine's thread, so they wait for the step that runs.
 */
#ifndef KVERN_ENGINE_KV_IMAGE_H
#define KVERN_ENGINE_KV_IMAGE_H

#include "engine/engine.h"

struct kv_image {
    size_t n_tokens; /* computed; 0: there is no KV */
    struct sequence_window window;
    size_t n_dropped; /* blocks that slid out of the window */
    void *bytes;      /* [n_bytes], owned */
    size_t n_bytes;
};

/* A copy of what is kept of a conversation that begins with tokens [n_tokens], of these tokens or
 * of fewer; nothing is: image->n_tokens is 0. */
kvern_status kv_image_take(struct kv_image *image, kvern_engine *engine, uint64_t conversation,
                           const int32_t *tokens, size_t n_tokens, kvern_error *err);
/* Makes it what is kept of the conversation, whose first image->n_tokens tokens are `tokens`. If
 * the engine has no room for it, or cannot take KV from outside, nothing is kept. KVERN_FORMAT: its
 * bytes are not as many as its tokens need. */
kvern_status kv_image_put(const struct kv_image *image, kvern_engine *engine, uint64_t conversation,
                          const int32_t *tokens, kvern_error *err);
void kv_image_clear(struct kv_image *image);

/* What the conversation `to` keeps becomes the first n_tokens of what `from` does, with the same
 * memory; if that cannot be, `to` keeps nothing. */
void kv_image_fork(kvern_engine *engine, uint64_t from, uint64_t to, size_t n_tokens);
/* The conversation keeps no more than its first n_tokens tokens, or nothing if it cannot go on from
 * there. */
void kv_image_cut(kvern_engine *engine, uint64_t conversation, size_t n_tokens);
/* The conversation keeps nothing any more. */
void kv_image_drop(kvern_engine *engine, uint64_t conversation);

#endif
