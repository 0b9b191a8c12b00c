/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Linear kernels of every instruction set share: f16 to f32 in plain C, the quantisation
 * of activations (compiled into each file with that file's flags), and how rows are cut into
 * blocks. No function here changes the order of a sum.
 */
#ifndef KVERN_OPS_KERNELS_LINEAR_COMMON_H
#define KVERN_OPS_KERNELS_LINEAR_COMMON_H

#include "ops/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { STRIP = 16 }; /* columns of a strip: one 64-byte vector holds 4 k of each */

/* f16 bits to f32, exact; no library function or instruction needed. */
static inline float f16_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t rest = half & 0x7fff;
    float value;

    if (rest < 0x400) { /* zero or subnormal */
        value = (float)rest * 0x1p-24f;
        return sign ? -value : value;
    }
    rest = (rest << 13) + (rest < 0x7c00 ? 0x38000000 : 0x70000000); /* else inf or NaN */
    rest |= sign;
    memcpy(&value, &rest, sizeof value);
    return value;
}

/* Below this largest value 127 / largest would overflow: the group is taken as zeros. */
#define QUANTIZE_SMALLEST 1e-36f

/* One group of 32 or 64 values. Largest and finite are decided on the bits, so that NaN and
 * infinity need no ordered comparison; such a group gets a NaN scale, which reaches the output. */
static inline void quantize_group(const float *x, size_t group, int32_t zero_point, int8_t *q,
                                  float *scale, int32_t *start, float *sum)
{
    uint32_t bits[PACKED_WIDE_GROUP], largest_bits = 0;
    float largest, inverse;
    int32_t total = 0;

    memcpy(bits, x, group * sizeof *bits);
    for (size_t i = 0; i < group; i++) {
        uint32_t magnitude = bits[i] & 0x7fffffff;

        largest_bits = magnitude > largest_bits ? magnitude : largest_bits;
    }
    memcpy(&largest, &largest_bits, sizeof largest);
    if (largest_bits >= 0x7f800000 || largest < QUANTIZE_SMALLEST) {
        memset(q, 0, group);
        *scale = largest_bits >= 0x7f800000 ? NAN : 0.0f;
    } else {
        *scale = largest / 127.0f;
        inverse = 127.0f / largest;
        for (size_t i = 0; i < group; i++) {
            /* adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits */
            float shifted = x[i] * inverse + 0x1.8p23f;
            int32_t value;

            memcpy(&value, &shifted, sizeof value);
            value -= 0x4b400000;
            q[i] = (int8_t)value;
            total += value;
        }
    }
    *start = -zero_point * total;
    *sum = *scale * (float)total;
}

static inline void quantize_rows_here(const float *x, size_t row_begin, size_t row_end, size_t k,
                                      size_t group, int32_t zero_point, struct quantized_rows *out)
{
    size_t n_groups = k / group;

    for (size_t i = row_begin * n_groups; i < row_end * n_groups; i++)
        quantize_group(x + i * group, group, zero_point, out->q + i * group, &out->scales[i],
                       &out->starts[i], &out->sums[i]);
}

/* How many of `left` rows to take at once: as few blocks of at most `most` as there can be, of even
 * height (8 rows with most = 6 are 4 + 4, not 6 + 2). */
static inline size_t rows_of_block(size_t left, size_t most)
{
    size_t n_blocks = (left + most - 1) / most;

    return (left + n_blocks - 1) / n_blocks;
}

/* The forms of weight that have a kernel of their own; BYTES is last. */
enum weight_kind { NIBBLES, NIBBLES_WIDE_GROUP, NIBBLES_MINS, BYTES, N_WEIGHT_KINDS };

static inline enum weight_kind weight_kind(const struct packed_weight *w)
{
    if (w->bits == 8)
        return BYTES;
    if (w->mins)
        return NIBBLES_MINS;
    return w->group == PACKED_WIDE_GROUP ? NIBBLES_WIDE_GROUP : NIBBLES;
}

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Writes the sums f [16] of a row and strip to y [rows, w->n], with the bias, clipped to w->n. */
static inline void put_strip(const struct packed_weight *w, size_t row, size_t strip,
                             const float *f, float *y)
{
    size_t first = strip * STRIP, n = smaller(STRIP, w->n - first);

    for (size_t column = 0; column < n; column++)
        y[row * w->n + first + column] = w->bias ? f[column] + w->bias[first + column] : f[column];
}

/* linear_portable.c; every table uses it. */
void linear_unpack_column(const struct packed_weight *w, size_t n, float *out);

#endif
