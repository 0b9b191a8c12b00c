/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors of 8 floats on AVX2, FMA and F16C. The names are vector_avx512.h's, and so are their
 * meanings.
 */
#ifndef KVERN_OPS_KERNELS_VECTOR_AVX2_H
#define KVERN_OPS_KERNELS_VECTOR_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef __m256 vector;

enum {
    LANES = 8,
    TILE_QUERIES = 6,
    TILE_VECTORS = 2,
};

static inline vector vector_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vector vector_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vector_store(float *p, vector x)
{
    _mm256_storeu_ps(p, x);
}

static inline vector vector_load_part(const float *p, size_t n)
{
    float all[LANES] = {0};

    memcpy(all, p, n * sizeof *p);
    return vector_load(all);
}

static inline void vector_store_part(float *p, vector x, size_t n)
{
    float all[LANES];

    vector_store(all, x);
    memcpy(p, all, n * sizeof *p);
}

static inline vector vector_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline void vector_store_i16(int16_t *p, vector x)
{
    __m256i whole = _mm256_cvtps_epi32(x);

    _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole),
                                                   _mm256_extracti128_si256(whole, 1)));
}

static inline void vector_store_f16(uint16_t *p, vector x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline vector vector_add(vector a, vector b)
{
    return _mm256_add_ps(a, b);
}

static inline vector vector_subtract(vector a, vector b)
{
    return _mm256_sub_ps(a, b);
}

static inline vector vector_multiply(vector a, vector b)
{
    return _mm256_mul_ps(a, b);
}

static inline vector vector_divide(vector a, vector b)
{
    return _mm256_div_ps(a, b);
}

static inline vector vector_fma(vector a, vector b, vector c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vector vector_max(vector a, vector b)
{
    return _mm256_max_ps(a, b);
}

static inline vector vector_min(vector a, vector b)
{
    return _mm256_min_ps(a, b);
}

static inline vector vector_round(vector x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* In two factors: 2^n alone does not fit a float at either end of the range. */
static inline vector vector_scale_by_power(vector x, vector n)
{
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));

    return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}

static inline vector vector_keep(vector x, size_t begin, size_t end, float other)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i from = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32((int)begin - 1));
    __m256i inside = _mm256_and_si256(from, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), lane));

    return _mm256_blendv_ps(_mm256_set1_ps(other), x, _mm256_castsi256_ps(inside));
}

static inline void vector_transpose(vector rows[LANES])
{
    vector v[LANES];

#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
        v[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        v[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < 8; i += 4) {
        rows[i] = _mm256_shuffle_ps(v[i], v[i + 2], 0x44);
        rows[i + 1] = _mm256_shuffle_ps(v[i], v[i + 2], 0xee);
        rows[i + 2] = _mm256_shuffle_ps(v[i + 1], v[i + 3], 0x44);
        rows[i + 3] = _mm256_shuffle_ps(v[i + 1], v[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        vector low = _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x20);

        rows[i + 4] = _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x31);
        rows[i] = low;
    }
}

typedef __m256i integers;

static inline integers integers_zero(void)
{
    return _mm256_setzero_si256();
}

static inline integers integers_load_i8(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static inline integers integers_set(uint32_t pair)
{
    return _mm256_set1_epi32((int)pair);
}

static inline vector integers_to_floats(integers x)
{
    return _mm256_cvtepi32_ps(x);
}

static inline integers integers_dot(integers a, integers b, integers acc)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}

static inline float vector_largest(vector x)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

static inline float vector_sum(vector x)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

#endif
