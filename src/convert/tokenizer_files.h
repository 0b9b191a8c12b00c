/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer files from before tokenizer.json, as a tokenizer.json of the same effect: vocab.txt
 * (WordPiece: BERT and its kin), vocab.json with merges.txt (byte-level BPE: GPT-2, RoBERTa,
 * CodeT5) or spiece.model (Unigram: T5, mT5), with what tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json and config.json say where they are there. Follows
 * transformers' convert_slow_tokenizer.py.
 */
#ifndef KVERN_CONVERT_TOKENIZER_FILES_H
#define KVERN_CONVERT_TOKENIZER_FILES_H

#include "kvern.h"

/* Gives a malloc'ed text; a tokenizer.json in the directory is not looked at. The tokenizer_class
 * of tokenizer_config.json, else of config.json, says which way to go; without one vocab.json is
 * RoBERTa's if it has <s> and </s>, else GPT-2's, vocab.txt is BERT's, and spiece.model is T5's if
 * config.json is of its family. Special tokens that the vocabulary lacks are left out: no model has
 * a row for them; T5's sentinels <extra_id_N> stand behind its pieces.
 *
 * KVERN_NOT_FOUND: no set of files is there. KVERN_UNSUPPORTED: a tokenizer_class that is not
 * one of theirs, by name. KVERN_FORMAT: a damaged file. */
kvern_status tokenizer_files_to_json(const char *directory, char **json, kvern_error *err);

#endif
