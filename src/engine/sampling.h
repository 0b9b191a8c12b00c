/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request says about choosing tokens, checked and copied: from here on every value is in its
 * range and every id below the vocabulary's size.
 */
#ifndef KVERN_ENGINE_SAMPLING_H
#define KVERN_ENGINE_SAMPLING_H

#include "kvern.h"

enum { MAX_LOGIT_BIASES = 1024, MAX_STOP_TOKENS = 64, MAX_TOP_LOGPROBS = 20 };

/* Checks and copies, biases sorted by id. KVERN_INVALID names the field, its value and the range
 * allowed, KVERN_LIMIT a list that is too long; `out` is as it was then. */
kvern_status sampling_init(kvern_sampling *out, const kvern_sampling *sampling, size_t vocab_size,
                           kvern_error *err);
/* Fine on a zeroed one. */
void sampling_clear(kvern_sampling *sampling);
/* Checks the request's own fields: stop tokens, min_tokens (against the most it may generate),
 * logprobs. Errors as above. */
kvern_status sampling_check_request(const kvern_request_options *options, size_t max_tokens,
                                    size_t vocab_size, kvern_error *err);

/* The same of beam search; n answers are asked for. KVERN_UNSUPPORTED: it does not go with another
 * option. */
kvern_status sampling_check_beams(const kvern_request_options *options, size_t n, kvern_error *err);

#endif
