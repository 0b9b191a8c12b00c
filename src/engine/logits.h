/* SPDX-License-Identifier: Apache-2.0
 *
 * What is read off one row of logits as a whole: the largest, weights, log-probabilities. The order
 * of additions is settled by ids alone, so that a row gives one answer. Pure; changes no logits.
 */
#ifndef KVERN_ENGINE_LOGITS_H
#define KVERN_ENGINE_LOGITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false: NaN or +infinity is among the logits [n], or nothing but -infinity. */
bool logits_find_max(const float *logits, size_t n, float *max);
/* The lowest id of this logit, which is one of them. */
size_t logits_find(const float *logits, size_t n, float logit);
/* The next id from `id` on whose logit is over the limit; n: there is none. */
size_t logits_next_over(const float *logits, size_t id, size_t n, float limit);
/* weights[i] = exp((logits[i] - max) / temperature), within 3e-7 of it; 0 below exp(-87). No logit
 * is over max. */
void logits_weigh(const float *logits, size_t n, float max, float temperature, float *weights);
/* log(sum(exp(logits - max))) */
double logits_log_sum(const float *logits, size_t n, float max);
/* log(softmax(logits)[token]); NaN when logits_find_max() is false. */
float log_probability(const float *logits, size_t vocab_size, int32_t token);

#endif
