/* SPDX-License-Identifier: Apache-2.0
 *
 * attend_packed() of every set the machine has: against a softmax in double, and its bytes equal
 * however the rows of a text are cut into calls.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"
#include "ops/position_bias.h"
#include "support_kernels.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct shape_case {
    const char *name;
    size_t n_heads, n_kv_heads, head_size, n_tokens;
    size_t n_distances; /* columns of the bias; 0: there is none */
} cases[] = {
    {"one token", 2, 2, 32, 1, 0},
    {"two", 2, 2, 32, 2, 0},
    {"an odd count", 3, 3, 32, 5, 0},
    {"a whole vector", 2, 2, 32, 16, 0},
    {"17", 2, 2, 32, 17, 0},
    {"128", 2, 2, 32, 128, 0},
    {"a whole step", 1, 1, 32, 256, 0},
    {"a step and one", 1, 1, 32, 257, 0},
    {"three steps", 1, 1, 64, 600, 0},
    {"head of 8", 2, 2, 8, 40, 0},
    {"head of 24", 1, 1, 24, 33, 0},
    {"head of 40", 1, 1, 40, 70, 0},
    {"head of 256", 1, 1, 256, 20, 0},
    {"grouped heads", 6, 2, 64, 50, 0},
    {"all heads on one", 5, 1, 16, 31, 0},
    {"a bias", 8, 8, 64, 100, 257},
    {"a bias on one token", 2, 2, 32, 1, 9},
    {"a bias past its reach", 8, 8, 64, 150, 41},
    {"a bias of reach 7 over three steps", 2, 2, 32, 600, 15},
    {"a bias over two steps", 1, 1, 64, 300, 257},
    {"a bias by head alone", 3, 3, 32, 70, 1},
    {"a bias of grouped heads", 6, 2, 24, 90, 31},
};

static uint64_t random_state;

static float random_float(float size)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31F * size;
}

struct problem {
    struct packed_attention_shape shape;
    size_t n_tokens, in_width, out_width;
    float *qkv;  /* [n_tokens, in_width] */
    float *bias; /* [n_heads, n_distances] */
    size_t n_distances;
    void *scratch;
};

static void problem_init(struct problem *p, const struct shape_case *c, bool is_f32,
                         const struct attention_kernels *kernels)
{
    random_state = c->n_tokens * 7 + c->head_size;
    p->shape = (struct packed_attention_shape){.n_heads = c->n_heads,
                                               .n_kv_heads = c->n_kv_heads,
                                               .head_size = c->head_size,
                                               .scale = 1.0F / sqrtf((float)c->head_size),
                                               .is_f32 = is_f32};
    p->n_tokens = c->n_tokens;
    p->in_width = (c->n_heads + 2 * c->n_kv_heads) * c->head_size;
    p->out_width = c->n_heads * c->head_size;
    p->qkv = try_new_aligned(p->n_tokens * p->in_width, sizeof *p->qkv);
    p->scratch = try_new_aligned(kernels->packed_scratch_bytes(&p->shape), 1);
    assert_true(p->qkv && p->scratch);
    memset(p->scratch, 0xff, kernels->packed_scratch_bytes(&p->shape)); /* NaN */
    for (size_t i = 0; i < p->n_tokens * p->in_width; i++)
        p->qkv[i] = random_float(3.0F);
    p->n_distances = c->n_distances;
    p->bias = try_new_aligned(c->n_heads * c->n_distances, sizeof *p->bias);
    assert_non_null(p->bias);
    for (size_t i = 0; i < c->n_heads * c->n_distances; i++)
        p->bias[i] = random_float(4.0F);
    if (c->n_distances > 0)
        assert_int_equal(
            position_bias_init(&p->shape.bias, p->bias, c->n_heads, c->n_distances / 2, NULL),
            KVERN_OK);
}

static void problem_clear(struct problem *p)
{
    position_bias_clear(&p->shape.bias);
    free(p->bias);
    free(p->qkv);
    free(p->scratch);
}

/* What is added to the score of a key. */
static double bias_between(const struct problem *p, size_t head, size_t row, size_t key)
{
    double reach = (double)(p->n_distances / 2);
    double distance = fmin(fmax((double)key - (double)row, -reach), reach);

    return p->n_distances ? p->bias[head * p->n_distances + (size_t)(reach + distance)] : 0;
}

/* One query head of one row in double: out [head_size]. */
static void attend_exactly(const struct problem *p, size_t row, size_t head, double *out)
{
    size_t size = p->shape.head_size;
    size_t kv_head = head / (p->shape.n_heads / p->shape.n_kv_heads);
    const float *q = p->qkv + row * p->in_width + head * size;
    double total = 0;
    double largest = -1e300;
    double *scores = try_new(p->n_tokens, sizeof *scores);

    assert_non_null(scores);
    for (size_t t = 0; t < p->n_tokens; t++) {
        const float *k = p->qkv + t * p->in_width + (p->shape.n_heads + kv_head) * size;

        for (size_t d = 0; d < size; d++)
            scores[t] += (double)q[d] * k[d] * p->shape.scale;
        scores[t] += bias_between(p, head, row, t);
        largest = scores[t] > largest ? scores[t] : largest;
    }
    memset(out, 0, size * sizeof *out);
    for (size_t t = 0; t < p->n_tokens; t++) {
        const float *v =
            p->qkv + t * p->in_width + (p->shape.n_heads + p->shape.n_kv_heads + kv_head) * size;
        double weight = exp(scores[t] - largest);

        total += weight;
        for (size_t d = 0; d < size; d++)
            out[d] += weight * v[d];
    }
    for (size_t d = 0; d < size; d++)
        out[d] /= total;
    free(scores);
}

static void run(const struct attention_kernels *kernels, const struct problem *p, size_t begin,
                size_t end, float *out)
{
    for (size_t head = 0; head < p->shape.n_kv_heads; head++)
        kernels->attend_packed(&p->shape, p->qkv, p->n_tokens, begin, end, head, p->scratch, out);
}

/* In calls of at most `most` rows. */
static void run_all(const struct attention_kernels *kernels, const struct problem *p, size_t most,
                    float *out)
{
    for (size_t begin = 0; begin < p->n_tokens; begin += most)
        run(kernels, p, begin, begin + most < p->n_tokens ? begin + most : p->n_tokens, out);
}

static void check_case(const struct kernels *set, const struct shape_case *c, bool is_f32)
{
    const struct attention_kernels *kernels = set->attention;
    bool is_exact = is_f32 || strcmp(set->name, "avx512bf16") != 0;
    double tolerance = is_exact ? 2e-5 : 0.04; /* values reach 3; bf16 keeps 8 bits */
    struct problem p;
    double want[256];

    problem_init(&p, c, is_f32, kernels);
    size_t n_out = p.n_tokens * p.out_width;
    float *out = try_new_aligned(n_out + 1, sizeof *out);
    float *cut = try_new_aligned(n_out, sizeof *cut);

    assert_true(out && cut);
    out[n_out] = 42.0F;
    run_all(kernels, &p, kernels->packed_rows_per_call, out);
    for (size_t row = 0; row<p.n_tokens; row += p.n_tokens> 100 ? 13 : 1) {
        for (size_t head = 0; head < c->n_heads; head++) {
            attend_exactly(&p, row, head, want);
            for (size_t d = 0; d < c->head_size; d++) {
                float got = out[row * p.out_width + head * c->head_size + d];

                if (!(fabs(got - want[d]) <= tolerance))
                    fail_msg("%s %s, %s: row %zu head %zu [%zu] is %.9g, not %.9g", set->name,
                             is_f32 ? "f32" : "fast", c->name, row, head, d, (double)got, want[d]);
            }
        }
    }
    assert_true(out[n_out] == 42.0F);
    for (size_t most = 1; most < 60; most = most * 2 + 1) {
        memset(cut, 0, n_out * sizeof *cut);
        run_all(kernels, &p, most, cut);
        assert_memory_equal(out, cut, n_out * sizeof *out);
    }
    free(out);
    free(cut);
    problem_clear(&p);
}

static void test_values_and_cuts(void **state)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        check_case(*state, &cases[i], true);
        check_case(*state, &cases[i], false);
    }
}

/* Scores of +-2,000: the softmax of the largest alone, no overflow; equal ones share. */
static void test_large_scores(void **state)
{
    const struct kernels *set = *state;
    static const struct shape_case c = {"large", 1, 1, 8, 300, 0};
    float out[300 * 8];
    struct problem p;

    for (int is_f32 = 0; is_f32 < 2; is_f32++) {
        problem_init(&p, &c, is_f32, set->attention);
        p.shape.scale = 1.0F;
        for (size_t t = 0; t < c.n_tokens; t++) {
            for (size_t d = 0; d < 8; d++) {
                p.qkv[t * 24 + d] = d ? 0.0F : 1.0F;
                p.qkv[t * 24 + 8 + d] = t == 3 || t == 290 ? 2000.0F : -2000.0F;
                p.qkv[t * 24 + 16 + d] = t == 3 ? 1.0F : t == 290 ? 2.0F : 7.0F;
            }
        }
        run_all(set->attention, &p, 256, out);
        for (size_t i = 0; i < c.n_tokens * 8; i++)
            assert_true(out[i] == 1.5F);
        problem_clear(&p);
    }
}

/* NaN in a text shows in its rows: it is never hidden. */
static void test_not_finite(void **state)
{
    const struct kernels *set = *state;
    static const struct shape_case c = {"nan", 1, 1, 32, 20, 0};
    float out[20 * 32];
    struct problem p;

    problem_init(&p, &c, false, set->attention);
    p.qkv[7 * p.in_width + 32] = NAN; /* key 7 */
    run_all(set->attention, &p, 256, out);
    for (size_t i = 0; i < c.n_tokens * 32; i++)
        assert_true(isnan(out[i]));
    problem_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_cuts),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_not_finite),
    };

    return run_with_each_set(tests, COUNT(tests));
}
