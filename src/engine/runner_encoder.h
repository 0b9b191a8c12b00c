/* SPDX-License-Identifier: Apache-2.0
 *
 * The runners of the `encoder` contract: kvern's packed graph, and somebody else's export as it is.
 * Neither keeps a KV cache; a text comes whole.
 */
#ifndef KVERN_ENGINE_RUNNER_ENCODER_H
#define KVERN_ENGINE_RUNNER_ENCODER_H

#include "engine/runner.h"
#include "model/export_graph.h"

/* Opens the packed graph at `path`, whose sizes the config states: all texts of a batch in one run,
 * nothing padded. */
kvern_status runner_encoder_open(struct runner **out, const char *path,
                                 const struct model_config *config, int n_threads,
                                 kvern_error *err);
/* Opens an export: one text a run, so that no text is padded or depends on another. Where the
 * export pools by itself, its vector stands for every row of the text. provider: "cpu" or "cuda".
 */
kvern_status runner_encoder_open_export(struct runner **out, const char *path,
                                        const struct export_graph *graph,
                                        const struct model_config *config, int n_threads,
                                        const char *provider, kvern_error *err);

#endif
