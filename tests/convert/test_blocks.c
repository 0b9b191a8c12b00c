/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of ONNX exports: blocks with scales and zero points of their own, floats stored as [K,
 * N], rows taken out of stacked ones. Values are compared with the formula on the arrays they were
 * made of, read straight and packed.
 */
#include "base/half.h"
#include "convert/pack.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 70, MAX_K = 256 };

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* A random matrix, its arrays, and its values by the formula. */
struct made {
    struct tensor tensor;
    uint8_t *data, *zeros;
    uint16_t *halves;
    float *floats;
    float (*values)[MAX_K]; /* [N] */
};

struct form {
    int bits;
    size_t size, k;
    bool has_f32_scales, has_zeros, is_signed;
    uint8_t zero;
};

static unsigned random_integer(const struct form *form)
{
    return next_random() % (form->bits == 4 ? 16 : 256);
}

static void store(uint8_t *row, const struct form *form, size_t i, unsigned integer)
{
    if (form->bits == 8)
        row[i] = (uint8_t)integer;
    else
        row[i / 2] |= (uint8_t)(integer << i % 2 * 4);
}

/* What an integer stands for: two's complement where it is signed. */
static int meaning(const struct form *form, unsigned integer)
{
    return form->is_signed && integer >= 8 ? (int)integer - 16 : (int)integer;
}

static struct made make(const struct form *form)
{
    size_t n_blocks = (form->k + form->size - 1) / form->size;
    size_t row_bytes = n_blocks * form->size * (size_t)form->bits / 8;
    size_t zero_bytes = (n_blocks * (size_t)form->bits + 7) / 8;
    struct made made = {.data = calloc(N, row_bytes),
                        .zeros = calloc(N, zero_bytes),
                        .halves = calloc(N * n_blocks, sizeof(uint16_t)),
                        .floats = calloc(N * n_blocks, sizeof(float)),
                        .values = calloc(N, sizeof *made.values)};

    for (size_t n = 0; n < N; n++) {
        for (size_t b = 0; b < n_blocks; b++) {
            unsigned zero = form->has_zeros ? random_integer(form) : form->zero;
            float scale = ((float)(next_random() % 2000) - 1000) / 7777;

            made.halves[n * n_blocks + b] = half_from_float(scale);
            if (!form->has_f32_scales)
                scale = half_to_float(made.halves[n * n_blocks + b]);
            made.floats[n * n_blocks + b] = scale;
            store(made.zeros + n * zero_bytes, form, b, zero);
            for (size_t i = b * form->size; i < (b + 1) * form->size; i++) {
                unsigned integer = random_integer(form);

                store(made.data + n * row_bytes, form, i, integer);
                if (i < form->k)
                    made.values[n][i] =
                        scale * (float)(meaning(form, integer) - meaning(form, zero));
            }
        }
    }
    made.tensor = (struct tensor){
        .name = (char *)"test.weight",
        .type = form->bits == 4 ? TENSOR_BLOCKS_4 : TENSOR_BLOCKS_8,
        .n_dims = 2,
        .dims = {N, form->k},
        .data = made.data,
        .n_bytes = N * row_bytes,
        .blocks = {.size = form->size,
                   .scales = form->has_f32_scales ? (uint8_t *)made.floats : (uint8_t *)made.halves,
                   .scale_type = form->has_f32_scales ? TENSOR_F32 : TENSOR_F16,
                   .zeros = form->has_zeros ? made.zeros : NULL,
                   .zero = form->zero,
                   .flip = form->is_signed ? 8 : 0}};
    return made;
}

static void free_made(struct made *made)
{
    free(made->data);
    free(made->zeros);
    free(made->halves);
    free(made->floats);
    free(made->values);
}

/* W[n, k] by the formulas of ops/packed.h. */
static float unpack(const struct pack_plan *plan, const uint8_t *data, const uint16_t *scales,
                    const uint16_t *mins, size_t n, size_t k)
{
    size_t column = n % 64;
    size_t group = (n / 64 * (plan->k / plan->group) + k / plan->group) * 64 + column;
    const uint8_t *tile = data + n / 64 * plan->tile_bytes;
    float scale = half_to_float(scales[group]);

    if (plan->bits == 8)
        return scale * (float)(tile[k / 4 * 256 + column * 4 + k % 4] - 128);
    int q = tile[k / 8 * 256 + column * 4 + k % 4] >> (k % 8 < 4 ? 0 : 4) & 15;
    return plan->has_mins ? scale * (float)q + half_to_float(mins[group]) : scale * (float)(q - 8);
}

static void blocks_come_back(void **state)
{
    static const struct {
        struct form form;
        int bits; /* what KEEP makes of it */
        bool has_mins;
        size_t group;
        float rounding; /* allowed, as a share of 16 scales (of 1 for what is quantised anew) */
    } cases[] = {
        {{4, 32, 256, false, false, false, 8}, 4, false, 32, 0},
        {{4, 32, 256, true, false, false, 8}, 4, false, 32, 0x1p-11f},
        {{4, 64, 256, false, false, false, 8}, 4, false, 64, 0},
        {{4, 128, 192, false, false, false, 8}, 4, false, 64, 0}, /* ends within a block */
        {{4, 128, 160, false, false, false, 8}, 4, false, 32, 0}, /* no multiple of 64 */
        {{4, 256, 256, true, false, false, 8}, 4, false, 64, 0x1p-11f},
        {{4, 32, 256, false, true, false, 8}, 4, true, 32, 0x1p-11f},
        {{4, 64, 192, true, true, false, 8}, 4, true, 32, 0x1p-10f}, /* 3 zero points a row */
        {{4, 32, 256, false, false, false, 0}, 4, true, 32, 0},
        {{4, 32, 256, false, false, true, 0}, 4, false, 32, 0},
        {{4, 32, 256, false, true, true, 0}, 4, true, 32, 0x1p-11f},
        {{4, 16, 256, false, false, false, 8}, 8, false, 32, 0.51f},
        {{8, 32, 256, false, false, false, 128}, 8, false, 32, 0},
        {{8, 128, 256, true, false, false, 128}, 8, false, 32, 0x1p-8f},
        {{8, 32, 256, false, true, false, 128}, 8, false, 32, 0.51f},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct made made = make(&cases[i].form);
        const struct tensor *part = &made.tensor;
        struct pack_plan plan;
        kvern_error err;
        float row[MAX_K];

        assert_int_equal(pack_plan_make(&plan, &part, 1, WEIGHTS_KEEP, &err), KVERN_OK);
        assert_int_equal(plan.bits, cases[i].bits);
        assert_int_equal(plan.has_mins, cases[i].has_mins);
        assert_int_equal(plan.group, cases[i].group);
        uint8_t *data = malloc(plan.data_bytes);
        uint16_t *scales = malloc(plan.scales_bytes), *mins = malloc(plan.scales_bytes);
        assert_int_equal(pack_write(&plan, data, scales, plan.has_mins ? mins : NULL, &err),
                         KVERN_OK);
        for (size_t n = 0; n < N; n++) {
            tensor_read_row(part, n, row);
            for (size_t k = 0; k < plan.k; k++) {
                float packed = unpack(&plan, data, scales, mins, n, k);
                size_t group = (n / 64 * (plan.k / plan.group) + k / plan.group) * 64 + n % 64;
                float step = fabsf(half_to_float(scales[group]));
                float allowed = cases[i].rounding * step * (cases[i].rounding < 0.5f ? 16 : 1) +
                                (cases[i].rounding > 0 ? 0x1p-24f : 0);

                assert_true(row[k] == made.values[n][k]);
                if (!(fabsf(packed - row[k]) <= allowed))
                    fail_msg("case %zu, [%zu, %zu]: %g, source %g, allowed %g", i, n, k,
                             (double)packed, (double)row[k], (double)allowed);
            }
        }
        free(data);
        free(scales);
        free(mins);
        free_made(&made);
    }
}

static void rows_are_taken(void **state)
{
    static const struct form forms[] = {{4, 64, 192, true, true, false, 8},
                                        {8, 32, 64, false, true, false, 128}};
    float expected[MAX_K], row[MAX_K];

    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        struct made made = make(&forms[i]);
        struct tensor part = tensor_take_rows(&made.tensor, 7, 20);

        assert_int_equal(part.dims[0], 20);
        for (size_t n = 0; n < 20; n++) {
            tensor_read_row(&made.tensor, n + 7, expected);
            tensor_read_row(&part, n, row);
            assert_memory_equal(row, expected, forms[i].k * sizeof *row);
        }
        free_made(&made);
    }
}

static void columns_are_rows(void **state)
{
    enum { K = 3, COLUMNS = 5 };
    float stored[K][COLUMNS], row[K];
    const struct tensor matrix = {.type = TENSOR_F32,
                                  .n_dims = 2,
                                  .dims = {COLUMNS, K},
                                  .data = (const uint8_t *)stored,
                                  .n_bytes = sizeof stored,
                                  .stride = COLUMNS};
    const struct tensor nothing = {.type = TENSOR_ZERO, .n_dims = 1, .dims = {K}};
    struct tensor part = tensor_take_rows(&matrix, 2, 3);

    (void)state;
    for (int k = 0; k < K; k++) {
        for (int n = 0; n < COLUMNS; n++)
            stored[k][n] = (float)(10 * k + n);
    }
    tensor_read_row(&matrix, 4, row);
    assert_true(row[0] == 4 && row[1] == 14 && row[2] == 24);
    tensor_read_row(&part, 1, row);
    assert_true(row[0] == 3 && row[1] == 13 && row[2] == 23);
    assert_true(part.data + part.n_bytes == (const uint8_t *)stored + sizeof stored);
    tensor_read_row(&nothing, 0, row);
    assert_true(row[0] == 0 && row[1] == 0 && row[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(rows_are_taken),
        cmocka_unit_test(columns_are_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
