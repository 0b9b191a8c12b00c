/* SPDX-License-Identifier: Apache-2.0
 *
 * The Linear kernels alone, on one thread: G/s (2 operations a weight and row) for each shape and
 * row count, and their share of the machine's own bare dot-product loop, which is run again beside
 * each figure because machines are shared. For one row also the weights' GB/s. Medians of rounds.
 *
 *   linear_kernels [avx512|avx2|portable [rounds]]
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* CPU time of this thread: what others take of a shared core is not counted. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The most a core can do: 10 independent chains of vpdpbusd, nothing else. 0 without AVX-512 VNNI.
 * This file is compiled for the base instruction set, so no clobber of zmm16 and up is needed.
 */
static double peak_rate(void)
{
    double rate = 0;

#if defined(__x86_64__)
    size_t n = 400000;
    double begin;

    if (!__builtin_cpu_supports("avx512vnni"))
        return 0;
    begin = now();
    for (size_t i = n; i > 0; i--)
        asm volatile("vpdpbusd %zmm16,%zmm17,%zmm20\n\tvpdpbusd %zmm16,%zmm17,%zmm21\n\t"
                     "vpdpbusd %zmm16,%zmm17,%zmm22\n\tvpdpbusd %zmm16,%zmm17,%zmm23\n\t"
                     "vpdpbusd %zmm16,%zmm17,%zmm24\n\tvpdpbusd %zmm16,%zmm17,%zmm25\n\t"
                     "vpdpbusd %zmm16,%zmm17,%zmm26\n\tvpdpbusd %zmm16,%zmm17,%zmm27\n\t"
                     "vpdpbusd %zmm16,%zmm17,%zmm28\n\tvpdpbusd %zmm16,%zmm17,%zmm29");
    rate = (double)n * 10 * 128 / (now() - begin) * 1e-9;
#endif
    return rate;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

struct work {
    struct packed_weight w;
    struct quantized_rows rows;
    float *x, *y;
    void *data;
    uint16_t *scales, *mins;
};

enum { MAX_ROWS = 512, MAX_ROUNDS = 101 };

static void work_init(struct work *work, int bits, size_t group, bool has_mins, size_t k, size_t n)
{
    size_t n_tiles = packed_n_tiles(n), n_scales = n_tiles * (k / group) * 64;
    size_t n_bytes = n_tiles * packed_tile_bytes(bits, k);

    work->data = try_new_aligned(n_bytes, 1);
    work->scales = try_new_aligned(n_scales, 2);
    work->mins = has_mins ? try_new_aligned(n_scales, 2) : NULL;
    work->x = try_new_aligned(MAX_ROWS * k, sizeof(float));
    work->y = try_new_aligned(MAX_ROWS * n, sizeof(float));
    work->rows.q = try_new_aligned(MAX_ROWS, k);
    work->rows.scales = try_new_aligned(MAX_ROWS * (k / group), 4);
    work->rows.starts = try_new_aligned(MAX_ROWS * (k / group), 4);
    work->rows.sums = try_new_aligned(MAX_ROWS * (k / group), 4);
    if (!work->data || !work->scales || (has_mins && !work->mins) || !work->x || !work->y ||
        !work->rows.q || !work->rows.scales || !work->rows.starts || !work->rows.sums)
        abort();
    for (size_t i = 0; i < n_bytes; i++)
        ((uint8_t *)work->data)[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < n_scales; i++) {
        work->scales[i] = 0x2000;
        if (has_mins)
            work->mins[i] = 0xa800;
    }
    for (size_t i = 0; i < MAX_ROWS * k; i++)
        work->x[i] = (float)(i * 2654435761u >> 16 & 1023) - 511.5f;
    work->w = (struct packed_weight){bits, n, k, group, work->data, work->scales, work->mins, NULL};
}

static void work_clear(struct work *work)
{
    free(work->data);
    free(work->scales);
    free(work->mins);
    free(work->x);
    free(work->y);
    free(work->rows.q);
    free(work->rows.scales);
    free(work->rows.starts);
    free(work->rows.sums);
}

/* One line: shape, then for each M the rate and its share of the peak. */
static void measure(const struct linear_kernels *linear, int bits, size_t group, bool has_mins,
                    size_t k, size_t n, size_t n_rounds)
{
    static const size_t row_counts[] = {1, 4, 8, 32, 128, 512};
    int32_t zero_point = bits == 8 ? 128 : has_mins ? 0 : 8;
    double bytes = (double)k * (double)n * (bits + (has_mins ? 32.0 : 16.0) / (double)group) / 8;
    struct work work;

    work_init(&work, bits, group, has_mins, k, n);
    printf("%5zu x %-5zu %d bit/%zu%s", k, n, bits, group, has_mins ? "+m" : "  ");
    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++) {
        size_t m = row_counts[i], n_calls;
        double operations = 2.0 * (double)m * (double)k * (double)n;
        double rates[MAX_ROUNDS], peaks[MAX_ROUNDS], shares[MAX_ROUNDS], quantize[MAX_ROUNDS];

        if (operations > 8e9)
            continue;
        n_calls = operations < 4e8 ? (size_t)(4e8 / operations) : 1;
        for (size_t round = 0; round < n_rounds; round++) {
            double begin, middle;

            peaks[round] = peak_rate();
            begin = now();
            linear->quantize_rows(work.x, 0, m, k, group, zero_point, &work.rows);
            middle = now();
            quantize[round] = (double)(m * k) / (middle - begin) * 1e-9;
            middle = now();
            for (size_t call = 0; call < n_calls; call++)
                linear->multiply_quantized(&work.w, &work.rows, 0, m, 0, (n + 15) / 16, work.y);
            rates[round] = operations * (double)n_calls / (now() - middle) * 1e-9;
            shares[round] = peaks[round] > 0 ? rates[round] / peaks[round] : 0;
        }
        if (m == 1) {
            double rate = median(rates, n_rounds);

            printf("  M=1 %5.1f (%.1f GB/s)", rate, rate / operations * bytes);
        } else {
            printf("  M=%zu %5.1f (%2.0f%%)", m, median(rates, n_rounds),
                   100 * median(shares, n_rounds));
        }
        if (m == 512)
            printf("  quantize %.1f G/s", median(quantize, n_rounds));
    }
    printf("  peak %.0f\n", peak_rate());
    fflush(stdout);
    work_clear(&work);
}

int main(int argc, char **argv)
{
    static const struct {
        size_t k, n;
        int bits;
    } shapes[] = {
        {576, 960, 4},  {576, 576, 4},  {576, 3072, 4},  {1536, 576, 4}, {896, 1152, 4},
        {896, 9728, 4}, {4864, 896, 4}, {576, 49152, 8}, {384, 384, 8},  {384, 1152, 8},
        {384, 1536, 8}, {1536, 384, 8}, {512, 512, 8},   {512, 1536, 8}, {512, 2048, 8},
        {2048, 512, 8}, {512, 6144, 8},
    };
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    size_t n_rounds = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 9;

    if (n_rounds < 1 || n_rounds > MAX_ROUNDS)
        return 2;
    for (size_t s = 0; s < n_sets; s++) {
        if (strcmp(sets[s]->name, argc > 1 ? argv[1] : sets[0]->name) != 0)
            continue;
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const struct linear_kernels *linear = sets[s]->linear;

            measure(linear, shapes[i].bits, 32, false, shapes[i].k, shapes[i].n, n_rounds);
            if (shapes[i].bits == 4) {
                measure(linear, 4, 32, true, shapes[i].k, shapes[i].n, n_rounds);
                measure(linear, 4, 64, false, shapes[i].k, shapes[i].n, n_rounds);
            }
        }
    }
    return 0;
}
