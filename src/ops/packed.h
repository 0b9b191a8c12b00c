/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout of packed weights, shared by `convert/pack` (which writes it) and the kernels (which
 * read it). W is [N, K] as checkpoints store it: y[n] = sum over k of x[k] * W[n, k].
 *
 * Columns n are cut into tiles of 64; the last tile is padded with zero weights (and zero scales
 * and mins). n_tiles = (N + 63) / 64. Groups are 32 along K; K must be a multiple of 32 for 4 and 8
 * bit.
 *
 *   8 bit   data[tile][k / 4][column / 16 % 4][column % 16][k % 4]        u8 = q + 128, q in [-128,
 * 127] 256 bytes for each 4 consecutive k of a tile w = scale * (u8 - 128) 4 bit   data[tile][k /
 * 8][column / 16 % 4][column % 16][k % 4]        one byte holds two values: low nibble: k % 8 < 4,
 * high nibble: k % 8 >= 4 256 bytes for each 8 consecutive k of a tile w = scale * u4 + min;
 * without mins, w = scale * (u4 - 8) f32     data[tile][k][column % 64] any K
 *
 *   scales, mins   f16 [tile][k / 32][64]
 *   bias           f32 [N]
 */
#ifndef KVERN_OPS_PACKED_H
#define KVERN_OPS_PACKED_H

#include <stddef.h>
#include <stdint.h>

enum {
    PACKED_TILE = 64,  /* columns of a tile */
    PACKED_GROUP = 32, /* consecutive k that share a scale */
};

struct packed_weight {
    int bits;               /* 4, 8 or 32 */
    size_t n;               /* output columns */
    size_t k;               /* input size */
    const void *data;       /* layout above, 64-byte aligned */
    const uint16_t *scales; /* f16 [n_tiles, k / 32, 64]; NULL for f32 */
    const uint16_t *mins;   /* f16 [n_tiles, k / 32, 64], or NULL */
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
