/* SPDX-License-Identifier: Apache-2.0
 *
 * A SentencePiece model file (spiece.model): a protobuf of the pieces with their scores, of what
 * the trainer was told and of how text is normalized. Nothing is allocated by what the file states,
 * only by what it holds; what a tokenizer.json makes of it is tokenizer_unigram.h's matter.
 */
#ifndef KVERN_CONVERT_SENTENCEPIECE_H
#define KVERN_CONVERT_SENTENCEPIECE_H

#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

/* As the file numbers them. */
enum sentencepiece_kind {
    SENTENCEPIECE_NORMAL = 1,
    SENTENCEPIECE_UNKNOWN = 2,
    SENTENCEPIECE_CONTROL = 3,
    SENTENCEPIECE_USER_DEFINED = 4,
    SENTENCEPIECE_UNUSED = 5,
    SENTENCEPIECE_BYTE = 6,
};

struct sentencepiece_piece {
    const char *text; /* [n_bytes], into the file: valid UTF-8 without NUL, not empty */
    size_t n_bytes;
    float score; /* finite */
    enum sentencepiece_kind kind;
};

struct sentencepiece {
    struct sentencepiece_piece *pieces; /* [n_pieces], owned; the place is the id */
    size_t n_pieces;
    int32_t unknown_id;      /* < n_pieces */
    const uint8_t *charsmap; /* [n_charsmap], into the file; n_charsmap is 0: there is none */
    size_t n_charsmap;
};

/* Parses a file in memory, which must outlive *out. KVERN_UNSUPPORTED: it is not a Unigram model;
 * KVERN_FORMAT: damaged. On failure *out is zeroed. */
kvern_status sentencepiece_parse(struct sentencepiece *out, const uint8_t *data, size_t n_bytes,
                                 kvern_error *err);
void sentencepiece_clear(struct sentencepiece *model);

#endif
