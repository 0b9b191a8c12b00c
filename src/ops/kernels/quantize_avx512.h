/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize_rows() with AVX-512: what quantize_group() does, bit for bit. Groups are taken 16 at a
 * time, so that their largest values and their sums come out as the lanes of one vector: a
 * horizontal reduction and a division for each group cost more than the rounding itself. Included
 * by linear_avx512.c.
 */
#ifndef KVERN_OPS_KERNELS_QUANTIZE_AVX512_H
#define KVERN_OPS_KERNELS_QUANTIZE_AVX512_H

#include "ops/kernels/linear_common.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { AT_ONCE = 16 }; /* groups */

INLINE __m512i combine(__m512i a, __m512i b, const bool is_sum)
{
    return is_sum ? _mm512_add_epi32(a, b) : _mm512_max_epu32(a, b);
}

/* v[i] becomes the reduction, within each 128-bit lane, of 4 vectors: lane = v[4i] to v[4i + 3]. */
INLINE void reduce_within_lanes(__m512i *v, const size_t n, const bool is_sum)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < n / 2; i++)
        v[i] = combine(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                       _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]), is_sum);
#pragma GCC unroll 4
    for (size_t i = 0; i < n / 4; i++)
        v[i] = combine(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]),
                       _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]), is_sum);
}

/* Halves the number of lanes that make up a result: those of a come first, then those of b. */
INLINE __m512i reduce_lanes(__m512i a, __m512i b, const bool is_sum)
{
    return combine(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd), is_sum);
}

/* Lane i of the result is the reduction of v[i] over its 16 lanes. */
INLINE __m512i reduce_16(__m512i *v, const bool is_sum)
{
    reduce_within_lanes(v, 16, is_sum);
    return reduce_lanes(reduce_lanes(v[0], v[1], is_sum), reduce_lanes(v[2], v[3], is_sum), is_sum);
}

/* The same of 8 vectors, each of which holds two groups. */
INLINE __m512i sum_halves(__m512i *v)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);

    reduce_within_lanes(v, 8, true);
    return _mm512_permutexvar_epi32(order, reduce_lanes(v[0], v[1], true));
}

/* 64 values times a factor for each half, rounded to nearest even, as bytes. */
INLINE __m512i round_64(const float *x, float first, float second)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i v[4];

#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        v[i] = _mm512_cvtps_epi32(
            _mm512_mul_ps(_mm512_loadu_ps(x + i * 16), _mm512_set1_ps(i < 2 ? first : second)));
    return _mm512_permutexvar_epi32(
        order, _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3])));
}

/* Groups [i, i + 16). False, with nothing done, if one needs the care of quantize_group(). */
INLINE bool quantize_16(const float *x, const size_t group, int32_t zero_point, size_t i,
                        struct quantized_rows *out)
{
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    const size_t n_bytes = AT_ONCE * group;
    float inverses[AT_ONCE];
    __m512i v[AT_ONCE];
    __m512 largest;

    x += i * group;
#pragma GCC unroll 16
    for (size_t g = 0; g < AT_ONCE; g++) {
        v[g] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (size_t at = 0; at < group; at += 16)
            v[g] = _mm512_max_epu32(
                v[g], _mm512_and_si512(_mm512_loadu_si512(x + g * group + at), no_sign));
    }
    largest = _mm512_castsi512_ps(reduce_16(v, false));
    if (_mm512_cmp_ps_mask(largest, _mm512_set1_ps(QUANTIZE_SMALLEST), _CMP_NGE_UQ) ||
        _mm512_cmp_ps_mask(largest, _mm512_set1_ps(INFINITY), _CMP_EQ_OQ))
        return false;
    __m512 scales = _mm512_div_ps(largest, _mm512_set1_ps(127.0f));
    _mm512_storeu_ps(inverses, _mm512_div_ps(_mm512_set1_ps(127.0f), largest));
    for (size_t at = 0, n = 0; at < n_bytes; at += 64, n++) {
        __m512i q = round_64(x + at, inverses[at / group], inverses[(at + 32) / group]);

        _mm512_storeu_si512(out->q + i * group + at, q);
        v[n] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
    }
    __m512i totals = group == PACKED_GROUP ? sum_halves(v) : reduce_16(v, true);
    _mm512_storeu_ps(out->scales + i, scales);
    _mm512_storeu_ps(out->sums + i, _mm512_mul_ps(scales, _mm512_cvtepi32_ps(totals)));
    _mm512_storeu_si512(out->starts + i,
                        _mm512_mullo_epi32(totals, _mm512_set1_epi32(-zero_point)));
    return true;
}

INLINE void quantize_groups(const float *x, const size_t group, int32_t zero_point, size_t begin,
                            size_t end, struct quantized_rows *out)
{
    bool has_many = end - begin >= AT_ONCE;

    while (begin < end) {
        /* the last 16 may take some groups a second time, to the same result */
        size_t first = has_many && end - begin < AT_ONCE ? end - AT_ONCE : begin;
        size_t stop = has_many ? first + AT_ONCE : end;

        if (!has_many || !quantize_16(x, group, zero_point, first, out))
            for (size_t i = begin; i < stop; i++)
                quantize_group(x + i * group, group, zero_point, out->q + i * group,
                               &out->scales[i], &out->starts[i], &out->sums[i]);
        begin = stop;
    }
}

static void quantize_rows(const float *x, size_t row_begin, size_t row_end, size_t k, size_t group,
                          int32_t zero_point, struct quantized_rows *out)
{
    size_t begin = row_begin * (k / group), end = row_end * (k / group);

    if (group == PACKED_GROUP)
        quantize_groups(x, PACKED_GROUP, zero_point, begin, end, out);
    else
        quantize_groups(x, PACKED_WIDE_GROUP, zero_point, begin, end, out);
}

#endif
