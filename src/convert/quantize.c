/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantisation of f32 rows. The 4-bit search follows the idea of k-quants (llama.cpp,
 * make_qkx2_quants): scale and min taken from the extremes waste range on outliers, so several
 * steps around that first one are tried; each gives integers, to which the best line
 * value = scale * q + min is fitted by least squares; the fit with the smallest error wins.
 */
#include "convert/quantize.h"

#include "base/half.h"
#include "ops/packed.h"

enum { GROUP = PACKED_GROUP, MAX_Q4 = 15, N_CANDIDATES = 8 };

/* Smallest and largest of n values; false if one is not finite. */
static bool find_range(const float *x, int n, float *min, float *max)
{
    float low = x[0];
    float high = x[0];
    float zero = 0; /* stays 0 for finite values: inf * 0 and nan * 0 are nan */

    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        zero += x[i] * 0;
    }
    *min = low;
    *max = high;
    return zero == 0;
}

bool quantize_row_q8(const float *row, size_t k, uint8_t *q, uint16_t *scales)
{
    for (size_t g = 0; g < k / GROUP; g++, row += GROUP, q += GROUP) {
        float min, max;

        if (!find_range(row, GROUP, &min, &max))
            return false;
        float largest = -min > max ? -min : max;
        scales[g] = half_from_float(largest / 127);
        if (!half_is_finite(scales[g]))
            return false;
        float scale = half_to_float(scales[g]);
        float inverse = scale > 0 ? 1 / scale : 0;
        for (int i = 0; i < GROUP; i++) {
            /* a subnormal scale may have been rounded far enough down to need the clip */
            float value = row[i] * inverse + 128.5f;

            value = value < 1 ? 1 : value > 255 ? 255 : value;
            q[i] = (uint8_t)value;
        }
    }
    return true;
}

/* Four lanes, spelled out: compilers leave the loops below scalar at -O2. */
typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

static inline float4 load4(const float *x)
{
    float4 value;

    memcpy(&value, x, sizeof value);
    return value;
}

static inline float4 choose(int4 mask, float4 yes, float4 no)
{
    return (float4)((mask & (int4)yes) | (~mask & (int4)no));
}

static inline float sum_lanes(float4 value)
{
    return (value[0] + value[1]) + (value[2] + value[3]);
}

/* The nearest q of each value for a scale and min, and the squared error that leaves. q is f32
 * here: its sums stay exact and cost no conversion. */
static float assign(const float *x, float scale, float min, float *q)
{
    float inverse = scale > 0 ? 1 / scale : 0;
    const float4 zero = {0};
    const float4 top = zero + MAX_Q4;
    float4 error = zero;

    for (int i = 0; i < GROUP; i += 4) {
        float4 value = load4(x + i);
        float4 step = (value - min) * inverse + 0.5f;

        step = choose(step > zero, step, zero);
        step = choose(step < top, step, top);
        step = __builtin_convertvector(__builtin_convertvector(step, int4), float4);
        memcpy(q + i, &step, sizeof step);
        float4 difference = scale * step + min - value;
        error += difference * difference;
    }
    return sum_lanes(error);
}

/* Least squares: the scale and min that bring scale * q + min closest to x. false if all q are
 * equal or the scale comes out as not positive. */
static bool fit_line(const float *x, const float *q, float *scale, float *min)
{
    float4 lanes_q = {0};
    float4 lanes_qq = {0};
    float4 lanes_x = {0};
    float4 lanes_qx = {0};

    for (int i = 0; i < GROUP; i += 4) {
        float4 value = load4(x + i);
        float4 step = load4(q + i);

        lanes_q += step;
        lanes_qq += step * step;
        lanes_x += value;
        lanes_qx += step * value;
    }
    float sum_q = sum_lanes(lanes_q);
    float sum_x = sum_lanes(lanes_x);
    float determinant = GROUP * sum_lanes(lanes_qq) - sum_q * sum_q;
    if (determinant <= 0)
        return false;
    *scale = (GROUP * sum_lanes(lanes_qx) - sum_q * sum_x) / determinant;
    *min = (sum_x - *scale * sum_q) / GROUP;
    return *scale > 0;
}

struct fit {
    float q[GROUP];
    uint16_t scale;
    uint16_t min;
    float error; /* negative: none found yet */
};

/* Keeps this scale and min, rounded to f16, if they beat the best fit so far. */
static void consider(const float *x, float scale, float min, struct fit *best)
{
    float q[GROUP];
    uint16_t half_scale = half_from_float(scale);
    uint16_t half_min = half_from_float(min);

    if (!half_is_finite(half_scale) || !half_is_finite(half_min))
        return;
    float error = assign(x, half_to_float(half_scale), half_to_float(half_min), q);
    if (best->error >= 0 && error >= best->error)
        return;
    memcpy(best->q, q, sizeof q);
    best->scale = half_scale;
    best->min = half_min;
    best->error = error;
}

bool quantize_row_q4(const float *row, size_t k, uint8_t *q, uint16_t *scales, uint16_t *mins)
{
    for (size_t g = 0; g < k / GROUP; g++, row += GROUP, q += GROUP) {
        struct fit best;
        float min, max;

        best.error = -1;
        if (!find_range(row, GROUP, &min, &max))
            return false;
        consider(row, (max - min) / MAX_Q4, min, &best);
        for (int i = 0; i < N_CANDIDATES && best.error > 0; i++) {
            /* 13.5 to 17 steps over the range: from too few, leaving room at the top, to so many
             * that the largest values are clipped */
            float first_scale = (max - min) / (13.5f + 0.5f * (float)i);
            float trial[GROUP];
            float scale, fitted_min;

            assign(row, first_scale, min, trial);
            if (fit_line(row, trial, &scale, &fitted_min))
                consider(row, scale, fitted_min, &best);
        }
        if (best.error < 0)
            return false;
        scales[g] = best.scale;
        mins[g] = best.min;
        for (int i = 0; i < GROUP; i++)
            q[i] = (uint8_t)best.q[i];
    }
    return true;
}

enum { WIDE_GROUP = PACKED_WIDE_GROUP, ZERO = 8, N_SYMMETRIC = 19 };

/* The nearest q in [-8, 7] of each value for a scale, and the error that leaves. An error counts as
 * much as the square of its value: see quantize.h. */
static float assign_symmetric(const float *x, float scale, float *q)
{
    float inverse = scale != 0 ? 1 / scale : 0;
    const float4 zero = {0};
    const float4 top = zero + MAX_Q4;
    float4 error = zero;

    for (int i = 0; i < WIDE_GROUP; i += 4) {
        float4 value = load4(x + i);
        float4 step = value * inverse + (ZERO + 0.5f);

        step = choose(step > zero, step, zero);
        step = choose(step < top, step, top);
        step = __builtin_convertvector(__builtin_convertvector(step, int4), float4) - ZERO;
        memcpy(q + i, &step, sizeof step);
        float4 difference = (scale * step - value) * value;
        error += difference * difference;
    }
    return sum_lanes(error);
}

/* Least squares under the same weights: the scale that brings scale * q closest to x. */
static float fit_slope(const float *x, const float *q)
{
    float4 lanes_qx = {0};
    float4 lanes_qq = {0};

    for (int i = 0; i < WIDE_GROUP; i += 4) {
        float4 value = load4(x + i);
        float4 step = load4(q + i) * value;

        lanes_qx += step * value * value;
        lanes_qq += step * step;
    }
    float sum_qq = sum_lanes(lanes_qq);
    return sum_qq > 0 ? sum_lanes(lanes_qx) / sum_qq : 0;
}

bool quantize_row_q4_symmetric(const float *row, size_t k, uint8_t *q, uint16_t *scales)
{
    for (size_t g = 0; g < k / WIDE_GROUP; g++, row += WIDE_GROUP, q += WIDE_GROUP) {
        float x[WIDE_GROUP];
        float best[WIDE_GROUP];
        float trial[WIDE_GROUP];
        float best_error = -1;
        float min, max;

        if (!find_range(row, WIDE_GROUP, &min, &max))
            return false;
        /* the larger side takes the -8, of which there is no +8; x is scaled so that squares of
         * squares neither vanish nor overflow */
        float extreme = -min > max ? min : max;
        for (int i = 0; i < WIDE_GROUP; i++)
            x[i] = extreme != 0 ? row[i] / extreme : 0;
        for (int i = 0; i < N_SYMMETRIC; i++) {
            /* that value at -9.5 (clipped) to -5 steps, then the best slope for those integers */
            assign_symmetric(x, 1 / (-9.5f + 0.25f * (float)i), trial);
            uint16_t half = half_from_float(fit_slope(x, trial) * extreme);
            if (!half_is_finite(half))
                continue;
            float error =
                assign_symmetric(x, extreme != 0 ? half_to_float(half) / extreme : 0, trial);
            if (best_error >= 0 && error >= best_error)
                continue;
            best_error = error;
            scales[g] = half;
            memcpy(best, trial, sizeof best);
        }
        if (best_error < 0)
            return false;
        for (int i = 0; i < WIDE_GROUP; i++)
            q[i] = (uint8_t)(best[i] + ZERO);
    }
    return true;
}
