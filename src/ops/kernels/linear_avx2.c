/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear with AVX2, FMA and F16C. A block is 1 to 4 rows of one strip (16 columns, two vectors);
 * all heights do the same operations on an output in the same order, group by group: dot = 32
 * products or 64 (exact), f = fma(dot, weight scale * row scale, f), f = fma(min, row sum, f). The
 * sums f of a block live in memory between groups: 16 registers hold the integer sums only.
 */
#include "ops/kernels/linear_common.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { MOST_ROWS = 4 };

/* The weights of one strip. */
struct cut {
    const uint8_t *data;
    const uint16_t *scales; /* f16 [group][64], at the first column */
    const uint16_t *mins;   /* likewise, or NULL */
    size_t n_groups;
};

/* The rows of one block. */
struct rows {
    const int8_t *q;
    const float *scales;
    const int32_t *starts;
    const float *sums;
};

INLINE __m256i broadcast4(const int8_t *q)
{
    int32_t four;

    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE __m256 halves(const uint16_t *h)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
}

/* dot[r][v] += 32 products. 15 * 127 * 2 * 8 steps = 30,480: their pair sums fit int16. */
INLINE void dot_nibbles(const uint8_t *data, const int8_t *q, size_t k, const size_t n_rows,
                        __m256i dot[][2])
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i pairs[MOST_ROWS][2];

#pragma GCC unroll 4
    for (size_t r = 0; r < n_rows; r++)
        pairs[r][0] = pairs[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (size_t step = 0; step < 8; step++) {
        __m256i w[2];

#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            w[v] = _mm256_load_si256((const __m256i *)(data + step / 2 * 256 + v * 32));
            if (step % 2)
                w[v] = _mm256_srli_epi16(w[v], 4);
            w[v] = _mm256_and_si256(w[v], low);
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < n_rows; r++) {
            __m256i x = broadcast4(q + r * k + step * 4);

#pragma GCC unroll 2
            for (size_t v = 0; v < 2; v++)
                pairs[r][v] = _mm256_add_epi16(pairs[r][v], _mm256_maddubs_epi16(w[v], x));
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < n_rows; r++)
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++)
            dot[r][v] = _mm256_add_epi32(dot[r][v], _mm256_madd_epi16(pairs[r][v], ones));
}

/* The same for 8 bit. u8 * s8 pairs would overflow int16, so q = u8 - 128 gives its sign to x: then
 * a pair is at most 128 * 127 * 2 = 32,512, and no zero point is left to correct. */
INLINE void dot_bytes(const uint8_t *data, const int8_t *q, size_t k, const size_t n_rows,
                      __m256i dot[][2])
{
    const __m256i offset = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);

#pragma GCC unroll 2
    for (size_t step = 0; step < 8; step++) {
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            __m256i w = _mm256_xor_si256(
                _mm256_load_si256((const __m256i *)(data + step * 256 + v * 32)), offset);
            __m256i magnitude = _mm256_abs_epi8(w);

#pragma GCC unroll 4
            for (size_t r = 0; r < n_rows; r++) {
                __m256i x = _mm256_sign_epi8(broadcast4(q + r * k + step * 4), w);
                __m256i pairs = _mm256_maddubs_epi16(magnitude, x);

                dot[r][v] = _mm256_add_epi32(dot[r][v], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
}

/* f[n_rows][16] of one strip; bits, has_mins and n_rows are constants. */
INLINE void multiply_block(const struct cut *cut, const struct rows *rows, const int bits,
                           const bool has_mins, const size_t k_group, const size_t n_rows,
                           float f[][STRIP])
{
    const size_t n_groups = cut->n_groups, k = n_groups * k_group;

    memset(f, 0, n_rows * sizeof *f);
    for (size_t group = 0; group < n_groups; group++) {
        const int8_t *q = rows->q + group * k_group;
        __m256i dot[MOST_ROWS][2];

#pragma GCC unroll 4
        for (size_t r = 0; r < n_rows; r++)
            dot[r][0] = dot[r][1] =
                _mm256_set1_epi32(bits == 4 ? rows->starts[r * n_groups + group] : 0);
#pragma GCC unroll 2
        for (size_t part = 0; part < k_group / 32; part++) {
            if (bits == 4)
                dot_nibbles(cut->data + (group * k_group + part * 32) * 32, q + part * 32, k,
                            n_rows, dot);
            else
                dot_bytes(cut->data + group * 2048, q, k, n_rows, dot);
        }
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            __m256 scale = halves(cut->scales + group * PACKED_TILE + v * 8);
            __m256 min = _mm256_setzero_ps();

            if (has_mins)
                min = halves(cut->mins + group * PACKED_TILE + v * 8);
#pragma GCC unroll 4
            for (size_t r = 0; r < n_rows; r++) {
                size_t i = r * n_groups + group;
                __m256 product = _mm256_mul_ps(scale, _mm256_set1_ps(rows->scales[i]));
                __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][v]), product,
                                             _mm256_loadu_ps(f[r] + v * 8));

                if (has_mins)
                    sum = _mm256_fmadd_ps(min, _mm256_set1_ps(rows->sums[i]), sum);
                _mm256_storeu_ps(f[r] + v * 8, sum);
            }
        }
    }
}

typedef void block_function(const struct cut *cut, const struct rows *rows, float f[][STRIP]);

#define BLOCK(name, bits, has_mins, k_group, n_rows)                                               \
    static void name(const struct cut *cut, const struct rows *rows, float f[][STRIP])             \
    {                                                                                              \
        multiply_block(cut, rows, bits, has_mins, k_group, n_rows, f);                             \
    }
#define BLOCKS(kind, bits, has_mins, k_group)                                                      \
    BLOCK(kind##_1, bits, has_mins, k_group, 1)                                                    \
    BLOCK(kind##_2, bits, has_mins, k_group, 2)                                                    \
    BLOCK(kind##_3, bits, has_mins, k_group, 3)                                                    \
    BLOCK(kind##_4, bits, has_mins, k_group, 4)

BLOCKS(nibbles, 4, false, PACKED_GROUP)
BLOCKS(nibbles_wide_group, 4, false, PACKED_WIDE_GROUP)
BLOCKS(nibbles_mins, 4, true, PACKED_GROUP)
BLOCKS(bytes, 8, false, PACKED_GROUP)

/* [kind][rows - 1] */
static block_function *const blocks[N_WEIGHT_KINDS][MOST_ROWS] = {
    [NIBBLES] = {nibbles_1, nibbles_2, nibbles_3, nibbles_4},
    [NIBBLES_WIDE_GROUP] = {nibbles_wide_group_1, nibbles_wide_group_2, nibbles_wide_group_3,
                            nibbles_wide_group_4},
    [NIBBLES_MINS] = {nibbles_mins_1, nibbles_mins_2, nibbles_mins_3, nibbles_mins_4},
    [BYTES] = {bytes_1, bytes_2, bytes_3, bytes_4},
};

static void multiply_quantized(const struct packed_weight *w, const struct quantized_rows *x,
                               size_t row_begin, size_t row_end, size_t strip_begin,
                               size_t strip_end, float *y)
{
    enum weight_kind kind = weight_kind(w);
    size_t n_groups = w->k / w->group;
    float f[MOST_ROWS][STRIP];

    strip_end = smaller(strip_end, (w->n + STRIP - 1) / STRIP);
    for (size_t strip = strip_begin; strip < strip_end; strip++) {
        size_t tile = strip / 4, column = strip % 4 * STRIP;
        size_t first_scale = tile * n_groups * PACKED_TILE + column;
        struct cut cut = {
            .data = (const uint8_t *)w->data + tile * packed_tile_bytes(w->bits, w->k) + column * 4,
            .scales = w->scales + first_scale,
            .mins = w->mins ? w->mins + first_scale : NULL,
            .n_groups = n_groups,
        };

        for (size_t row = row_begin; row < row_end;) {
            size_t n_block = rows_of_block(row_end - row, MOST_ROWS);
            struct rows rows = {
                .q = x->q + row * w->k,
                .scales = x->scales + row * n_groups,
                .starts = x->starts + row * n_groups,
                .sums = x->sums + row * n_groups,
            };

            blocks[kind][n_block - 1](&cut, &rows, f);
            for (size_t r = 0; r < n_block; r++)
                put_strip(w, row + r, strip, f[r], y);
            row += n_block;
        }
    }
}

INLINE void multiply_f32_block(const float *data, const float *x, size_t k, const size_t n_rows,
                               float f[][STRIP])
{
    __m256 sum[MOST_ROWS][2];

#pragma GCC unroll 4
    for (size_t r = 0; r < n_rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i++) {
        __m256 first = _mm256_load_ps(data + i * PACKED_TILE);
        __m256 second = _mm256_load_ps(data + i * PACKED_TILE + 8);

#pragma GCC unroll 4
        for (size_t r = 0; r < n_rows; r++) {
            __m256 value = _mm256_set1_ps(x[r * k + i]);

            sum[r][0] = _mm256_fmadd_ps(value, first, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(value, second, sum[r][1]);
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < n_rows; r++) {
        _mm256_storeu_ps(f[r], sum[r][0]);
        _mm256_storeu_ps(f[r] + 8, sum[r][1]);
    }
}

static void multiply_f32(const struct packed_weight *w, const float *x, size_t row_begin,
                         size_t row_end, size_t strip_begin, size_t strip_end, float *y)
{
    float f[MOST_ROWS][STRIP];

    strip_end = smaller(strip_end, (w->n + STRIP - 1) / STRIP);
    for (size_t strip = strip_begin; strip < strip_end; strip++) {
        const float *data =
            (const float *)w->data + strip / 4 * w->k * PACKED_TILE + strip % 4 * STRIP;

        for (size_t row = row_begin; row < row_end;) {
            size_t n_block = rows_of_block(row_end - row, MOST_ROWS);
            const float *values = x + row * w->k;

            if (n_block == 4)
                multiply_f32_block(data, values, w->k, 4, f);
            else if (n_block == 3)
                multiply_f32_block(data, values, w->k, 3, f);
            else if (n_block == 2)
                multiply_f32_block(data, values, w->k, 2, f);
            else
                multiply_f32_block(data, values, w->k, 1, f);
            for (size_t r = 0; r < n_block; r++)
                put_strip(w, row + r, strip, f[r], y);
            row += n_block;
        }
    }
}

const struct linear_kernels linear_avx2 = {
    .quantize_rows = quantize_rows_here,
    .multiply_quantized = multiply_quantized,
    .multiply_f32 = multiply_f32,
    .unpack_column = linear_unpack_column,
};
