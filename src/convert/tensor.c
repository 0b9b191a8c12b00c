/* SPDX-License-Identifier: Apache-2.0
 *
 * Block formats of checkpoint tensors. The layouts are GGML's: a block holds its scales first, then
 * the integers; "Q4_0 .. Q8_0" share a scale among 32 values, the "K" types hold 256 values with
 * 6-bit or 8-bit scales of their own under one f16. Bytes are little-endian, and so is the host.
 */
#include "convert/tensor.h"

#include "base/memory.h"
#include "base/half.h"

#include <assert.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are read in place");

enum { GROUP = 32, SUPER = 256 };

static inline uint16_t load_u16(const uint8_t *bytes)
{
    uint16_t value;

    memcpy(&value, bytes, sizeof value);
    return value;
}

static inline float load_half(const uint8_t *bytes)
{
    return half_to_float(load_u16(bytes));
}

/* ---- one function per type: n blocks to f32 ---- */

static void read_f32(const uint8_t *blocks, size_t n, float *out)
{
    memcpy(out, blocks, n * sizeof *out);
}

static void read_f16(const uint8_t *blocks, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = load_half(blocks + 2 * i);
}

static void read_bf16(const uint8_t *blocks, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = bfloat_to_float(load_u16(blocks + 2 * i));
}

static void read_q4_0(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 18, out += GROUP) {
        float scale = load_half(block);

        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)((block[2 + j] & 15) - 8);
            out[j + 16] = scale * (float)((block[2 + j] >> 4) - 8);
        }
    }
}

static void read_q4_1(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 20, out += GROUP) {
        float scale = load_half(block);
        float min = load_half(block + 2);

        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)(block[4 + j] & 15) + min;
            out[j + 16] = scale * (float)(block[4 + j] >> 4) + min;
        }
    }
}

/* Five-bit value j of 32: four bits in `low`, the fifth in bit j of `high`. */
static inline int five_bits(const uint8_t *low, uint32_t high, int j)
{
    int nibble = j < 16 ? low[j] & 15 : low[j - 16] >> 4;

    return nibble | (int)(high >> j & 1) << 4;
}

static void read_q5_0(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 22, out += GROUP) {
        float scale = load_half(block);
        uint32_t high;

        memcpy(&high, block + 2, sizeof high);
        for (int j = 0; j < GROUP; j++)
            out[j] = scale * (float)(five_bits(block + 6, high, j) - 16);
    }
}

static void read_q5_1(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 24, out += GROUP) {
        float scale = load_half(block);
        float min = load_half(block + 2);
        uint32_t high;

        memcpy(&high, block + 4, sizeof high);
        for (int j = 0; j < GROUP; j++)
            out[j] = scale * (float)five_bits(block + 8, high, j) + min;
    }
}

static void read_q8_0(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 34, out += GROUP) {
        float scale = load_half(block);

        for (int j = 0; j < GROUP; j++)
            out[j] = scale * (float)(int8_t)block[2 + j];
    }
}

/* The 6-bit scale and min of group `j` of 8 in the 12 bytes of a Q4_K or Q5_K block. */
static inline void six_bits(const uint8_t *packed, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

static void read_q4_k(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 144, out += SUPER) {
        float scale_unit = load_half(block);
        float min_unit = load_half(block + 2);

        for (int g = 0; g < 8; g++) {
            const uint8_t *q = block + 16 + g / 2 * 32;
            int scale6, min6;

            six_bits(block + 4, g, &scale6, &min6);
            float scale = scale_unit * (float)scale6;
            float min = min_unit * (float)min6;
            for (int j = 0; j < GROUP; j++)
                out[g * GROUP + j] = scale * (float)(q[j] >> 4 * (g % 2) & 15) - min;
        }
    }
}

static void read_q5_k(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 176, out += SUPER) {
        float scale_unit = load_half(block);
        float min_unit = load_half(block + 2);
        const uint8_t *high = block + 16;

        for (int g = 0; g < 8; g++) {
            const uint8_t *q = block + 48 + g / 2 * 32;
            int scale6, min6;

            six_bits(block + 4, g, &scale6, &min6);
            float scale = scale_unit * (float)scale6;
            float min = min_unit * (float)min6;
            for (int j = 0; j < GROUP; j++) {
                int value = (q[j] >> 4 * (g % 2) & 15) | (high[j] >> g & 1) << 4;

                out[g * GROUP + j] = scale * (float)value - min;
            }
        }
    }
}

static void read_q6_k(const uint8_t *block, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, block += 210, out += SUPER) {
        const int8_t *scales = (const int8_t *)(block + 192);
        float unit = load_half(block + 208);

        for (int g = 0; g < 8; g++) { /* half g / 4 of the block, 32 values g % 4 of that half */
            const uint8_t *low = block + g / 4 * 64 + g % 2 * 32;
            const uint8_t *high = block + 128 + g / 4 * 32;
            int low_shift = g % 4 / 2 * 4;
            int high_shift = g % 4 * 2;

            for (int j = 0; j < GROUP; j++) {
                int value = (low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4;
                int part = j / 16;
                float scale = unit * (float)scales[g * 2 + part];

                out[g * GROUP + j] = scale * (float)(value - 32);
            }
        }
    }
}

static const struct type_traits {
    const char *name;
    size_t block_values;
    size_t block_bytes;
    void (*read)(const uint8_t *blocks, size_t n_blocks, float *out);
} types[TENSOR_N_TYPES] = {
    [TENSOR_F32] = {"F32", 1, 4, read_f32},
    [TENSOR_F16] = {"F16", 1, 2, read_f16},
    [TENSOR_BF16] = {"BF16", 1, 2, read_bf16},
    [TENSOR_Q4_0] = {"Q4_0", GROUP, 18, read_q4_0},
    [TENSOR_Q4_1] = {"Q4_1", GROUP, 20, read_q4_1},
    [TENSOR_Q5_0] = {"Q5_0", GROUP, 22, read_q5_0},
    [TENSOR_Q5_1] = {"Q5_1", GROUP, 24, read_q5_1},
    [TENSOR_Q8_0] = {"Q8_0", GROUP, 34, read_q8_0},
    [TENSOR_Q4_K] = {"Q4_K", SUPER, 144, read_q4_k},
    [TENSOR_Q5_K] = {"Q5_K", SUPER, 176, read_q5_k},
    [TENSOR_Q6_K] = {"Q6_K", SUPER, 210, read_q6_k},
};

const char *tensor_type_name(enum tensor_type type)
{
    return types[type].name;
}

size_t tensor_type_block_values(enum tensor_type type)
{
    return types[type].block_values;
}

size_t tensor_type_block_bytes(enum tensor_type type)
{
    return types[type].block_bytes;
}

bool tensor_count_bytes(enum tensor_type type, const size_t *dims, size_t n_dims, size_t *n_bytes)
{
    size_t n_values = 1;

    for (size_t i = 0; i < n_dims; i++) {
        if (!multiply_sizes(n_values, dims[i], &n_values))
            return false;
    }
    if (types[type].block_values > 1 &&
        (n_dims == 0 || dims[n_dims - 1] % types[type].block_values != 0))
        return false;
    return multiply_sizes(n_values / types[type].block_values, types[type].block_bytes, n_bytes);
}

size_t tensor_row_values(const struct tensor *tensor)
{
    return tensor->n_dims ? tensor->dims[tensor->n_dims - 1] : 1;
}

size_t tensor_n_rows(const struct tensor *tensor)
{
    size_t n_rows = 1;

    for (size_t i = 0; i + 1 < tensor->n_dims; i++)
        n_rows *= tensor->dims[i];
    return n_rows;
}

/* Where row (or element) `row` of the usual order, in which a head's rotary pairs are (j, j + D/2),
 * stands among `n` of the interleaved order, in which they are (2j, 2j + 1). */
static size_t interleaved_row(size_t row, size_t n, size_t n_heads)
{
    size_t head_size = n / n_heads;
    size_t i = row % head_size;
    size_t half = head_size / 2;

    return row - i + i % half * 2 + i / half;
}

static size_t row_bytes(const struct tensor *tensor)
{
    const struct type_traits *type = &types[tensor->type];

    return tensor_row_values(tensor) / type->block_values * type->block_bytes;
}

static const uint8_t *row_data(const struct tensor *tensor, size_t row)
{
    if (tensor->rope_heads > 0 && tensor->n_dims > 1)
        row = interleaved_row(row, tensor_n_rows(tensor), tensor->rope_heads);
    return tensor->data + row * row_bytes(tensor);
}

void tensor_read_row(const struct tensor *tensor, size_t row, float *out)
{
    const struct type_traits *type = &types[tensor->type];
    size_t k = tensor_row_values(tensor);

    if (tensor->rope_heads > 0 && tensor->n_dims == 1) {
        assert(type->block_values == 1);
        for (size_t i = 0; i < k; i++) {
            size_t from = interleaved_row(i, k, tensor->rope_heads);

            type->read(tensor->data + from * type->block_bytes, 1, out + i);
        }
        return;
    }
    type->read(row_data(tensor, row), k / type->block_values, out);
}

bool tensor_has_groups(enum tensor_type type)
{
    return type == TENSOR_Q4_0 || type == TENSOR_Q4_1 || type == TENSOR_Q4_K || type == TENSOR_Q8_0;
}

static void split_nibbles(const uint8_t *bytes, uint8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = bytes[j] & 15;
        q[j + 16] = bytes[j] >> 4;
    }
}

static bool read_groups_q4_k(const uint8_t *block, size_t n_blocks, uint8_t *q, uint16_t *scales,
                             uint16_t *mins)
{
    bool fits = true;

    for (size_t i = 0; i < n_blocks; i++, block += 144, q += SUPER, scales += 8, mins += 8) {
        float scale_unit = load_half(block);
        float min_unit = load_half(block + 2);

        for (int g = 0; g < 8; g++) {
            const uint8_t *bytes = block + 16 + g / 2 * 32;
            int scale6, min6;

            six_bits(block + 4, g, &scale6, &min6);
            scales[g] = half_from_float(scale_unit * (float)scale6);
            mins[g] = half_from_float(-(min_unit * (float)min6));
            fits = fits && half_is_finite(scales[g]) && half_is_finite(mins[g]);
            for (int j = 0; j < GROUP; j++)
                q[g * GROUP + j] = bytes[j] >> 4 * (g % 2) & 15;
        }
    }
    return fits;
}

bool tensor_read_groups(const struct tensor *tensor, size_t row, uint8_t *q, uint16_t *scales,
                        uint16_t *mins)
{
    const uint8_t *block = row_data(tensor, row);
    size_t n_blocks = tensor_row_values(tensor) / types[tensor->type].block_values;
    bool fits = true;

    switch (tensor->type) {
    case TENSOR_Q4_0:
        for (size_t i = 0; i < n_blocks; i++, block += 18, q += GROUP) {
            scales[i] = load_u16(block);
            mins[i] = half_from_float(-8 * half_to_float(scales[i]));
            fits = fits && half_is_finite(mins[i]);
            split_nibbles(block + 2, q);
        }
        break;
    case TENSOR_Q4_1:
        for (size_t i = 0; i < n_blocks; i++, block += 20, q += GROUP) {
            scales[i] = load_u16(block);
            mins[i] = load_u16(block + 2);
            split_nibbles(block + 4, q);
        }
        break;
    case TENSOR_Q8_0:
        for (size_t i = 0; i < n_blocks; i++, block += 34, q += GROUP) {
            scales[i] = load_u16(block);
            for (int j = 0; j < GROUP; j++)
                q[j] = block[2 + j] ^ 0x80; /* signed to offset by 128 */
        }
        break;
    case TENSOR_Q4_K:
        fits = read_groups_q4_k(block, n_blocks, q, scales, mins);
        break;
    default:
        assert(!"a type without groups");
        fits = false;
    }
    return fits;
}

void tensor_forget_rows(const struct tensor *tensor, size_t row_begin, size_t row_end)
{
    if (tensor->file && row_begin < row_end)
        file_map_forget(tensor->file,
                        (size_t)(tensor->data - tensor->file->data) + row_begin * row_bytes(tensor),
                        (row_end - row_begin) * row_bytes(tensor));
}
