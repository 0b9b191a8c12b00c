/* SPDX-License-Identifier: Apache-2.0
 *
 * Models for system tests: converted once into the build folder, and one request run to its end.
 */
#ifndef KVERN_TESTS_SUPPORT_MODELS_H
#define KVERN_TESTS_SUPPORT_MODELS_H

#include "kvern.h"

/* The GGUF file that scripts/setup.sh fetched. */
extern const char *const smollm2_gguf;

/* Converts `source` (a path in the repository; its weights may be a seed) with `weights` (NULL:
 * keep) unless that is done, and opens it. Fails the test otherwise. */
kvern_model *open_test_model(const char *source, const char *weights);
kvern_engine *open_test_engine(const kvern_model *model, int32_t n_threads, int32_t prefill_chunk,
                               const char *kv_type);
/* Waits for the end; returns the tokens generated, at most `capacity`. */
size_t finish_request(kvern_request *request, int32_t *tokens, size_t capacity);

#endif
