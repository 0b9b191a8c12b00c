/* SPDX-License-Identifier: Apache-2.0
 *
 * The "decoder" of a tokenizer.json, run token by token: what a stream has given so far is always a
 * prefix of what decoding all tokens at once gives. Decoders: ByteLevel, ByteFallback, Fuse, Strip,
 * Replace, Metaspace, WordPiece, Sequence; none joins pieces with spaces, as Hugging Face does. An
 * order that cannot be run so is refused: after Fuse, ByteLevel, ByteFallback, WordPiece, Strip of
 * the end and Replace of more than a character need all the text.
 */
#ifndef KVERN_TEXT_DECODE_H
#define KVERN_TEXT_DECODE_H

#include "base/buffer.h"
#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>

enum decode_kind {
    DECODE_BYTE_LEVEL, /* the last of the steps on a piece */
    DECODE_BYTE_FALLBACK,
    DECODE_STRIP,
    DECODE_REPLACE,
    DECODE_METASPACE,
    DECODE_WORDPIECE,
    DECODE_BYTES, /* like ByteLevel, of pieces spelled <0x41>: of a tokenizer without a file */
};

struct decode_step {
    enum decode_kind kind;
    char *from;       /* Replace's pattern, Strip's and Metaspace's character, WordPiece's prefix;
                         owned */
    char *to;         /* Replace; owned */
    size_t n_start;   /* Strip */
    size_t n_stop;    /* Strip */
    bool drops_first; /* Metaspace: the first token's spaces go */
    bool cleans_up;   /* WordPiece: no space before English punctuation and contractions */
};

/* Three parts in a row: steps on a token, steps on a piece (a token, or what a run of byte fallback
 * tokens spells), and steps on the text that the pieces make. */
struct decoder {
    struct decode_step *steps; /* [n_steps] */
    size_t n_steps;
    size_t fallback;       /* the step that is ByteFallback; n_joined if there is none */
    size_t n_joined;       /* steps before Fuse or, with it, up to ByteLevel: the rest see text */
    bool is_byte_level;    /* step n_joined - 1 gives bytes, not characters */
    bool joins_with_space; /* there is no decoder */
};

enum { DECODE_MAX_TEXT_STEPS = 4 };

/* Where a decoding stands. Zeroed is the start. */
struct decode_state {
    size_t n_tokens;
    size_t n_pieces;
    struct {
        size_t n_stripped;  /* characters taken off the start */
        bool is_past_start; /* something else than them came */
    } strips[DECODE_MAX_TEXT_STEPS];
    struct buffer run;     /* bytes of a run of byte fallback tokens */
    struct buffer pending; /* bytes of ByteLevel that do not end a character */
    struct buffer piece;
    struct buffer spare;
};

kvern_status decoder_open(struct decoder *decoder, const json_t *json, kvern_error *err);
/* Of pieces <0x00> to <0xFF>; another piece is its own text. */
void decoder_open_bytes(struct decoder *decoder);
void decoder_close(struct decoder *decoder);
/* Appends to `out` the text that is certain once this token is known. Memory running out shows in
 * out->has_failed. */
void decoder_add(const struct decoder *decoder, struct decode_state *state, const char *piece,
                 size_t n_bytes, struct buffer *out);
/* Appends what was held back; ill-formed bytes become U+FFFD. The state is at its start again. */
void decoder_finish(const struct decoder *decoder, struct decode_state *state, struct buffer *out);
void decode_state_clear(struct decode_state *state);

#endif
