/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner product of attention: C[m, n] from A[m, k] and B[k, n], for a few rows m and vectors n,
 * with all sums in registers. It serves q.k (k runs over the head, n over keys) and p.v (k runs
 * over keys, n over the head).
 *
 * Each sum is one chain of fused multiply-adds in order of k, whatever the shape of the tile: the
 * shape changes speed and never a bit. Include one vector_<isa>.h first; where it defines
 * VECTOR_HAS_PAIRS, A and B may also be pairs of bf16, two steps of k in one.
 */
#ifndef KVERN_OPS_KERNELS_MULTIPLY_TILE_H
#define KVERN_OPS_KERNELS_MULTIPLY_TILE_H

#include <stdbool.h>
#include <stdint.h>

enum { MULTIPLY_ROWS = 8 }; /* the most rows of a call */

/* What B is. Pairs hold k = 2i in the low and 2i + 1 in the high half of a 32-bit element. */
enum multiply_kind {
    MULTIPLY_F32,
    MULTIPLY_F16,       /* made f32 on the way */
    MULTIPLY_PAIRS,     /* of bf16; A likewise */
    MULTIPLY_F16_PAIRS, /* f16, made pairs on the way; A is pairs */
};

struct multiply {
    const void *a; /* [rows, n_k] f32 or pairs, rows a_stride elements apart */
    size_t a_stride;
    const void *b[4];     /* vector j of step k lies at b[j] + k * b_stride */
    size_t b_stride;      /* in elements */
    const void *ahead[4]; /* f16 only: prefetched in step with b, for a later call */
    size_t n_k;           /* steps; of pairs: pairs */
    uint32_t
        first_mask; /* pairs: the halves of the first and last step of B that count: where one */
    uint32_t last_mask; /* is outside, its bits may be anything */
    float *c;           /* [rows, vectors of LANES], rows c_stride floats apart */
    size_t c_stride;
    const float *rescale; /* NULL: C starts at 0; else row i starts at C * rescale[i] */
};

#define MULTIPLY_INLINE static inline __attribute__((always_inline)) void

/* acc = 0, or what C was, rescaled. Inlined with constant shape, as all below, so that the loops
 * unroll and acc lives in registers. */
MULTIPLY_INLINE start_sums(const size_t n_rows, const size_t n_vectors, const struct multiply *t,
                           vector acc[][4])
{
#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            acc[i][j] = t->rescale
                            ? vector_multiply(vector_load(t->c + i * t->c_stride + j * LANES),
                                              vector_set(t->rescale[i]))
                            : vector_set(0.0F);
    }
}

/* One step of k. */
MULTIPLY_INLINE add_step(const size_t n_rows, const size_t n_vectors, const bool is_f16, size_t k,
                         const struct multiply *t, vector acc[][4])
{
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
        vector a = vector_set(((const float *)t->a)[i * t->a_stride + k]);

#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            acc[i][j] = vector_fma(a, b[j], acc[i][j]);
    }
}

#ifdef VECTOR_HAS_PAIRS
/* One step of pairs. */
MULTIPLY_INLINE add_pairs(const size_t n_rows, const size_t n_vectors, const bool is_f16, size_t k,
                          const struct multiply *t, vector acc[][4])
{
    uint32_t mask =
        (k == 0 ? t->first_mask : UINT32_MAX) & (k + 1 == t->n_k ? t->last_mask : UINT32_MAX);
    pairs b[4];

#pragma GCC unroll 4
    for (size_t j = 0; j < n_vectors && is_f16; j++) {
        const uint16_t *ahead = (const uint16_t *)t->ahead[j] + 2 * k * t->b_stride;

        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + t->b_stride, 0, 2);
    }
#pragma GCC unroll 4
    for (size_t j = 0; j < n_vectors; j++) {
        const uint16_t *low = (const uint16_t *)t->b[j] + 2 * k * t->b_stride;

        b[j] = is_f16 ? pairs_make(vector_load_f16(low), vector_load_f16(low + t->b_stride))
                      : pairs_load((const uint32_t *)t->b[j] + k * t->b_stride);
        b[j] = pairs_mask(b[j], mask);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
        pairs a = pairs_set(((const uint32_t *)t->a)[i * t->a_stride + k]);

#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            acc[i][j] = pairs_dot(a, b[j], acc[i][j]);
    }
}
#endif

MULTIPLY_INLINE multiply_shape(const size_t n_rows, const size_t n_vectors,
                               const enum multiply_kind kind, const struct multiply *t)
{
    const bool is_f16 = kind == MULTIPLY_F16 || kind == MULTIPLY_F16_PAIRS;
    vector acc[8][4];

    start_sums(n_rows, n_vectors, t, acc);
    for (size_t k = 0; k < t->n_k; k++) {
#ifdef VECTOR_HAS_PAIRS
        if (kind == MULTIPLY_PAIRS || kind == MULTIPLY_F16_PAIRS)
            add_pairs(n_rows, n_vectors, is_f16, k, t, acc);
        else
#endif
            add_step(n_rows, n_vectors, is_f16, k, t, acc);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            vector_store(t->c + i * t->c_stride + j * LANES, acc[i][j]);
    }
}

MULTIPLY_INLINE multiply_rows(size_t n_rows, const size_t n_vectors, const enum multiply_kind kind,
                              const struct multiply *t)
{
    switch (n_rows) {
    case 1:
        multiply_shape(1, n_vectors, kind, t);
        break;
    case 2:
        multiply_shape(2, n_vectors, kind, t);
        break;
    case 3:
        multiply_shape(3, n_vectors, kind, t);
        break;
    case 4:
        multiply_shape(4, n_vectors, kind, t);
        break;
    case 5:
        multiply_shape(5, n_vectors, kind, t);
        break;
    case 6:
        multiply_shape(6, n_vectors, kind, t);
        break;
    case 7:
        multiply_shape(7, n_vectors, kind, t);
        break;
    default:
        multiply_shape(8, n_vectors, kind, t);
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

typedef void multiply_function(size_t n_rows, const struct multiply *t);

#define MULTIPLY_FUNCTION(name, n_vectors, kind)                                                   \
    static __attribute__((noinline)) void name(size_t n_rows, const struct multiply *t)            \
    {                                                                                              \
        multiply_rows(n_rows, n_vectors, kind, t);                                                 \
    }
MULTIPLY_FUNCTION(multiply_1_f32, 1, MULTIPLY_F32)
MULTIPLY_FUNCTION(multiply_2_f32, 2, MULTIPLY_F32)
MULTIPLY_FUNCTION(multiply_4_f32, 4, MULTIPLY_F32)
#ifdef VECTOR_HAS_PAIRS
MULTIPLY_FUNCTION(multiply_1_pairs, 1, MULTIPLY_PAIRS)
MULTIPLY_FUNCTION(multiply_2_pairs, 2, MULTIPLY_PAIRS)
MULTIPLY_FUNCTION(multiply_4_pairs, 4, MULTIPLY_PAIRS)
MULTIPLY_FUNCTION(multiply_1_f16_pairs, 1, MULTIPLY_F16_PAIRS)
MULTIPLY_FUNCTION(multiply_2_f16_pairs, 2, MULTIPLY_F16_PAIRS)
MULTIPLY_FUNCTION(multiply_4_f16_pairs, 4, MULTIPLY_F16_PAIRS)
#else
MULTIPLY_FUNCTION(multiply_1_f16, 1, MULTIPLY_F16)
MULTIPLY_FUNCTION(multiply_2_f16, 2, MULTIPLY_F16)
MULTIPLY_FUNCTION(multiply_4_f16, 4, MULTIPLY_F16)
#endif
#undef MULTIPLY_FUNCTION
#undef MULTIPLY_INLINE

/* [kind][n_vectors / 2]; a set with pairs has no use for f16 alone. */
static multiply_function *const multiply_functions[][3] = {
    [MULTIPLY_F32] = {multiply_1_f32, multiply_2_f32, multiply_4_f32},
#ifdef VECTOR_HAS_PAIRS
    [MULTIPLY_PAIRS] = {multiply_1_pairs, multiply_2_pairs, multiply_4_pairs},
    [MULTIPLY_F16_PAIRS] = {multiply_1_f16_pairs, multiply_2_f16_pairs, multiply_4_f16_pairs},
#else
    [MULTIPLY_F16] = {multiply_1_f16, multiply_2_f16, multiply_4_f16},
#endif
};

/* n_rows <= MULTIPLY_ROWS; n_vectors 1, 2 or 4, as multiply_width gave it. */
static inline void multiply(size_t n_rows, size_t n_vectors, enum multiply_kind kind,
                            const struct multiply *t)
{
    multiply_functions[kind][n_vectors / 2](n_rows, t);
}

#endif
