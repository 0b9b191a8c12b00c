/* SPDX-License-Identifier: Apache-2.0
 *
 * A GGUF file's vocabulary as a Hugging Face tokenizer.json of the same effect, and its chat
 * template. Byte-level BPE only (tokenizer.ggml.model "gpt2"), which is what the supported families
 * use.
 */
#ifndef KVERN_CONVERT_TOKENIZER_EXPORT_H
#define KVERN_CONVERT_TOKENIZER_EXPORT_H

#include "convert/gguf.h"
#include "kvern.h"

/* Gives malloc'ed texts; NULL for what the file does not have. Another tokenizer model or an
 * unknown pre-tokenizer name is KVERN_UNSUPPORTED: a guess would give wrong ids silently. */
kvern_status tokenizer_export(const struct gguf *gguf, char **tokenizer_json, char **chat_template,
                              kvern_error *err);

#endif
