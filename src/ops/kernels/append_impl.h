/* SPDX-License-Identifier: Apache-2.0
 *
 * append(): norm and rotary embedding of q and k in place, then k and v into their slots of the KV
 * pool; store(): k and v alone. Written once on `vector`, included by attention_<isa>.c. Every row
 * stands for itself.
 */
#ifndef KVERN_OPS_KERNELS_APPEND_IMPL_H
#define KVERN_OPS_KERNELS_APPEND_IMPL_H

#include "ops/kernels/kernels.h"
#include "ops/kernels/row_math.h"

#include <assert.h>
#include <string.h>

enum { MAX_HEAD_SIZE = 256 };

static void normalize_head(float *x, const float *weight, size_t n, float epsilon)
{
    float factor = rms_factor(x, n, epsilon);

    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * factor * weight[i];
}

/* Pairs (x[i], x[i + half]) turned by the angle of which `rope` holds cosines, then sines. */
static void rotate_head(float *restrict x, const float *restrict rope, size_t head)
{
    size_t half = head / 2;

    for (size_t i = 0; i < half; i++) {
        float first = x[i];
        float second = x[i + half];

        x[i] = first * rope[i] - second * rope[half + i];
        x[i + half] = second * rope[i] + first * rope[half + i];
    }
}

/* One head of a row, into column `offset` of K [head, 16] and row `offset` of V [16, head]. */
static void store_f16(const float *k, const float *v, size_t head, size_t offset, uint16_t *keys,
                      uint16_t *values)
{
    uint16_t halves[2][MAX_HEAD_SIZE + LANES];

    for (size_t i = 0; i < head; i += LANES) {
        vector_store_f16(halves[0] + i, row_load(k, i, head));
        vector_store_f16(halves[1] + i, row_load(v, i, head));
    }
    for (size_t d = 0; d < head; d++)
        keys[d * KV_BLOCK + offset] = halves[0][d];
    memcpy(values + offset * head, halves[1], head * sizeof *values);
}

static void store_f32(const float *k, const float *v, size_t head, size_t offset, float *keys,
                      float *values)
{
    for (size_t d = 0; d < head; d++)
        keys[d * KV_BLOCK + offset] = k[d];
    memcpy(values + offset * head, v, head * sizeof *values);
}

static void store_int8(const float *k, const float *v, size_t head, size_t offset, int8_t *keys,
                       int8_t *values)
{
    int16_t whole[2][MAX_HEAD_SIZE + LANES];
    float scales[] = {round_to_integers(k, head, 127.0F, whole[0]),
                      round_to_integers(v, head, 127.0F, whole[1])};

    memcpy(keys + KV_BLOCK * head + offset * sizeof(float), &scales[0], sizeof(float));
    memcpy(values + KV_BLOCK * head + offset * sizeof(float), &scales[1], sizeof(float));
    for (size_t d = 0; d < head; d += 2) {
        keys[(d / 2 * KV_BLOCK + offset) * 2] = (int8_t)whole[0][d];
        keys[(d / 2 * KV_BLOCK + offset) * 2 + 1] = (int8_t)whole[0][d + 1];
    }
    values += offset / 2 * head * 2 + offset % 2;
    for (size_t d = 0; d < head; d++)
        values[d * 2] = (int8_t)whole[1][d];
}

/* All kv heads of a row into slot `offset` of a block. */
static void store_row(const struct attention_shape *shape, const float *k, const float *v,
                      size_t block, size_t offset, char *pool)
{
    size_t head = shape->head_size;
    size_t n_kv = shape->n_kv_heads;
    size_t part = kv_part_bytes(shape->kv_type, head);

    for (size_t h = 0; h < n_kv; h++) {
        void *keys = pool + (block * 2 * n_kv + h) * part;
        void *values = (char *)keys + n_kv * part;

        if (shape->kv_type == KV_F16)
            store_f16(k + h * head, v + h * head, head, offset, keys, values);
        else if (shape->kv_type == KV_F32)
            store_f32(k + h * head, v + h * head, head, offset, keys, values);
        else
            store_int8(k + h * head, v + h * head, head, offset, keys, values);
    }
}

static void append(const struct attention_shape *shape, float *qkv, const float *rope,
                   const float *q_norm, const float *k_norm, float norm_epsilon,
                   const int32_t *slot_block, const int32_t *slot_offset, size_t row_begin,
                   size_t row_end, void *pool)
{
    size_t head = shape->head_size;
    size_t n_kv = shape->n_kv_heads;

    assert(head % 8 == 0 && head <= MAX_HEAD_SIZE);
    for (size_t row = row_begin; row < row_end; row++) {
        float *q = qkv + row * (shape->n_heads + 2 * n_kv) * head;
        float *k = q + shape->n_heads * head;

        for (size_t h = 0; h < shape->n_heads + n_kv; h++) {
            const float *norm = h < shape->n_heads ? q_norm : k_norm;

            if (norm)
                normalize_head(q + h * head, norm, head, norm_epsilon);
            if (rope)
                rotate_head(q + h * head, rope + row * head, head);
        }
        store_row(shape, k, k + n_kv * head, (size_t)slot_block[row], (size_t)slot_offset[row],
                  pool);
    }
}

static void store(const struct attention_shape *shape, const float *k, const float *v,
                  size_t row_stride, const int32_t *slot_block, const int32_t *slot_offset,
                  size_t row_begin, size_t row_end, void *pool)
{
    assert(shape->head_size % 8 == 0 && shape->head_size <= MAX_HEAD_SIZE);
    for (size_t row = row_begin; row < row_end; row++)
        store_row(shape, k + row * row_stride, v + row * row_stride, (size_t)slot_block[row],
                  (size_t)slot_offset[row], pool);
}

#endif
