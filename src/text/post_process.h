/* SPDX-License-Identifier: Apache-2.0
 *
 * The "post_processor" of a tokenizer.json: tokens put before and after the text's own, and whether
 * offsets leave out a token's leading and trailing space. TemplateProcessing, ByteLevel,
 * RobertaProcessing, BertProcessing and Sequence all come down to that for a single text.
 */
#ifndef KVERN_TEXT_POST_PROCESS_H
#define KVERN_TEXT_POST_PROCESS_H

#include "base/buffer.h"
#include "kvern.h"
#include "text/vocabulary.h"

#include <jansson.h>
#include <stdbool.h>

struct post_processor {
    struct buffer before; /* int32_t ids */
    struct buffer after;
    bool trims_offsets;
    bool keeps_first_space; /* when trimming: the text's first space was added and counts not */
};

/* Every id it adds must have a piece in `vocabulary`. */
kvern_status post_processor_open(struct post_processor *post, const json_t *json,
                                 const struct vocabulary *vocabulary, kvern_error *err);
void post_processor_close(struct post_processor *post);

#endif
