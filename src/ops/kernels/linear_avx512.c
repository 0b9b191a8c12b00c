/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear with AVX-512 VNNI. One kernel body, instantiated for 1 to 6 rows x 32 columns and 1 to 3
 * rows x 64 columns; all instances do the same operations on an output in the same order, group by
 * group: dot = start + 32 or 64 products (int32); f = fma(dot, weight scale * row scale, f);
 * f = fma(min, row sum, f). 4-bit weights are unpacked in registers: on the pipes that vpdpbusd
 * does not use it costs nothing once a few rows share it.
 */
#include "ops/kernels/quantize_avx512.h"

/* The weights and outputs of one call of a kernel: `n_vectors` strips of one tile. */
struct cut {
    const uint8_t *data;      /* of the first strip */
    const uint16_t *scales;   /* f16 [group][64], at the first column */
    const uint16_t *mins;     /* likewise, or NULL */
    const float *bias;        /* at the first column, or NULL */
    const uint8_t *next_data; /* what is computed next: worth prefetching */
    const uint16_t *next_scales;
    size_t n_groups;
    size_t n;           /* columns of y */
    __mmask16 masks[4]; /* which columns of each strip to write */
};

/* The rows of one call. */
struct rows {
    const int8_t *q;
    const float *scales;
    const int32_t *starts;
    const float *sums;
    float *y; /* at the first row and column */
};

/* acc += the 4 products of each lane. Not the intrinsic: gcc 12 copies registers around it. */
INLINE void dot(__m512i *acc, __m512i w, __m512i x)
{
    asm("vpdpbusd %2,%1,%0" : "+v"(*acc) : "v"(w), "v"(x));
}

INLINE __m512i broadcast4(const int8_t *q)
{
    int32_t four;

    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE __m512 halves(const uint16_t *h)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
}

INLINE void store_rows(const struct cut *cut, const struct rows *rows, const size_t n_rows,
                       const size_t n_vectors, __m512 f[][4])
{
#pragma GCC unroll 4
    for (size_t v = 0; v < n_vectors; v++) {
#pragma GCC unroll 6
        for (size_t r = 0; r < n_rows; r++) {
            __m512 value = f[r][v];

            if (cut->bias)
                value = _mm512_add_ps(value,
                                      _mm512_maskz_loadu_ps(cut->masks[v], cut->bias + v * STRIP));
            _mm512_mask_storeu_ps(rows->y + r * cut->n + v * STRIP, cut->masks[v], value);
        }
    }
}

/* One group of what comes next, while the last rows of this cut are computed from the cache:
 * without it memory would idle then. */
INLINE void prefetch_next(const struct cut *cut, size_t group, const size_t n_bytes)
{
    const char *data = (const char *)cut->next_data + group * n_bytes;

#pragma GCC unroll 8
    for (size_t at = 0; at < n_bytes; at += 256) {
        _mm_prefetch(data + at, _MM_HINT_T1);
        _mm_prefetch(data + at + 64, _MM_HINT_T1);
    }
    _mm_prefetch((const char *)(cut->next_scales + group * PACKED_TILE), _MM_HINT_T1);
}

/* The body: everything but `cut` and `rows` is a constant. */
INLINE void multiply_block(const struct cut *cut, const struct rows *rows, const int bits,
                           const bool has_mins, const size_t k_group, const size_t n_rows,
                           const size_t n_vectors)
{
    const __m512i low = _mm512_set1_epi8(15);
    const size_t n_groups = cut->n_groups, k = n_groups * k_group;
    const size_t group_bytes = k_group * PACKED_TILE * (size_t)bits / 8;
    const uint8_t *data = cut->data;
    __m512 f[6][4];

#pragma GCC unroll 6
    for (size_t r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < n_vectors; v++)
            f[r][v] = _mm512_setzero_ps();
    for (size_t group = 0; group < n_groups; group++) {
        __m512i acc[6][4];
        const int8_t *q = rows->q + group * k_group;

#pragma GCC unroll 6
        for (size_t r = 0; r < n_rows; r++)
#pragma GCC unroll 4
            for (size_t v = 0; v < n_vectors; v++)
                acc[r][v] = _mm512_set1_epi32(rows->starts[r * n_groups + group]);
#pragma GCC unroll 16
        for (size_t step = 0; step < k_group / 4; step++) {
            __m512i w[4];

#pragma GCC unroll 4
            for (size_t v = 0; v < n_vectors; v++) {
                size_t at = (bits == 4 ? step / 2 : step) * 256 + v * 64;

                w[v] = _mm512_load_si512(data + at);
                if (bits == 4 && step % 2)
                    w[v] = _mm512_srli_epi16(w[v], 4);
                if (bits == 4)
                    w[v] = _mm512_and_si512(w[v], low);
                else
                    asm("" : "+v"(w[v])); /* or gcc loads it again for every row */
            }
#pragma GCC unroll 6
            for (size_t r = 0; r < n_rows; r++) {
                __m512i x = broadcast4(q + r * k + step * 4);

#pragma GCC unroll 4
                for (size_t v = 0; v < n_vectors; v++)
                    dot(&acc[r][v], w[v], x);
            }
        }
#pragma GCC unroll 4
        for (size_t v = 0; v < n_vectors; v++) {
            __m512 scale = halves(cut->scales + group * PACKED_TILE + v * STRIP);

#pragma GCC unroll 6
            for (size_t r = 0; r < n_rows; r++) {
                __m512 product =
                    _mm512_mul_ps(scale, _mm512_set1_ps(rows->scales[r * n_groups + group]));

                f[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][v]), product, f[r][v]);
            }
            if (has_mins) {
                __m512 min = halves(cut->mins + group * PACKED_TILE + v * STRIP);

#pragma GCC unroll 6
                for (size_t r = 0; r < n_rows; r++)
                    f[r][v] = _mm512_fmadd_ps(min, _mm512_set1_ps(rows->sums[r * n_groups + group]),
                                              f[r][v]);
            }
        }
        if (n_vectors == 2)
            prefetch_next(cut, group, group_bytes);
        data += group_bytes;
    }
    store_rows(cut, rows, n_rows, n_vectors, f);
}

typedef void block_function(const struct cut *cut, const struct rows *rows);

#define BLOCK(name, bits, has_mins, k_group, n_rows, n_vectors)                                    \
    static void name(const struct cut *cut, const struct rows *rows)                               \
    {                                                                                              \
        multiply_block(cut, rows, bits, has_mins, k_group, n_rows, n_vectors);                     \
    }
#define WIDE_BLOCKS(kind, bits, has_mins, k_group)                                                 \
    BLOCK(kind##_1x4, bits, has_mins, k_group, 1, 4)                                               \
    BLOCK(kind##_2x4, bits, has_mins, k_group, 2, 4)                                               \
    BLOCK(kind##_3x4, bits, has_mins, k_group, 3, 4)
#define NARROW_BLOCKS(kind, bits, has_mins, k_group)                                               \
    BLOCK(kind##_1x2, bits, has_mins, k_group, 1, 2)                                               \
    BLOCK(kind##_2x2, bits, has_mins, k_group, 2, 2)                                               \
    BLOCK(kind##_3x2, bits, has_mins, k_group, 3, 2)                                               \
    BLOCK(kind##_4x2, bits, has_mins, k_group, 4, 2)                                               \
    BLOCK(kind##_5x2, bits, has_mins, k_group, 5, 2)                                               \
    BLOCK(kind##_6x2, bits, has_mins, k_group, 6, 2)

WIDE_BLOCKS(nibbles, 4, false, PACKED_GROUP)
NARROW_BLOCKS(nibbles, 4, false, PACKED_GROUP)
WIDE_BLOCKS(nibbles_wide_group, 4, false, PACKED_WIDE_GROUP)
NARROW_BLOCKS(nibbles_wide_group, 4, false, PACKED_WIDE_GROUP)
WIDE_BLOCKS(nibbles_mins, 4, true, PACKED_GROUP)
NARROW_BLOCKS(nibbles_mins, 4, true, PACKED_GROUP)
WIDE_BLOCKS(bytes, 8, false, PACKED_GROUP)

/* [kind][rows - 1] of 64 columns, and of 32 columns */
static block_function *const wide_blocks[N_WEIGHT_KINDS][3] = {
    [NIBBLES] = {nibbles_1x4, nibbles_2x4, nibbles_3x4},
    [NIBBLES_WIDE_GROUP] = {nibbles_wide_group_1x4, nibbles_wide_group_2x4, nibbles_wide_group_3x4},
    [NIBBLES_MINS] = {nibbles_mins_1x4, nibbles_mins_2x4, nibbles_mins_3x4},
    [BYTES] = {bytes_1x4, bytes_2x4, bytes_3x4},
};
static block_function *const narrow_blocks[BYTES][6] = {
    [NIBBLES] = {nibbles_1x2, nibbles_2x2, nibbles_3x2, nibbles_4x2, nibbles_5x2, nibbles_6x2},
    [NIBBLES_WIDE_GROUP] = {nibbles_wide_group_1x2, nibbles_wide_group_2x2, nibbles_wide_group_3x2,
                            nibbles_wide_group_4x2, nibbles_wide_group_5x2, nibbles_wide_group_6x2},
    [NIBBLES_MINS] = {nibbles_mins_1x2, nibbles_mins_2x2, nibbles_mins_3x2, nibbles_mins_4x2,
                      nibbles_mins_5x2, nibbles_mins_6x2},
};

/* Which of the columns of `strip` are both asked for and there. */
static __mmask16 strip_mask(size_t strip, size_t strip_begin, size_t strip_end, size_t n)
{
    size_t n_columns;

    if (strip < strip_begin || strip >= strip_end)
        return 0;
    n_columns = smaller(STRIP, n - strip * STRIP);
    return (__mmask16)((1u << n_columns) - 1);
}

/* Where the weights of `strip` and its neighbour begin. */
static void set_next(struct cut *cut, const struct packed_weight *w, size_t strip)
{
    size_t tile = strip / 4, column = strip % 4 * STRIP;

    cut->next_data =
        (const uint8_t *)w->data + tile * packed_tile_bytes(w->bits, w->k) + column * 4;
    cut->next_scales = w->scales + tile * cut->n_groups * PACKED_TILE + column;
}

/* 8 bit always takes whole tiles: streamed in order they come from memory twice as fast as the
 * two halves of a tile one after the other. 4 bit gains more by sharing an unpacking among 6 rows.
 */
static void multiply_quantized(const struct packed_weight *w, const struct quantized_rows *x,
                               size_t row_begin, size_t row_end, size_t strip_begin,
                               size_t strip_end, float *y)
{
    enum weight_kind kind = weight_kind(w);
    size_t n_groups = w->k / w->group, n_rows = row_end - row_begin;
    size_t wide = w->bits == 8 || n_rows <= 3 ? 4 : 2; /* strips at once */

    size_t n_strips = (w->n + STRIP - 1) / STRIP;

    strip_end = smaller(strip_end, n_strips);
    /* whole pairs (or tiles) are computed; the masks keep what lies outside from being written */
    for (size_t strip = strip_begin / wide * wide; strip < strip_end; strip += wide) {
        size_t tile = strip / 4, column = strip % 4 * STRIP;
        size_t first_scale = tile * n_groups * PACKED_TILE + column;
        struct cut cut = {
            .data = (const uint8_t *)w->data + tile * packed_tile_bytes(w->bits, w->k) + column * 4,
            .scales = w->scales + first_scale,
            .mins = w->mins ? w->mins + first_scale : NULL,
            .bias = w->bias ? w->bias + strip * STRIP : NULL,
            .n_groups = n_groups,
            .n = w->n,
        };

        cut.next_data = cut.data;
        cut.next_scales = cut.scales;
        for (size_t v = 0; v < wide; v++)
            cut.masks[v] = strip_mask(strip + v, strip_begin, strip_end, w->n);
        for (size_t row = row_begin; row < row_end;) {
            size_t n_block = rows_of_block(row_end - row, wide == 4 ? 3 : 6);
            struct rows rows = {
                .q = x->q + row * w->k,
                .scales = x->scales + row * n_groups,
                .starts = x->starts + row * n_groups,
                .sums = x->sums + row * n_groups,
                .y = y + row * w->n + strip * STRIP,
            };

            if (row + n_block == row_end && strip + wide < n_strips)
                set_next(&cut, w, strip + wide);
            if (wide == 4)
                wide_blocks[kind][n_block - 1](&cut, &rows);
            else
                narrow_blocks[kind][n_block - 1](&cut, &rows);
            row += n_block;
        }
    }
}

INLINE void multiply_f32_block(const struct packed_weight *w, const float *x, const float *data,
                               const size_t n_rows, const struct cut *cut, float *y)
{
    struct rows rows = {.y = y};
    __m512 f[6][4];

#pragma GCC unroll 6
    for (size_t r = 0; r < n_rows; r++)
        f[r][0] = f[r][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < w->k; k++) {
        __m512 first = _mm512_load_ps(data + k * PACKED_TILE);
        __m512 second = _mm512_load_ps(data + k * PACKED_TILE + STRIP);

#pragma GCC unroll 6
        for (size_t r = 0; r < n_rows; r++) {
            __m512 value = _mm512_set1_ps(x[r * w->k + k]);

            f[r][0] = _mm512_fmadd_ps(value, first, f[r][0]);
            f[r][1] = _mm512_fmadd_ps(value, second, f[r][1]);
        }
    }
    store_rows(cut, &rows, n_rows, 2, f);
}

static void multiply_f32(const struct packed_weight *w, const float *x, size_t row_begin,
                         size_t row_end, size_t strip_begin, size_t strip_end, float *y)
{
    strip_end = smaller(strip_end, (w->n + STRIP - 1) / STRIP);
    for (size_t strip = strip_begin / 2 * 2; strip < strip_end; strip += 2) {
        const float *data =
            (const float *)w->data + strip / 4 * w->k * PACKED_TILE + strip % 4 * STRIP;
        struct cut cut = {.bias = w->bias ? w->bias + strip * STRIP : NULL, .n = w->n};

        for (size_t v = 0; v < 2; v++)
            cut.masks[v] = strip_mask(strip + v, strip_begin, strip_end, w->n);
        for (size_t row = row_begin; row < row_end;) {
            size_t n_block = rows_of_block(row_end - row, 6);
            const float *values = x + row * w->k;
            float *out = y + row * w->n + strip * STRIP;

            switch (n_block) {
            case 1:
                multiply_f32_block(w, values, data, 1, &cut, out);
                break;
            case 2:
                multiply_f32_block(w, values, data, 2, &cut, out);
                break;
            case 3:
                multiply_f32_block(w, values, data, 3, &cut, out);
                break;
            case 4:
                multiply_f32_block(w, values, data, 4, &cut, out);
                break;
            case 5:
                multiply_f32_block(w, values, data, 5, &cut, out);
                break;
            default:
                multiply_f32_block(w, values, data, 6, &cut, out);
                break;
            }
            row += n_block;
        }
    }
}

const struct linear_kernels linear_avx512 = {
    .quantize_rows = quantize_rows,
    .multiply_quantized = multiply_quantized,
    .multiply_f32 = multiply_f32,
    .unpack_column = linear_unpack_column,
};
