/* SPDX-License-Identifier: Apache-2.0
 *
 * ONNX Runtime itself: its function table and the one environment of the process.
 */
#ifndef KVERN_ORT_RUNTIME_H
#define KVERN_ORT_RUNTIME_H

#include "ops/ort_check.h"

/* The function table, with the environment made; fails if the library is older than 1.20. The
 * environment lives as long as the process. Thread-safe. */
kvern_status runtime_get(const OrtApi **api, OrtEnv **env, kvern_error *err);

#endif
