/* SPDX-License-Identifier: Apache-2.0
 *
 * Hugging Face's BertNormalizer (normalizers/bert.rs), one pass over the text: control characters
 * go and white space becomes a space; Chinese characters get spaces around them; accents go (NFD
 * without its nonspacing marks); upper case becomes lower case.
 */
#ifndef KVERN_TEXT_NORMALIZE_BERT_H
#define KVERN_TEXT_NORMALIZE_BERT_H

#include "kvern.h"
#include "text/aligned_text.h"

#include <jansson.h>
#include <stdbool.h>

struct bert_normalizer {
    bool cleans_text;
    bool separates_chinese;
    bool strips_accents;
    bool lowers_case;
};

/* Members clean_text, handle_chinese_chars, strip_accents (null: as lowercase), lowercase; all but
 * strip_accents are true unless said. */
void bert_normalizer_read(struct bert_normalizer *normalizer, const json_t *json);
kvern_status bert_normalizer_run(const struct bert_normalizer *normalizer,
                                 struct aligned_text *text, kvern_error *err);

#endif
