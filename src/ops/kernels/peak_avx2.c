/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine's AVX2 peaks: maddubs + madd + add for int8, as the kernels must do without VNNI.
 */
#if defined(__x86_64__)

#include "ops/kernels/kernels.h"

#include <immintrin.h>

enum { N_CHAINS = 8, LANES = 8 };

static double int8_operations(size_t n_rounds)
{
    __m256i sums[N_CHAINS];
    __m256i w = _mm256_set1_epi8(3);
    __m256i x = _mm256_set1_epi8(1);
    __m256i ones = _mm256_set1_epi16(1);

    for (int i = 0; i < N_CHAINS; i++)
        sums[i] = _mm256_setzero_si256();
    for (size_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < N_CHAINS; i++) {
            __m256i products;

            __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(products) : "x"(w), "x"(x));
            __asm__ volatile("vpmaddwd %1, %0, %0" : "+x"(products) : "x"(ones));
            __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sums[i]) : "x"(products));
        }
    }
    return (double)n_rounds * N_CHAINS * 4 * LANES * 2;
}

static double f32_operations(size_t n_rounds)
{
    __m256 sums[N_CHAINS];
    __m256 w = _mm256_set1_ps(0.5f);
    __m256 x = _mm256_set1_ps(0.25f);

    for (int i = 0; i < N_CHAINS; i++)
        sums[i] = _mm256_setzero_ps();
    for (size_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < N_CHAINS; i++)
            __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(sums[i]) : "x"(w), "x"(x));
    }
    return (double)n_rounds * N_CHAINS * LANES * 2;
}

const struct peak_kernels peak_avx2 = {int8_operations, f32_operations};

#endif
