/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the pool by itself, not through the kernels: a layout they both misread would be no test.
 */
#include "support_pool.h"

#include "test.h"

#include <math.h>
#include <string.h>

void pool_fill(void *pool, size_t n_bytes, enum kv_type type, enum fill fill)
{
    static const uint16_t halves[] = {0, 0x5bf1, 0x7e00}; /* 254.1, NaN */
    static const float floats[] = {0.0F, -12345.0F, NAN};
    static const unsigned char bytes[] = {0, 0x7f, 0xff}; /* scales of 3.4e38 and NaN */

    if (type == KV_INT8) {
        memset(pool, bytes[fill], n_bytes);
    } else if (type == KV_F16) {
        for (size_t i = 0; i < n_bytes / 2; i++)
            ((uint16_t *)pool)[i] = halves[fill];
    } else {
        for (size_t i = 0; i < n_bytes / 4; i++)
            ((float *)pool)[i] = floats[fill];
    }
}

static double half_value(uint16_t half)
{
    int exponent = half >> 10 & 31;
    double fraction = half & 0x3ff;
    double value = exponent ? ldexp(fraction + 1024, exponent - 25) : ldexp(fraction, -24);

    return half & 0x8000 ? -value : value;
}

static const char *pool_part(const struct pool_view *view, size_t position, size_t part,
                             size_t head)
{
    const struct attention_shape *shape = view->shape;
    size_t block = (size_t)view->blocks[position / KV_BLOCK];

    return (const char *)view->pool + ((block * 2 + part) * shape->n_kv_heads + head) *
                                          kv_part_bytes(shape->kv_type, shape->head_size);
}

float pool_scale(const struct pool_view *view, size_t position, size_t part, size_t head)
{
    const char *from = pool_part(view, position, part, head);
    float scale;

    memcpy(&scale, from + KV_BLOCK * view->shape->head_size + position % KV_BLOCK * sizeof scale,
           sizeof scale);
    return scale;
}

int pool_int8(const struct pool_view *view, size_t position, size_t part, size_t head, size_t d)
{
    const int8_t *from = (const int8_t *)pool_part(view, position, part, head);
    size_t offset = position % KV_BLOCK;

    return from[part ? (offset / 2 * view->shape->head_size + d) * 2 + offset % 2
                     : (d / 2 * KV_BLOCK + offset) * 2 + d % 2];
}

double pool_value(const struct pool_view *view, size_t position, size_t part, size_t head, size_t d)
{
    const char *from = pool_part(view, position, part, head);
    size_t offset = position % KV_BLOCK;
    size_t i = part == 0 ? d * KV_BLOCK + offset : offset * view->shape->head_size + d;

    if (view->shape->kv_type == KV_INT8)
        return (double)pool_scale(view, position, part, head) *
               pool_int8(view, position, part, head, d);
    return view->shape->kv_type == KV_F16 ? half_value(((const uint16_t *)from)[i])
                                          : ((const float *)from)[i];
}

double round_bf16(double value)
{
    int exponent;
    double fraction = frexp(value, &exponent);

    return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

void check_close(double got, double want, double tolerance, const char *what, size_t index)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("case %zu: %s is %.9g, not %.9g", index, what, got, want);
}
