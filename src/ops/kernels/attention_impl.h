/* SPDX-License-Identifier: Apache-2.0
 *
 * attend(): softmax(q.k) v over a paged KV pool by online softmax, written once on `vector`;
 * attention_<isa>.c includes it after its vector_<isa>.h.
 *
 * Keys are taken in steps of 64 by absolute position. Within a step a query's scores, its new
 * maximum, the rescaling of what it has summed, and the weighted sum of values are made in an order
 * fixed by key position. A key a query does not see has weight 0 and is either skipped or added as
 * an exact +0, so neighbours in the tile never show in the bits. A value that is not finite would
 * break that (0 * NaN): a step that holds one is run row by row, touching only what the row sees.
 *
 * Where the set has products of bf16 pairs, an f16 cache is multiplied in these: queries, keys,
 * weights and values are rounded to 8 bits of precision and summed in f32. Keys pair up by
 * position, so a row meets the same pairs whatever the tile.
 */
#ifndef KVERN_OPS_KERNELS_ATTENTION_IMPL_H
#define KVERN_OPS_KERNELS_ATTENTION_IMPL_H

#include "ops/kernels/attention_int8_impl.h"

#ifdef VECTOR_HAS_PAIRS
enum { HAS_PAIRS = 1 };
#else
enum { HAS_PAIRS = 0 };
#endif

#ifdef VECTOR_HAS_PAIRS
/* Values [i, i + 32) of x [n] times scale as pairs of neighbours, 0 from the n-th on. */
static pairs load_neighbours(const float *x, size_t i, size_t n, float scale)
{
    vector factor = vector_set(scale);
    vector second = i + LANES < n ? row_load(x, i + LANES, n) : vector_set(0.0F);

    return pairs_of_neighbours(vector_multiply(row_load(x, i, n), factor),
                               vector_multiply(second, factor));
}
#endif

/* x [n] times scale; as [n / 2] pairs of neighbours if is_paired. */
static void copy_head(const float *x, size_t n, float scale, bool is_paired, float *out)
{
#ifdef VECTOR_HAS_PAIRS
    for (size_t i = 0; is_paired && i < n; i += 2 * LANES)
        row_store(out, i / 2, n / 2, pairs_as_vector(load_neighbours(x, i, n, scale)));
    if (is_paired)
        return;
#endif
    (void)is_paired;
    for (size_t i = 0; i < n; i += LANES)
        row_store(out, i, n, vector_multiply(row_load(x, i, n), vector_set(scale)));
}

static size_t float_scratch_bytes(const struct attention_shape *shape)
{
    size_t n_queries = ROWS_PER_CALL * (shape->n_heads / shape->n_kv_heads);
    size_t head = round_up(shape->head_size, 16);

    return sizeof(float) *
           (n_queries * (2 * head + STEP_KEYS + LANES + 2) + 2 * STEP_KEYS * head + 64);
}

static size_t element_bytes(const struct attention_shape *shape)
{
    return shape->kv_type == KV_F16 ? sizeof(uint16_t) : sizeof(float);
}

/* LANES f16 elements as f32, 0 from the n-th on. */
static vector load_halves(const uint16_t *from, size_t n)
{
    uint16_t tail[LANES] = {0};

    if (n >= LANES)
        return vector_load_f16(from);
    memcpy(tail, from, n * sizeof *tail);
    return vector_load_f16(tail);
}

/* n elements of the pool as f32; out is padded with 0 to whole vectors. */
static void load_elements(const struct attention_shape *shape, const char *from, size_t n,
                          float *out)
{
    size_t whole = n / LANES * LANES;

    if (shape->kv_type == KV_F32) {
        for (size_t i = 0; i < whole; i += LANES)
            vector_store(out + i, vector_load((const float *)from + i));
        if (n > whole)
            vector_store(out + whole, vector_load_part((const float *)from + whole, n - whole));
        return;
    }
    for (size_t i = 0; i < n; i += LANES)
        vector_store(out + i, load_halves((const uint16_t *)from + i, n - i));
}

/* Keys and values of positions [begin, end), which lie in the step at `step`, as f32. Returns false
 * if a value is not finite. */
static bool load_step_f32(const struct attend *a, size_t step, size_t begin, size_t end)
{
    const struct attention_shape *shape = a->shape;
    size_t head = shape->head_size;
    size_t bytes = element_bytes(shape);
    vector zeros = vector_set(0.0F);

    for (size_t block = begin / KV_BLOCK * KV_BLOCK; block < end; block += KV_BLOCK) {
        const char *keys = block_part(a, block, 0);

        for (size_t d = 0; d < head; d++)
            load_elements(shape, keys + d * KV_BLOCK * bytes, KV_BLOCK,
                          a->keys + d * STEP_KEYS + (block - step));
    }
    for (size_t position = begin; position < end; position++) {
        const char *values = block_part(a, position, 1);
        float *out = a->values + (position - step) * a->head_padded;

        load_elements(shape, values + position % KV_BLOCK * head * bytes, head, out);
        for (size_t i = 0; i < a->head_padded; i += LANES)
            zeros = vector_fma(vector_load(out + i), vector_set(0.0F), zeros);
    }
    return vector_sum(zeros) == 0.0F;
}

#ifdef VECTOR_HAS_PAIRS
/* The same into pairs: of neighbours in the head for keys, of positions for values. What lies at
 * positions outside [begin, end) does not matter. */
static bool load_step_pairs(const struct attend *a, size_t step, size_t begin, size_t end)
{
    size_t head = a->shape->head_size;
    vector zeros = vector_set(0.0F);

    for (size_t block = begin / KV_BLOCK * KV_BLOCK; block < end; block += KV_BLOCK) {
        const uint16_t *keys = (const uint16_t *)block_part(a, block, 0);
        uint32_t *out = (uint32_t *)a->keys + (block - step);

        for (size_t d = 0; d < head; d += 2, out += STEP_KEYS)
            pairs_store(out, pairs_make(vector_load_f16(keys + d * KV_BLOCK),
                                        vector_load_f16(keys + (d + 1) * KV_BLOCK)));
    }
    for (size_t position = begin / 2 * 2; position < end; position += 2) {
        const uint16_t *values =
            (const uint16_t *)block_part(a, position, 1) + position % KV_BLOCK * head;
        uint32_t *out = (uint32_t *)a->values + (position - step) / 2 * a->head_padded;

        for (size_t i = 0; i < head; i += LANES) {
            vector first = load_halves(values + i, head - i);
            vector second = load_halves(values + head + i, head - i);

            pairs_store(out + i, pairs_make(first, second));
            if (position >= begin)
                zeros = vector_fma(first, vector_set(0.0F), zeros);
            if (position + 1 < end)
                zeros = vector_fma(second, vector_set(0.0F), zeros);
        }
    }
    return vector_sum(zeros) == 0.0F;
}
#endif

static bool load_step(const struct attend *a, size_t step, size_t begin, size_t end)
{
#ifdef VECTOR_HAS_PAIRS
    if (a->is_paired)
        return load_step_pairs(a, step, begin, end);
#endif
    return load_step_f32(a, step, begin, end);
}

/* The steps of k of a product over the keys [begin, end). */
static void set_keys(const struct attend *a, struct multiply *t, size_t begin, size_t end)
{
    if (a->is_paired) {
        t->n_k = (end + 1) / 2 - begin / 2;
        t->first_mask = begin % 2 ? 0xffff0000U : UINT32_MAX;
        t->last_mask = end % 2 ? 0x0000ffffU : UINT32_MAX;
    } else {
        t->n_k = end - begin;
    }
}

/* A product over the head. */
static void set_head(const struct attend *a, struct multiply *t)
{
    t->n_k = a->is_paired ? a->shape->head_size / 2 : a->shape->head_size;
    t->first_mask = t->last_mask = UINT32_MAX;
}

/* scores[m, keys of vectors [from, to)] of the step = queries . keys */
static void score_loaded(const struct attend *a, size_t m, size_t n, size_t from, size_t to)
{
    size_t head = a->shape->head_size;
    struct multiply t = {
        .a = a->queries + m * head, .a_stride = head, .b_stride = STEP_KEYS, .c_stride = STEP_KEYS};

    set_head(a, &t);
    while (from < to) {
        size_t width = multiply_width(n, to - from);

        for (size_t j = 0; j < width; j++)
            t.b[j] = a->keys + (from + j) * LANES;
        t.c = a->scores + m * STEP_KEYS + from * LANES;
        multiply(n, width, a->is_paired ? MULTIPLY_PAIRS : MULTIPLY_F32, &t);
        from += width;
    }
}

/* The same straight from f16 blocks: for one row, where nothing would be loaded twice. */
static void score_pool(const struct attend *a, size_t step, size_t m, size_t n, size_t from,
                       size_t to)
{
    size_t head = a->shape->head_size;
    struct multiply t = {
        .a = a->queries + m * head, .a_stride = head, .b_stride = KV_BLOCK, .c_stride = STEP_KEYS};

    set_head(a, &t);
    while (from < to) {
        size_t width = multiply_width(n, to - from);

        for (size_t j = 0; j < width; j++) {
            size_t key = (from + j) * LANES;

            t.b[j] = (const uint16_t *)block_part(a, step + key, 0) + key % KV_BLOCK;
            t.ahead[j] =
                (const uint16_t *)block_part(a, position_ahead(a, step + key), 0) + key % KV_BLOCK;
        }
        t.c = a->scores + m * STEP_KEYS + from * LANES;
        multiply(n, width, a->is_paired ? MULTIPLY_F16_PAIRS : MULTIPLY_F16, &t);
        from += width;
    }
}

/* sums[m] = sums[m] * rescale[m] + weights . values of keys [begin, end) of the step */
static void weigh_loaded(const struct attend *a, size_t m, size_t n, size_t begin, size_t end)
{
    size_t first = a->is_paired ? begin / 2 : begin; /* step of k */
    struct multiply t = {.a = a->scores + m * STEP_KEYS + first,
                         .a_stride = STEP_KEYS,
                         .b_stride = a->head_padded,
                         .c_stride = a->head_padded,
                         .rescale = a->rescale + m};
    size_t n_vectors = a->head_padded / LANES;

    set_keys(a, &t, begin, end);
    for (size_t from = 0; from < n_vectors;) {
        size_t width = multiply_width(n, n_vectors - from);

        for (size_t j = 0; j < width; j++)
            t.b[j] = a->values + first * a->head_padded + (from + j) * LANES;
        t.c = a->sums + m * a->head_padded + from * LANES;
        multiply(n, width, a->is_paired ? MULTIPLY_PAIRS : MULTIPLY_F32, &t);
        from += width;
    }
}

static void weigh_pool(const struct attend *a, size_t step, size_t m, size_t n, size_t begin,
                       size_t end)
{
    static const float ones[MULTIPLY_ROWS] = {1, 1, 1, 1, 1, 1, 1, 1};
    size_t head = a->shape->head_size;
    struct multiply t = {
        .a_stride = STEP_KEYS, .b_stride = head, .c_stride = head, .rescale = a->rescale + m};

    while (begin < end) {
        size_t block_end = begin / KV_BLOCK * KV_BLOCK + KV_BLOCK;
        const uint16_t *values = (const uint16_t *)block_part(a, step + begin, 1);
        const uint16_t *ahead = (const uint16_t *)block_part(a, position_ahead(a, step + begin), 1);

        size_t next = block_end < end ? block_end : end;
        size_t first = a->is_paired ? begin / 2 * 2 : begin; /* the first key that is read */

        t.a = a->scores + m * STEP_KEYS + (a->is_paired ? begin / 2 : begin);
        set_keys(a, &t, begin, next);
        for (size_t from = 0; from < head / LANES;) {
            size_t width = multiply_width(n, head / LANES - from);

            for (size_t j = 0; j < width; j++) {
                size_t offset = first % KV_BLOCK * head + (from + j) * LANES;

                t.b[j] = values + offset;
                t.ahead[j] = ahead + offset;
            }
            t.c = a->sums + m * head + from * LANES;
            multiply(n, width, a->is_paired ? MULTIPLY_F16_PAIRS : MULTIPLY_F16, &t);
            from += width;
        }
        t.rescale = ones;
        begin = next;
    }
}

/* Turns the scores of query m into weights, 0 for a key it does not see, and adds up its total. */
static void weigh_scores(const struct attend *a, size_t m, const struct span *span)
{
    float *scores = a->scores + m * STEP_KEYS;
    vector largest = vector_set(a->largest[m]);
    vector total = vector_multiply(vector_load(a->totals + m * LANES), vector_set(a->rescale[m]));

    for (size_t v = span->from; v < span->to; v++) {
        vector s = vector_subtract(vector_load(scores + v * LANES), largest);
        vector weight = vector_exp2_below(s);

        if (!is_whole(span))
            weight =
                vector_keep(weight, clip(span->begin, v * LANES), clip(span->end, v * LANES), 0.0F);
#ifdef VECTOR_HAS_PAIRS
        if (a->is_paired) /* over scores that were read already */
            weight = pairs_store_neighbours((uint32_t *)scores + v * LANES / 2, weight);
        else
#endif
            vector_store(scores + v * LANES, weight);
        total = vector_add(total, weight);
    }
    vector_store(a->totals + m * LANES, total);
}

/* Queries [m, m + n) against the part of the step that any of them sees. */
static void attend_tile(const struct attend *a, size_t step, size_t m, size_t n, bool is_loaded)
{
    struct span spans[MULTIPLY_ROWS];
    size_t begin;
    size_t end;

    if (!find_spans(a, step, m, n, spans, &begin, &end))
        return;
    if (is_loaded)
        score_loaded(a, m, n, spans[0].from, spans[0].to);
    else
        score_pool(a, step, m, n, spans[0].from, spans[0].to);
    for (size_t i = 0; i < n; i++)
        raise_largest(a, step, m + i, &spans[i], NULL);
    find_rescale(a, m, n);
    for (size_t i = 0; i < n; i++)
        weigh_scores(a, m + i, &spans[i]);
    if (is_loaded)
        weigh_loaded(a, m, n, begin, end);
    else
        weigh_pool(a, step, m, n, begin, end);
}

/* Lays out scratch and copies the queries in, scaled. */
static void start_attend(struct attend *a, const float *q, size_t q_stride, size_t n_rows,
                         float *scratch)
{
    size_t head = a->shape->head_size;
    size_t n_queries = n_rows * a->n_group;
    float scale = a->shape->scale * log2_e;

    a->keys = scratch;
    a->values = a->keys + STEP_KEYS * head;
    a->queries = a->values + STEP_KEYS * a->head_padded;
    a->sums = a->queries + n_queries * head;
    a->scores = a->sums + n_queries * a->head_padded;
    a->totals = a->scores + n_queries * STEP_KEYS;
    a->largest = a->totals + n_queries * LANES;
    a->rescale = a->largest + n_queries + LANES;
    for (size_t m = 0; m < n_queries; m++)
        copy_head(query_at(a, q, q_stride, m), head, scale, a->is_paired, a->queries + m * head);
    start_sums_at_zero(a, n_queries);
}

static void attend_floats(struct attend *a, const float *q, size_t q_stride, size_t n_rows,
                          void *scratch)
{
    const struct attention_shape *shape = a->shape;
    bool is_loaded = n_rows > 1 || shape->kv_type != KV_F16 || a->head_padded != shape->head_size;
    size_t n_queries = n_rows * a->n_group;
    size_t begin = window_begin(shape, a->first_position);
    size_t end = position_of(a, n_queries - 1) + 1;

    start_attend(a, q, q_stride, n_rows, scratch);
    for (size_t step = begin / STEP_KEYS * STEP_KEYS; step < end; step += STEP_KEYS) {
        size_t tile = is_loaded ? TILE_QUERIES : MULTIPLY_ROWS;
        bool is_finite = !is_loaded || load_step(a, step, clamp_to(begin, step, step + STEP_KEYS),
                                                 clamp_to(end, step, step + STEP_KEYS));

        for (size_t m = 0, n = 0; m < n_queries; m += n) {
            size_t left = is_finite ? n_queries - m : a->n_group - m % a->n_group;

            n = left < tile ? left : tile;
            attend_tile(a, step, m, n, is_loaded);
        }
    }
}

static size_t attention_scratch_bytes(const struct attention_shape *shape)
{
    return shape->kv_type == KV_INT8 ? int8_scratch_bytes(shape) : float_scratch_bytes(shape);
}

static void attend(const struct attention_shape *shape, const float *q, size_t q_stride,
                   size_t n_rows, size_t first_position, size_t kv_head, const void *pool,
                   const int32_t *blocks, void *scratch, float *out, size_t out_stride)
{
    struct attend a = {.shape = shape,
                       .n_group = shape->n_heads / shape->n_kv_heads,
                       .head_padded = round_up(shape->head_size, LANES),
                       .first_position = first_position,
                       .kv_head = kv_head,
                       .is_paired = HAS_PAIRS && shape->kv_type == KV_F16,
                       .pool = pool,
                       .blocks = blocks};

    if (shape->kv_type == KV_INT8)
        attend_int8(&a, q, q_stride, n_rows, scratch);
    else
        attend_floats(&a, q, q_stride, n_rows, scratch);
    finish_attend(&a, n_rows, out, out_stride);
}

#endif
