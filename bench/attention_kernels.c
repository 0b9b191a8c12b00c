/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast the attention and row kernels of each instruction set run on one core, beside what the
 * core can do: f32 multiply-adds a second, bytes read a second. Prefill counts the multiply-adds of
 * the visible keys only; decode walks more KV than the caches hold. Medians of several rounds.
 *
 * Not part of the library: compile it with the sources of ops/kernels and base/memory.c.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { N_ROUNDS = 7, POOL_BYTES = 192 << 20 };

static volatile float sink;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare_doubles);
    return x[n / 2];
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double peak_gflops(void)
{
    __m512 acc[12];
    __m512 x = _mm512_set1_ps(0.999F);
    double start = now();
    size_t n = 4000000;

    for (size_t i = 0; i < 12; i++)
        acc[i] = _mm512_set1_ps((float)i);
    for (size_t k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (size_t i = 0; i < 12; i++)
            acc[i] = _mm512_fmadd_ps(acc[i], x, x);
    }
    for (size_t i = 0; i < 12; i++)
        sink = sink + _mm512_reduce_add_ps(acc[i]);
    return (double)n * 12 * 32 / (now() - start) * 1e-9;
}
#else
static double peak_gflops(void)
{
    return NAN;
}
#endif

/* Sixteen sums side by side, so that adding is not what is timed. */
static double read_gb_s(const void *pool)
{
    const uint64_t *p = pool;
    uint64_t sums[16] = {0};
    double start = now();

    for (size_t i = 0; i < POOL_BYTES / sizeof *p; i += 16) {
        for (size_t j = 0; j < 16; j++)
            sums[j] += p[i + j];
    }
    for (size_t j = 0; j < 16; j++)
        sink = sink + (float)sums[j];
    return POOL_BYTES / (now() - start) * 1e-9;
}

struct bench {
    struct attention_shape shape;
    const struct attention_kernels *kernels;
    float *qkv;
    float *out;
    void *pool;
    void *scratch;
    int32_t *blocks;
};

/* All query rows of [position, position + n_rows) against one sequence starting at `blocks`. */
static void attend_rows(const struct bench *b, size_t n_rows, size_t position,
                        const int32_t *blocks)
{
    size_t stride = (b->shape.n_heads + 2 * b->shape.n_kv_heads) * b->shape.head_size;
    size_t out_stride = b->shape.n_heads * b->shape.head_size;
    size_t n = 0;

    for (size_t row = 0; row < n_rows; row += n) {
        n = n_rows - row < b->kernels->rows_per_call ? n_rows - row : b->kernels->rows_per_call;
        for (size_t head = 0; head < b->shape.n_kv_heads; head++)
            b->kernels->attend(&b->shape, b->qkv + row * stride, stride, n, position + row, head,
                               b->pool, blocks, b->scratch, b->out + row * out_stride, out_stride);
    }
}

static void bench_prefill(const struct bench *b, size_t n_rows)
{
    double flops = 4.0 * (double)(b->shape.n_heads * b->shape.head_size) * (double)n_rows *
                   (double)(n_rows + 1) / 2;
    double rates[N_ROUNDS];
    double shares[N_ROUNDS];

    for (size_t round = 0; round < N_ROUNDS; round++) {
        double peak = peak_gflops();
        double start = now();

        for (size_t i = 0; i < 4; i++)
            attend_rows(b, n_rows, 0, b->blocks);
        rates[round] = 4 * flops / (now() - start) * 1e-9;
        shares[round] = rates[round] / peak;
    }
    double rate = median(rates, N_ROUNDS);

    printf("  prefill %4zu: %7.1f GFLOP/s, %5.1f %% of the f32 peak, %.3f ms a layer\n", n_rows,
           rate, 100 * median(shares, N_ROUNDS), flops / rate * 1e-6);
}

static void bench_decode(const struct bench *b, size_t context)
{
    size_t block_bytes = 2 * b->shape.n_kv_heads * KV_BLOCK * b->shape.head_size * 2;
    size_t n_sequences = POOL_BYTES / (context / KV_BLOCK * block_bytes);
    double bytes = (double)n_sequences * (double)(context / KV_BLOCK * block_bytes);
    double rates[N_ROUNDS];
    double shares[N_ROUNDS];

    for (size_t round = 0; round < N_ROUNDS; round++) {
        double limit = read_gb_s(b->pool);
        double start = now();

        for (size_t i = 0; i < n_sequences; i++)
            attend_rows(b, 1, context - 1, b->blocks + i * (context / KV_BLOCK));
        rates[round] = bytes / (now() - start) * 1e-9;
        shares[round] = rates[round] / limit;
    }
    double rate = median(rates, N_ROUNDS);

    printf("  decode %5zu: %7.1f GB/s, %5.1f %% of plain reading, %.1f us a layer\n", context, rate,
           100 * median(shares, N_ROUNDS),
           (double)(context / KV_BLOCK * block_bytes) / rate * 1e-3);
}

static void bench_append(const struct bench *b, const float *rope)
{
    int32_t slot_block[512];
    int32_t slot_offset[512];
    double times[N_ROUNDS];

    for (int32_t i = 0; i < 512; i++) {
        slot_block[i] = i / KV_BLOCK;
        slot_offset[i] = i % KV_BLOCK;
    }
    for (size_t round = 0; round < N_ROUNDS; round++) {
        double start = now();

        b->kernels->append(&b->shape, b->qkv, rope, NULL, NULL, 0.0F, slot_block, slot_offset, 0,
                           512, b->pool);
        times[round] = now() - start;
    }
    printf("  append   512: %.3f ms a layer\n", 1e3 * median(times, N_ROUNDS));
}

static void bench_rows(const struct row_kernels *row, float *x, float *out)
{
    enum { ROWS = 64, WIDTH = 1536, REPEATS = 20 };
    double silu[N_ROUNDS];
    double norm[N_ROUNDS];

    for (size_t round = 0; round < N_ROUNDS; round++) {
        double start = now();

        for (size_t i = 0; i < REPEATS; i++)
            row->gated_silu(x, 0, ROWS, WIDTH, out);
        double middle = now();

        for (size_t i = 0; i < REPEATS; i++)
            row->rms_norm(x, x, 1e-5F, 0, ROWS, WIDTH, out);
        silu[round] = (middle - start) / (ROWS * WIDTH * REPEATS) * 1e9;
        norm[round] = (now() - middle) / (ROWS * WIDTH * REPEATS) * 1e9;
    }
    printf("  gated_silu %.3f ns an element, rms_norm %.3f ns\n", median(silu, N_ROUNDS),
           median(norm, N_ROUNDS));
}

static float *random_floats(size_t n)
{
    float *x = try_new_aligned(n, sizeof *x);
    uint32_t state = 1;

    for (size_t i = 0; x && i < n; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(int32_t)state * 0x1p-30F;
    }
    return x;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        size_t n_heads;
        size_t n_kv_heads;
    } models[] = {{"SmolLM2-135M (9:3)", 9, 3}, {"Qwen2.5-0.5B (14:2)", 14, 2}};
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    float *qkv = random_floats(512 * 20 * 64);
    float *out = random_floats(512 * 20 * 64);
    float *rope = random_floats(512 * 64);
    uint16_t *pool = try_new_aligned(POOL_BYTES, 1);
    int32_t *blocks = try_new(POOL_BYTES / 4096, sizeof *blocks);

    if (!qkv || !out || !rope || !pool || !blocks)
        return 1;
    for (size_t i = 0; i < POOL_BYTES / sizeof *pool; i++)
        pool[i] = (uint16_t)(0x3000 + (i * 2654435761U >> 20 & 0x87ff));
    for (size_t i = 0; i < (size_t)512 * 64; i++)
        rope[i] = i % 64 < 32 ? 0.6F : 0.8F; /* turns without growing */
    for (int32_t i = 0; i < POOL_BYTES / 4096; i++)
        blocks[i] = i;
    for (size_t i = 0; i < n_sets; i++) {
        if (argc > 1 && strcmp(argv[1], sets[i]->name) != 0)
            continue;
        for (size_t j = 0; j < sizeof models / sizeof models[0]; j++) {
            struct bench b = {.shape = {.n_heads = models[j].n_heads,
                                        .n_kv_heads = models[j].n_kv_heads,
                                        .head_size = 64,
                                        .kv_type = KV_F16,
                                        .scale = 0.125F},
                              .kernels = sets[i]->attention,
                              .qkv = qkv,
                              .out = out,
                              .pool = pool,
                              .blocks = blocks};

            b.scratch = try_new_aligned(b.kernels->attention_scratch_bytes(&b.shape), 1);
            if (!b.scratch)
                return 1;
            printf("%s, %s\n", sets[i]->name, models[j].name);
            bench_prefill(&b, 512);
            bench_prefill(&b, 64);
            bench_decode(&b, 512);
            bench_decode(&b, 4096);
            bench_append(&b, rope);
            free(b.scratch);
        }
        bench_rows(sets[i]->row, qkv, out);
    }
    free(qkv);
    free(out);
    free(rope);
    free(pool);
    free(blocks);
    return 0;
}
