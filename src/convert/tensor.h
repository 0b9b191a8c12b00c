/* SPDX-License-Identifier: Apache-2.0
 *
 * One tensor of a checkpoint, in the bytes its file holds: element types, and reading a row as f32
 * or, without loss, as groups of 32 small integers. A tensor owns only its name; whoever made it
 * has checked that its bytes lie inside the mapping and match type and dims.
 */
#ifndef KVERN_CONVERT_TENSOR_H
#define KVERN_CONVERT_TENSOR_H

#include "base/file.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_Q4_0,
    TENSOR_Q4_1,
    TENSOR_Q5_0,
    TENSOR_Q5_1,
    TENSOR_Q8_0,
    TENSOR_Q4_K,
    TENSOR_Q5_K,
    TENSOR_Q6_K,
    TENSOR_N_TYPES
};

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    char *name; /* Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight; owned */
    enum tensor_type type;
    size_t n_dims;
    size_t dims[TENSOR_MAX_DIMS]; /* outermost first: [N, K] */
    const uint8_t *data;          /* [n_bytes], any alignment */
    size_t n_bytes;
    const struct file_map *file; /* the mapping `data` points into; NULL in tests */
    size_t rope_heads; /* > 0: rows stand in GGUF's interleaved rotary order for this many heads;
                          the row reads below undo it */
};

/* "F32", "Q4_0", ...: static. */
const char *tensor_type_name(enum tensor_type type);
/* Values that share a block (1 for floats, 32 or 256), and the bytes of a block. */
size_t tensor_type_block_values(enum tensor_type type);
size_t tensor_type_block_bytes(enum tensor_type type);

/* Bytes of a tensor of these dims; false on overflow or if the innermost one is not whole blocks.
 */
bool tensor_count_bytes(enum tensor_type type, const size_t *dims, size_t n_dims, size_t *n_bytes);

/* The innermost dim K, and how many rows of K there are (1 for a vector). */
size_t tensor_row_values(const struct tensor *tensor);
size_t tensor_n_rows(const struct tensor *tensor);

/* Row `row` dequantised: out [K]. */
void tensor_read_row(const struct tensor *tensor, size_t row, float *out);

/* Whether tensor_read_groups can read this type: Q4_0, Q4_1, Q4_K (4 bit) and Q8_0 (8 bit). */
bool tensor_has_groups(enum tensor_type type);
/* The integers of a row: q [K], f16 scales [K / 32], f16 mins [K / 32].
 *   Q4_0, Q4_1, Q4_K   value = scale * q + min, q in [0, 15]
 *   Q8_0               value = scale * (q - 128); mins is not written and may be NULL
 * Lossless but for Q4_K, whose scales and mins are products of an f16 and a 6-bit integer: they are
 * rounded to f16, which moves each by at most 2^-11 of itself (more under f16's normal range of
 * 2^-14, where the step is 2^-24). For Q4_0 the min is -8 * scale, exact in f16 unless |scale| is
 * 8192 or more: then false is returned, as it is for a Q4_K product beyond f16's range. */
bool tensor_read_groups(const struct tensor *tensor, size_t row, uint8_t *q, uint16_t *scales,
                        uint16_t *mins);

/* Tells the OS that rows [row_begin, row_end) are not needed soon. */
void tensor_forget_rows(const struct tensor *tensor, size_t row_begin, size_t row_end);

#endif
