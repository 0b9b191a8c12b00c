/* SPDX-License-Identifier: Apache-2.0
 *
 * What a row needs in more than one kernel: its RMS factor, a loop over its vectors with the
 * rest of a width that is no multiple of LANES, and rounding it to integers. Include one
 * vector_<isa>.h first.
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

/* limit / most, or 0 where that is no number to multiply by. */
static inline float integer_factor(float most, float limit)
{
    return most > 0x1p-100F ? limit / most : 0.0F;
}

/* x [n] as whole numbers in [-limit, limit], limit < 2^15, to nearest even; returns their scale,
 * max|x| / limit. If an x is not finite the scale is NaN and the numbers are anything. `out` has
 * room for n rounded up to LANES. */
static inline float round_to_integers(const float *x, size_t n, float limit, int16_t *out)
{
    vector zero = vector_set(0.0F);
    vector largest = zero;
    vector zeros = zero;

    for (size_t i = 0; i < n; i += LANES) {
        vector v = row_load(x, i, n);

        largest = vector_max(vector_max(v, vector_subtract(zero, v)), largest);
        zeros = vector_fma(v, zero, zeros);
    }
    float most = vector_largest(largest);
    vector factor = vector_set(integer_factor(most, limit));

    for (size_t i = 0; i < n; i += LANES)
        vector_store_i16(out + i, vector_multiply(row_load(x, i, n), factor));
    return most / limit + vector_sum(zeros);
}

#endif
