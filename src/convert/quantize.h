/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 rows to groups of 32 or 64 small integers with f16 scales, the form pack.h lays out. Pure
 * functions: the result depends on the row alone. Scales are rounded to f16 before the integers are
 * chosen, so that the integers fit the scale a kernel will really use.
 */
#ifndef KVERN_CONVERT_QUANTIZE_H
#define KVERN_CONVERT_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Symmetric 8 bit: w = scale * (q - 128), q in [1, 255]. row [k], k % 32 == 0; q [k],
 * scales [k / 32]. false: a value is not finite, or too large for an f16 scale. */
bool quantize_row_q8(const float *row, size_t k, uint8_t *q, uint16_t *scales);

/* Asymmetric 4 bit: w = scale * q + min, q in [0, 15]; mins [k / 32]. Searches for the scale and
 * min of least squared error. false as above. */
bool quantize_row_q4(const float *row, size_t k, uint8_t *q, uint16_t *scales, uint16_t *mins);

/* Symmetric 4 bit in groups of 64: w = scale * (q - 8), q in [0, 15], scales [k / 64] of either
 * sign (the value of largest magnitude may be the one at -8). k % 64 == 0. Searches for the scale
 * of least squared error, in which an error counts as much as the square of its value (as in
 * llama.cpp's make_qx_quants): large weights decide what a model says, docs/quantisation.md has the
 * measurement. false as above. */
bool quantize_row_q4_symmetric(const float *row, size_t k, uint8_t *q, uint16_t *scales);

#endif
