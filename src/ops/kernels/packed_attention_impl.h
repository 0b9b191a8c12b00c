/* SPDX-License-Identifier: Apache-2.0
 *
 * attend_packed(): softmax(q.k) v among all tokens of one text, keys and values straight from the
 * rows of qkv; written once on `vector`, included by attention_<isa>.c after attention_impl.h,
 * whose conventions (scores in units of log2, pairs of bf16 where the set has them) it shares.
 *
 * Keys are taken in steps of 256 by position in the text, the steps joined by online softmax; most
 * texts have one. Keys past the end are zeros with weight 0: sums depend on the text alone.
 */
#ifndef KVERN_OPS_KERNELS_PACKED_ATTENTION_IMPL_H
#define KVERN_OPS_KERNELS_PACKED_ATTENTION_IMPL_H

#include "ops/kernels/attention_impl.h"

enum { PACKED_STEP = 256, PACKED_ROWS_PER_CALL = 256 };

/* One call of attend_packed(). m counts the rows' query vectors, the heads of a group together. */
struct packed {
    const struct packed_attention_shape *shape;
    const float *qkv; /* [n_tokens, qkv_width] */
    size_t qkv_width;
    size_t n_group;
    size_t head_padded; /* head_size up to whole vectors */
    size_t kv_head;
    bool is_paired;
    float *queries; /* [m, head_size], scaled; as pairs [m, head_size / 2] */
    float *sums;    /* [m, head_padded] of weight * value */
    float *largest; /* [m] */
    float *totals;  /* [m] */
    float *keys;   /* [head_size, PACKED_STEP] of the step; as pairs [head_size / 2, PACKED_STEP] */
    float *values; /* [PACKED_STEP, head_padded]; as pairs [PACKED_STEP / 2, head_padded] */
    float *scores; /* [MULTIPLY_ROWS, PACKED_STEP]; then weights, pairs in half of each row */
};

static size_t packed_scratch_bytes(const struct packed_attention_shape *shape)
{
    size_t n_queries = PACKED_ROWS_PER_CALL * (shape->n_heads / shape->n_kv_heads);
    size_t head = round_up(shape->head_size, 16);

    return sizeof(float) *
           (n_queries * (2 * head + 2) + 2 * PACKED_STEP * head + MULTIPLY_ROWS * PACKED_STEP);
}

/* Query head `head` of a row, key and value of the kv head. */
static const float *query_of(const struct packed *p, size_t row, size_t head)
{
    return p->qkv + row * p->qkv_width + head * p->shape->head_size;
}

static const float *key_of(const struct packed *p, size_t row)
{
    return query_of(p, row, p->shape->n_heads + p->kv_head);
}

static const float *value_of(const struct packed *p, size_t row)
{
    return query_of(p, row, p->shape->n_heads + p->shape->n_kv_heads + p->kv_head);
}

/* LANES elements (pairs, if these are in use) of the key of a row, from element d on. */
static vector load_key(const struct packed *p, size_t row, size_t d)
{
    size_t head = p->shape->head_size;

#ifdef VECTOR_HAS_PAIRS
    if (p->is_paired)
        return pairs_as_vector(load_neighbours(key_of(p, row), 2 * d, head, 1.0F));
#endif
    return row_load(key_of(p, row), d, head);
}

/* Keys of the step's n rows, turned so that a vector holds one element of LANES rows. */
static void load_keys(const struct packed *p, size_t step, size_t n)
{
    size_t n_elements = p->is_paired ? p->shape->head_size / 2 : p->shape->head_size;

    for (size_t first = 0; first < n; first += LANES) {
        for (size_t d = 0; d < n_elements; d += LANES) {
            size_t n_left = n_elements - d < LANES ? n_elements - d : LANES;
            vector rows[LANES];

            for (size_t lane = 0; lane < LANES; lane++)
                rows[lane] =
                    first + lane < n ? load_key(p, step + first + lane, d) : vector_set(0.0F);
            vector_transpose(rows);
            for (size_t i = 0; i < n_left; i++)
                vector_store(p->keys + (d + i) * PACKED_STEP + first, rows[i]);
        }
    }
}

static void load_values(const struct packed *p, size_t step, size_t n)
{
    size_t head = p->shape->head_size;

#ifdef VECTOR_HAS_PAIRS
    for (size_t i = 0; p->is_paired && i < n; i += 2) {
        for (size_t d = 0; d < head; d += LANES) {
            vector first = row_load(value_of(p, step + i), d, head);
            vector second = vector_set(0.0F);

            if (i + 1 < n)
                second = row_load(value_of(p, step + i + 1), d, head);
            pairs_store((uint32_t *)p->values + i / 2 * p->head_padded + d,
                        pairs_make(first, second));
        }
    }
    if (p->is_paired)
        return;
#endif
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < head; d += LANES)
            vector_store(p->values + i * p->head_padded + d,
                         row_load(value_of(p, step + i), d, head));
    }
}

/* scores[i] = queries m + i . keys, n_keys of them up to whole vectors, for `rows` rows. */
static void score_packed(const struct packed *p, size_t m, size_t rows, size_t n_keys)
{
    size_t head = p->shape->head_size;
    size_t n_vectors = (n_keys + LANES - 1) / LANES;
    struct multiply t = {.a = p->queries + m * head,
                         .a_stride = head,
                         .b_stride = PACKED_STEP,
                         .n_k = p->is_paired ? head / 2 : head,
                         .first_mask = UINT32_MAX,
                         .last_mask = UINT32_MAX,
                         .c_stride = PACKED_STEP};

    for (size_t from = 0; from < n_vectors;) {
        size_t width = multiply_width(rows, n_vectors - from);

        for (size_t j = 0; j < width; j++)
            t.b[j] = p->keys + (from + j) * LANES;
        t.c = p->scores + from * LANES;
        multiply(rows, width, p->is_paired ? MULTIPLY_PAIRS : MULTIPLY_F32, &t);
        from += width;
    }
}

/* Adds the bias to the scores of queries m + i, `rows` of them, which stand where `row_begin` is
 * the text's row of query 0. */
static void bias_packed(const struct packed *p, size_t row_begin, size_t step, size_t m,
                        size_t rows, size_t n_keys)
{
    const struct position_bias *bias = &p->shape->bias;

    for (size_t i = 0; i < rows; i++) {
        const float *of_head = bias_of_head(bias, p->kv_head * p->n_group + (m + i) % p->n_group);
        size_t row = row_begin + (m + i) / p->n_group;
        float *scores = p->scores + i * PACKED_STEP;

        for (size_t key = 0; key < n_keys; key += LANES)
            vector_store(scores + key,
                         vector_add(vector_load(scores + key),
                                    load_bias(of_head, bias->reach, step + key, row)));
    }
}

/* Scores of query m become weights, its total and largest move on; gives what older sums are to be
 * multiplied by. */
static float soften(const struct packed *p, size_t m, float *scores, size_t n_keys)
{
    size_t whole = n_keys / LANES * LANES;
    float before = p->largest[m];
    vector largest = vector_set(before);
    vector total = vector_set(0.0F);

    for (size_t i = 0; i < whole; i += LANES)
        largest = vector_max(vector_load(scores + i), largest);
    if (whole < n_keys)
        largest = vector_max(vector_keep(vector_load(scores + whole), 0, n_keys - whole, -FLT_MAX),
                             largest);
    p->largest[m] = vector_largest(largest);
    largest = vector_set(p->largest[m]);
    for (size_t i = 0; i < n_keys; i += LANES) {
        vector weight = vector_exp2_below(vector_subtract(vector_load(scores + i), largest));

        if (i == whole)
            weight = vector_keep(weight, 0, n_keys - whole, 0.0F);
        total = vector_add(total, weight);
#ifdef VECTOR_HAS_PAIRS
        if (p->is_paired) /* over scores that were read already */
            pairs_store_neighbours((uint32_t *)scores + i / 2, weight);
        else
#endif
            vector_store(scores + i, weight);
    }
    float rescale = before == -FLT_MAX ? 0.0F : exp2f(before - p->largest[m]);
    p->totals[m] = p->totals[m] * rescale + vector_sum(total);
    return rescale;
}

/* sums = sums * rescale + weights . values, for `rows` rows from m; NULL: there are no sums yet. */
static void weigh_packed(const struct packed *p, size_t m, size_t rows, size_t n_keys,
                         const float *rescale)
{
    size_t n_vectors = p->head_padded / LANES;
    struct multiply t = {.a = p->scores,
                         .a_stride = PACKED_STEP,
                         .b_stride = p->head_padded,
                         .n_k = p->is_paired ? (n_keys + 1) / 2 : n_keys,
                         .first_mask = UINT32_MAX,
                         .last_mask = UINT32_MAX,
                         .c_stride = p->head_padded,
                         .rescale = rescale};

    for (size_t from = 0; from < n_vectors;) {
        size_t width = multiply_width(rows, n_vectors - from);

        for (size_t j = 0; j < width; j++)
            t.b[j] = p->values + (from + j) * LANES;
        t.c = p->sums + m * p->head_padded + from * LANES;
        multiply(rows, width, p->is_paired ? MULTIPLY_PAIRS : MULTIPLY_F32, &t);
        from += width;
    }
}

/* Lays out scratch and copies the queries of the rows in, scaled. */
static void start_packed(struct packed *p, size_t row_begin, size_t n_queries, float *scratch)
{
    size_t head = p->shape->head_size;

    p->keys = scratch;
    p->values = p->keys + head * PACKED_STEP;
    p->scores = p->values + PACKED_STEP * p->head_padded;
    p->sums = p->scores + MULTIPLY_ROWS * PACKED_STEP;
    p->queries = p->sums + n_queries * p->head_padded;
    p->largest = p->queries + n_queries * head;
    p->totals = p->largest + n_queries;
    for (size_t i = 0, m = 0; m < n_queries; i++) {
        for (size_t g = 0; g < p->n_group; g++, m++) {
            const float *from = query_of(p, row_begin + i, p->kv_head * p->n_group + g);

            copy_head(from, head, p->shape->scale * log2_e, p->is_paired, p->queries + m * head);
            p->largest[m] = -FLT_MAX;
        }
    }
    memset(p->totals, 0, n_queries * sizeof(float));
}

static void finish_packed(const struct packed *p, size_t row_begin, size_t n_queries, float *out)
{
    size_t head = p->shape->head_size;

    out += (row_begin * p->shape->n_heads + p->kv_head * p->n_group) * head;
    for (size_t m = 0; m < n_queries; out += p->shape->n_heads * head) {
        for (size_t g = 0; g < p->n_group; g++, m++) {
            vector total = vector_set(p->totals[m]);

            for (size_t d = 0; d < head; d += LANES) {
                vector sum = vector_load(p->sums + m * p->head_padded + d);

                row_store(out + g * head, d, head, vector_divide(sum, total));
            }
        }
    }
}

static void attend_packed(const struct packed_attention_shape *shape, const float *qkv,
                          size_t n_tokens, size_t row_begin, size_t row_end, size_t kv_head,
                          void *scratch, float *out)
{
    struct packed p = {.shape = shape,
                       .qkv = qkv,
                       .qkv_width = (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_size,
                       .n_group = shape->n_heads / shape->n_kv_heads,
                       .head_padded = round_up(shape->head_size, LANES),
                       .kv_head = kv_head,
                       .is_paired = HAS_PAIRS && !shape->is_f32};
    size_t n_queries = (row_end - row_begin) * p.n_group;

    start_packed(&p, row_begin, n_queries, scratch);
    for (size_t step = 0; step < n_tokens; step += PACKED_STEP) {
        size_t n_keys = n_tokens - step < PACKED_STEP ? n_tokens - step : PACKED_STEP;

        load_keys(&p, step, n_keys);
        load_values(&p, step, n_keys);
        for (size_t m = 0; m < n_queries; m += TILE_QUERIES) {
            size_t rows = n_queries - m < TILE_QUERIES ? n_queries - m : TILE_QUERIES;
            float rescale[TILE_QUERIES];

            score_packed(&p, m, rows, n_keys);
            if (shape->bias.table)
                bias_packed(&p, row_begin, step, m, rows, n_keys);
            for (size_t i = 0; i < rows; i++)
                rescale[i] = soften(&p, m + i, p.scores + i * PACKED_STEP, n_keys);
            weigh_packed(&p, m, rows, n_keys, step == 0 ? NULL : rescale);
        }
    }
    finish_packed(&p, row_begin, n_queries, out);
}

#endif
