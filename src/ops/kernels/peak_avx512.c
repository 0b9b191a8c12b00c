/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine's AVX-512 peaks: independent accumulators, no memory. The loops are written out in
 * assembly, for gcc 12 moves accumulators through memory around single asm statements.
 */
#if defined(__x86_64__)

#include "ops/kernels/kernels.h"

enum { N_CHAINS = 12, LANES = 16 };

#define EACH_CHAIN(line)                                                                           \
    line("0") line("1") line("2") line("3") line("4") line("5") line("6") line("7") line("8")      \
        line("9") line("10") line("11")
#define CLEAR(i) "vpxord %%zmm" i ", %%zmm" i ", %%zmm" i "\n\t"
#define DOT(i) "vpdpbusd %%zmm31, %%zmm30, %%zmm" i "\n\t"
#define FMA(i) "vfmadd231ps %%zmm31, %%zmm30, %%zmm" i "\n\t"
#define CLOBBERS                                                                                   \
    "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10",       \
        "zmm11", "zmm30", "zmm31", "cc"

static double int8_operations(size_t n_rounds)
{
    size_t n = n_rounds;

    __asm__ volatile(EACH_CHAIN(CLEAR) CLEAR("30")
                         CLEAR("31") "1:\n\t" EACH_CHAIN(DOT) "dec %0\n\tjnz 1b\n\t"
                     : "+r"(n)
                     :
                     : CLOBBERS);
    return (double)n_rounds * N_CHAINS * 4 * LANES * 2;
}

static double f32_operations(size_t n_rounds)
{
    size_t n = n_rounds;

    __asm__ volatile(EACH_CHAIN(CLEAR) CLEAR("30")
                         CLEAR("31") "1:\n\t" EACH_CHAIN(FMA) "dec %0\n\tjnz 1b\n\t"
                     : "+r"(n)
                     :
                     : CLOBBERS);
    return (double)n_rounds * N_CHAINS * LANES * 2;
}

const struct peak_kernels peak_avx512 = {int8_operations, f32_operations};

#endif
