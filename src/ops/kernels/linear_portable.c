/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear in plain C: what runs where no instruction set of ours fits, and the simplest statement of
 * the arithmetic. Every (row, column) is computed alone in the order of k, so splits cannot matter.
 * Written so that a compiler vectorises over the 16 columns of a strip; without fma.
 */
#include "ops/kernels/linear_common.h"

/* One group of one strip: weights as small integers without their zero point, k after k. */
struct strip_group {
    int16_t w[PACKED_WIDE_GROUP][STRIP]; /* the first w->group of them */
    float scales[STRIP];
    float mins[STRIP];
};

static void unpack_group(const struct packed_weight *w, size_t strip, size_t group,
                         struct strip_group *out)
{
    size_t tile = strip / 4, inner = strip % 4;
    const uint8_t *data =
        (const uint8_t *)w->data + tile * packed_tile_bytes(w->bits, w->k) + inner * 64;
    size_t first_scale = (tile * (w->k / w->group) + group) * PACKED_TILE + inner * STRIP;
    int zero_point = w->mins ? 0 : 8;

    for (size_t k = 0; k < w->group; k++) {
        size_t all_k = group * w->group + k;

        for (size_t column = 0; column < STRIP; column++) {
            if (w->bits == 8) {
                out->w[k][column] = (int16_t)(data[all_k / 4 * 256 + column * 4 + k % 4] - 128);
            } else {
                int two = data[all_k / 8 * 256 + column * 4 + k % 4];

                out->w[k][column] = (int16_t)((k % 8 < 4 ? two & 15 : two >> 4) - zero_point);
            }
        }
    }
    for (size_t column = 0; column < STRIP; column++) {
        out->scales[column] = f16_value(w->scales[first_scale + column]);
        out->mins[column] = w->mins ? f16_value(w->mins[first_scale + column]) : 0.0f;
    }
}

static void add_group(const struct strip_group *weights, size_t n_k, const int8_t *q, float scale,
                      float sum, bool has_mins, float *restrict f)
{
    int32_t total[STRIP] = {0};

    for (size_t k = 0; k < n_k; k++) {
        int16_t value = q[k];

        for (size_t column = 0; column < STRIP; column++)
            total[column] += value * weights->w[k][column];
    }
    for (size_t column = 0; column < STRIP; column++)
        f[column] += (float)total[column] * (weights->scales[column] * scale);
    for (size_t column = 0; has_mins && column < STRIP; column++)
        f[column] += weights->mins[column] * sum;
}

static void multiply_quantized(const struct packed_weight *w, const struct quantized_rows *x,
                               size_t row_begin, size_t row_end, size_t strip_begin,
                               size_t strip_end, float *y)
{
    enum { ROWS = 16 }; /* share one unpacking */
    size_t n_groups = w->k / w->group;
    struct strip_group weights;
    float f[ROWS][STRIP];

    strip_end = smaller(strip_end, (w->n + STRIP - 1) / STRIP);
    for (size_t strip = strip_begin; strip < strip_end; strip++) {
        for (size_t row = row_begin; row < row_end; row += ROWS) {
            size_t n_rows = smaller(ROWS, row_end - row);

            memset(f, 0, sizeof f);
            for (size_t group = 0; group < n_groups; group++) {
                unpack_group(w, strip, group, &weights);
                for (size_t r = 0; r < n_rows; r++) {
                    size_t i = (row + r) * n_groups + group;

                    add_group(&weights, w->group, x->q + i * w->group, x->scales[i], x->sums[i],
                              w->mins != NULL, f[r]);
                }
            }
            for (size_t r = 0; r < n_rows; r++)
                put_strip(w, row + r, strip, f[r], y);
        }
    }
}

static void multiply_f32(const struct packed_weight *w, const float *x, size_t row_begin,
                         size_t row_end, size_t strip_begin, size_t strip_end, float *y)
{
    strip_end = smaller(strip_end, (w->n + STRIP - 1) / STRIP);
    for (size_t strip = strip_begin; strip < strip_end; strip++) {
        const float *data =
            (const float *)w->data + strip / 4 * w->k * PACKED_TILE + strip % 4 * STRIP;

        for (size_t row = row_begin; row < row_end; row++) {
            float f[STRIP] = {0};

            for (size_t k = 0; k < w->k; k++) {
                float value = x[row * w->k + k];

                for (size_t column = 0; column < STRIP; column++)
                    f[column] += value * data[k * PACKED_TILE + column];
            }
            put_strip(w, row, strip, f, y);
        }
    }
}

void linear_unpack_column(const struct packed_weight *w, size_t n, float *out)
{
    size_t tile = n / PACKED_TILE, column = n % PACKED_TILE, n_groups;
    const uint8_t *data = (const uint8_t *)w->data + tile * packed_tile_bytes(w->bits, w->k);

    if (w->bits == 32) {
        for (size_t k = 0; k < w->k; k++)
            out[k] = ((const float *)data)[k * PACKED_TILE + column];
        return;
    }
    n_groups = w->k / w->group;
    for (size_t group = 0; group < n_groups; group++) {
        size_t at = (tile * n_groups + group) * PACKED_TILE + column;
        float scale = f16_value(w->scales[at]), min = w->mins ? f16_value(w->mins[at]) : 0.0f;

        for (size_t k = group * w->group; k < (group + 1) * w->group; k++) {
            int value;

            if (w->bits == 8) {
                value = data[k / 4 * 256 + column * 4 + k % 4] - 128;
            } else {
                value = data[k / 8 * 256 + column * 4 + k % 4];
                value = (k % 8 < 4 ? value & 15 : value >> 4) - (w->mins ? 0 : 8);
            }
            out[k] = scale * (float)value + min;
        }
    }
}

const struct linear_kernels linear_portable = {
    .quantize_rows = quantize_rows_here,
    .multiply_quantized = multiply_quantized,
    .multiply_f32 = multiply_f32,
    .unpack_column = linear_unpack_column,
};
