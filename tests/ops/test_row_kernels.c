/* SPDX-License-Identifier: Apache-2.0
 *
 * rows_<isa>.c, every set the machine has: gated activations and RMS norms against double, at
 * widths with and without a rest, and each row's bytes equal however many rows a call covers.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"
#include "support_kernels.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t widths[] = {1, 7, 16, 63, 64, 100, 576, 1536};
enum { N_WIDTHS = sizeof widths / sizeof widths[0], N_ROWS = 5 };

static uint64_t random_state = 1;

static float *random_floats(size_t n, float scale)
{
    float *x = try_new_aligned(n, sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        random_state = random_state * 6364136223846793005U + 1442695040888963407U;
        x[i] = (float)(int32_t)(random_state >> 32) * 0x1p-31F * scale;
    }
    return x;
}

static void check_close(float got, double want, double relative, const char *what, double x)
{
    if (!(fabs(got - want) <= relative * fabs(want) + 1e-37))
        fail_msg("%s of %.9g is %.9g, not %.9g", what, x, got, want);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu(double x)
{
    double u = sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);

    return x / (1 + exp(-2 * u));
}

/* The gate's error grows with |x| in GELU, whose cubic passes its rounding on to the exponent. */
static void check_gated(const struct kernels *set, bool is_gelu)
{
    double relative = is_gelu ? 2e-5 : 1e-6;

    for (size_t w = 0; w < N_WIDTHS; w++) {
        size_t width = widths[w];
        float *x = random_floats(N_ROWS * 2 * width, is_gelu ? 6.0F : 80.0F);
        float *out = random_floats(N_ROWS * width + 1, 1.0F);
        float *alone = random_floats(N_ROWS * width, 1.0F);
        void (*gated)(const float *, size_t, size_t, size_t, float *) =
            is_gelu ? set->row->gated_gelu : set->row->gated_silu;
        float guard = out[N_ROWS * width];

        gated(x, 0, N_ROWS, width, out);
        for (size_t row = 0; row < N_ROWS; row++) {
            const float *gates = x + row * 2 * width;

            for (size_t i = 0; i < width; i++) {
                double y = is_gelu ? gelu(gates[i]) : silu(gates[i]);

                check_close(out[row * width + i], y * gates[width + i], relative, "gate", gates[i]);
            }
            gated(x, row, row + 1, width, alone);
        }
        assert_memory_equal(out, alone, N_ROWS * width * sizeof *out);
        assert_true(out[N_ROWS * width] == guard);
        free(x);
        free(out);
        free(alone);
    }
}

static void test_gated_silu(void **state)
{
    check_gated(*state, false);
}

static void test_gated_gelu(void **state)
{
    check_gated(*state, true);
}

static void test_gate_at_the_ends(void **state)
{
    static const struct {
        float x;
        float silu;
    } ends[] = {{0.0F, 0.0F},   {-1000.0F, 0.0F}, {1000.0F, 1000.0F},
                {88.5F, 88.5F}, {1e30F, 1e30F},   {-1e30F, 0.0F}};
    const struct kernels *set = *state;

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        float x[2] = {ends[i].x, 1.0F};
        float y;

        set->row->gated_silu(x, 0, 1, 1, &y);
        check_close(y, ends[i].silu, 1e-7, "silu", ends[i].x);
        set->row->gated_gelu(x, 0, 1, 1, &y);
        check_close(y, ends[i].silu, 1e-7, "gelu", ends[i].x);
    }
    float nan_gate[2] = {NAN, 1.0F};
    float y;

    set->row->gated_silu(nan_gate, 0, 1, 1, &y);
    assert_true(isnan(y));
}

static void check_norm(const float *x, const float *weight, size_t width, const float *out)
{
    double sum = 0;

    for (size_t i = 0; i < width; i++)
        sum += (double)x[i] * x[i];
    for (size_t i = 0; i < width; i++)
        check_close(out[i], x[i] / sqrt(sum / (double)width + 1e-5) * weight[i], 1e-6, "rms norm",
                    x[i]);
}

static void test_rms_norm(void **state)
{
    const struct kernels *set = *state;

    for (size_t w = 0; w < N_WIDTHS; w++) {
        size_t width = widths[w];
        size_t n = N_ROWS * width;
        float *x = random_floats(n, 5.0F);
        float *weight = random_floats(width, 2.0F);
        float *out = random_floats(n, 1.0F);
        float *alone = random_floats(n, 1.0F);

        set->row->rms_norm(x, weight, 1e-5F, 0, N_ROWS, width, out);
        for (size_t row = 0; row < N_ROWS; row++) {
            check_norm(x + row * width, weight, width, out + row * width);
            set->row->rms_norm(x, weight, 1e-5F, row, row + 1, width, alone);
        }
        assert_memory_equal(out, alone, n * sizeof *out);
        free(x);
        free(weight);
        free(out);
        free(alone);
    }
}

/* The sum may lie over either operand; the norm is rms_norm's, bit for bit. */
static void test_add_rms_norm(void **state)
{
    const struct kernels *set = *state;

    for (size_t w = 0; w < N_WIDTHS * 2; w++) {
        size_t width = widths[w / 2];
        size_t n = N_ROWS * width;
        float *x = random_floats(n, 5.0F);
        float *skip = random_floats(n, 3.0F);
        float *weight = random_floats(width, 2.0F);
        float *want = random_floats(n, 1.0F);
        float *want_out = random_floats(n, 1.0F);
        float *out = random_floats(n, 1.0F);
        float *sum = w % 2 ? x : skip;

        for (size_t i = 0; i < n; i++)
            want[i] = x[i] + skip[i];
        set->row->rms_norm(want, weight, 1e-5F, 0, N_ROWS, width, want_out);
        set->row->add_rms_norm(x, skip, weight, 1e-5F, 0, 2, width, sum, out);
        set->row->add_rms_norm(x, skip, weight, 1e-5F, 2, N_ROWS, width, sum, out);
        assert_memory_equal(sum, want, n * sizeof *sum);
        assert_memory_equal(out, want_out, n * sizeof *out);
        free(x);
        free(skip);
        free(weight);
        free(want);
        free(want_out);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gated_silu),       cmocka_unit_test(test_gated_gelu),
        cmocka_unit_test(test_gate_at_the_ends), cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_add_rms_norm),
    };

    return run_with_each_set(tests, COUNT(tests));
}
