/* SPDX-License-Identifier: Apache-2.0
 *
 * attend() over an int8 cache, in the steps of attention_impl.h. Products are made in integers and
 * exact: a query is rounded to 15 bits and a sign, and so are, for each query and step, its weights
 * times the scales of the values, by the largest of them. Keys and values are never unpacked but in
 * registers.
 *
 * All that rounds is a matter of one query and of the keys it sees, so tiles never show in the
 * bits. What it does not see has weight 0 and finite numbers: an exact 0 whatever its scale is. A
 * scale that is not finite (a key or value that was not) spoils the total of a row that sees it.
 */
#ifndef KVERN_OPS_KERNELS_ATTENTION_INT8_IMPL_H
#define KVERN_OPS_KERNELS_ATTENTION_INT8_IMPL_H

#include "ops/kernels/attention_common.h"
#include "ops/kernels/multiply_int8.h"
#include "ops/kernels/row_math.h"

/* Of the numbers that queries and weights are rounded to. */
static const float largest_i16 = 32767.0F;

static size_t int8_scratch_bytes(const struct attention_shape *shape)
{
    size_t n_queries = ROWS_PER_CALL * (shape->n_heads / shape->n_kv_heads);
    size_t head = round_up(shape->head_size, 16);

    return sizeof(float) *
           (n_queries * (head / 2 + head + STEP_KEYS + LANES + 4) + 2 * STEP_KEYS + 3 * LANES);
}

/* The scales of the blocks that hold keys [begin, end) of the step. */
static void load_scales(const struct attend *a, size_t step, size_t begin, size_t end)
{
    size_t at = KV_BLOCK * a->shape->head_size;

    for (size_t i = begin / KV_BLOCK * KV_BLOCK; i < end; i += KV_BLOCK) {
        memcpy(a->key_scales + i, block_part(a, step + i, 0) + at, KV_BLOCK * sizeof(float));
        memcpy(a->value_scales + i, block_part(a, step + i, 1) + at, KV_BLOCK * sizeof(float));
    }
}

/* scores[m, keys of vectors [from, to)] of the step = queries . keys, but for the keys' scales */
static void score_int8(const struct attend *a, size_t step, size_t m, size_t n, size_t from,
                       size_t to)
{
    size_t head = a->shape->head_size;
    struct multiply_int8 t = {.a = (const int16_t *)a->queries + m * head,
                              .a_stride = head,
                              .n_runs = 1,
                              .b_stride = (size_t)2 * KV_BLOCK,
                              .c_stride = STEP_KEYS,
                              .row_scale = a->query_scales + m};

    t.runs[0].n_k = head / 2;
    while (from < to) {
        size_t width = multiply_width(n, to - from);

        for (size_t j = 0; j < width; j++) {
            size_t key = (from + j) * LANES;
            size_t at = key % KV_BLOCK * 2;

            t.runs[0].b[j] = (const int8_t *)block_part(a, step + key, 0) + at;
            t.runs[0].ahead[j] =
                (const int8_t *)block_part(a, position_ahead(a, step + key), 0) + at;
        }
        t.c = a->scores + m * STEP_KEYS + from * LANES;
        multiply_int8(n, width, &t);
        from += width;
    }
}

/* sums[m] = sums[m] * rescale[m] + weights . values of keys [begin, end) of the step */
static void weigh_int8(const struct attend *a, size_t step, size_t m, size_t n, size_t begin,
                       size_t end)
{
    size_t head = a->shape->head_size;
    size_t n_vectors = a->head_padded / LANES;
    size_t first = begin / 2;
    struct multiply_int8 t = {.a = (const int16_t *)(a->scores + m * STEP_KEYS) + 2 * first,
                              .a_stride = (size_t)2 * STEP_KEYS,
                              .b_stride = 2 * head,
                              .c_stride = a->head_padded,
                              .row_scale = a->weight_scales + m,
                              .rescale = a->rescale + m};

    for (size_t from = 0; from < n_vectors;) {
        size_t width = multiply_width(n, n_vectors - from);

        t.n_runs = 0;
        for (size_t pair = first, next; pair < (end + 1) / 2; pair = next) {
            struct multiply_run *run = &t.runs[t.n_runs++];
            size_t at = pair % (KV_BLOCK / 2) * 2 * head + from * LANES * 2;
            const char *values = block_part(a, step + 2 * pair, 1) + at;
            const char *ahead = block_part(a, position_ahead(a, step + 2 * pair), 1) + at;

            next = pair / (KV_BLOCK / 2) * (KV_BLOCK / 2) + KV_BLOCK / 2;
            next = next < (end + 1) / 2 ? next : (end + 1) / 2;
            run->n_k = next - pair;
            for (size_t j = 0; j < width; j++) {
                run->b[j] = (const int8_t *)values + j * LANES * 2;
                run->ahead[j] = (const int8_t *)ahead + j * LANES * 2;
            }
        }
        t.c = a->sums + m * a->head_padded + from * LANES;
        multiply_int8(n, width, &t);
        from += width;
    }
}

/* Turns the scores of query m into weights times the scales of the values, as int16 over scores
 * that were read already, and adds up its total; 0 for a key it does not see. */
static void weigh_scores_int8(const struct attend *a, size_t m, const struct span *span)
{
    float *scores = a->scores + m * STEP_KEYS;
    vector largest = vector_set(a->largest[m]);
    vector total = vector_multiply(vector_load(a->totals + m * LANES), vector_set(a->rescale[m]));
    vector most = vector_set(0.0F);

    for (size_t v = span->from; v < span->to; v++) {
        size_t begin = clip(span->begin, v * LANES);
        size_t end = clip(span->end, v * LANES);
        vector weight =
            vector_exp2_below(vector_subtract(vector_load(scores + v * LANES), largest));
        vector scaled = vector_multiply(weight, vector_load(a->value_scales + v * LANES));

        if (!is_whole(span)) {
            weight = vector_keep(weight, begin, end, 0.0F);
            scaled = vector_keep(scaled, begin, end, 0.0F);
        }
        vector_store(scores + v * LANES, scaled);
        most = vector_max(scaled, most);
        total = vector_add(total, vector_fma(scaled, vector_set(0.0F), weight));
    }
    vector_store(a->totals + m * LANES, total);

    float peak = vector_largest(most);
    vector factor = vector_set(integer_factor(peak, largest_i16));

    a->weight_scales[m] = peak / largest_i16;
    for (size_t v = span->from; v < span->to; v++)
        vector_store_i16((int16_t *)scores + v * LANES,
                         vector_multiply(vector_load(scores + v * LANES), factor));
}

static void attend_tile_int8(const struct attend *a, size_t step, size_t m, size_t n)
{
    struct span spans[MULTIPLY_ROWS];
    size_t begin;
    size_t end;

    if (!find_spans(a, step, m, n, spans, &begin, &end))
        return;
    score_int8(a, step, m, n, spans[0].from, spans[0].to);
    for (size_t i = 0; i < n; i++)
        raise_largest(a, step, m + i, &spans[i], a->key_scales);
    find_rescale(a, m, n);
    for (size_t i = 0; i < n; i++)
        weigh_scores_int8(a, m + i, &spans[i]);
    weigh_int8(a, step, m, n, begin, end);
}

/* Lays out scratch and rounds the queries. */
static void start_int8(struct attend *a, const float *q, size_t q_stride, size_t n_queries,
                       float *scratch)
{
    size_t head = a->shape->head_size;
    int16_t whole[256 + LANES];

    a->key_scales = scratch;
    a->value_scales = a->key_scales + STEP_KEYS;
    a->sums = a->value_scales + STEP_KEYS;
    a->scores = a->sums + n_queries * a->head_padded;
    a->totals = a->scores + n_queries * STEP_KEYS;
    a->largest = a->totals + n_queries * LANES;
    a->rescale = a->largest + n_queries + LANES;
    a->query_scales = a->rescale + n_queries + LANES;
    a->weight_scales = a->query_scales + n_queries;
    a->queries = a->weight_scales + n_queries;
    for (size_t m = 0; m < n_queries; m++) {
        float scale = round_to_integers(query_at(a, q, q_stride, m), head, largest_i16, whole);

        a->query_scales[m] = scale * (a->shape->scale * log2_e);
        memcpy((int16_t *)a->queries + m * head, whole, head * sizeof *whole);
    }
    start_sums_at_zero(a, n_queries);
}

static void attend_int8(struct attend *a, const float *q, size_t q_stride, size_t n_rows,
                        void *scratch)
{
    size_t n_queries = n_rows * a->n_group;
    size_t begin = window_begin(a->shape, a->first_position);
    size_t end = position_of(a, n_queries - 1) + 1;
    size_t tile = n_rows > 1 ? TILE_QUERIES : MULTIPLY_ROWS;

    start_int8(a, q, q_stride, n_queries, scratch);
    for (size_t step = begin / STEP_KEYS * STEP_KEYS; step < end; step += STEP_KEYS) {
        load_scales(a, step, clamp_to(begin, step, step + STEP_KEYS) - step,
                    clamp_to(end, step, step + STEP_KEYS) - step);
        for (size_t m = 0; m < n_queries; m += tile)
            attend_tile_int8(a, step, m, n_queries - m < tile ? n_queries - m : tile);
    }
}

#endif
