/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a directory that describe a tokenizer without being a tokenizer.json, read and
 * checked one by one: what they are is here, what they mean together is tokenizer_files.c's matter.
 */
#ifndef KVERN_CONVERT_TOKENIZER_SOURCE_H
#define KVERN_CONVERT_TOKENIZER_SOURCE_H

#include "convert/sentencepiece.h"
#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* A tokenizer class stands for a style. */
enum tokenizer_style {
    STYLE_BERT,
    STYLE_MPNET,
    STYLE_GPT2,
    STYLE_ROBERTA,
    STYLE_T5,
};

/* All that was read. Owned; NULL: the file is not there. */
struct tokenizer_source {
    const char *directory; /* borrowed */
    json_t *config;        /* tokenizer_config.json */
    json_t *special_map;   /* special_tokens_map.json */
    json_t *added_ids;     /* added_tokens.json: text -> id */
    json_t *model_config;  /* config.json */
    json_t *vocab;         /* piece -> id */
    json_t *merges;        /* of lines; NULL but for BPE */
    char *spiece_file;     /* spiece.model, which `spiece` points into; T5 only */
    struct sentencepiece spiece;
    size_t n_extra_ids; /* T5's sentinels behind the pieces of spiece.model */
    enum tokenizer_style style;
};

/* Finds the style and reads the vocabulary it asks for, into a zeroed *out that is to be cleared in
 * every case. Errors are those of tokenizer_files_to_json(). */
kvern_status tokenizer_source_read(struct tokenizer_source *out, const char *directory,
                                   kvern_error *err);
void tokenizer_source_clear(struct tokenizer_source *source);

#endif
