/* SPDX-License-Identifier: Apache-2.0
 *
 * The "decoder" of a tokenizer.json, run token by token: what a stream has given so far is always a
 * prefix of what decoding all tokens at once gives. Decoders: ByteLevel, ByteFallback, Fuse, Strip,
 * Replace, Metaspace, Sequence; none joins pieces with spaces, as Hugging Face does.
 */
#ifndef KVERN_TEXT_DECODE_H
#define KVERN_TEXT_DECODE_H

#include "base/buffer.h"
#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>

enum decode_kind {
    DECODE_BYTE_LEVEL,
    DECODE_BYTE_FALLBACK,
    DECODE_STRIP,
    DECODE_REPLACE,
    DECODE_METASPACE,
};

struct decode_step {
    enum decode_kind kind;
    char *from;       /* Replace's pattern, Strip's and Metaspace's character; owned */
    char *to;         /* Replace; owned */
    size_t n_start;   /* Strip */
    size_t n_stop;    /* Strip */
    bool drops_first; /* Metaspace: the first token's spaces go */
};

struct decoder {
    struct decode_step *steps; /* [n_steps], before Fuse */
    size_t n_steps;
    char *strip_text; /* after Fuse: what is stripped from the start; NULL: nothing */
    size_t n_strip;
    bool is_byte_level;
    bool has_byte_fallback;
    bool joins_with_space; /* there is no decoder */
};

/* Where a decoding stands. Zeroed is the start. */
struct decode_state {
    size_t n_tokens;
    size_t n_stripped;     /* characters taken off the start after Fuse */
    bool is_past_start;    /* something else than them came */
    struct buffer pending; /* bytes not yet known to be text */
    struct buffer piece;
    struct buffer spare;
};

kvern_status decoder_open(struct decoder *decoder, const json_t *json, kvern_error *err);
void decoder_close(struct decoder *decoder);
/* Appends to `out` the text that is certain once this token is known. Memory running out shows in
 * out->has_failed. */
void decoder_add(const struct decoder *decoder, struct decode_state *state, const char *piece,
                 size_t n_bytes, struct buffer *out);
/* Appends what was held back; ill-formed bytes become U+FFFD. The state is at its start again. */
void decoder_finish(const struct decoder *decoder, struct decode_state *state, struct buffer *out);
void decode_state_clear(struct decode_state *state);

#endif
