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
    TENSOR_BLOCKS_4, /* of an ONNX export: integers, scales and zero points in arrays of their own
                      */
    TENSOR_BLOCKS_8,
    TENSOR_ZERO, /* all values 0, no bytes */
    TENSOR_N_TYPES
};

enum { TENSOR_MAX_DIMS = 4 };

/* What the types TENSOR_BLOCKS_* have beside their integers, which are `data`: for each row whole
 * blocks, a byte holding one of 8 bit or two of 4, the first in the low half.
 *   value = scale * (q ^ flip - zero ^ flip) */
struct tensor_blocks {
    size_t size;           /* consecutive k that share a scale; the last block may be padded */
    const uint8_t *scales; /* [rows, ceil(K / size)] */
    enum tensor_type scale_type; /* TENSOR_F32, F16 or BF16 */
    const uint8_t *zeros;        /* like data, [rows, ceil(K / size)]; NULL: all are `zero` */
    uint8_t zero;
    uint8_t flip; /* 8 where 4-bit integers are two's complement; else 0 */
};

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
    size_t stride;     /* > 0: floats stored as [K, N], so many values from one k to the next */
    struct tensor_blocks blocks; /* of the types TENSOR_BLOCKS_* */
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

/* Rows [begin, begin + n) of a matrix, or values of a vector, in the same bytes. The caller has
 * checked that they are there, and gives the result a name. */
struct tensor tensor_take_rows(const struct tensor *tensor, size_t begin, size_t n);

/* How the integers of a tensor are to be kept. */
struct tensor_groups {
    int bits;      /* 4 or 8; 0: tensor_read_groups cannot read it */
    bool has_mins; /* false: 4 bit with min = -8 * scale everywhere, or 8 bit */
    size_t size;   /* consecutive k that share a scale, a multiple of 32 */
};

struct tensor_groups tensor_groups(const struct tensor *tensor);

/* The integers of a row: q [K], f16 scales [K / 32], f16 mins [K / 32]; K is a multiple of 32.
 *   4 bit (Q4_0, Q4_1, Q4_K, BLOCKS_4)   value = scale * q + min, q in [0, 15]
 *   8 bit (Q8_0, BLOCKS_8)               value = scale * (q - 128); mins is not written
 * Lossless but for scales and mins that are no f16: products of an f16 and a 6-bit integer (Q4_K),
 * f32 scales, and products of a scale and a zero point (BLOCKS_4). They are rounded, which moves
 * each by at most 2^-11 of itself (more under f16's normal range of 2^-14, where the step is
 * 2^-24). false: a scale or min is beyond f16's range; for Q4_0 and BLOCKS_4 without mins that may
 * be the min of -8 * scale alone. */
bool tensor_read_groups(const struct tensor *tensor, size_t row, uint8_t *q, uint16_t *scales,
                        uint16_t *mins);

/* Tells the OS that rows [row_begin, row_end) are not needed soon. */
void tensor_forget_rows(const struct tensor *tensor, size_t row_begin, size_t row_end);

#endif
