/* SPDX-License-Identifier: Apache-2.0
 *
 * How far rows of floats are from what they should be.
 */
#ifndef KVERN_TESTS_SUPPORT_ROWS_H
#define KVERN_TESTS_SUPPORT_ROWS_H

#include <stddef.h>

/* The largest of n values less the smallest. */
double range_of(const float *values, size_t n);
/* The largest difference of a value of `a` [n] to its own of `b` [n]; infinite if one of `a` is not
 * finite. */
double most_apart(const float *a, const float *b, size_t n);

#endif
