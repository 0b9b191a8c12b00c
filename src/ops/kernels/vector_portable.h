/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors of 4 floats in the vector extension of gcc and clang: any machine. The names are
 * vector_avx512.h's, and so are their meanings; there is no fused multiply-add here, so that every
 * machine rounds alike.
 */
#ifndef KVERN_OPS_KERNELS_VECTOR_PORTABLE_H
#define KVERN_OPS_KERNELS_VECTOR_PORTABLE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    LANES = 4,
    TILE_QUERIES = 2,
    TILE_VECTORS = 4,
};

typedef float vector __attribute__((vector_size(16)));
typedef int32_t vector_bits __attribute__((vector_size(16)));
typedef uint16_t vector_halves __attribute__((vector_size(8)));

static inline vector vector_set(float x)
{
    return (vector){x, x, x, x};
}

static inline vector vector_load(const float *p)
{
    vector x;

    memcpy(&x, p, sizeof x);
    return x;
}

static inline void vector_store(float *p, vector x)
{
    memcpy(p, &x, sizeof x);
}

static inline vector vector_load_part(const float *p, size_t n)
{
    vector x = {0};

    memcpy(&x, p, n * sizeof *p);
    return x;
}

static inline void vector_store_part(float *p, vector x, size_t n)
{
    memcpy(p, &x, n * sizeof *p);
}

static inline vector vector_choose(vector_bits mask, vector yes, vector no)
{
    return (vector)((mask & (vector_bits)yes) | (~mask & (vector_bits)no));
}

/* The exponent is moved by a multiply, which is exact and takes subnormals along. */
static inline vector vector_load_f16(const uint16_t *p)
{
    vector_halves halves;

    memcpy(&halves, p, sizeof halves);
    vector_bits h = __builtin_convertvector(halves, vector_bits);
    vector_bits magnitude = (h & 0x7fff) << 13;
    vector_bits scaled = (vector_bits)((vector)magnitude * vector_set(0x1p112f));
    vector_bits special = (h & 0x7fff) >= 0x7c00;

    return (vector)(scaled | (special & 0x7f800000) | (h & 0x8000) << 16);
}

static inline uint16_t half_of_float(float x)
{
    uint32_t bits;
    uint32_t half;

    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits >= 0x47800000) { /* 65536 and up, infinity, NaN */
        half = bits > 0x7f800000 ? 0x7e00 : 0x7c00;
    } else if (bits < 0x38800000) { /* subnormal in f16: adding 0.5 rounds at the right bit */
        float shifted;

        memcpy(&shifted, &bits, sizeof shifted);
        shifted += 0.5F;
        memcpy(&half, &shifted, sizeof half);
        half -= 0x3f000000;
    } else {
        half = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
    }
    return (uint16_t)(half | sign);
}

static inline void vector_store_f16(uint16_t *p, vector x)
{
    for (size_t i = 0; i < LANES; i++)
        p[i] = half_of_float(x[i]);
}

static inline void vector_store_i16(int16_t *p, vector x)
{
    vector_bits whole = (vector_bits)(x + vector_set(0x1.8p23f)) - 0x4b400000;

    for (size_t i = 0; i < LANES; i++)
        p[i] = (int16_t)whole[i];
}

static inline vector vector_add(vector a, vector b)
{
    return a + b;
}

static inline vector vector_subtract(vector a, vector b)
{
    return a - b;
}

static inline vector vector_multiply(vector a, vector b)
{
    return a * b;
}

static inline vector vector_divide(vector a, vector b)
{
    return a / b;
}

static inline vector vector_fma(vector a, vector b, vector c)
{
    return a * b + c;
}

static inline vector vector_max(vector a, vector b)
{
    return vector_choose(a > b, a, b);
}

static inline vector vector_min(vector a, vector b)
{
    return vector_choose(a < b, a, b);
}

/* To the nearest whole number, for |x| < 2^22: beyond 1.5 * 2^23 a float holds no fraction. */
static inline vector vector_round(vector x)
{
    vector big = vector_set(0x1.8p23f);

    return (x + big) - big;
}

static inline vector vector_scale_by_power(vector x, vector n)
{
    vector_bits whole = (vector_bits)(n + vector_set(0x1.8p23f)) - 0x4b400000;
    vector_bits half = whole >> 1;
    vector_bits rest = whole - half;

    return x * (vector)((half + 127) << 23) * (vector)((rest + 127) << 23);
}

static inline vector vector_keep(vector x, size_t begin, size_t end, float other)
{
    vector_bits lane = {0, 1, 2, 3};
    vector_bits inside = (lane >= (int32_t)begin) & (lane < (int32_t)end);

    return vector_choose(inside, x, vector_set(other));
}

static inline void vector_transpose(vector rows[LANES])
{
    for (size_t i = 0; i < LANES; i++) {
        for (size_t j = i + 1; j < LANES; j++) {
            float x = rows[i][j];

            rows[i][j] = rows[j][i];
            rows[j][i] = x;
        }
    }
}

typedef vector_bits integers;

static inline integers integers_zero(void)
{
    return (integers){0};
}

static inline integers integers_load_i8(const int8_t *p)
{
    typedef int8_t bytes __attribute__((vector_size(8)));
    typedef int16_t words __attribute__((vector_size(16)));
    bytes x;

    memcpy(&x, p, sizeof x);
    return (integers) __builtin_convertvector(x, words);
}

static inline integers integers_set(uint32_t pair)
{
    int32_t x = (int32_t)pair;

    return (integers){x, x, x, x};
}

static inline vector integers_to_floats(integers x)
{
    return __builtin_convertvector(x, vector);
}

/* x86-64's baseline has no product of int32 vectors, but this one; both are exact. */
static inline integers integers_dot(integers a, integers b, integers acc)
{
#if defined(__SSE2__)
    return acc + (integers)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return acc + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

static inline float vector_largest(vector x)
{
    float a = x[0] > x[1] ? x[0] : x[1];
    float b = x[2] > x[3] ? x[2] : x[3];

    return a > b ? a : b;
}

static inline float vector_sum(vector x)
{
    return (x[0] + x[1]) + (x[2] + x[3]);
}

#endif
