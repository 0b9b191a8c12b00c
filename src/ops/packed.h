/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout of packed weights, shared by `convert/pack` (which writes it) and the kernels (which
 * read it). W is [N, K] as checkpoints store it: y[n] = sum over k of x[k] * W[n, k].
 *
 * Columns n are cut into tiles of 64; the last tile is padded with zero weights (and zero scales
 * and mins). n_tiles = (N + 63) / 64. A group is 32 consecutive k, or 64 for 4 bit without mins; K
 * must be a multiple of it for 4 and 8 bit.
 *
 *   8 bit   data[tile][k / 4][column / 16 % 4][column % 16][k % 4], a byte each: u8 = q + 128;
 *           w = scale * (u8 - 128)
 *   4 bit   data[tile][k / 8][column / 16 % 4][column % 16][k % 4], two values a byte: the low
 *           nibble is k % 8 < 4, the high one k % 8 >= 4;
 *           w = scale * u4 + min, or without mins w = scale * (u4 - 8)
 *   f32     data[tile][k][column % 64], any K
 *
 *   scales, mins   f16 [tile][k / group][64]
 *   bias           f32 [N]
 */
#ifndef KVERN_OPS_PACKED_H
#define KVERN_OPS_PACKED_H

#include <stddef.h>
#include <stdint.h>

enum {
    PACKED_TILE = 64,       /* columns of a tile */
    PACKED_GROUP = 32,      /* consecutive k that share a scale */
    PACKED_WIDE_GROUP = 64, /* the other choice, for 4 bit without mins */
};

struct packed_weight {
    int bits;               /* 4, 8 or 32 */
    size_t n;               /* output columns */
    size_t k;               /* input size */
    size_t group;           /* consecutive k that share a scale: 32 or 64; 0 for f32 */
    const void *data;       /* layout above, 64-byte aligned */
    const uint16_t *scales; /* f16 [n_tiles, k / group, 64]; NULL for f32 */
    const uint16_t *mins;   /* f16 [n_tiles, k / group, 64], or NULL */
    const float *bias;      /* [n], or NULL */
};

static inline size_t packed_n_tiles(size_t n)
{
    return (n + PACKED_TILE - 1) / PACKED_TILE;
}

/* Bytes of `data` of one tile. */
static inline size_t packed_tile_bytes(int bits, size_t k)
{
    return bits == 32 ? k * PACKED_TILE * sizeof(float) : k * PACKED_TILE * (size_t)bits / 8;
}

#endif
