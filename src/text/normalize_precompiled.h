/* SPDX-License-Identifier: Apache-2.0
 *
 * SentencePiece's own normalizer, as it stands in a tokenizer.json: "precompiled_charsmap", base64
 * of a map from characters to texts (a double-array trie, then the texts). Applied as Hugging
 * Face's normalizers/precompiled.rs does, with what that does to grapheme clusters: one of under 6
 * bytes is replaced whole by what its shortest known beginning stands for; of others, and of those
 * nothing is known of, each character by itself.
 */
#ifndef KVERN_TEXT_NORMALIZE_PRECOMPILED_H
#define KVERN_TEXT_NORMALIZE_PRECOMPILED_H

#include "kvern.h"
#include "text/aligned_text.h"

#include <jansson.h>
#include <stdint.h>

struct precompiled {
    uint32_t *units; /* [n_units], owned: the trie */
    size_t n_units;
    char *texts; /* [n_texts], owned: each ends with NUL or the last byte; valid UTF-8 */
    size_t n_texts;
    int32_t ascii[128]; /* of a character: where its text begins, or -1 */
};

/* What a character becomes is no longer than this; a longer text in a map counts as none. */
enum { PRECOMPILED_MAX_TEXT_BYTES = 1024 };

/* KVERN_FORMAT: no map, or a damaged one. A trie that leads out of itself is found out only when
 * text takes it there, and then knows no replacement. */
kvern_status precompiled_open(struct precompiled *precompiled, const json_t *json,
                              kvern_error *err);
void precompiled_close(struct precompiled *precompiled);
kvern_status precompiled_run(const struct precompiled *precompiled, struct aligned_text *text,
                             kvern_error *err);

#endif
