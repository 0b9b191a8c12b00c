/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed matrices (ops/packed.h) from checkpoint tensors: one or several [N, K] tensors stacked
 * along N, such as q, k, v or gate, up. A plan says what will be written and how large it is;
 * writing goes tile by tile from the mapping, so that no whole f32 copy of a tensor ever exists.
 */
#ifndef KVERN_CONVERT_PACK_H
#define KVERN_CONVERT_PACK_H

#include "convert/tensor.h"
#include "kvern.h"
#include "ops/packed.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum weights_choice {
    WEIGHTS_KEEP, /* what the source has; float sources become q8 */
    WEIGHTS_Q4,
    WEIGHTS_Q8,
    WEIGHTS_F32,
};

enum { PACK_MAX_PARTS = 4 };

struct pack_plan {
    const struct tensor *parts[PACK_MAX_PARTS]; /* not owned */
    size_t n_parts;
    int bits; /* 4, 8 or 32 */
    bool has_mins;
    size_t group;         /* 32 or 64; what bits 32 has no use for is 32 */
    const float *k_scale; /* [k], not owned: every row is multiplied by it; NULL: as it is */
    size_t n;             /* rows of all parts */
    size_t k;
    size_t n_tiles;      /* packed_n_tiles(n) */
    size_t tile_bytes;   /* of data, one tile */
    size_t tile_scales;  /* values of scales (and of mins), one tile: k / group * 64; 0 for f32 */
    size_t data_bytes;   /* n_tiles * tile_bytes */
    size_t scales_bytes; /* n_tiles * tile_scales * 2; the same for mins if has_mins */
};

/* Fails where the parts' K differ, where a part is not a matrix, or where K does not suit the bits
 * ("q4 needs K divisible by 32; <name> has K = 80"). KEEP: parts that all have 4-bit groups stay 4
 * bit, with mins if one has them (Q4_1, Q4_K, zero points other than 8), else in groups of 64 if
 * all of theirs are; anything else becomes 8 bit, or f32 where K is no multiple of 32. Q4: where a
 * part has 4 bit already, as KEEP would; else 4 bit without mins in groups of 64, if K is a
 * multiple of 64, or with mins.
 */
kvern_status pack_plan_make(struct pack_plan *plan, const struct tensor *const *parts,
                            size_t n_parts, enum weights_choice choice, kvern_error *err);

/* Writes tile `tile`: data [tile_bytes], scales and mins f16 [tile_scales] (NULL where the plan has
 * none). Tiles are independent and may be written by several threads. Fails on values that are not
 * finite or do not fit f16, and on no memory. */
kvern_status pack_write_tile(const struct pack_plan *plan, size_t tile, void *data,
                             uint16_t *scales, uint16_t *mins, kvern_error *err);

/* All tiles, into memory of data_bytes, scales_bytes and scales_bytes (or NULL); the source's pages
 * are given back to the OS on the way. */
kvern_status pack_write(const struct pack_plan *plan, void *data, uint16_t *scales, uint16_t *mins,
                        kvern_error *err);

#endif
