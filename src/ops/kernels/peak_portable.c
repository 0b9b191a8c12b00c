/* SPDX-License-Identifier: Apache-2.0
 *
 * Peaks of what the compiler makes of plain C.
 */
#include "ops/kernels/kernels.h"

enum { N_CHAINS = 32 };

static volatile float float_sink;
static volatile int32_t int_sink;

static double int8_operations(size_t n_rounds)
{
    int32_t sums[N_CHAINS] = {0};
    int8_t w[N_CHAINS];

    for (int i = 0; i < N_CHAINS; i++)
        w[i] = (int8_t)(i - 16);
    for (size_t round = 0; round < n_rounds; round++) {
        int8_t x = (int8_t)round;

        for (int i = 0; i < N_CHAINS; i++)
            sums[i] += (int32_t)w[i] * x;
    }
    for (int i = 0; i < N_CHAINS; i++)
        int_sink = sums[i];
    return (double)n_rounds * N_CHAINS * 2;
}

static double f32_operations(size_t n_rounds)
{
    float sums[N_CHAINS] = {0};

    for (size_t round = 0; round < n_rounds; round++) {
        float x = (float)round;

        for (int i = 0; i < N_CHAINS; i++)
            sums[i] += x * 0.5f;
    }
    for (int i = 0; i < N_CHAINS; i++)
        float_sink = sums[i];
    return (double)n_rounds * N_CHAINS * 2;
}

const struct peak_kernels peak_portable = {int8_operations, f32_operations};
