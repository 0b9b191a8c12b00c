/* SPDX-License-Identifier: Apache-2.0
 *
 * What a GGUF file says about a model, in Hugging Face's words: its config, and its tensors under
 * the names a safetensors checkpoint would use.
 */
#ifndef KVERN_CONVERT_GGUF_MODEL_H
#define KVERN_CONVERT_GGUF_MODEL_H

#include "convert/checkpoint.h"
#include "convert/gguf.h"
#include "kvern.h"
#include "model/config.h"

/* Reads and checks the config; an architecture other than llama, qwen2 and qwen3 is
 * KVERN_UNSUPPORTED. */
kvern_status gguf_model_config(const struct gguf *gguf, struct model_config *config,
                               kvern_error *err);

/* Adds every tensor to the checkpoint, whose config is set. Llama's q and k get rope_heads. A
 * tensor kvern does not know is an error: a model that has more is computed differently. `file` is
 * the mapping the GGUF bytes lie in, or NULL. */
kvern_status gguf_model_tensors(const struct gguf *gguf, const struct file_map *file,
                                struct checkpoint *checkpoint, kvern_error *err);

#endif
