/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels of encoders (layer norm of a sum, activations of one value), written once on
 * `vector`; rows_<isa>.c includes it after its vector_<isa>.h. A row's result depends on that row
 * alone, an activation's on its value alone.
 */
#ifndef KVERN_OPS_KERNELS_LAYER_ROWS_IMPL_H
#define KVERN_OPS_KERNELS_LAYER_ROWS_IMPL_H

#include "ops/kernels/kernels.h"
#include "ops/kernels/row_math.h"
#include "ops/kernels/rows_impl.h"

#include <string.h>

/* Four sums, vector i going to sum i % 4. */
static float row_sum(const float *x, size_t n)
{
    vector sums[4] = {vector_set(0.0F), vector_set(0.0F), vector_set(0.0F), vector_set(0.0F)};
    size_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t j = 0; j < 4; j++)
            sums[j] = vector_add(sums[j], vector_load(x + i + j * LANES));
    }
    for (size_t j = 0; i < n; i += LANES, j++)
        sums[j] = vector_add(sums[j], row_load(x, i, n));
    return vector_sum(vector_add(vector_add(sums[0], sums[1]), vector_add(sums[2], sums[3])));
}

/* x -= mean, then 1 / sqrt(mean(x^2) + epsilon): the variance of what is left has no cancellation,
 * which one pass over sums of squares would. */
static float center_row(float *x, size_t n, float epsilon)
{
    vector mean = vector_set(row_sum(x, n) / (float)n);

    for (size_t i = 0; i < n; i += LANES)
        row_store(x, i, n, vector_subtract(row_load(x, i, n), mean));
    return rms_factor(x, n, epsilon);
}

static void add_layer_norm(const float *x, const float *skip, const float *skip_scale,
                           const float *gamma, const float *beta, float epsilon, size_t row_begin,
                           size_t row_end, size_t width, float *out)
{
    for (size_t row = row_begin; row < row_end; row++) {
        const float *a = x + row * width;
        const float *b = skip + row * width;
        float *to = out + row * width;

        for (size_t i = 0; i < width; i += LANES) {
            vector old = row_load(b, i, width);

            if (skip_scale)
                old = vector_multiply(old, row_load(skip_scale, i, width));
            row_store(to, i, width, vector_add(row_load(a, i, width), old));
        }
        vector factor = vector_set(center_row(to, width, epsilon));

        for (size_t i = 0; i < width; i += LANES) {
            vector scaled = vector_multiply(row_load(to, i, width), factor);

            row_store(to, i, width,
                      vector_fma(scaled, row_load(gamma, i, width), row_load(beta, i, width)));
        }
    }
}

/* GELU is x Phi(x) = max(x, 0) - r(|x|), where r(a) = a Phi(-a) is a bump that has died down to
 * 4e-7 at a = 5.25. r is a times a polynomial in t = a / 2.625 - 1, fitted for the least largest
 * error of r (5.6e-7; in f32 6.9e-7) on [0, 5.25]: no exponential and no division. */
static inline vector gelu_vector(vector x)
{
    static const float coefficients[] = {
        -0x1.46086ap-6F, -0x1.86ef3ep-8F, 0x1.3e657ap-4F,  -0x1.15ea78p-4F, -0x1.568df6p-4F,
        0x1.9426acp-3F,  -0x1.9e8260p-4F, -0x1.ef35aep-4F, 0x1.07c71ap-2F,  -0x1.cec82cp-3F,
        0x1.d7400ap-4F,  -0x1.119d6cp-5F, 0x1.1bf1dap-8F,
    };
    vector positive = vector_max(vector_set(0.0F), x);
    vector magnitude = vector_max(vector_subtract(vector_set(0.0F), x), x);
    vector a = vector_min(vector_set(5.25F), magnitude);
    vector t = vector_fma(a, vector_set(1.0F / 2.625F), vector_set(-1.0F));
    vector p = vector_set(0x1.bb231cp-8F);

#pragma GCC unroll 16
    for (size_t i = 0; i < sizeof coefficients / sizeof coefficients[0]; i++)
        p = vector_fma(p, t, vector_set(coefficients[i]));
    return vector_subtract(positive, vector_multiply(a, p));
}

static inline vector gelu_tanh_vector(vector x)
{
    const vector linear = vector_set(2.0F * 0.7978845608F); /* 2 sqrt(2 / pi) */
    const vector cubic = vector_set(2.0F * 0.7978845608F * 0.044715F);

    return gate(x, vector_multiply(x, vector_fma(vector_multiply(x, x), cubic, linear)));
}

static inline vector silu_vector(vector x)
{
    return gate(x, x);
}

static inline vector relu_vector(vector x)
{
    return vector_max(vector_set(0.0F), x);
}

#define ACTIVATE_ROWS(name, function)                                                              \
    static void name(const float *x, size_t n_rows, size_t width, size_t stride, float *out)       \
    {                                                                                              \
        for (size_t row = 0; row < n_rows; row++, x += stride, out += stride) {                    \
            for (size_t i = 0; i < width; i += LANES)                                              \
                row_store(out, i, width, function(row_load(x, i, width)));                         \
        }                                                                                          \
    }
ACTIVATE_ROWS(gelu_rows, gelu_vector)
ACTIVATE_ROWS(gelu_tanh_rows, gelu_tanh_vector)
ACTIVATE_ROWS(silu_rows, silu_vector)
ACTIVATE_ROWS(relu_rows, relu_vector)
#undef ACTIVATE_ROWS

static void activate(enum activation activation, const float *x, size_t n_rows, size_t width,
                     size_t stride, float *out)
{
    switch (activation) {
    case ACTIVATION_GELU:
        gelu_rows(x, n_rows, width, stride, out);
        break;
    case ACTIVATION_GELU_TANH:
        gelu_tanh_rows(x, n_rows, width, stride, out);
        break;
    case ACTIVATION_SILU:
        silu_rows(x, n_rows, width, stride, out);
        break;
    case ACTIVATION_RELU:
        relu_rows(x, n_rows, width, stride, out);
        break;
    case ACTIVATION_NONE:
        for (size_t row = 0; row < n_rows && x != out; row++)
            memcpy(out + row * stride, x + row * stride, width * sizeof *x);
        break;
    }
}

#endif
