/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine's AVX-512 peaks: independent accumulators, no memory.
 */
#if defined(__x86_64__)

#include "ops/kernels/kernels.h"

#include <immintrin.h>

enum { N_CHAINS = 12, LANES = 16 };

static double int8_operations(size_t n_rounds)
{
    __m512i sums[N_CHAINS];
    __m512i w = _mm512_set1_epi8(3);
    __m512i x = _mm512_set1_epi8(1);

    for (int i = 0; i < N_CHAINS; i++)
        sums[i] = _mm512_setzero_si512();
    for (size_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < N_CHAINS; i++)
            __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sums[i]) : "v"(w), "v"(x));
    }
    return (double)n_rounds * N_CHAINS * 4 * LANES * 2;
}

static double f32_operations(size_t n_rounds)
{
    __m512 sums[N_CHAINS];
    __m512 w = _mm512_set1_ps(0.5f);
    __m512 x = _mm512_set1_ps(0.25f);

    for (int i = 0; i < N_CHAINS; i++)
        sums[i] = _mm512_setzero_ps();
    for (size_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < N_CHAINS; i++)
            __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(sums[i]) : "v"(w), "v"(x));
    }
    return (double)n_rounds * N_CHAINS * LANES * 2;
}

const struct peak_kernels peak_avx512 = {int8_operations, f32_operations};

#endif
