/* SPDX-License-Identifier: Apache-2.0
 *
 * The runner of the contract seq2seq for somebody else's export: optimum's encoder and decoders,
 * through ONNX Runtime as they are.
 */
#ifndef KVERN_ENGINE_RUNNER_CACHED_SEQ2SEQ_H
#define KVERN_ENGINE_RUNNER_CACHED_SEQ2SEQ_H

#include "engine/kv_store.h"
#include "engine/runner.h"
#include "model/config.h"
#include "model/export_seq2seq.h"

/* Opens the graphs of `export`, which the config fits; `layout` says how keys and values are
 * counted in blocks. provider: "cpu" or "cuda". */
kvern_status runner_cached_seq2seq_open(struct runner **out, const struct export_seq2seq *export,
                                        const struct model_config *config,
                                        const struct kv_layout *layout, size_t n_kv_blocks,
                                        int n_threads, const char *provider, kvern_error *err);

#endif
