/* SPDX-License-Identifier: Apache-2.0
 *
 * A Hugging Face tokenizer.json, opened for use: text to ids and back, with the same ids as
 * Python's `tokenizers` (models: BPE, WordPiece, Unigram). An open tokenizer is read-only and may
 * be used from many threads.
 *
 * Text -> added tokens cut out -> normalizer -> pre-tokenizer -> model -> post-processor.
 */
#ifndef KVERN_TEXT_TOKENIZER_H
#define KVERN_TEXT_TOKENIZER_H

#include "base/buffer.h"
#include "kvern.h"
#include "text/decode.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Reads a tokenizer.json in memory. KVERN_FORMAT: damaged; KVERN_UNSUPPORTED: names the part that
 * kvern does not run. */
kvern_status tokenizer_open_json(struct tokenizer **out, const char *json, size_t n_bytes,
                                 kvern_error *err);
/* GPT-2's pair of files: vocab.json and merges.txt, byte-level. */
kvern_status tokenizer_open_vocab_merges(struct tokenizer **out, const char *vocab,
                                         size_t n_vocab_bytes, const char *merges,
                                         size_t n_merges_bytes, kvern_error *err);
/* For a model of vocab_size tokens that comes without any tokenizer file: a byte of the text is the
 * token of its value, pieces are <0x00> to <0xFF>, no token is special, and an id from 256 on is
 * decoded to U+FFFD. KVERN_UNSUPPORTED: vocab_size is below 256. */
kvern_status tokenizer_open_bytes(struct tokenizer **out, size_t vocab_size, kvern_error *err);
bool tokenizer_is_byte_fallback(const struct tokenizer *tokenizer);
/* NULL is fine. */
void tokenizer_close(struct tokenizer *tokenizer);

/* `flags`: KVERN_TOKENIZE_*. Without KVERN_TOKENIZE_CONTROL a control token's spelling is ordinary
 * text; control tokens are the special ones and those spelled like markup (<...>, [...]). Offsets
 * cover whole characters of `text`; tokens the post-processor adds have (0, 0). `tokens` is filled
 * on success only; kvern_tokens_clear() frees it. */
kvern_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                              unsigned flags, kvern_tokens *tokens, kvern_error *err);

/* A part of a text that is put together from trusted and other parts, such as a chat. */
struct tokenizer_segment {
    const char *text;
    size_t n_bytes;
    bool allow_control; /* control tokens are recognised within neighbouring segments that allow */
};

/* Encodes the segments' joined text; offsets count in it. A control token that would take bytes of
 * a segment that does not allow it is ordinary text. Of `flags` only KVERN_TOKENIZE_SPECIAL counts.
 */
kvern_status tokenizer_encode_segments(const struct tokenizer *tokenizer,
                                       const struct tokenizer_segment *segments, size_t n_segments,
                                       unsigned flags, kvern_tokens *tokens, kvern_error *err);

/* One more than the largest id. */
size_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
/* The vocabulary's own spelling, not terminated, owned by the tokenizer; NULL: no such id. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, size_t *n_bytes);
/* The id of an added token's text or of a piece; -1: none. */
int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece, size_t n_bytes);
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* The text of ids: malloc'ed, NUL-terminated, valid UTF-8. Ids without a piece give nothing, but
 * see tokenizer_open_bytes(). */
kvern_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *n_bytes, kvern_error *err);

/* Decoding as tokens come. All that was added makes the text tokenizer_decode() gives. */
struct token_stream {
    const struct tokenizer *tokenizer; /* borrowed */
    bool skip_special;
    struct decode_state state;
};

void token_stream_init(struct token_stream *stream, const struct tokenizer *tokenizer,
                       bool skip_special);
/* Appends the text that is complete now: valid UTF-8, possibly nothing. */
kvern_status token_stream_add(struct token_stream *stream, int32_t id, struct buffer *out,
                              kvern_error *err);
/* Appends what was held back (ill-formed bytes as U+FFFD); the stream starts anew. */
kvern_status token_stream_finish(struct token_stream *stream, struct buffer *out, kvern_error *err);
void token_stream_clear(struct token_stream *stream);

#endif
