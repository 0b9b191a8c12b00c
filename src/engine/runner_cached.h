/* SPDX-License-Identifier: Apache-2.0
 *
 * The runner of the `cached` contract: somebody else's decoder export, past_key_values in, present
 * out, through ONNX Runtime as it is.
 */
#ifndef KVERN_ENGINE_RUNNER_CACHED_H
#define KVERN_ENGINE_RUNNER_CACHED_H

#include "engine/kv_store.h"
#include "engine/runner.h"
#include "model/config.h"
#include "model/export_graph.h"

/* Opens the graph at `path`, whose sizes the config states; `layout` says how its KV is counted in
 * blocks. provider: "cpu" or "cuda". */
kvern_status runner_cached_open(struct runner **out, const char *path,
                                const struct export_graph *graph, const struct model_config *config,
                                const struct kv_layout *layout, size_t n_kv_blocks, int n_threads,
                                const char *provider, kvern_error *err);

/* Outputs of logits and of hidden states that its runs gave so far. One that a batch wants no rows
 * of is not asked for. */
size_t runner_cached_n_row_outputs(const struct runner *runner);

#endif
