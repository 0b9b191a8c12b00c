/* SPDX-License-Identifier: Apache-2.0
 *
 * What a row needs in more than one kernel: its RMS factor, and a loop over its vectors with the
 * rest of a width that is no multiple of LANES. Include one vector_<isa>.h first.
 */
#ifndef KVERN_OPS_KERNELS_ROW_MATH_H
#define KVERN_OPS_KERNELS_ROW_MATH_H

#include <math.h>

/* The vector at i of a row of n; lanes past n are 0. */
static inline vector row_load(const float *row, size_t i, size_t n)
{
    return i + LANES <= n ? vector_load(row + i) : vector_load_part(row + i, n - i);
}

static inline void row_store(float *row, size_t i, size_t n, vector x)
{
    if (i + LANES <= n)
        vector_store(row + i, x);
    else
        vector_store_part(row + i, x, n - i);
}

/* 1 / sqrt(mean(x^2) + epsilon). Four sums, vector i going to sum i % 4. */
static inline float rms_factor(const float *x, size_t n, float epsilon)
{
    vector sums[4] = {vector_set(0.0F), vector_set(0.0F), vector_set(0.0F), vector_set(0.0F)};
    size_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t j = 0; j < 4; j++) {
            vector v = vector_load(x + i + j * LANES);

            sums[j] = vector_fma(v, v, sums[j]);
        }
    }
    for (size_t j = 0; i < n; i += LANES, j++) {
        vector v = row_load(x, i, n);

        sums[j] = vector_fma(v, v, sums[j]);
    }
    vector sum = vector_add(vector_add(sums[0], sums[1]), vector_add(sums[2], sums[3]));

    return 1.0F / sqrtf(vector_sum(sum) / (float)n + epsilon);
}

#endif
