/* SPDX-License-Identifier: Apache-2.0
 *
 * Block formats against the Python gguf package, f16 conversion over all its values, and the
 * quantisers: error bounds, edge rows, refusals.
 */
#include "base/file.h"
#include "base/half.h"
#include "convert/quantize.h"
#include "convert/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void dequantisation_equals_golden(void **state)
{
    static const struct {
        uint32_t ggml_type;
        enum tensor_type type;
    } types[] = {
        {1, TENSOR_F16},   {30, TENSOR_BF16}, {2, TENSOR_Q4_0}, {3, TENSOR_Q4_1},
        {6, TENSOR_Q5_0},  {7, TENSOR_Q5_1},  {8, TENSOR_Q8_0}, {12, TENSOR_Q4_K},
        {13, TENSOR_Q5_K}, {14, TENSOR_Q6_K},
    };
    char *text;
    size_t n_bytes;
    kvern_error err;
    float row[256];
    (void)state;

    assert_int_equal(
        file_read(KVERN_SOURCE_DIR "/tests/golden/gguf_types.bin", 1 << 20, &text, &n_bytes, &err),
        KVERN_OK);
    const uint8_t *at = (const uint8_t *)text;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        uint32_t head[4];
        size_t n_expected;

        memcpy(head, at, sizeof head);
        assert_int_equal(head[0], types[i].ggml_type);
        assert_int_equal(head[2], 256);
        struct tensor tensor = {.type = types[i].type,
                                .n_dims = 2,
                                .dims = {head[1], head[2]},
                                .data = at + sizeof head,
                                .n_bytes = head[3]};
        assert_true(tensor_count_bytes(tensor.type, tensor.dims, 2, &n_expected));
        assert_int_equal(n_expected, head[3]);
        at += sizeof head + head[3];
        for (size_t r = 0; r < head[1]; r++, at += sizeof row) {
            float golden[256];

            memcpy(golden, at, sizeof golden);
            tensor_read_row(&tensor, r, row);
            for (size_t k = 0; k < 256; k++) {
                if (row[k] != golden[k])
                    fail_msg("%s [%zu, %zu]: %.9g, golden %.9g", tensor_type_name(tensor.type), r,
                             k, (double)row[k], (double)golden[k]);
            }
        }
    }
    assert_ptr_equal(at, text + n_bytes);
    free(text);
}

/* Q4_K as 4-bit groups: off by no more than the f16 rounding of its scale and min products. */
static void q4_k_groups_lose_only_f16_rounding(void **state)
{
    uint8_t block[144];
    uint8_t q[256];
    uint16_t scales[8], mins[8];
    float row[256];
    struct tensor tensor = {.type = TENSOR_Q4_K, .n_dims = 2, .dims = {1, 256}, .data = block};
    uint16_t unit = half_from_float(0.0371f);
    (void)state;

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 151 + 7);
    memcpy(block, &unit, 2);
    memcpy(block + 2, &unit, 2);
    tensor_read_row(&tensor, 0, row);
    assert_true(tensor_read_groups(&tensor, 0, q, scales, mins));
    for (int i = 0; i < 256; i++) {
        float scale = half_to_float(scales[i / 32]) * (float)q[i];
        float min = half_to_float(mins[i / 32]);

        assert_true(fabsf(scale + min - row[i]) <= (fabsf(scale) + fabsf(min)) * 0x1p-11f);
    }
}

static void half_round_trips(void **state)
{
    static const struct {
        float value;
        uint16_t half;
    } cases[] = {
        {1, 0x3c00},        {65504, 0x7bff},        {65519.996f, 0x7bff},   {65520, 0x7c00},
        {1e30f, 0x7c00},    {0x1p-24f, 0x0001},     {0x1p-25f, 0x0000},     {0x1.8p-24f, 0x0002},
        {-0.0f, 0x8000},    {1 + 0x1p-11f, 0x3c00}, {1 + 0x3p-11f, 0x3c02}, {-2, 0xc000},
        {INFINITY, 0x7c00}, {0x1.ff8p-15f, 0x03ff}, {0x1p-14f, 0x0400},
    };
    (void)state;

    for (uint32_t half = 0; half < 65536; half++) {
        float value = half_to_float((uint16_t)half);

        if (value != value)
            assert_false(half_is_finite(half_from_float(value)));
        else
            assert_int_equal(half_from_float(value), half);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(half_from_float(cases[i].value), cases[i].half);
}

/* A repeatable, roughly normal value. */
static float next_value(uint64_t *seed)
{
    float sum = 0;

    for (int i = 0; i < 4; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*seed >> 40) * 0x1p-24f - 0.5f;
    }
    return sum;
}

static double q4_error(const float *row, size_t k, const uint8_t *q, const uint16_t *scales,
                       const uint16_t *mins)
{
    double error = 0;

    for (size_t i = 0; i < k; i++) {
        double value = half_to_float(scales[i / 32]) * (float)q[i] + half_to_float(mins[i / 32]);

        error += (value - row[i]) * (value - row[i]);
    }
    return error;
}

static void q4_search_beats_extremes(void **state)
{
    enum { K = 4096 };
    static float row[K];
    static uint8_t q[K], plain_q[K];
    static uint16_t scales[K / 32], mins[K / 32], plain_scales[K / 32], plain_mins[K / 32];
    uint64_t seed = 7;
    (void)state;

    for (int i = 0; i < K; i++)
        row[i] = next_value(&seed);
    for (int g = 0; g < K / 32; g++) {
        float min = row[g * 32], max = min;

        for (int i = 0; i < 32; i++) {
            min = fminf(min, row[g * 32 + i]);
            max = fmaxf(max, row[g * 32 + i]);
        }
        plain_scales[g] = half_from_float((max - min) / 15);
        plain_mins[g] = half_from_float(min);
        for (int i = 0; i < 32; i++) {
            float step = roundf((row[g * 32 + i] - half_to_float(plain_mins[g])) /
                                half_to_float(plain_scales[g]));
            plain_q[g * 32 + i] = (uint8_t)fminf(fmaxf(step, 0), 15);
        }
    }
    assert_true(quantize_row_q4(row, K, q, scales, mins));
    double searched = q4_error(row, K, q, scales, mins);
    double plain = q4_error(row, K, plain_q, plain_scales, plain_mins);
    if (!(searched < 0.85 * plain))
        fail_msg("squared error %g, from the extremes alone %g", searched, plain);
    for (int i = 0; i < K; i++)
        assert_true(q[i] <= 15);
}

/* Against the plain way: the extreme at -8, all else rounded. */
static void q4_symmetric_search_beats_extremes(void **state)
{
    enum { K = 4096 };
    static float row[K];
    static uint8_t q[K];
    static uint16_t scales[K / 64];
    double searched = 0, plain = 0;
    uint64_t seed = 11;
    (void)state;

    for (int i = 0; i < K; i++)
        row[i] = next_value(&seed);
    assert_true(quantize_row_q4_symmetric(row, K, q, scales));
    for (int g = 0; g < K / 64; g++) {
        float extreme = 0;

        for (int i = g * 64; i < g * 64 + 64; i++)
            extreme = fabsf(row[i]) > fabsf(extreme) ? row[i] : extreme;
        for (int i = g * 64; i < g * 64 + 64; i++) {
            float scale = half_to_float(half_from_float(extreme / -8));
            float step = fminf(fmaxf(roundf(row[i] / scale), -8), 7);
            float value = half_to_float(scales[g]) * (float)(q[i] - 8);

            assert_true(q[i] <= 15);
            /* what counts is the error weighted with the square of the value */
            plain += pow(row[i] * (scale * step - row[i]), 2);
            searched += pow(row[i] * (value - row[i]), 2);
        }
    }
    if (!(searched < 0.85 * plain))
        fail_msg("squared error %g, from the extremes alone %g", searched, plain);
}

static void q8_is_within_half_a_step(void **state)
{
    enum { K = 1024 };
    float row[K];
    uint8_t q[K];
    uint16_t scales[K / 32];
    uint64_t seed = 3;
    (void)state;

    for (int i = 0; i < K; i++)
        row[i] = next_value(&seed) * (float)(1 + i / 32);
    assert_true(quantize_row_q8(row, K, q, scales));
    for (int i = 0; i < K; i++) {
        float scale = half_to_float(scales[i / 32]);
        float value = scale * (float)(q[i] - 128);

        /* half a step, and the largest value may be clipped by f16's rounding of the scale */
        if (fabsf(value - row[i]) > scale * 0.5f + fabsf(row[i]) * 0x1p-11f)
            fail_msg("[%d]: %g, source %g, scale %g", i, (double)value, (double)row[i],
                     (double)scale);
    }
}

static void edge_rows(void **state)
{
    static const struct {
        const char *name;
        float fill;
        float first;
        bool fits_q8;
        bool fits_q4;
    } cases[] = {
        {"zeros", 0, 0, true, true},
        {"constant", 0.25f, 0.25f, true, true},
        {"one outlier", 0, 100, true, true},
        {"smallest", 0, 0x1p-24f, true, true},
        {"too large", 0, 1e9f, false, false},
        {"infinity", 0, INFINITY, false, false},
        {"minus infinity", 1, -INFINITY, false, false},
        {"nan", 1, NAN, false, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float row[64];
        uint8_t q[64];
        uint16_t scale, min;

        for (int j = 0; j < 64; j++)
            row[j] = cases[i].fill;
        row[0] = cases[i].first;
        if (quantize_row_q8(row, 32, q, &scale) != cases[i].fits_q8)
            fail_msg("q8 %s", cases[i].name);
        if (quantize_row_q4(row, 32, q, &scale, &min) != cases[i].fits_q4)
            fail_msg("q4 %s", cases[i].name);
        if (cases[i].fits_q4) /* at most two different values: exact up to f16 */
            for (int j = 0; j < 32; j++)
                assert_true(fabsf(half_to_float(scale) * (float)q[j] + half_to_float(min) -
                                  row[j]) <= fabsf(cases[i].first) * 0x1p-10f + 0x1p-24f);
        if (quantize_row_q4_symmetric(row, 64, q, &scale) != cases[i].fits_q4)
            fail_msg("symmetric q4 %s", cases[i].name);
        for (int j = 0; j < 64 && cases[i].fits_q4; j++)
            assert_true(fabsf(half_to_float(scale) * (float)(q[j] - 8) - row[j]) <=
                        fabsf(cases[i].first) * 0x1p-10f + 0x1p-24f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequantisation_equals_golden),
        cmocka_unit_test(q4_k_groups_lose_only_f16_rounding),
        cmocka_unit_test(half_round_trips),
        cmocka_unit_test(q4_search_beats_extremes),
        cmocka_unit_test(q4_symmetric_search_beats_extremes),
        cmocka_unit_test(q8_is_within_half_a_step),
        cmocka_unit_test(edge_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
