/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels (gated activations, RMS norms), written once on `vector`; rows_<isa>.c includes
 * it after its vector_<isa>.h. A row's result depends on that row alone.
 */
#ifndef KVERN_OPS_KERNELS_ROWS_IMPL_H
#define KVERN_OPS_KERNELS_ROWS_IMPL_H

#include "ops/kernels/kernels.h"
#include "ops/kernels/row_math.h"
#include "ops/kernels/vector_math.h"

/* x / (1 + e^-t): SiLU for t = x, and the tanh form of GELU for t = 2 u, since
 * (1 + tanh(u)) / 2 = 1 / (1 + e^-2u). */
static inline vector gate(vector x, vector t)
{
    vector e = vector_exp(vector_subtract(vector_set(0.0F), t));

    return vector_divide(x, vector_add(vector_set(1.0F), e));
}

static void gated_silu(const float *gate_up, size_t row_begin, size_t row_end, size_t width,
                       float *out)
{
    for (size_t row = row_begin; row < row_end; row++) {
        const float *gates = gate_up + row * 2 * width;
        const float *ups = gates + width;

        for (size_t i = 0; i < width; i += LANES) {
            vector x = row_load(gates, i, width);
            vector y = vector_multiply(gate(x, x), row_load(ups, i, width));

            row_store(out + row * width, i, width, y);
        }
    }
}

static void gated_gelu(const float *gate_up, size_t row_begin, size_t row_end, size_t width,
                       float *out)
{
    const vector linear = vector_set(2.0F * 0.7978845608F); /* 2 sqrt(2 / pi) */
    const vector cubic = vector_set(2.0F * 0.7978845608F * 0.044715F);

    for (size_t row = row_begin; row < row_end; row++) {
        const float *gates = gate_up + row * 2 * width;
        const float *ups = gates + width;

        for (size_t i = 0; i < width; i += LANES) {
            vector x = row_load(gates, i, width);
            vector square = vector_multiply(x, x);
            vector t = vector_multiply(x, vector_fma(square, cubic, linear));
            vector y = vector_multiply(gate(x, t), row_load(ups, i, width));

            row_store(out + row * width, i, width, y);
        }
    }
}

static void scale_row(const float *x, const float *weight, float factor, size_t width, float *out)
{
    for (size_t i = 0; i < width; i += LANES) {
        vector scaled = vector_multiply(row_load(x, i, width), vector_set(factor));

        row_store(out, i, width, vector_multiply(scaled, row_load(weight, i, width)));
    }
}

static void rms_norm(const float *x, const float *weight, float epsilon, size_t row_begin,
                     size_t row_end, size_t width, float *out)
{
    for (size_t row = row_begin; row < row_end; row++) {
        const float *from = x + row * width;

        scale_row(from, weight, rms_factor(from, width, epsilon), width, out + row * width);
    }
}

static void add_rms_norm(const float *x, const float *skip, const float *weight, float epsilon,
                         size_t row_begin, size_t row_end, size_t width, float *sum, float *out)
{
    for (size_t row = row_begin; row < row_end; row++) {
        const float *a = x + row * width;
        const float *b = skip + row * width;
        float *to = sum + row * width;

        for (size_t i = 0; i < width; i += LANES)
            row_store(to, i, width, vector_add(row_load(a, i, width), row_load(b, i, width)));
        scale_row(to, weight, rms_factor(to, width, epsilon), width, out + row * width);
    }
}

#endif
