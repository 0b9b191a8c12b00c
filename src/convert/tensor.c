/* SPDX-License-Identifier: Apache-2.0
 *
 * Block formats of checkpoint tensors. The layouts are GGML's: a block holds its scales first, then
 * the integers; "Q4_0 .. Q8_0" share a scale among 32 values, the "K" types hold 256 values with
 * 6-bit or 8-bit scales of their own under one f16. ONNX's block formats keep their scales apart
 * and say their size themselves. Bytes are little-endian, and so is the host.
 */
#include "convert/tensor.h"

#include "base/half.h"
#include "base/memory.h"

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

static void read_zero(const uint8_t *blocks, size_t n, float *out)
{
    (void)blocks;
    memset(out, 0, n * sizeof *out);
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
    [TENSOR_BLOCKS_4] = {"4-bit blocks", 2, 1, NULL}, /* read_blocks: they need the scales */
    [TENSOR_BLOCKS_8] = {"8-bit blocks", 1, 1, NULL},
    [TENSOR_ZERO] = {"zero", 1, 0, read_zero},
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

static bool has_blocks(const struct tensor *tensor)
{
    return tensor->type == TENSOR_BLOCKS_4 || tensor->type == TENSOR_BLOCKS_8;
}

static size_t n_blocks_of_row(const struct tensor *tensor)
{
    size_t k = tensor_row_values(tensor);

    return k / tensor->blocks.size + (k % tensor->blocks.size != 0);
}

/* Bytes of n integers of 4 or 8 bits. */
static size_t integer_bytes(const struct tensor *tensor, size_t n)
{
    return tensor->type == TENSOR_BLOCKS_4 ? n / 2 + n % 2 : n;
}

static size_t row_bytes(const struct tensor *tensor)
{
    const struct type_traits *type = &types[tensor->type];

    if (has_blocks(tensor))
        return integer_bytes(tensor, n_blocks_of_row(tensor) * tensor->blocks.size);
    return tensor_row_values(tensor) / type->block_values * type->block_bytes;
}

static const uint8_t *row_data(const struct tensor *tensor, size_t row)
{
    if (tensor->rope_heads > 0 && tensor->n_dims > 1)
        row = interleaved_row(row, tensor_n_rows(tensor), tensor->rope_heads);
    return tensor->data + row * row_bytes(tensor);
}

/* ---- blocks with scales of their own ---- */

/* Integer `i` of a row of 4- or 8-bit ones, sign undone: what the value is scale * (this - zero)
 * of.
 */
static inline int block_integer(const struct tensor *tensor, const uint8_t *row, size_t i)
{
    int q = tensor->type == TENSOR_BLOCKS_8 ? row[i] : row[i / 2] >> i % 2 * 4 & 15;

    return q ^ tensor->blocks.flip;
}

/* Scale and zero point of one block. */
static void read_block_head(const struct tensor *tensor, size_t row, size_t block, float *scale,
                            int *zero)
{
    const struct tensor_blocks *blocks = &tensor->blocks;
    const struct type_traits *type = &types[blocks->scale_type];
    size_t n_blocks = n_blocks_of_row(tensor);

    type->read(blocks->scales + (row * n_blocks + block) * type->block_bytes, 1, scale);
    *zero =
        blocks->zeros
            ? block_integer(tensor, blocks->zeros + row * integer_bytes(tensor, n_blocks), block)
            : blocks->zero ^ blocks->flip;
}

static void read_blocks(const struct tensor *tensor, size_t row, float *out)
{
    const uint8_t *integers = row_data(tensor, row);
    size_t k = tensor_row_values(tensor);
    float scale = 0;
    int zero = 0;

    for (size_t i = 0; i < k; i++) {
        if (i % tensor->blocks.size == 0)
            read_block_head(tensor, row, i / tensor->blocks.size, &scale, &zero);
        out[i] = scale * (float)(block_integer(tensor, integers, i) - zero);
    }
}

static bool read_groups_of_blocks(const struct tensor *tensor, size_t row, uint8_t *q,
                                  uint16_t *scales, uint16_t *mins)
{
    const uint8_t *integers = row_data(tensor, row);
    size_t k = tensor_row_values(tensor);
    bool fits = true;
    float scale;
    int zero;

    for (size_t i = 0; i < k; i++)
        q[i] = (uint8_t)block_integer(tensor, integers, i);
    for (size_t g = 0; g < k / GROUP; g++) {
        read_block_head(tensor, row, g * GROUP / tensor->blocks.size, &scale, &zero);
        scales[g] = half_from_float(scale);
        fits = fits && half_is_finite(scales[g]);
        if (tensor->type == TENSOR_BLOCKS_8)
            continue;
        mins[g] = half_from_float((float)-zero * half_to_float(scales[g]));
        fits = fits && half_is_finite(mins[g]);
    }
    return fits;
}

void tensor_read_row(const struct tensor *tensor, size_t row, float *out)
{
    const struct type_traits *type = &types[tensor->type];
    size_t k = tensor_row_values(tensor);

    if (has_blocks(tensor)) {
        read_blocks(tensor, row, out);
        return;
    }
    if (tensor->stride > 0) {
        for (size_t i = 0; i < k; i++)
            type->read(tensor->data + (i * tensor->stride + row) * type->block_bytes, 1, out + i);
        return;
    }
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

struct tensor tensor_take_rows(const struct tensor *tensor, size_t begin, size_t n)
{
    const struct type_traits *type = &types[tensor->type];
    struct tensor rows = *tensor;

    assert(tensor->rope_heads == 0);
    rows.name = NULL;
    rows.dims[0] = n;
    if (tensor->n_dims == 1 || tensor->stride > 0) {
        rows.data += begin * type->block_bytes;
        rows.n_bytes = tensor->stride > 0 ? tensor->n_bytes - begin * type->block_bytes
                                          : n * type->block_bytes;
        return rows;
    }
    rows.data += begin * row_bytes(tensor);
    rows.n_bytes = n * row_bytes(tensor);
    if (has_blocks(tensor)) {
        size_t n_blocks = n_blocks_of_row(tensor);

        rows.blocks.scales += begin * n_blocks * types[tensor->blocks.scale_type].block_bytes;
        if (rows.blocks.zeros)
            rows.blocks.zeros += begin * integer_bytes(tensor, n_blocks);
    }
    return rows;
}

struct tensor_groups tensor_groups(const struct tensor *tensor)
{
    const struct tensor_blocks *blocks = &tensor->blocks;
    struct tensor_groups groups = {.size = GROUP};
    bool is_symmetric;

    switch (tensor->type) {
    case TENSOR_Q4_0:
        groups.bits = 4;
        break;
    case TENSOR_Q4_1:
    case TENSOR_Q4_K:
        groups.bits = 4;
        groups.has_mins = true;
        break;
    case TENSOR_Q8_0:
        groups.bits = 8;
        break;
    case TENSOR_BLOCKS_4:
    case TENSOR_BLOCKS_8:
        if (blocks->size % GROUP != 0)
            break;
        is_symmetric = !blocks->zeros &&
                       (blocks->zero ^ blocks->flip) == (tensor->type == TENSOR_BLOCKS_4 ? 8 : 128);
        if (tensor->type == TENSOR_BLOCKS_4 || is_symmetric)
            groups = (struct tensor_groups){.bits = tensor->type == TENSOR_BLOCKS_4 ? 4 : 8,
                                            .has_mins = !is_symmetric,
                                            .size = blocks->size};
        break;
    default:
        break;
    }
    return groups;
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
    case TENSOR_BLOCKS_4:
    case TENSOR_BLOCKS_8:
        fits = read_groups_of_blocks(tensor, row, q, scales, mins);
        break;
    default:
        assert(!"a type without groups");
        fits = false;
    }
    return fits;
}

void tensor_forget_rows(const struct tensor *tensor, size_t row_begin, size_t row_end)
{
    size_t begin = row_begin * row_bytes(tensor);
    size_t n_bytes = (row_end - row_begin) * row_bytes(tensor);

    if (tensor->stride >
        0) { /* a row is everywhere, and so are those that come next: a hint only */
        begin = 0;
        n_bytes = tensor->n_bytes;
    }
    if (tensor->file && row_begin < row_end)
        file_map_forget(tensor->file, (size_t)(tensor->data - tensor->file->data) + begin, n_bytes);
}
