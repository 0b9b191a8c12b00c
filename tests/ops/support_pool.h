/* SPDX-License-Identifier: Apache-2.0
 *
 * A KV pool as the tests of attention see it: filled, and read element by element in double, by the
 * layout that ops/kernels/kernels.h states.
 */
#ifndef KVERN_TESTS_OPS_SUPPORT_POOL_H
#define KVERN_TESTS_OPS_SUPPORT_POOL_H

#include "ops/kernels/kernels.h"

enum fill { FILL_ZERO, FILL_GARBAGE, FILL_NAN };

/* The blocks of one sequence in the pool of one layer. */
struct pool_view {
    const struct attention_shape *shape;
    const void *pool;
    const int32_t *blocks;
};

void pool_fill(void *pool, size_t n_bytes, enum kv_type type, enum fill fill);
/* Element d of the key (part 0) or value (part 1) of a position. */
double pool_value(const struct pool_view *view, size_t position, size_t part, size_t head,
                  size_t d);
/* Of an int8 pool: the number as it stands there, and the scale of its vector. */
int pool_int8(const struct pool_view *view, size_t position, size_t part, size_t head, size_t d);
float pool_scale(const struct pool_view *view, size_t position, size_t part, size_t head);

/* To nearest even of 8 bits, in range. */
double round_bf16(double value);
/* Fails the test with both values. */
void check_close(double got, double want, double tolerance, const char *what, size_t index);

#endif
