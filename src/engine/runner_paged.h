/* SPDX-License-Identifier: Apache-2.0
 *
 * The runner of the contracts paged and seq2seq: kvern's own graphs (docs/graph.md) in ONNX
 * Runtime, over a KV pool that stays in place between steps.
 */
#ifndef KVERN_ENGINE_RUNNER_PAGED_H
#define KVERN_ENGINE_RUNNER_PAGED_H

#include "engine/kv_store.h"
#include "engine/runner.h"
#include "model/config.h"

/* Opens the graph at `path`. The pool's pages take memory as they are first used. */
kvern_status runner_paged_open(struct runner **out, const char *path,
                               const struct model_config *config, const struct kv_layout *layout,
                               size_t n_kv_blocks, int n_threads, kvern_error *err);

#endif
