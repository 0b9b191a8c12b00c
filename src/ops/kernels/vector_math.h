/* SPDX-License-Identifier: Apache-2.0
 *
 * Exponentials on `vector`; include one vector_<isa>.h first. Exact where the kernels need it:
 * 2^0 = e^0 = 1, 2^-inf = e^-inf = 0, NaN stays NaN. Elsewhere within 2 units in the last place.
 */
#ifndef KVERN_OPS_KERNELS_VECTOR_MATH_H
#define KVERN_OPS_KERNELS_VECTOR_MATH_H

/* 2^f on [-0.5, 0.5] by a minimax polynomial with constant term 1; relative error below 1e-7. */
static inline vector vector_exp2_fraction(vector f)
{
    vector p = vector_set(0x1.5bba14p-10f);

    p = vector_fma(p, f, vector_set(0x1.3cea88p-7f));
    p = vector_fma(p, f, vector_set(0x1.c6b752p-5f));
    p = vector_fma(p, f, vector_set(0x1.ebf9bcp-3f));
    p = vector_fma(p, f, vector_set(0x1.62e42ap-1f));
    return vector_fma(p, f, vector_set(1.0F));
}

/* For x <= 0 or NaN. */
static inline vector vector_exp2_below(vector x)
{
    x = vector_max(vector_set(-160.0F), x);
    vector n = vector_round(x);

    return vector_scale_by_power(vector_exp2_fraction(vector_subtract(x, n)), n);
}

/* The clamps take x second, so that NaN passes; past them the result is 0 or infinity anyway. */
static inline vector vector_exp2(vector x)
{
    x = vector_min(vector_set(130.0F), vector_max(vector_set(-160.0F), x));
    vector n = vector_round(x);

    return vector_scale_by_power(vector_exp2_fraction(vector_subtract(x, n)), n);
}

/* e^x = 2^n * e^r with r = x - n ln 2. ln 2 in two parts, n times the first being exact, keeps r's
 * bits for large x with and without fused multiply-add. */
static inline vector vector_exp(vector x)
{
    vector log2_e = vector_set(0x1.715476p0f);

    x = vector_min(vector_set(90.0F), vector_max(vector_set(-110.0F), x));
    vector n = vector_round(vector_multiply(x, log2_e));
    vector r = vector_fma(n, vector_set(-0x1.62e4p-1f), x);
    r = vector_fma(n, vector_set(-0x1.7f7d1cp-20f), r);
    return vector_scale_by_power(vector_exp2_fraction(vector_multiply(r, log2_e)), n);
}

#endif
