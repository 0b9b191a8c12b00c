/* SPDX-License-Identifier: Apache-2.0
 *
 * Execution providers: which hardware ONNX Runtime runs a graph on. To add one, give it a row in
 * provider.c.
 */
#ifndef KVERN_ORT_PROVIDER_H
#define KVERN_ORT_PROVIDER_H

#include "kvern.h"

#include <onnxruntime_c_api.h>
#include <stdbool.h>

/* Adds the provider ("cpu", "cuda"; NULL: cpu) to a session's options. KVERN_INVALID: no such name;
 * KVERN_UNSUPPORTED says what is missing on this machine. */
kvern_status provider_add(const OrtApi *api, OrtSessionOptions *options, const char *name,
                          kvern_error *err);
/* Where the provider keeps tensors between runs: a new memory info, or `cpu` itself. */
kvern_status provider_memory(const OrtApi *api, const char *name, OrtMemoryInfo *cpu,
                             OrtMemoryInfo **memory, kvern_error *err);

#endif
