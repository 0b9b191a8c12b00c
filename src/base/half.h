/* SPDX-License-Identifier: Apache-2.0
 *
 * f16 and bf16 as bit patterns, to and from f32, in plain integer arithmetic: conversion runs on
 * any machine and gives the same bits on each. Rounding is to nearest, ties to even.
 */
#ifndef KVERN_BASE_HALF_H
#define KVERN_BASE_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    /* shifting the exponent's bias by a product makes subnormals come out right */
    float value = float_from_bits(magnitude) * 0x1p112f;
    uint32_t bits = float_bits(value);

    if (magnitude >= 0x7c00u << 13)
        bits = magnitude | 0x7f800000u;
    return float_from_bits(bits | sign);
}

static inline uint16_t half_from_float(float value)
{
    uint32_t bits = float_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return sign | 0x7e00;
    if (bits >= 0x47800000u) /* 65536 and over */
        return sign | 0x7c00;
    if (bits < 0x38800000u) /* under 2^-14: the sum with 0.5 rounds at f16's subnormal step */
        return sign | (uint16_t)(float_bits(float_from_bits(bits) + 0.5f) - 0x3f000000u);
    bits += 0xc8000fffu + (bits >> 13 & 1);
    return sign | (uint16_t)(bits >> 13);
}

static inline bool half_is_finite(uint16_t half)
{
    return (half & 0x7c00) != 0x7c00;
}

static inline float bfloat_to_float(uint16_t bfloat)
{
    return float_from_bits((uint32_t)bfloat << 16);
}

#endif
