/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels of encoders (layer_rows_impl.h), every set the machine has: layer norm and
 * activations against double, and each row's bytes equal however many rows a call covers.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"
#include "support_kernels.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t widths[] = {1, 7, 16, 63, 64, 100, 384, 1536};
enum { N_ROWS = 5, STRIDE_MORE = 3 };

static uint64_t random_state = 1;

static float *random_floats(size_t n, float scale, float offset)
{
    float *x = try_new_aligned(n, sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        random_state = random_state * 6364136223846793005U + 1442695040888963407U;
        x[i] = (float)(int32_t)(random_state >> 32) * 0x1p-31F * scale + offset;
    }
    return x;
}

/* ---- layer norm ---- */

struct norm {
    size_t width;
    const float *x, *skip;     /* [N_ROWS, width] */
    const float *skip_scale;   /* [width], or NULL */
    const float *gamma, *beta; /* [width] */
};

static void check_norm_row(const char *isa, const struct norm *n, size_t row, const float *out)
{
    double mean = 0;
    double variance = 1e-12;
    double s[1536];

    for (size_t i = 0; i < n->width; i++) {
        double scale = n->skip_scale ? n->skip_scale[i] : 1;

        s[i] = n->x[row * n->width + i] + n->skip[row * n->width + i] * scale;
        mean += s[i] / (double)n->width;
    }
    for (size_t i = 0; i < n->width; i++)
        variance += (s[i] - mean) * (s[i] - mean) / (double)n->width;
    for (size_t i = 0; i < n->width; i++) {
        double want = (s[i] - mean) / sqrt(variance) * n->gamma[i] + n->beta[i];

        /* the offset of 100 costs 7 bits; a row of one value has no variance but rounding */
        if (!(fabs(out[i] - want) <= (n->width == 1 ? 5 : 4e-5)))
            fail_msg("%s width %zu: norm [%zu, %zu] is %.9g, not %.9g", isa, n->width, row, i,
                     (double)out[i], want);
    }
}

static void check_norm(const struct kernels *set, size_t width, float offset, bool has_scale)
{
    float *x = random_floats(N_ROWS * width, 5.0F, offset);
    float *skip = random_floats(N_ROWS * width, 3.0F, 0.0F);
    float *scale = random_floats(width, 1.0F, 2.0F);
    float *gamma = random_floats(width, 2.0F, 0.0F);
    float *beta = random_floats(width, 1.0F, 0.0F);
    float *out = random_floats(N_ROWS * width + 1, 1.0F, 0.0F);
    float *alone = random_floats(N_ROWS * width, 1.0F, 0.0F);
    float guard = out[N_ROWS * width];
    struct norm norm = {width, x, skip, has_scale ? scale : NULL, gamma, beta};

    set->row->add_layer_norm(x, skip, norm.skip_scale, gamma, beta, 1e-12F, 0, N_ROWS, width, out);
    for (size_t row = 0; row < N_ROWS; row++) {
        check_norm_row(set->name, &norm, row, out + row * width);
        set->row->add_layer_norm(x, skip, norm.skip_scale, gamma, beta, 1e-12F, row, row + 1, width,
                                 alone);
    }
    assert_memory_equal(out, alone, N_ROWS * width * sizeof *out);
    assert_true(out[N_ROWS * width] == guard);
    free(x);
    free(skip);
    free(scale);
    free(gamma);
    free(beta);
    free(out);
    free(alone);
}

static void test_add_layer_norm(void **state)
{
    for (size_t w = 0; w < COUNT(widths); w++) {
        check_norm(*state, widths[w], 0.0F, false);
        check_norm(*state, widths[w], 0.0F, true);
        check_norm(*state, widths[w], 100.0F, false);
    }
}

/* A row of equal values has variance 0: beta comes out, not NaN. */
static void test_flat_row(void **state)
{
    const struct kernels *set = *state;
    float x[40], skip[40], gamma[40], beta[40], out[40];

    for (size_t i = 0; i < 40; i++) {
        x[i] = 2.0F;
        skip[i] = 1.0F;
        gamma[i] = 3.0F;
        beta[i] = (float)i;
    }
    set->row->add_layer_norm(x, skip, NULL, gamma, beta, 1e-12F, 0, 1, 40, out);
    for (size_t i = 0; i < 40; i++)
        assert_true(out[i] == beta[i]);
}

/* ---- activations ---- */

static double gelu(double x)
{
    return x * 0.5 * erfc(-x / sqrt(2));
}

static double gelu_tanh(double x)
{
    double u = sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);

    return x / (1 + exp(-2 * u));
}

static double relu(double x)
{
    return x > 0 ? x : 0;
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static const struct activation_case {
    const char *name;
    enum activation activation;
    double (*exact)(double x);
    double absolute, relative; /* errors allowed, added */
} activations[] = {
    {"gelu", ACTIVATION_GELU, gelu, 1e-6, 1e-7},
    {"gelu_tanh", ACTIVATION_GELU_TANH, gelu_tanh, 1e-6, 1e-6},
    {"relu", ACTIVATION_RELU, relu, 0, 0},
    {"silu", ACTIVATION_SILU, silu, 1e-37, 1e-6},
};

static void check_value(const char *isa, const struct activation_case *c, float x, float y)
{
    double want = c->exact(x);

    if (!(fabs(y - want) <= c->absolute + c->relative * fabs(want)))
        fail_msg("%s: %s(%.9g) is %.9g, not %.9g", isa, c->name, (double)x, (double)y, want);
}

/* Rows with a stride; nothing between them may change; in place gives the same bytes. */
static void check_rows(const struct kernels *set, const struct activation_case *c, size_t width)
{
    size_t stride = width + STRIDE_MORE;
    float *x = random_floats(N_ROWS * stride, 8.0F, 0.0F);
    float *out = random_floats(N_ROWS * stride, 1.0F, 0.0F);
    float *before = random_floats(N_ROWS * stride, 1.0F, 0.0F);

    memcpy(before, out, N_ROWS * stride * sizeof *out);
    set->row->activate(c->activation, x, N_ROWS, width, stride, out);
    for (size_t i = 0; i < N_ROWS * stride; i++) {
        if (i % stride < width)
            check_value(set->name, c, x[i], out[i]);
        else
            assert_true(out[i] == before[i]);
    }
    for (size_t row = N_ROWS; row-- > 0;)
        set->row->activate(c->activation, x + row * stride, 1, width, stride, x + row * stride);
    for (size_t row = 0; row < N_ROWS; row++)
        assert_memory_equal(x + row * stride, out + row * stride, width * sizeof *x);
    free(x);
    free(out);
    free(before);
}

static void test_activate(void **state)
{
    for (size_t i = 0; i < COUNT(activations); i++) {
        for (size_t w = 0; w < COUNT(widths); w++)
            check_rows(*state, &activations[i], widths[w]);
    }
}

/* Every 1/4096 from -7 to 7, where the polynomial of GELU is used and past it. */
static void test_activate_densely(void **state)
{
    const struct kernels *set = *state;

    for (size_t i = 0; i < COUNT(activations); i++) {
        for (int at = -7 * 4096; at < 7 * 4096; at += 64) {
            float x[64], y[64];

            for (int j = 0; j < 64; j++)
                x[j] = (float)(at + j) / 4096.0F;
            set->row->activate(activations[i].activation, x, 1, 64, 64, y);
            for (int j = 0; j < 64; j++)
                check_value(set->name, &activations[i], x[j], y[j]);
        }
    }
}

static void test_activate_at_the_ends(void **state)
{
    static const struct {
        float x;
        float y;
    } ends[] = {{0.0F, 0.0F}, {-1000.0F, 0.0F}, {1000.0F, 1000.0F}, {1e30F, 1e30F}, {-1e30F, 0.0F}};
    const struct kernels *set = *state;
    float x = NAN;
    float y;

    for (size_t i = 0; i < COUNT(activations); i++) {
        for (size_t j = 0; j < COUNT(ends); j++) {
            set->row->activate(activations[i].activation, &ends[j].x, 1, 1, 1, &y);
            if (!(fabs((double)y - ends[j].y) <= 1e-6))
                fail_msg("%s: %s(%g) is %g", set->name, activations[i].name, (double)ends[j].x,
                         (double)y);
        }
        set->row->activate(activations[i].activation, &x, 1, 1, 1, &y);
        assert_true(isnan(y));
    }
    set->row->activate(ACTIVATION_NONE, &ends[2].x, 1, 1, 1, &y);
    assert_true(y == 1000.0F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_layer_norm),
        cmocka_unit_test(test_flat_row),
        cmocka_unit_test(test_activate),
        cmocka_unit_test(test_activate_densely),
        cmocka_unit_test(test_activate_at_the_ends),
    };

    return run_with_each_set(tests, COUNT(tests));
}
