/* SPDX-License-Identifier: Apache-2.0
 *
 * The model hub: lists a repository's files and downloads what a conversion needs. $HF_ENDPOINT
 * names another hub; $HF_TOKEN, if set, is sent to it (and to no host it redirects to).
 */
#ifndef KVERN_MODEL_HUB_H
#define KVERN_MODEL_HUB_H

#include "kvern.h"

/* Downloads config, tokenizer, chat template and weights (safetensors; else pytorch_model*.bin;
 * else the only .gguf, alone) of `repository` ("owner/name") at `revision` into `directory`, which
 * is made if needed. Files arrive as NAME.part and are renamed when size and, where the hub tells
 * it, sha256 are right; a file that is there is kept, a .part is continued. `on_progress` may be
 * NULL; false from it gives KVERN_CANCELLED and keeps what has come. */
kvern_status hub_fetch(const char *repository, const char *revision, const char *directory,
                       kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err);

#endif
