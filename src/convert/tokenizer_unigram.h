/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a tokenizer.json that come out of a SentencePiece model (spiece.model), for the T5
 * family: as transformers' T5Converter makes them. Added tokens, and what is put behind a text, are
 * tokenizer_files.c's matter.
 */
#ifndef KVERN_CONVERT_TOKENIZER_UNIGRAM_H
#define KVERN_CONVERT_TOKENIZER_UNIGRAM_H

#include "base/buffer.h"
#include "convert/sentencepiece.h"

#include <jansson.h>

/* T5's sentinels <extra_id_N>, the last first, stand behind the model's own pieces. */
enum { TOKENIZER_UNIGRAM_MAX_EXTRA_IDS = 10000 };

/* A new object piece -> id, sentinels too. KVERN_FORMAT: a piece stands there twice. */
kvern_status tokenizer_unigram_ids(const struct sentencepiece *model, size_t n_extra_ids,
                                   json_t **ids, kvern_error *err);
/* A new object of the members normalizer, pre_tokenizer and decoder. `prepend_scheme` is
 * Metaspace's; NULL: no memory. */
json_t *tokenizer_unigram_members(const struct sentencepiece *model, const char *prepend_scheme);
/* Appends the member "model" as text. Its scores, read back, are the model's to the bit, which a
 * JSON library's own numbers are not; but for a few in a thousand, which no text gives exactly and
 * are one unit off. */
void tokenizer_unigram_put_model(const struct sentencepiece *model, size_t n_extra_ids,
                                 struct buffer *out);

#endif
