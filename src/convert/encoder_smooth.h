/* SPDX-License-Identifier: Apache-2.0
 *
 * Scales that make a norm's output suit 8-bit rounding. A few channels of an encoder's norms are
 * ten times as large as the others, whatever the text; in a group of 32 that share a scale they
 * leave the others few bits. So a norm gives x / s, the matrices that read it hold W * s, and the
 * residual sum multiplies by s again (AddLayerNorm's skip_scale): the same values, rounded better.
 * SmoothQuant (arXiv 2211.10438) with the square root of each channel's size; where that takes
 * sizes from sample texts, this takes them from short texts of random tokens, which are as good.
 */
#ifndef KVERN_CONVERT_ENCODER_SMOOTH_H
#define KVERN_CONVERT_ENCODER_SMOOTH_H

#include "convert/encoder_plan.h"
#include "kvern.h"

#include <stddef.h>

struct encoder_smooth {
    float *scales; /* [2 * n_layers, hidden], owned; NULL: no norm is to be smoothed */
    size_t hidden;
};

/* Runs the model in f32, with portable kernels so that every machine makes the same file, on 32
 * texts of 4 tokens. No scales unless all matrices that read norms become 8 bit from floats, nor if
 * a value on the way is not finite: whoever writes the weights names the tensor. */
kvern_status encoder_smooth_make(struct encoder_smooth *smooth, const struct encoder_plan *plan,
                                 kvern_error *err);
void encoder_smooth_clear(struct encoder_smooth *smooth);

/* s [hidden] of a norm, or NULL: norm 0 is the embedding's, 2 i + 1 layer i's after attention,
 * 2 i + 2 its last; the model's last norm has none. */
const float *encoder_smooth_of(const struct encoder_smooth *smooth, size_t norm, size_t n_layers);

#endif
