/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors of 16 floats on AVX-512: the one vocabulary attention_impl.h and rows_impl.h are written
 * in. vector_avx2.h and vector_portable.h give the same names; what each means is said here once.
 * No function here reduces in an order that depends on anything but the lane.
 */
#ifndef KVERN_OPS_KERNELS_VECTOR_AVX512_H
#define KVERN_OPS_KERNELS_VECTOR_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 vector;

enum {
    LANES = 16,
    /* multiply_tile keeps queries x vectors sums in registers: as many as this set has room for. */
    TILE_QUERIES = 6,
    TILE_VECTORS = 4,
};

static inline vector vector_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vector vector_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vector_store(float *p, vector x)
{
    _mm512_storeu_ps(p, x);
}

/* The first n lanes, n < LANES; the others are 0 and their memory is not touched. */
static inline vector vector_load_part(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1U << n) - 1), p);
}

static inline void vector_store_part(float *p, vector x, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1U << n) - 1), x);
}

static inline vector vector_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* LANES whole numbers in range, each rounded to nearest even. */
static inline void vector_store_i16(int16_t *p, vector x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
}

/* Rounds to nearest even. */
static inline void vector_store_f16(uint16_t *p, vector x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline vector vector_add(vector a, vector b)
{
    return _mm512_add_ps(a, b);
}

static inline vector vector_subtract(vector a, vector b)
{
    return _mm512_sub_ps(a, b);
}

static inline vector vector_multiply(vector a, vector b)
{
    return _mm512_mul_ps(a, b);
}

static inline vector vector_divide(vector a, vector b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once where the set has fused multiply-add. */
static inline vector vector_fma(vector a, vector b, vector c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Where either is NaN: b. */
static inline vector vector_max(vector a, vector b)
{
    return _mm512_max_ps(a, b);
}

static inline vector vector_min(vector a, vector b)
{
    return _mm512_min_ps(a, b);
}

static inline vector vector_round(vector x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for whole n in [-160, 130]; overflows to infinity, underflows through subnormals to 0. */
static inline vector vector_scale_by_power(vector x, vector n)
{
    return _mm512_scalef_ps(x, n);
}

/* x in lanes [begin, end), `other` elsewhere; 0 <= begin <= end <= LANES. */
static inline vector vector_keep(vector x, size_t begin, size_t end, float other)
{
    __mmask16 inside = (__mmask16)(((1U << end) - 1) & ~((1U << begin) - 1));

    return _mm512_mask_blend_ps(inside, _mm512_set1_ps(other), x);
}

/* Turns LANES vectors: lane i of rows[j] and lane j of rows[i] change places. */
static inline void vector_transpose(vector rows[LANES])
{
    vector v[LANES];

#pragma GCC unroll 8
    for (size_t i = 0; i < 16; i += 2) {
        v[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        v[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 16; i += 4) { /* columns i, i + 1, .. of 4 rows, in each 128 bits */
        __m512d a = _mm512_castps_pd(v[i]);
        __m512d b = _mm512_castps_pd(v[i + 1]);
        __m512d c = _mm512_castps_pd(v[i + 2]);
        __m512d d = _mm512_castps_pd(v[i + 3]);

        rows[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        rows[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        rows[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        rows[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0x88);
        v[i + 4] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0xdd);
        v[i + 8] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_f32x4(v[i], v[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_f32x4(v[i], v[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_f32x4(v[i + 4], v[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_f32x4(v[i + 4], v[i + 12], 0xdd);
    }
}

/* LANES pairs of int16, the first of a pair in the low half; or LANES int32. */
typedef __m512i integers;

static inline integers integers_zero(void)
{
    return _mm512_setzero_si512();
}

/* LANES pairs of int8. */
static inline integers integers_load_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

static inline integers integers_set(uint32_t pair)
{
    return _mm512_set1_epi32((int)pair);
}

static inline vector integers_to_floats(integers x)
{
    return _mm512_cvtepi32_ps(x);
}

/* acc + first * first + second * second, exact. Not the intrinsic: gcc 12 copies registers. */
static inline integers integers_dot(integers a, integers b, integers acc)
{
    asm("vpdpwssd %2,%1,%0" : "+v"(acc) : "v"(b), "v"(a));
    return acc;
}

#ifdef VECTOR_HAS_PAIRS
/* 16 pairs of bf16, the first of a pair in the low half. Only where attention_avx512bf16.c asks. */
typedef __m512i pairs;

static inline pairs pairs_load(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline void pairs_store(uint32_t *p, pairs x)
{
    _mm512_storeu_si512(p, x);
}

static inline pairs pairs_set(uint32_t pair)
{
    return _mm512_set1_epi32((int)pair);
}

static inline pairs pairs_mask(pairs x, uint32_t mask)
{
    return _mm512_and_si512(x, _mm512_set1_epi32((int)mask));
}

/* Rounds both to nearest even. */
static inline pairs pairs_make(vector first, vector second)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

/* 16 pairs of neighbours out of 32 consecutive values. */
static inline pairs pairs_of_neighbours(vector first, vector second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

static inline vector pairs_as_vector(pairs x)
{
    return _mm512_castsi512_ps(x);
}

/* The lanes of x, rounded, as 8 pairs of neighbours; returns what they were rounded to. */
static inline vector pairs_store_neighbours(uint32_t *p, vector x)
{
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh(x);

    _mm256_storeu_si256((__m256i *)p, rounded);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}

/* acc + second * second, then + first * first. Not the intrinsic: gcc 12 copies registers. */
static inline vector pairs_dot(pairs a, pairs b, vector acc)
{
    asm("vdpbf16ps %2,%1,%0" : "+v"(acc) : "v"(b), "v"(a));
    return acc;
}
#endif

static inline float vector_largest(vector x)
{
    return _mm512_reduce_max_ps(x);
}

static inline float vector_sum(vector x)
{
    return _mm512_reduce_add_ps(x);
}

#endif
