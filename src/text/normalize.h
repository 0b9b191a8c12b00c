/* SPDX-License-Identifier: Apache-2.0
 *
 * The "normalizer" of a tokenizer.json: a list of steps that rewrite text before it is split.
 * Steps: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, BertNormalizer,
 * Precompiled, Nmt; a Sequence is flattened.
 */
#ifndef KVERN_TEXT_NORMALIZE_H
#define KVERN_TEXT_NORMALIZE_H

#include "kvern.h"
#include "text/aligned_text.h"
#include "text/normalize_bert.h"
#include "text/normalize_precompiled.h"
#include "text/regex.h"

#include <jansson.h>

enum normalize_kind {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_LOWERCASE,
    NORMALIZE_STRIP,
    NORMALIZE_STRIP_ACCENTS,
    NORMALIZE_REPLACE,
    NORMALIZE_PREPEND,
    NORMALIZE_BERT,
    NORMALIZE_PRECOMPILED,
    NORMALIZE_NMT,
};

struct normalize_step {
    enum normalize_kind kind;
    bool strips_left;
    bool strips_right;
    struct regex pattern; /* Replace */
    char *content;        /* Replace, Prepend; owned */
    struct bert_normalizer bert;
    struct precompiled precompiled;
};

struct normalizer {
    struct normalize_step *steps; /* [n_steps]; none: text stays as it is */
    size_t n_steps;
};

/* `json` may be NULL or null: no steps. */
kvern_status normalizer_open(struct normalizer *normalizer, const json_t *json, kvern_error *err);
void normalizer_close(struct normalizer *normalizer);
kvern_status normalizer_run(const struct normalizer *normalizer, struct regex_scratch *scratch,
                            struct aligned_text *text, kvern_error *err);

#endif
