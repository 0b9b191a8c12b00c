/* SPDX-License-Identifier: Apache-2.0
 *
 * Which instruction sets this machine has, and the one in use.
 */
#include "ops/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool has_avx2(void)
{
    unsigned a;
    unsigned b;
    unsigned features;
    unsigned d;

    /* clang 14 has no name for F16C in __builtin_cpu_supports */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &features, &d) && (features & bit_F16C);
}
#endif

static const struct {
    struct kernels kernels;
    bool (*is_supported)(void);
} all_sets[] = {
#if defined(__x86_64__)
    {{"avx512bf16", &linear_avx512, &attention_avx512bf16, &row_avx512, &peak_avx512},
     has_avx512bf16},
    {{"avx512", &linear_avx512, &attention_avx512, &row_avx512, &peak_avx512}, has_avx512},
    {{"avx2", &linear_avx2, &attention_avx2, &row_avx2, &peak_avx2}, has_avx2},
#endif
    {{"portable", &linear_portable, &attention_portable, &row_portable, &peak_portable}, always},
};

const struct kernels *kernels_get(void)
{
    const char *forced = getenv("KVERN_ISA");

    for (size_t i = 0; i < sizeof all_sets / sizeof all_sets[0]; i++) {
        const struct kernels *set = &all_sets[i].kernels;

        if (forced && *forced && strcmp(forced, set->name) != 0)
            continue;
        if (all_sets[i].is_supported())
            return set;
    }
    return NULL;
}

size_t kernels_list(const struct kernels *sets[], size_t capacity)
{
    size_t n = 0;

    for (size_t i = 0; i < sizeof all_sets / sizeof all_sets[0]; i++) {
        if (all_sets[i].is_supported() && n < capacity)
            sets[n++] = &all_sets[i].kernels;
    }
    return n;
}
