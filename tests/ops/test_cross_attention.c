/* SPDX-License-Identifier: Apache-2.0
 *
 * Cross attention over the pool, every set the machine has: store() of whole sources into blocks
 * that lie in no order, then attend() with is_cross against a reference in double. Whatever rows
 * run together and whatever lies in slots past the source, each row's bytes are the same, and they
 * are those of a causal row at the source's last position.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"
#include "support_kernels.h"
#include "support_pool.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct cross_case {
    const char *name;
    size_t n_heads, n_kv_heads, head_size, source_len, n_rows;
} cases[] = {
    {"T5", 8, 8, 64, 512, 3},
    {"one position", 2, 2, 32, 1, 5},
    {"a block", 2, 2, 32, 16, 2},
    {"a block and one", 4, 4, 32, 17, 9},
    {"a step", 2, 2, 64, 64, 64},
    {"a step and an odd count", 3, 3, 64, 97, 70},
    {"grouped heads", 6, 2, 64, 130, 8},
    {"head of 24", 4, 2, 24, 75, 4},
    {"head of 256", 1, 1, 256, 40, 7},
};

enum { MAX_SOURCE = 512, MAX_BLOCKS = MAX_SOURCE / KV_BLOCK, N_LAYERS = 2 };

static const enum kv_type types[] = {KV_F16, KV_F32, KV_INT8};

struct problem {
    const struct cross_case *c;
    struct attention_shape shape;
    size_t width;       /* of the keys or the values of a position */
    size_t out_width;   /* H D, of queries too */
    size_t layer_bytes; /* of the pool */
    float *kv;          /* [source_len, N_LAYERS, 2, width] */
    float *q;           /* [n_rows, out_width] */
    char *pool;         /* [N_LAYERS, layer_bytes] */
    float *out;         /* [n_rows, out_width] */
    float *want;        /* likewise */
    void *scratch;
    int32_t blocks[MAX_BLOCKS];
};

static uint64_t random_state;

static float *random_floats(size_t n, float size)
{
    float *x = try_new_aligned(n, sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        random_state = random_state * 6364136223846793005U + 1442695040888963407U;
        x[i] = (float)(int32_t)(random_state >> 32) * 0x1p-31F * size;
    }
    return x;
}

static void problem_init(struct problem *p, const struct cross_case *c, enum kv_type type,
                         const struct attention_kernels *kernels)
{
    random_state = c->source_len * 3 + c->head_size;
    *p = (struct problem){.c = c,
                          .shape = {.n_heads = c->n_heads,
                                    .n_kv_heads = c->n_kv_heads,
                                    .head_size = c->head_size,
                                    .kv_type = type,
                                    .scale = 1.0F / sqrtf((float)c->head_size),
                                    .is_cross = true},
                          .width = c->n_kv_heads * c->head_size,
                          .out_width = c->n_heads * c->head_size};
    p->layer_bytes = MAX_BLOCKS * 2 * c->n_kv_heads * kv_part_bytes(type, c->head_size);
    p->kv = random_floats(c->source_len * N_LAYERS * 2 * p->width, 3.0F);
    p->q = random_floats(c->n_rows * p->out_width, 3.0F);
    p->out = random_floats(c->n_rows * p->out_width, 0.0F);
    p->want = random_floats(c->n_rows * p->out_width, 0.0F);
    p->pool = try_new_aligned(N_LAYERS, p->layer_bytes);
    p->scratch = try_new_aligned(kernels->attention_scratch_bytes(&p->shape), 1);
    assert_true(p->pool && p->scratch);
    for (size_t i = 0; i < MAX_BLOCKS; i++)
        p->blocks[i] = (int32_t)((i * 11 + 5) % MAX_BLOCKS);
}

static void problem_clear(struct problem *p)
{
    free(p->kv);
    free(p->q);
    free(p->out);
    free(p->want);
    free(p->pool);
    free(p->scratch);
}

/* All layers, `n_rows` of the source a call. */
static void store_source(struct problem *p, const struct attention_kernels *kernels, enum fill fill,
                         size_t n_rows)
{
    int32_t slot_block[MAX_SOURCE];
    int32_t slot_offset[MAX_SOURCE];
    size_t n = p->c->source_len;

    for (size_t i = 0; i < n; i++) {
        slot_block[i] = p->blocks[i / KV_BLOCK];
        slot_offset[i] = (int32_t)(i % KV_BLOCK);
    }
    pool_fill(p->pool, N_LAYERS * p->layer_bytes, p->shape.kv_type, fill);
    for (size_t layer = 0; layer < N_LAYERS; layer++) {
        const float *k = p->kv + layer * 2 * p->width;

        for (size_t row = 0; row < n; row += n_rows)
            kernels->store(&p->shape, k, k + p->width, N_LAYERS * 2 * p->width, slot_block,
                           slot_offset, row, row + n_rows < n ? row + n_rows : n,
                           p->pool + layer * p->layer_bytes);
    }
}

/* All rows against the last layer, n_rows a call. */
static void attend_rows(struct problem *p, const struct attention_kernels *kernels, size_t n_rows,
                        float *out)
{
    size_t all = p->c->n_rows;

    for (size_t row = 0; row < all; row += n_rows) {
        for (size_t head = 0; head < p->shape.n_kv_heads; head++)
            kernels->attend(&p->shape, p->q + row * p->out_width, p->out_width,
                            row + n_rows < all ? n_rows : all - row, p->c->source_len - 1, head,
                            p->pool + (N_LAYERS - 1) * p->layer_bytes, p->blocks, p->scratch,
                            out + row * p->out_width, p->out_width);
    }
}

/* The pool holds the source, to the precision of its type. */
static void check_store(const struct problem *p, size_t index)
{
    size_t size = p->shape.head_size;

    for (size_t layer = 0; layer < N_LAYERS; layer++) {
        struct pool_view view = {
            .shape = &p->shape, .pool = p->pool + layer * p->layer_bytes, .blocks = p->blocks};

        for (size_t i = 0; i < p->c->source_len * 2 * p->width; i++) {
            size_t row = i / (2 * p->width);
            size_t part = i / p->width % 2;
            size_t head = i / size % p->shape.n_kv_heads;
            double x = p->kv[((row * N_LAYERS + layer) * 2 + part) * p->width + i % p->width];
            double tolerance = p->shape.kv_type == KV_F32   ? 0
                               : p->shape.kv_type == KV_F16 ? 0x1p-11 * fabs(x) + 1e-7
                                                            : 0.5001 * 3 / 127;

            check_close(pool_value(&view, row, part, head, i % size), x, tolerance, "in the pool",
                        index);
        }
    }
}

/* One head of one row in double, of what the pool holds: out [head_size]. */
static void reference_row(const struct problem *p, size_t row, size_t head, bool is_bf16,
                          double *out)
{
    const float log2_e = 0x1.715476p0F;
    struct pool_view view = {
        .shape = &p->shape, .pool = p->pool + (N_LAYERS - 1) * p->layer_bytes, .blocks = p->blocks};
    size_t size = p->shape.head_size;
    size_t kv_head = head / (p->shape.n_heads / p->shape.n_kv_heads);
    const float *q = p->q + row * p->out_width + head * size;
    double weights[MAX_SOURCE] = {0};
    double largest = -INFINITY;
    double total = 0;

    for (size_t j = 0; j < p->c->source_len; j++) {
        for (size_t d = 0; d < size; d++) {
            double key = pool_value(&view, j, 0, kv_head, d);
            float scaled = q[d] * (p->shape.scale * log2_e); /* as the kernels round it */

            weights[j] += is_bf16 ? round_bf16(scaled) * round_bf16(key) / log2_e
                                  : q[d] * key * p->shape.scale;
        }
        largest = fmax(largest, weights[j]);
    }
    for (size_t j = 0; j < p->c->source_len; j++)
        total += weights[j] = exp(weights[j] - largest);
    for (size_t d = 0; d < size; d++) {
        out[d] = 0;
        for (size_t j = 0; j < p->c->source_len; j++) {
            double value = pool_value(&view, j, 1, kv_head, d);

            out[d] += weights[j] / total * (is_bf16 ? round_bf16(value) : value);
        }
    }
}

static void check_values(struct problem *p, const struct kernels *set, size_t index)
{
    bool is_bf16 = !strcmp(set->name, "avx512bf16") && p->shape.kv_type == KV_F16;
    double tolerance = is_bf16 ? 5e-3 : p->shape.kv_type == KV_INT8 ? 5e-4 : 2e-5;
    double want[256];

    for (size_t row = 0; row < p->c->n_rows; row += 1 + row / 5) {
        for (size_t head = 0; head < p->c->n_heads; head++) {
            reference_row(p, row, head, is_bf16, want);
            for (size_t d = 0; d < p->c->head_size; d++)
                check_close(p->want[row * p->out_width + head * p->c->head_size + d], want[d],
                            tolerance, p->c->name, index);
        }
    }
}

static void check_same(const struct problem *p, const char *what)
{
    if (memcmp(p->out, p->want, p->c->n_rows * p->out_width * sizeof *p->out) != 0)
        fail_msg("%s: other bytes %s", p->c->name, what);
}

static void check_case(const struct kernels *set, const struct cross_case *c, enum kv_type type)
{
    static const enum fill fills[] = {FILL_ZERO, FILL_GARBAGE, FILL_NAN};
    const struct attention_kernels *kernels = set->attention;
    size_t index = (size_t)(c - cases) * COUNT(types) + (size_t)type;
    struct problem p;

    problem_init(&p, c, type, kernels);
    store_source(&p, kernels, FILL_ZERO, MAX_SOURCE);
    check_store(&p, index);
    attend_rows(&p, kernels, kernels->rows_per_call, p.want);
    check_values(&p, set, index);
    for (size_t i = 0; i < COUNT(fills); i++) {
        store_source(&p, kernels, fills[i], 7);
        attend_rows(&p, kernels, kernels->rows_per_call, p.out);
        check_same(&p, "on a pool with something else in it");
        attend_rows(&p, kernels, 3, p.out);
        check_same(&p, "in calls of 3 rows");
        attend_rows(&p, kernels, 1, p.out);
        check_same(&p, "row by row");
    }
    p.shape.is_cross = false;
    attend_rows(&p, kernels, 1, p.out);
    check_same(&p, "as causal rows at the last position");
    problem_clear(&p);
}

static void test_cross(void **state)
{
    for (size_t i = 0; i < COUNT(cases) * COUNT(types); i++)
        check_case(*state, &cases[i / COUNT(types)], types[i % COUNT(types)]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cross),
    };

    return run_with_each_set(tests, COUNT(tests));
}
