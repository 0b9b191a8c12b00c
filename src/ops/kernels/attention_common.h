/* SPDX-License-Identifier: Apache-2.0
 *
 * What attend() needs whatever the cache holds: where blocks lie, which keys of a step a query
 * sees, and the maximum that online softmax keeps. Included by attention_impl.h and
 * attention_int8_impl.h, after a vector_<isa>.h.
 */
#ifndef KVERN_OPS_KERNELS_ATTENTION_COMMON_H
#define KVERN_OPS_KERNELS_ATTENTION_COMMON_H

#include "ops/kernels/kernels.h"
#include "ops/kernels/multiply_tile.h"
#include "ops/kernels/vector_math.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    STEP_KEYS = 64,
    STEP_BLOCKS = STEP_KEYS / KV_BLOCK,
    STEP_VECTORS = STEP_KEYS / LANES,
    BLOCK_VECTORS = KV_BLOCK / LANES,
    ROWS_PER_CALL = 64,
};

/* Scores are kept in units of log2, so that exp2 serves: q is scaled by this once. */
static const float log2_e = 0x1.715476p0f;

/* One call of attend(). m = row * n_group + head of the group counts query vectors. */
struct attend {
    const struct attention_shape *shape;
    size_t n_group;     /* query heads of the kv head */
    size_t head_padded; /* head_size up to whole vectors */
    size_t first_position;
    size_t kv_head;
    const char *pool;
    const int32_t *blocks;
    bool is_paired; /* queries, keys, weights and values are pairs of bf16 */
    float *queries; /* [m, head_size], scaled; as pairs or int16 [m, head_size / 2] */
    float *sums;    /* [m, head_padded] of weight * value */
    float *scores;  /* [m, STEP_KEYS]; then weights, as pairs or int16 half of each row */
    float *keys; /* [head_size, STEP_KEYS]: the step in f32; as pairs [head_size / 2, STEP_KEYS] */
    float *values;        /* [STEP_KEYS, head_padded]; as pairs [STEP_KEYS / 2, head_padded] */
    float *totals;        /* [m, LANES]: sum of weights of keys with position % LANES = lane */
    float *largest;       /* [m + LANES] */
    float *rescale;       /* [m + LANES]: what the last rise of `largest` makes of older sums */
    float *query_scales;  /* [m], int8 only, as all below */
    float *weight_scales; /* [m] */
    float *key_scales;    /* [STEP_KEYS] of the step */
    float *value_scales;  /* [STEP_KEYS] */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The K part (part 0) or V part (part 1) of the block that holds a position. */
static const char *block_part(const struct attend *a, size_t position, size_t part)
{
    const struct attention_shape *shape = a->shape;
    size_t block = (size_t)a->blocks[position / KV_BLOCK];

    return a->pool + ((block * 2 + part) * shape->n_kv_heads + a->kv_head) *
                         kv_part_bytes(shape->kv_type, shape->head_size);
}

/* First position a query at `position` sees. */
static size_t window_begin(const struct attention_shape *shape, size_t position)
{
    return shape->window && position + 1 > shape->window ? position + 1 - shape->window : 0;
}

/* Where query m stands. */
static size_t position_of(const struct attend *a, size_t m)
{
    return a->first_position + (a->shape->is_cross ? 0 : m / a->n_group);
}

/* Where the step after this one finds what this one has at `position`; past the end, here. */
static size_t position_ahead(const struct attend *a, size_t position)
{
    return position + STEP_KEYS <= a->first_position ? position + STEP_KEYS : position;
}

static size_t clamp_to(size_t x, size_t low, size_t high)
{
    if (x < low)
        return low;
    return x < high ? x : high;
}

/* cap * tanh(s / cap), in units of log2 */
static vector cap_scores(vector s, float cap)
{
    vector doubled = vector_multiply(s, vector_set(2.0F / cap));
    vector plus_one = vector_add(vector_exp2(doubled), vector_set(1.0F));
    vector tanh = vector_subtract(vector_set(1.0F), vector_divide(vector_set(2.0F), plus_one));

    return vector_multiply(tanh, vector_set(cap * log2_e));
}

static size_t clip(size_t lane, size_t vector_begin)
{
    size_t n = lane > vector_begin ? lane - vector_begin : 0;

    return n < LANES ? n : LANES;
}

/* The vectors [from, to) of a step, of which a query sees keys [begin, end). */
struct span {
    size_t from;
    size_t to;
    size_t begin;
    size_t end;
};

static bool is_whole(const struct span *span)
{
    return span->begin <= span->from * LANES && span->end >= span->to * LANES;
}

/* The part of a step that queries [m, m + n) see, as keys [begin, end) of it; spans [n]: each
 * one's, over all vectors of the blocks of that part. False if they see nothing of it. */
static bool find_spans(const struct attend *a, size_t step, size_t m, size_t n, struct span *spans,
                       size_t *begin, size_t *end)
{
    const struct attention_shape *shape = a->shape;
    size_t first = position_of(a, m);
    size_t last = position_of(a, m + n - 1);

    *begin = clamp_to(window_begin(shape, first), step, step + STEP_KEYS) - step;
    *end = clamp_to(last + 1, step, step + STEP_KEYS) - step;
    for (size_t i = 0; i < n; i++) {
        size_t position = position_of(a, m + i);

        spans[i].from = *begin / KV_BLOCK * BLOCK_VECTORS;
        spans[i].to = round_up(*end, KV_BLOCK) / LANES;
        spans[i].begin = clamp_to(window_begin(shape, position), step, step + STEP_KEYS) - step;
        spans[i].end = clamp_to(position + 1, step, step + STEP_KEYS) - step;
    }
    return *begin < *end;
}

/* A head's row of the bias, from distance 0. */
static inline const float *bias_of_head(const struct position_bias *bias, size_t head)
{
    size_t middle = bias->reach + BIAS_MARGIN;

    return bias->table + head * (2 * middle + 1) + middle;
}

/* What `bias`, a head's row, adds to the scores of LANES keys, the first of which is at `key`. */
static inline vector load_bias(const float *bias, size_t reach, size_t key, size_t query)
{
    ptrdiff_t distance = (ptrdiff_t)key - (ptrdiff_t)query;
    ptrdiff_t least = -(ptrdiff_t)(reach + LANES - 1);
    ptrdiff_t most = (ptrdiff_t)reach;

    distance = distance < least ? least : distance;
    return vector_load(bias + (distance < most ? distance : most));
}

/* Takes the step's scores into the maximum of query m, leaving the one before in rescale[m].
 * key_scales [STEP_KEYS]: what the scores lack; NULL: nothing. */
static inline void raise_largest(const struct attend *a, size_t step, size_t m,
                                 const struct span *span, const float *key_scales)
{
    const struct attention_shape *shape = a->shape;
    const float *bias = NULL;
    float *scores = a->scores + m * STEP_KEYS;
    vector largest = vector_set(a->largest[m]);

    if (shape->bias.table)
        bias = bias_of_head(&shape->bias, a->kv_head * a->n_group + m % a->n_group);
    for (size_t v = span->from; v < span->to; v++) {
        vector s = vector_load(scores + v * LANES);

        if (key_scales)
            s = vector_multiply(s, vector_load(key_scales + v * LANES));
        if (shape->soft_cap > 0.0F)
            s = cap_scores(s, shape->soft_cap);
        if (bias)
            s = vector_add(s,
                           load_bias(bias, shape->bias.reach, step + v * LANES, position_of(a, m)));
        if (key_scales || shape->soft_cap > 0.0F || bias)
            vector_store(scores + v * LANES, s);
        if (!is_whole(span))
            s = vector_keep(s, clip(span->begin, v * LANES), clip(span->end, v * LANES), -FLT_MAX);
        largest = vector_max(s, largest);
    }
    a->rescale[m] = a->largest[m];
    a->largest[m] = vector_largest(largest);
}

/* Makes of rescale what raise_largest left there. All rows at once; lanes past them are scratch,
 * and written again before they are used. */
static void find_rescale(const struct attend *a, size_t m, size_t n)
{
    for (size_t i = m; i < m + n; i += LANES) {
        vector fall = vector_subtract(vector_load(a->rescale + i), vector_load(a->largest + i));

        vector_store(a->rescale + i, vector_exp2_below(fall));
    }
}

/* Nothing is summed yet. */
static void start_sums_at_zero(const struct attend *a, size_t n_queries)
{
    for (size_t m = 0; m < n_queries; m++)
        a->largest[m] = -FLT_MAX;
    memset(a->sums, 0, n_queries * a->head_padded * sizeof(float));
    memset(a->rescale, 0, (n_queries + LANES) * sizeof(float));
    memset(a->largest + n_queries, 0, LANES * sizeof(float));
    memset(a->totals, 0, n_queries * LANES * sizeof(float));
}

/* Query vector m of a call that begins at row q. */
static const float *query_at(const struct attend *a, const float *q, size_t q_stride, size_t m)
{
    return q + m / a->n_group * q_stride +
           (a->kv_head * a->n_group + m % a->n_group) * a->shape->head_size;
}

/* out = sums / total. Adding +0 gives a sum that ended as -0 the sign it would have without the
 * +0 terms of keys it does not see. */
static void finish_attend(const struct attend *a, size_t n_rows, float *out, size_t out_stride)
{
    size_t head = a->shape->head_size;

    for (size_t m = 0; m < n_rows * a->n_group; m++) {
        float total = vector_sum(vector_load(a->totals + m * LANES));
        float *to =
            out + m / a->n_group * out_stride + (a->kv_head * a->n_group + m % a->n_group) * head;

        for (size_t d = 0; d < head; d++)
            to[d] = a->sums[m * a->head_padded + d] / total + 0.0F;
    }
}

#endif
