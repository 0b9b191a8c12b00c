/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing and unpacking again, with an unpacker written straight from the comment in ops/packed.h:
 * Q4_0, Q4_1 and Q8_0 come back exactly, everything else within its quantiser's step.
 */
#include "base/half.h"
#include "base/memory.h"
#include "convert/pack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* A tensor of random blocks whose f16 fields are small normal numbers. */
static struct tensor make_tensor(enum tensor_type type, size_t n, size_t k)
{
    struct tensor tensor = {
        .name = (char *)"test.weight", .type = type, .n_dims = 2, .dims = {n, k}};
    size_t block = tensor_type_block_bytes(type);

    assert_true(tensor_count_bytes(type, tensor.dims, 2, &tensor.n_bytes));
    uint8_t *data = malloc(tensor.n_bytes);
    for (size_t i = 0; i < tensor.n_bytes; i++)
        data[i] = (uint8_t)next_random();
    for (size_t i = 0; i < tensor.n_bytes; i += block) {
        float value = ((float)(next_random() % 2000) - 1000) / 5000;
        uint16_t half = half_from_float(value);

        if (type == TENSOR_F32) {
            memcpy(data + i, &value, 4);
        } else if (type == TENSOR_Q6_K) {
            memcpy(data + i + 208, &half, 2);
        } else {
            memcpy(data + i, &half, 2);
            if (type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q4_K ||
                type == TENSOR_Q5_K)
                memcpy(data + i + 2, &half, 2);
        }
    }
    tensor.data = data;
    return tensor;
}

struct packed {
    struct pack_plan plan;
    uint8_t *data;
    uint16_t *scales;
    uint16_t *mins;
};

static struct packed pack(const struct tensor *const *parts, size_t n_parts,
                          enum weights_choice choice)
{
    struct packed packed = {0};
    kvern_error err = {0};

    if (pack_plan_make(&packed.plan, parts, n_parts, choice, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    packed.data = malloc(packed.plan.data_bytes);
    if (packed.plan.scales_bytes)
        packed.scales = malloc(packed.plan.scales_bytes);
    if (packed.plan.has_mins)
        packed.mins = malloc(packed.plan.scales_bytes);
    if (pack_write(&packed.plan, packed.data, packed.scales, packed.mins, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return packed;
}

static void free_packed(struct packed *packed)
{
    free(packed->data);
    free(packed->scales);
    free(packed->mins);
}

/* W[n, k] by the formulas of ops/packed.h. */
static float unpack(const struct packed *packed, size_t n, size_t k)
{
    const struct pack_plan *plan = &packed->plan;
    size_t tile = n / 64, column = n % 64;
    size_t group = (tile * (plan->k / plan->group) + k / plan->group) * 64 + column;
    const uint8_t *data = packed->data + tile * packed_tile_bytes(plan->bits, plan->k);

    if (plan->bits == 32) {
        float value;

        memcpy(&value, data + (k * 64 + column) * 4, 4);
        return value;
    }
    float scale = half_to_float(packed->scales[group]);
    if (plan->bits == 8) {
        size_t at = (((k / 4) * 4 + column / 16 % 4) * 16 + column % 16) * 4 + k % 4;

        return scale * (float)((int)data[at] - 128);
    }
    size_t at = (((k / 8) * 4 + column / 16 % 4) * 16 + column % 16) * 4 + k % 4;
    int q = k % 8 < 4 ? data[at] & 15 : data[at] >> 4;
    return plan->has_mins ? scale * (float)q + half_to_float(packed->mins[group])
                          : scale * (float)(q - 8);
}

static void stored_formats_come_back(void **state)
{
    static const struct {
        enum tensor_type types[3];
        size_t n_parts;
        enum weights_choice choice;
        int bits;
        bool has_mins;
        size_t group;
        float max_steps; /* error allowed, in scales; 0: exact */
    } cases[] = {
        {{TENSOR_Q4_0}, 1, WEIGHTS_KEEP, 4, false, 32, 0},
        {{TENSOR_Q4_1}, 1, WEIGHTS_KEEP, 4, true, 32, 0},
        {{TENSOR_Q8_0}, 1, WEIGHTS_KEEP, 8, false, 32, 0},
        {{TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q4_0}, 3, WEIGHTS_KEEP, 4, true, 32, 0},
        {{TENSOR_Q4_0, TENSOR_Q4_0}, 2, WEIGHTS_Q4, 4, false, 32, 0},
        {{TENSOR_Q8_0, TENSOR_Q8_0}, 2, WEIGHTS_Q8, 8, false, 32, 0},
        {{TENSOR_Q4_1, TENSOR_Q8_0}, 2, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_F32}, 1, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_F16}, 1, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_BF16}, 1, WEIGHTS_F32, 32, false, 32, 0},
        {{TENSOR_Q5_0}, 1, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_Q6_K}, 1, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_Q4_K, TENSOR_Q6_K}, 2, WEIGHTS_KEEP, 8, false, 32, 0.51f},
        {{TENSOR_Q4_K}, 1, WEIGHTS_F32, 32, false, 32, 0},
        {{TENSOR_F32}, 1, WEIGHTS_Q4, 4, false, 64, 2.0f},
        {{TENSOR_Q4_0, TENSOR_F32}, 2, WEIGHTS_Q4, 4, true, 32, 1.5f}, /* as Q4_0 is kept */
    };
    enum { K = 256 };
    const size_t n_rows[3] = {70, 33, 130}; /* tiles cross from part to part, and one is padded */
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor tensors[3];
        const struct tensor *parts[3];
        float row[K];
        size_t n = 0;

        for (size_t p = 0; p < cases[i].n_parts; p++) {
            tensors[p] = make_tensor(cases[i].types[p], n_rows[p], K);
            parts[p] = &tensors[p];
        }
        /* random bytes as f16 and bf16 hold infinities; clear one exponent bit */
        if (cases[i].types[0] == TENSOR_F16 || cases[i].types[0] == TENSOR_BF16)
            for (size_t j = 1; j < tensors[0].n_bytes; j += 2)
                ((uint8_t *)(uintptr_t)tensors[0].data)[j] &= 0xbf;
        struct packed packed = pack(parts, cases[i].n_parts, cases[i].choice);
        assert_int_equal(packed.plan.bits, cases[i].bits);
        assert_int_equal(packed.plan.has_mins, cases[i].has_mins);
        assert_int_equal(packed.plan.group, cases[i].group);
        for (size_t p = 0; p < cases[i].n_parts; p++) {
            for (size_t r = 0; r < n_rows[p]; r++, n++) {
                tensor_read_row(parts[p], r, row);
                for (size_t k = 0; k < K; k++) {
                    float value = unpack(&packed, n, k);
                    float scale = 0;

                    if (packed.scales)
                        scale = half_to_float(
                            packed
                                .scales[(n / 64 * (K / cases[i].group) + k / cases[i].group) * 64 +
                                        n % 64]);
                    if (!(fabsf(value - row[k]) <=
                          cases[i].max_steps * fabsf(scale) +
                              (cases[i].max_steps > 0 ? fabsf(row[k]) * 0x1p-10f : 0)))
                        fail_msg("case %zu, [%zu, %zu]: %g, source %g", i, n, k, (double)value,
                                 (double)row[k]);
                }
            }
        }
        for (; n < packed.plan.n_tiles * 64; n++) /* padding */
            for (size_t k = 0; k < K; k++) {
                assert_true(unpack(&packed, n, k) == 0);
                if (packed.plan.bits == 8) /* the integer is zero as well, not only its scale */
                    assert_int_equal(packed.data[n / 64 * packed.plan.tile_bytes + k / 4 * 256 +
                                                 n % 64 * 4 + k % 4],
                                     128);
            }
        free_packed(&packed);
        for (size_t p = 0; p < cases[i].n_parts; p++)
            free((void *)(uintptr_t)tensors[p].data);
    }
}

static void rope_order_is_undone(void **state)
{
    enum { HEADS = 2, SIZE = 8, K = 32, N = HEADS * SIZE };
    struct tensor stored = make_tensor(TENSOR_Q8_0, N, K);
    struct tensor tensor = stored;
    const struct tensor *parts[] = {&tensor};
    float expected[K];
    (void)state;

    tensor.rope_heads = HEADS;
    struct packed packed = pack(parts, 1, WEIGHTS_KEEP);
    for (size_t head = 0; head < HEADS; head++) {
        for (size_t j = 0; j < SIZE / 2; j++) {
            for (size_t part = 0; part < 2; part++) {
                /* stored: pairs side by side; wanted: first halves, then second halves */
                tensor_read_row(&stored, head * SIZE + 2 * j + part, expected);
                for (size_t k = 0; k < K; k++)
                    assert_true(unpack(&packed, head * SIZE + part * SIZE / 2 + j, k) ==
                                expected[k]);
            }
        }
    }
    float vector[N], straight[N];
    struct tensor bias = {.type = TENSOR_F32,
                          .n_dims = 1,
                          .dims = {N},
                          .data = (const uint8_t *)vector,
                          .rope_heads = HEADS};
    for (int i = 0; i < N; i++)
        vector[i] = (float)i;
    tensor_read_row(&bias, 0, straight);
    assert_true(straight[0] == 0 && straight[1] == 2 && straight[4] == 1 && straight[5] == 3);
    assert_true(straight[8] == 8 && straight[15] == 15 && straight[12] == 9);
    free_packed(&packed);
    free((void *)(uintptr_t)stored.data);
}

/* A k_scale gives what a tensor of the products would give; of Q8_0 too, whose integers it cannot
 * keep. */
static void rows_are_scaled(void **state)
{
    static const enum weights_choice choices[] = {WEIGHTS_Q4, WEIGHTS_Q8, WEIGHTS_F32};
    static const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q8_0};
    enum { N = 70, K = 128 };
    static float products[N * K];
    float scale[K];

    (void)state;
    for (size_t i = 0; i < K; i++)
        scale[i] = 0.25f + (float)(i % 7);
    for (size_t i = 0; i < sizeof types / sizeof *types * 3; i++) {
        struct tensor source = make_tensor(types[i / 3], N, K);
        struct tensor multiplied = {.name = (char *)"products",
                                    .type = TENSOR_F32,
                                    .n_dims = 2,
                                    .dims = {N, K},
                                    .data = (const uint8_t *)products,
                                    .n_bytes = sizeof products};
        const struct tensor *parts[] = {&source};
        const struct tensor *want_parts[] = {&multiplied};
        kvern_error err = {0};

        for (size_t n = 0; n < N; n++) {
            tensor_read_row(&source, n, products + n * K);
            for (size_t k = 0; k < K; k++)
                products[n * K + k] *= scale[k];
        }
        struct packed want = pack(want_parts, 1, choices[i % 3]);
        struct packed got = pack(parts, 1, choices[i % 3]);

        got.plan.k_scale = scale;
        if (pack_write(&got.plan, got.data, got.scales, got.mins, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_int_equal(got.plan.data_bytes, want.plan.data_bytes);
        assert_memory_equal(got.data, want.data, want.plan.data_bytes);
        if (want.scales)
            assert_memory_equal(got.scales, want.scales, want.plan.scales_bytes);
        free_packed(&want);
        free_packed(&got);
        free((void *)(uintptr_t)source.data);
    }
}

static void bad_parts_are_refused(void **state)
{
    static const struct {
        enum tensor_type type;
        size_t n, k, n_dims;
        enum weights_choice choice;
        const char *message;
    } cases[] = {
        {TENSOR_F32, 4, 80, 2, WEIGHTS_Q4, "q4 needs K divisible by 32; test.weight has K = 80"},
        {TENSOR_F16, 4, 80, 2, WEIGHTS_Q8, "q8 needs K divisible by 32; test.weight has K = 80"},
        {TENSOR_F32, 64, 1, 1, WEIGHTS_Q8, "test.weight should be a matrix; it has 1 dimensions"},
        {TENSOR_F32, 0, 64, 2, WEIGHTS_Q8, "test.weight is empty"},
        {TENSOR_F32, SIZE_MAX / 64, 64, 2, WEIGHTS_Q8,
         "test.weight with 288230376151711743 x 64 values is too large"},
    };
    struct pack_plan plan;
    kvern_error err;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor tensor = {.name = (char *)"test.weight",
                                .type = cases[i].type,
                                .n_dims = cases[i].n_dims,
                                .dims = {cases[i].n, cases[i].k}};
        const struct tensor *parts[] = {&tensor};

        assert_int_not_equal(pack_plan_make(&plan, parts, 1, cases[i].choice, &err), KVERN_OK);
        assert_string_equal(err.message, cases[i].message);
    }

    struct tensor odd = {.name = (char *)"odd", .type = TENSOR_F16, .n_dims = 2, .dims = {4, 80}};
    const struct tensor *alone[] = {&odd};
    assert_int_equal(pack_plan_make(&plan, alone, 1, WEIGHTS_KEEP, &err), KVERN_OK);
    assert_int_equal(plan.bits, 32);

    struct tensor wide = {.name = (char *)"wide", .n_dims = 2, .dims = {2, 64}};
    struct tensor narrow = {.name = (char *)"narrow", .n_dims = 2, .dims = {2, 32}};
    const struct tensor *both[] = {&wide, &narrow};
    assert_int_equal(pack_plan_make(&plan, both, 2, WEIGHTS_KEEP, &err), KVERN_FORMAT);
    assert_string_equal(err.message, "wide has K = 64 and narrow, stacked with it, K = 32");
}

static void wild_scales_are_refused(void **state)
{
    static const struct {
        enum tensor_type type;
        uint16_t scale;
        bool with_q4_1; /* stacked with Q4_1: mins are stored */
        kvern_status status;
    } cases[] = {
        {TENSOR_Q4_0, 0x7800, false, KVERN_OK},     /* 32768: -8 * it is not f16, nor needed */
        {TENSOR_Q4_0, 0x7800, true, KVERN_FORMAT},  /* needed here */
        {TENSOR_Q4_0, 0x7c00, false, KVERN_FORMAT}, /* infinity */
        {TENSOR_Q8_0, 0x7e00, false, KVERN_FORMAT}, /* nan */
        {TENSOR_Q4_1, 0x7c00, false, KVERN_FORMAT},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor wild = make_tensor(cases[i].type, 1, 32);
        struct tensor tame = make_tensor(TENSOR_Q4_1, 1, 32);
        const struct tensor *parts[] = {&wild, &tame};
        struct pack_plan plan;
        kvern_error err;
        uint8_t data[64 * 32];
        uint16_t scales[64], mins[64];

        memcpy((void *)(uintptr_t)wild.data, &cases[i].scale, 2);
        assert_int_equal(
            pack_plan_make(&plan, parts, cases[i].with_q4_1 ? 2 : 1, WEIGHTS_KEEP, &err), KVERN_OK);
        assert_int_equal(pack_write(&plan, data, scales, plan.has_mins ? mins : NULL, &err),
                         cases[i].status);
        free((void *)(uintptr_t)wild.data);
        free((void *)(uintptr_t)tame.data);
    }
}

static void values_that_are_not_finite_are_refused(void **state)
{
    static const struct {
        enum weights_choice choice;
        const char *message;
    } cases[] = {
        {WEIGHTS_F32, "row 1 of test.weight holds a value that is not finite"},
        {WEIGHTS_Q8, "row 1 of test.weight holds a value that is not finite or too large for q8"},
        {WEIGHTS_Q4, "row 1 of test.weight holds a value that is not finite or too large for q4"},
    };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static uint8_t data[64 * 64 * 4];
    uint16_t scales[128], mins[128];
    (void)state;

    for (size_t i = 0; i < 9; i++) {
        struct tensor tensor = make_tensor(TENSOR_F32, 2, 64);
        const struct tensor *parts[] = {&tensor};
        struct pack_plan plan;
        kvern_error err;

        memcpy((char *)(uintptr_t)tensor.data + (64 + 40) * sizeof *bad, &bad[i / 3], sizeof *bad);
        assert_int_equal(pack_plan_make(&plan, parts, 1, cases[i % 3].choice, &err), KVERN_OK);
        assert_int_equal(pack_write(&plan, data, scales, mins, &err), KVERN_FORMAT);
        assert_string_equal(err.message, cases[i % 3].message);
        free((void *)(uintptr_t)tensor.data);
    }
}

static void no_memory_is_an_error(void **state)
{
    struct tensor tensor = make_tensor(TENSOR_Q8_0, 1, 32);
    const struct tensor *parts[] = {&tensor};
    uint8_t data[64 * 32];
    uint16_t scales[64];
    struct pack_plan plan;
    kvern_error err;
    (void)state;

    assert_int_equal(pack_plan_make(&plan, parts, 1, WEIGHTS_KEEP, &err), KVERN_OK);
    for (int n = 0; n < 4; n++) {
        memory_fail_after(n);
        kvern_status status = pack_write(&plan, data, scales, NULL, &err);
        memory_fail_after(-1);
        assert_int_equal(status, KVERN_MEMORY);
        assert_string_equal(err.message, "no memory for a row of test.weight (K = 32)");
    }
    assert_int_equal(pack_write(&plan, data, scales, NULL, &err), KVERN_OK);
    free((void *)(uintptr_t)tensor.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_formats_come_back),
        cmocka_unit_test(rope_order_is_undone),
        cmocka_unit_test(rows_are_scaled),
        cmocka_unit_test(bad_parts_are_refused),
        cmocka_unit_test(wild_scales_are_refused),
        cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(no_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
