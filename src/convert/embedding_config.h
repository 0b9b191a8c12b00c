/* SPDX-License-Identifier: Apache-2.0
 *
 * What a checkpoint's makers say about embedding with it: the files sentence-transformers keeps
 * beside the weights. None of them need be there. A step that kvern does not run is refused by
 * name, for without it the vectors would be other ones.
 */
#ifndef KVERN_CONVERT_EMBEDDING_CONFIG_H
#define KVERN_CONVERT_EMBEDDING_CONFIG_H

#include "kvern.h"
#include "model/manifest_embedding.h"

#include <stddef.h>

/* Reads modules.json (a Normalize module), 1_Pooling/config.json, sentence_bert_config.json
 * (max_seq_length, at most max_positions) and config_sentence_transformers.json (prompts) of
 * `directory`; all of *embedding is set, to zeros where nothing is said. */
kvern_status embedding_config_read(struct manifest_embedding *embedding, const char *directory,
                                   size_t max_positions, kvern_error *err);

#endif
