/* SPDX-License-Identifier: Apache-2.0
 *
 * How the engine turns ids into text without knowing a tokenizer: a table of functions that the
 * tokenizer's streaming decoder fills, and tests with a simpler one.
 */
#ifndef KVERN_ENGINE_TEXT_DECODER_H
#define KVERN_ENGINE_TEXT_DECODER_H

#include "base/buffer.h"
#include "kvern.h"

/* One request's stream. A zeroed one gives no text. */
struct text_decoder {
    void *state; /* owned: `free` frees it */
    /* Appends the text that `id` completes, perhaps none. */
    void (*add)(void *state, int32_t id, struct buffer *out);
    /* Appends what was held back. */
    void (*finish)(void *state, struct buffer *out);
    void (*free)(void *state);
};

/* Makes a decoder for each request; called from any thread. */
struct text_decoder_maker {
    kvern_status (*make)(const void *context, struct text_decoder *out, kvern_error *err);
    const void *context;
};

#endif
