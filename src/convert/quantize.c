/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantisation of f32 rows. The 4-bit search follows the idea of k-quants (llama.cpp,
 * make_qkx2_quants): scale and min taken from the extremes waste range on outliers, so several
 * steps around that first one are tried; each gives integers, to which the best line
 * value = scale * q + min is fitted by least squares; the fit with the smallest error wins.
 */
#include "convert/quantize.h"

#include "convert/half.h"
#include "ops/packed.h"

enum { GROUP = PACKED_GROUP, LANES = 8, MAX_Q4 = 15, N_CANDIDATES = 12 };

/* Smallest and largest of 32 values; false if one is not finite. */
static bool find_range(const float *x, float *min, float *max)
{
    float low = x[0];
    float high = x[0];
    float zero = 0; /* stays 0 for finite values: inf * 0 and nan * 0 are nan */

    for (int i = 0; i < GROUP; i++) {
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

        if (!find_range(row, &min, &max))
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

/* The nearest q of each value for a scale and min, and the squared error that leaves. */
static float assign(const float *x, float scale, float min, uint8_t *q)
{
    float inverse = scale > 0 ? 1 / scale : 0;
    float lanes[LANES] = {0};
    float error = 0;

    for (int i = 0; i < GROUP; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            float step = (x[i + j] - min) * inverse + 0.5f;

            step = step < 0 ? 0 : step > MAX_Q4 ? MAX_Q4 : step;
            q[i + j] = (uint8_t)step;
            float difference = scale * (float)q[i + j] + min - x[i + j];
            lanes[j] += difference * difference;
        }
    }
    for (int j = 0; j < LANES; j++)
        error += lanes[j];
    return error;
}

/* Least squares: the scale and min that bring scale * q + min closest to x. false if all q are
 * equal or the scale comes out as not positive. */
static bool fit_line(const float *x, const uint8_t *q, float *scale, float *min)
{
    int sum_q = 0;
    int sum_qq = 0;
    float sum_x = 0;
    float sum_qx = 0;
    float x_lanes[LANES] = {0};
    float qx_lanes[LANES] = {0};

    for (int i = 0; i < GROUP; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            sum_q += q[i + j];
            sum_qq += q[i + j] * q[i + j];
            x_lanes[j] += x[i + j];
            qx_lanes[j] += (float)q[i + j] * x[i + j];
        }
    }
    for (int j = 0; j < LANES; j++) {
        sum_x += x_lanes[j];
        sum_qx += qx_lanes[j];
    }
    int determinant = GROUP * sum_qq - sum_q * sum_q;
    if (determinant <= 0)
        return false;
    *scale = (GROUP * sum_qx - (float)sum_q * sum_x) / (float)determinant;
    *min = (sum_x - *scale * (float)sum_q) / GROUP;
    return *scale > 0;
}

struct fit {
    uint8_t q[GROUP];
    uint16_t scale;
    uint16_t min;
    float error; /* negative: none found yet */
};

/* Keeps this scale and min, rounded to f16, if they beat the best fit so far. */
static void consider(const float *x, float scale, float min, struct fit *best)
{
    struct fit fit = {.scale = half_from_float(scale), .min = half_from_float(min)};

    if (!half_is_finite(fit.scale) || !half_is_finite(fit.min))
        return;
    fit.error = assign(x, half_to_float(fit.scale), half_to_float(fit.min), fit.q);
    if (best->error < 0 || fit.error < best->error)
        *best = fit;
}

bool quantize_row_q4(const float *row, size_t k, uint8_t *q, uint16_t *scales, uint16_t *mins)
{
    for (size_t g = 0; g < k / GROUP; g++, row += GROUP, q += GROUP) {
        struct fit best = {.error = -1};
        float min, max;

        if (!find_range(row, &min, &max))
            return false;
        consider(row, (max - min) / MAX_Q4, min, &best);
        for (int i = 0; i < N_CANDIDATES && best.error > 0; i++) {
            /* 13.5 to 17.3 steps over the range: from too few, leaving room at the top, to
             * so many that the largest values are clipped */
            float first_scale = (max - min) / (13.5f + 0.35f * (float)i);
            uint8_t trial[GROUP];
            float scale, fitted_min;

            assign(row, first_scale, min, trial);
            if (fit_line(row, trial, &scale, &fitted_min))
                consider(row, scale, fitted_min, &best);
        }
        if (best.error < 0)
            return false;
        scales[g] = best.scale;
        mins[g] = best.min;
        memcpy(q, best.q, GROUP);
    }
    return true;
}
