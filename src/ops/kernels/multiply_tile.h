/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner product of attention: C[m, n] from A[m, k] and B[k, n], for a few rows m and vectors n,
 * with all sums in registers. It serves q.k (k runs over the head, n over keys) and p.v (k runs
 * over keys, n over the head).
 *
 * Each sum is one chain of fused multiply-adds in order of k, whatever the shape of the tile: the
 * shape changes speed and never a bit. Include one vector_<isa>.h first.
 */
#ifndef KVERN_OPS_KERNELS_MULTIPLY_TILE_H
#define KVERN_OPS_KERNELS_MULTIPLY_TILE_H

#include <stdbool.h>

enum { MULTIPLY_ROWS = 8 }; /* the most rows of a call */

struct multiply {
    const float *a; /* [rows, n_k], rows a_stride floats apart */
    size_t a_stride;
    const void *b[4];     /* vector j of step k lies at b[j] + k * b_stride */
    size_t b_stride;      /* in elements */
    const void *ahead[4]; /* f16 only: prefetched in step with b, for a later call */
    size_t n_k;
    float *c; /* [rows, vectors of LANES], rows c_stride floats apart */
    size_t c_stride;
    const float *rescale; /* NULL: C starts at 0; else row i starts at C * rescale[i] */
};

/* Inlined with constant shape, so that the loops unroll and acc lives in registers. */
static inline __attribute__((always_inline)) void multiply_shape(const size_t n_rows,
                                                                 const size_t n_vectors,
                                                                 const bool is_f16,
                                                                 const struct multiply *t)
{
    vector acc[8][4];

#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            acc[i][j] = t->rescale
                            ? vector_multiply(vector_load(t->c + i * t->c_stride + j * LANES),
                                              vector_set(t->rescale[i]))
                            : vector_set(0.0F);
    }
    for (size_t k = 0; k < t->n_k; k++) {
        vector b[4];

#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors && is_f16; j++)
            __builtin_prefetch((const uint16_t *)t->ahead[j] + k * t->b_stride, 0, 2);
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            b[j] = is_f16 ? vector_load_f16((const uint16_t *)t->b[j] + k * t->b_stride)
                          : vector_load((const float *)t->b[j] + k * t->b_stride);
#pragma GCC unroll 8
        for (size_t i = 0; i < n_rows; i++) {
            vector a = vector_set(t->a[i * t->a_stride + k]);

#pragma GCC unroll 4
            for (size_t j = 0; j < n_vectors; j++)
                acc[i][j] = vector_fma(a, b[j], acc[i][j]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            vector_store(t->c + i * t->c_stride + j * LANES, acc[i][j]);
    }
}

static inline __attribute__((always_inline)) void
multiply_rows(size_t n_rows, const size_t n_vectors, const bool is_f16, const struct multiply *t)
{
    switch (n_rows) {
    case 1:
        multiply_shape(1, n_vectors, is_f16, t);
        break;
    case 2:
        multiply_shape(2, n_vectors, is_f16, t);
        break;
    case 3:
        multiply_shape(3, n_vectors, is_f16, t);
        break;
    case 4:
        multiply_shape(4, n_vectors, is_f16, t);
        break;
    case 5:
        multiply_shape(5, n_vectors, is_f16, t);
        break;
    case 6:
        multiply_shape(6, n_vectors, is_f16, t);
        break;
    case 7:
        multiply_shape(7, n_vectors, is_f16, t);
        break;
    default:
        multiply_shape(8, n_vectors, is_f16, t);
        break;
    }
}

/* How many of the n_left vectors the next tile takes. */
static inline size_t multiply_width(size_t n_rows, size_t n_left)
{
    if (n_left >= 4 && TILE_VECTORS >= 4 && n_rows <= TILE_QUERIES)
        return 4;
    return n_left >= 2 && n_rows * 2 <= (size_t)TILE_QUERIES * TILE_VECTORS ? 2 : 1;
}

#define MULTIPLY_FUNCTION(name, n_vectors, is_f16)                                                 \
    static __attribute__((noinline)) void name(size_t n_rows, const struct multiply *t)            \
    {                                                                                              \
        multiply_rows(n_rows, n_vectors, is_f16, t);                                               \
    }
MULTIPLY_FUNCTION(multiply_1_f32, 1, false)
MULTIPLY_FUNCTION(multiply_2_f32, 2, false)
MULTIPLY_FUNCTION(multiply_4_f32, 4, false)
MULTIPLY_FUNCTION(multiply_1_f16, 1, true)
MULTIPLY_FUNCTION(multiply_2_f16, 2, true)
MULTIPLY_FUNCTION(multiply_4_f16, 4, true)
#undef MULTIPLY_FUNCTION

/* n_rows <= MULTIPLY_ROWS; n_vectors 1, 2 or 4, as multiply_width gave it. */
static inline void multiply(size_t n_rows, size_t n_vectors, bool is_f16, const struct multiply *t)
{
    if (n_vectors == 4)
        (is_f16 ? multiply_4_f16 : multiply_4_f32)(n_rows, t);
    else if (n_vectors == 2)
        (is_f16 ? multiply_2_f16 : multiply_2_f32)(n_rows, t);
    else
        (is_f16 ? multiply_1_f16 : multiply_1_f32)(n_rows, t);
}

#endif
