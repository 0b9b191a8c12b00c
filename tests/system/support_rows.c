/* SPDX-License-Identifier: Apache-2.0
 *
 * See support_rows.h.
 */
#include "support_rows.h"

#include <math.h>

double range_of(const float *values, size_t n)
{
    float low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        low = fminf(low, values[i]);
        high = fmaxf(high, values[i]);
    }
    return (double)(high - low);
}

double most_apart(const float *a, const float *b, size_t n)
{
    float worst = 0;

    for (size_t i = 0; i < n; i++)
        worst = isfinite(a[i]) ? fmaxf(worst, fabsf(a[i] - b[i])) : INFINITY;
    return (double)worst;
}
