/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions over a row of logits. Every token of every greedy answer comes through
 * logits_find_max(), so it works in lanes that the compiler keeps in vectors.
 */
#include "engine/logits.h"

#include <float.h>
#include <math.h>

enum { LANES = 32, SUM_LANES = 8, BLOCK = 512 };

bool logits_find_max(const float *logits, size_t n, float *max)
{
    float best[LANES];
    int n_bad[LANES] = {0};
    size_t i = 0;

    for (size_t j = 0; j < LANES; j++)
        best[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            float x = logits[i + j];

            best[j] = x > best[j] ? x : best[j];
            n_bad[j] += !(x <= FLT_MAX);
        }
    }
    for (; i < n; i++) {
        best[0] = logits[i] > best[0] ? logits[i] : best[0];
        n_bad[0] += !(logits[i] <= FLT_MAX);
    }
    *max = -INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        *max = best[j] > *max ? best[j] : *max;
        if (n_bad[j])
            return false;
    }
    return *max > -INFINITY;
}

size_t logits_find(const float *logits, size_t n, float logit)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        int n_equal = 0;

        for (size_t j = 0; j < LANES; j++)
            n_equal += logits[i + j] == logit;
        if (n_equal)
            break;
    }
    while (logits[i] != logit)
        i++;
    return i;
}

size_t logits_next_over(const float *logits, size_t id, size_t n, float limit)
{
    for (; id + LANES <= n; id += LANES) {
        int n_over = 0;

        for (size_t j = 0; j < LANES; j++)
            n_over += logits[id + j] > limit;
        if (n_over)
            break;
    }
    while (id < n && !(logits[id] > limit))
        id++;
    return id;
}

/* exp of x <= 0: 2^n times a polynomial over half an octave each way (Cody and Waite's reduction;
 * coefficients of Cephes' expf). Adding 1.5 * 2^23 rounds to a whole number, which is then in the
 * low bits. No branch and no call, so that the loop below becomes vectors, as it does not with
 * expf. */
static inline float exp_below_zero(float x)
{
    const float least = -87;
    union {
        float f;
        int32_t i;
    } shifted, power;
    float in_range = x < least ? least : x;

    shifted.f = in_range * 1.44269504F + 12582912.0F;
    float n = shifted.f - 12582912.0F;
    float r = in_range - n * 0.693359375F + n * 2.12194440e-4F;
    float y = 1.9875691500e-4F;
    y = y * r + 1.3981999507e-3F;
    y = y * r + 8.3334519073e-3F;
    y = y * r + 4.1665795894e-2F;
    y = y * r + 1.6666665459e-1F;
    y = y * r + 5.0000001201e-1F;
    y = y * r * r + r + 1;
    power.i = (shifted.i - 0x4b400000 + 127) * (1 << 23);
    return x < least ? 0 : y * power.f;
}

void logits_weigh(const float *logits, size_t n, float max, float temperature, float *weights)
{
    for (size_t i = 0; i < n; i++)
        weights[i] = exp_below_zero((logits[i] - max) / temperature);
}

double logits_log_sum(const float *logits, size_t n, float max)
{
    float weights[BLOCK];
    double sums[SUM_LANES] = {0};
    double sum = 0;

    for (size_t i = 0; i < n; i += BLOCK) {
        size_t n_block = n - i < BLOCK ? n - i : BLOCK;

        logits_weigh(logits + i, n_block, max, 1, weights);
        for (size_t j = n_block; j < BLOCK; j++)
            weights[j] = 0;
        for (size_t j = 0; j < BLOCK; j += SUM_LANES) {
            for (size_t k = 0; k < SUM_LANES; k++)
                sums[k] += (double)weights[j + k];
        }
    }
    for (size_t k = 0; k < SUM_LANES; k++)
        sum += sums[k];
    return log(sum);
}

float log_probability(const float *logits, size_t vocab_size, int32_t token)
{
    float max;

    if (!logits_find_max(logits, vocab_size, &max))
        return NAN;
    return (float)((double)(logits[token] - max) - logits_log_sum(logits, vocab_size, max));
}
