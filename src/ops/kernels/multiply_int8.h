/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner product of attention over an int8 cache: C[m, n] = row_scale[m] * (A[m, k] . B[k, n]),
 * A of int16 and B of int8 straight from the blocks of the pool, k taken in pairs. Sums are int32
 * and exact, so neither the shape of a tile nor the order of k can show in the result.
 *
 * It is multiply_tile.h's shape on `integers` of a vector_<isa>.h; a sum of 64 keys, or of a head
 * of 256, of 15-bit by 7-bit products stays below 2^31.
 */
#ifndef KVERN_OPS_KERNELS_MULTIPLY_INT8_H
#define KVERN_OPS_KERNELS_MULTIPLY_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MULTIPLY_RUNS = 4 };

/* A stretch of k whose pairs of B lie evenly apart. */
struct multiply_run {
    const int8_t *b[4];     /* vector j (LANES pairs) of step k lies at b[j] + k * b_stride */
    const int8_t *ahead[4]; /* prefetched in step with b, for a later call */
    size_t n_k;             /* steps: pairs */
};

struct multiply_int8 {
    const int16_t *a; /* [rows, 2 * steps of all runs], rows a_stride elements apart */
    size_t a_stride;
    struct multiply_run runs[MULTIPLY_RUNS];
    size_t n_runs;
    size_t b_stride; /* bytes */
    float *c;        /* [rows, vectors of LANES], rows c_stride floats apart */
    size_t c_stride;
    const float *row_scale; /* [rows] */
    const float *rescale;   /* [rows]: C * rescale is added; NULL: nothing is */
};

#define MULTIPLY_INLINE static inline __attribute__((always_inline)) void

/* Inlined with constant shape, so that the loops unroll and acc lives in registers. */
MULTIPLY_INLINE add_run(const size_t n_rows, const size_t n_vectors, const struct multiply_run *run,
                        size_t b_stride, const int16_t *a, size_t a_stride, integers acc[][4])
{
    for (size_t k = 0; k < run->n_k; k++) {
        integers b[4];

#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++) {
            __builtin_prefetch(run->ahead[j] + k * b_stride, 0, 2);
            b[j] = integers_load_i8(run->b[j] + k * b_stride);
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < n_rows; i++) {
            uint32_t pair;

            memcpy(&pair, a + i * a_stride + 2 * k, sizeof pair);
            integers both = integers_set(pair);
#pragma GCC unroll 4
            for (size_t j = 0; j < n_vectors; j++)
                acc[i][j] = integers_dot(both, b[j], acc[i][j]);
        }
    }
}

MULTIPLY_INLINE multiply_int8_shape(const size_t n_rows, const size_t n_vectors,
                                    const struct multiply_int8 *t)
{
    const int16_t *a = t->a;
    integers acc[8][4];

#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++)
            acc[i][j] = integers_zero();
    }
    for (size_t r = 0; r < t->n_runs; r++) {
        add_run(n_rows, n_vectors, &t->runs[r], t->b_stride, a, t->a_stride, acc);
        a += 2 * t->runs[r].n_k;
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < n_rows; i++) {
        vector scale = vector_set(t->row_scale[i]);

#pragma GCC unroll 4
        for (size_t j = 0; j < n_vectors; j++) {
            float *c = t->c + i * t->c_stride + j * LANES;
            vector sum = integers_to_floats(acc[i][j]);

            if (t->rescale) {
                vector old = vector_multiply(vector_load(c), vector_set(t->rescale[i]));

                vector_store(c, vector_fma(sum, scale, old));
            } else {
                vector_store(c, vector_multiply(sum, scale));
            }
        }
    }
}

MULTIPLY_INLINE multiply_int8_rows(size_t n_rows, const size_t n_vectors,
                                   const struct multiply_int8 *t)
{
    switch (n_rows) {
    case 1:
        multiply_int8_shape(1, n_vectors, t);
        break;
    case 2:
        multiply_int8_shape(2, n_vectors, t);
        break;
    case 3:
        multiply_int8_shape(3, n_vectors, t);
        break;
    case 4:
        multiply_int8_shape(4, n_vectors, t);
        break;
    case 5:
        multiply_int8_shape(5, n_vectors, t);
        break;
    case 6:
        multiply_int8_shape(6, n_vectors, t);
        break;
    case 7:
        multiply_int8_shape(7, n_vectors, t);
        break;
    default:
        multiply_int8_shape(8, n_vectors, t);
        break;
    }
}

#undef MULTIPLY_INLINE

/* n_rows <= MULTIPLY_ROWS; n_vectors 1, 2 or 4, as multiply_width gave it. */
static void multiply_int8(size_t n_rows, size_t n_vectors, const struct multiply_int8 *t)
{
    if (n_vectors == 4)
        multiply_int8_rows(n_rows, 4, t);
    else if (n_vectors == 2)
        multiply_int8_rows(n_rows, 2, t);
    else
        multiply_int8_rows(n_rows, 1, t);
}

#endif
