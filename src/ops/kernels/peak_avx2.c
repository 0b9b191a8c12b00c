/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine's AVX2 peaks: maddubs + madd + add for int8, as the kernels must do without VNNI. In
 * assembly for the reason that peak_avx512.c gives.
 */
#if defined(__x86_64__)

#include "ops/kernels/kernels.h"

enum { N_CHAINS = 10, LANES = 8 };

#define EACH_CHAIN(line)                                                                           \
    line("0") line("1") line("2") line("3") line("4") line("5") line("6") line("7") line("8")      \
        line("9")
#define CLEAR(i) "vpxor %%ymm" i ", %%ymm" i ", %%ymm" i "\n\t"
#define DOT(i)                                                                                     \
    "vpmaddubsw %%ymm15, %%ymm14, %%ymm12\n\t"                                                     \
    "vpmaddwd %%ymm13, %%ymm12, %%ymm12\n\t"                                                       \
    "vpaddd %%ymm12, %%ymm" i ", %%ymm" i "\n\t"
#define FMA(i) "vfmadd231ps %%ymm15, %%ymm14, %%ymm" i "\n\t"
#define CLOBBERS                                                                                   \
    "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm12",       \
        "ymm13", "ymm14", "ymm15", "cc"

static double int8_operations(size_t n_rounds)
{
    size_t n = n_rounds;

    __asm__ volatile(EACH_CHAIN(CLEAR) CLEAR("13") CLEAR("14")
                         CLEAR("15") "1:\n\t" EACH_CHAIN(DOT) "dec %0\n\tjnz 1b\n\t"
                     : "+r"(n)
                     :
                     : CLOBBERS);
    return (double)n_rounds * N_CHAINS * 4 * LANES * 2;
}

static double f32_operations(size_t n_rounds)
{
    size_t n = n_rounds;

    __asm__ volatile(EACH_CHAIN(CLEAR) CLEAR("14")
                         CLEAR("15") "1:\n\t" EACH_CHAIN(FMA) "dec %0\n\tjnz 1b\n\t"
                     : "+r"(n)
                     :
                     : CLOBBERS);
    return (double)n_rounds * N_CHAINS * LANES * 2;
}

const struct peak_kernels peak_avx2 = {int8_operations, f32_operations};

#endif
