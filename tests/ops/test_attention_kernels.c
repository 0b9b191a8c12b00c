/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_<isa>.c, every set the machine has: append and attend against a reference in double,
 * and promise 1 as bytes: however a sequence is cut into calls, and whatever lies in slots a query
 * does not see, each row's result is the same.
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"
#include "ops/position_bias.h"
#include "support_kernels.h"
#include "support_pool.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    size_t n_heads;
    size_t n_kv_heads;
    size_t head_size;
    size_t window;
    float soft_cap;
    size_t n_rows;
    bool has_norm;
    size_t n_distances; /* columns of the bias; 0: there is none. One that has it has no rope. */
} cases[] = {
    {9, 3, 64, 0, 0.0F, 150, false, 0},  {14, 2, 64, 0, 0.0F, 131, false, 0},
    {1, 1, 8, 0, 0.0F, 70, false, 0},    {2, 1, 16, 0, 0.0F, 33, true, 0},
    {4, 2, 80, 0, 0.0F, 90, false, 0},   {8, 1, 128, 0, 0.0F, 129, true, 0},
    {2, 2, 256, 0, 0.0F, 66, false, 0},  {4, 4, 24, 0, 0.0F, 80, true, 0},
    {9, 3, 64, 1, 0.0F, 40, false, 0},   {9, 3, 64, 37, 0.0F, 200, false, 0},
    {12, 1, 64, 64, 0.0F, 160, true, 0}, {4, 1, 72, 16, 30.0F, 140, false, 0},
    {6, 2, 64, 0, 50.0F, 100, false, 0}, {20, 2, 32, 100, 5.0F, 200, false, 0},
    {3, 3, 40, 0, 0.0F, 1, false, 0},    {8, 8, 64, 0, 0.0F, 150, false, 257},
    {8, 8, 64, 0, 0.0F, 140, false, 41}, {4, 2, 32, 0, 0.0F, 200, false, 15},
    {2, 2, 32, 50, 9.0F, 130, true, 31}, {6, 1, 24, 0, 0.0F, 70, false, 1},
};
enum { N_CASES = sizeof cases / sizeof cases[0], MAX_POSITIONS = 256 };

static const enum kv_type types[] = {KV_F16, KV_F32, KV_INT8};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* A sequence of n_rows tokens on a pool with its blocks out of order. */
struct sequence {
    struct attention_shape shape;
    size_t n_rows;
    size_t row_floats; /* (H + 2 Hkv) D */
    size_t out_floats; /* H D */
    size_t pool_bytes;
    float *qkv;  /* [n_rows, row_floats], as append found it */
    float *rope; /* [n_rows, head_size]; angles of 0 where there is a bias */
    float *bias; /* [n_heads, n_distances] */
    size_t n_distances;
    float *q_norm;
    float *k_norm;
    float *done; /* [n_rows, row_floats], as append left it */
    void *pool;
    float *out; /* [n_rows, out_floats] */
    int32_t blocks[MAX_POSITIONS / KV_BLOCK];
    int32_t slot_block[MAX_POSITIONS];
    int32_t slot_offset[MAX_POSITIONS];
};

static uint64_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31F;
}

static float *random_floats(size_t n, float scale, float offset)
{
    float *x = try_new_aligned(n, sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float() * scale + offset;
    return x;
}

static struct sequence *sequence_new(size_t index, enum kv_type type)
{
    struct sequence *s = new_or_abort(sizeof *s);
    size_t n_blocks = MAX_POSITIONS / KV_BLOCK;

    random_state = index + 1;
    s->shape = (struct attention_shape){.n_heads = cases[index].n_heads,
                                        .n_kv_heads = cases[index].n_kv_heads,
                                        .head_size = cases[index].head_size,
                                        .kv_type = type,
                                        .scale = 1.0F / sqrtf((float)cases[index].head_size),
                                        .window = cases[index].window,
                                        .soft_cap = cases[index].soft_cap};
    s->n_rows = cases[index].n_rows;
    s->row_floats = (s->shape.n_heads + 2 * s->shape.n_kv_heads) * s->shape.head_size;
    s->out_floats = s->shape.n_heads * s->shape.head_size;
    s->pool_bytes = n_blocks * 2 * s->shape.n_kv_heads * kv_part_bytes(type, s->shape.head_size);
    s->qkv = random_floats(s->n_rows * s->row_floats, 3.0F, 0.0F);
    s->done = random_floats(s->n_rows * s->row_floats, 0.0F, 0.0F);
    s->out = random_floats(s->n_rows * s->out_floats, 0.0F, 0.0F);
    s->rope = random_floats(s->n_rows * s->shape.head_size, 1.0F, 0.0F);
    if (cases[index].has_norm) {
        s->q_norm = random_floats(s->shape.head_size, 0.5F, 1.5F);
        s->k_norm = random_floats(s->shape.head_size, 0.5F, 1.5F);
    }
    s->n_distances = cases[index].n_distances;
    s->bias = random_floats(s->shape.n_heads * s->n_distances, 3.0F, 0.0F);
    if (s->n_distances > 0) {
        assert_int_equal(
            position_bias_init(&s->shape.bias, s->bias, s->shape.n_heads, s->n_distances / 2, NULL),
            KVERN_OK);
        for (size_t i = 0; i < s->n_rows * s->shape.head_size; i++)
            s->rope[i] = i % s->shape.head_size < s->shape.head_size / 2 ? 1.0F : 0.0F;
    }
    s->pool = try_new_aligned(s->pool_bytes, 1);
    assert_non_null(s->pool);
    for (size_t i = 0; i < n_blocks; i++)
        s->blocks[i] = (int32_t)(i * 7 % n_blocks);
    for (size_t i = 0; i < s->n_rows; i++) {
        s->slot_block[i] = s->blocks[i / KV_BLOCK];
        s->slot_offset[i] = (int32_t)(i % KV_BLOCK);
    }
    return s;
}

static void sequence_free(struct sequence *s)
{
    free(s->qkv);
    free(s->rope);
    free(s->bias);
    position_bias_clear(&s->shape.bias);
    free(s->q_norm);
    free(s->k_norm);
    free(s->done);
    free(s->pool);
    free(s->out);
    free(s);
}

/* Appends and attends in calls of first_rows, then of n_rows; append_first: all rows at once. */
static void run_sequence(struct sequence *s, const struct attention_kernels *kernels,
                         enum fill fill, size_t first_rows, size_t n_rows, bool append_first)
{
    void *scratch = try_new_aligned(kernels->attention_scratch_bytes(&s->shape), 1);
    const float *rope = s->n_distances ? NULL : s->rope;
    size_t n = 0;

    assert_non_null(scratch);
    pool_fill(s->pool, s->pool_bytes, s->shape.kv_type, fill);
    memcpy(s->done, s->qkv, s->n_rows * s->row_floats * sizeof *s->done);
    memset(s->out, 0xff, s->n_rows * s->out_floats * sizeof *s->out);
    if (append_first)
        kernels->append(&s->shape, s->done, rope, s->q_norm, s->k_norm, 1e-5F, s->slot_block,
                        s->slot_offset, 0, s->n_rows, s->pool);
    for (size_t row = 0; row < s->n_rows; row += n) {
        n = row == 0 ? first_rows : n_rows;
        n = n < kernels->rows_per_call ? n : kernels->rows_per_call;
        n = n < s->n_rows - row ? n : s->n_rows - row;
        if (!append_first)
            kernels->append(&s->shape, s->done, rope, s->q_norm, s->k_norm, 1e-5F, s->slot_block,
                            s->slot_offset, row, row + n, s->pool);
        for (size_t head = 0; head < s->shape.n_kv_heads; head++)
            kernels->attend(&s->shape, s->done + row * s->row_floats, s->row_floats, n, row, head,
                            s->pool, s->blocks, scratch, s->out + row * s->out_floats,
                            s->out_floats);
    }
    free(scratch);
}

static struct pool_view view_of(const struct sequence *s)
{
    return (struct pool_view){.shape = &s->shape, .pool = s->pool, .blocks = s->blocks};
}

/* What is added to the score of a key. */
static double bias_between(const struct sequence *s, size_t head, size_t row, size_t key)
{
    double reach = (double)(s->n_distances / 2);
    double distance = fmin(fmax((double)key - (double)row, -reach), reach);

    return s->n_distances ? s->bias[head * s->n_distances + (size_t)(reach + distance)] : 0;
}

/* One head of one row attended to in double; out [head_size]. is_bf16: of rounded queries, keys and
 * values, as a set with bf16 pairs takes them from an f16 pool. */
static void reference_row(const struct sequence *s, size_t row, size_t head, bool is_bf16,
                          double *out)
{
    const float log2_e = 0x1.715476p0F;
    const struct attention_shape *shape = &s->shape;
    const float *q = s->done + row * s->row_floats + head * shape->head_size;
    size_t kv_head = head / (shape->n_heads / shape->n_kv_heads);
    size_t begin = shape->window && row + 1 > shape->window ? row + 1 - shape->window : 0;
    struct pool_view view = view_of(s);
    double weights[MAX_POSITIONS];
    double largest = -INFINITY;
    double total = 0;

    for (size_t j = begin; j <= row; j++) {
        double score = 0;

        for (size_t d = 0; d < shape->head_size; d++) {
            double key = pool_value(&view, j, 0, kv_head, d);
            float scaled = q[d] * (shape->scale * log2_e); /* as the kernels round it */

            score +=
                is_bf16 ? round_bf16(scaled) * round_bf16(key) / log2_e : q[d] * key * shape->scale;
        }
        if (shape->soft_cap > 0)
            score = shape->soft_cap * tanh(score / shape->soft_cap);
        score += bias_between(s, head, row, j);
        weights[j] = score;
        largest = score > largest ? score : largest;
    }
    for (size_t j = begin; j <= row; j++)
        total += weights[j] = exp(weights[j] - largest);
    for (size_t d = 0; d < shape->head_size; d++) {
        out[d] = 0;
        for (size_t j = begin; j <= row; j++) {
            double value = pool_value(&view, j, 1, kv_head, d);

            out[d] += weights[j] / total * (is_bf16 ? round_bf16(value) : value);
        }
    }
}

/* What int8 keeps of x [head_size]: the largest is 127, the others are to nearest. */
static void check_int8_vector(const struct sequence *s, size_t row, size_t part, size_t head,
                              const float *x, size_t index)
{
    size_t size = s->shape.head_size;
    struct pool_view view = view_of(s);
    double scale = pool_scale(&view, row, part, head);
    double largest = 0;

    for (size_t d = 0; d < size; d++)
        largest = fabs(x[d]) > largest ? fabs(x[d]) : largest;
    check_close(scale, largest / 127, 1e-7 * largest, "a scale", index);
    for (size_t d = 0; d < size; d++)
        check_close(pool_int8(&view, row, part, head, d), x[d] / scale, 0.5001,
                    part ? "a value in int8" : "a key in int8", index);
}

/* The row's q, k and v as append should have left them, k and v in the pool. */
static void check_append_row(const struct sequence *s, size_t row, size_t index)
{
    size_t size = s->shape.head_size;
    size_t n_heads = s->shape.n_heads;
    size_t n_kv = s->shape.n_kv_heads;
    double pool_error = s->shape.kv_type == KV_F16 ? 0x1p-11 : 0;
    bool is_int8 = s->shape.kv_type == KV_INT8;
    const float *rope = s->rope + row * size;
    struct pool_view view = view_of(s);

    for (size_t head = 0; head < n_heads + 2 * n_kv; head++) {
        const float *x = s->qkv + row * s->row_floats + head * size;
        const float *done = s->done + row * s->row_floats + head * size;
        const float *norm = head < n_heads ? s->q_norm : s->k_norm;
        double factor = 0;

        for (size_t d = 0; d < size; d++)
            factor += (double)x[d] * x[d];
        factor = norm ? 1 / sqrt(factor / (double)size + 1e-5) : 1;
        for (size_t d = 0; d < size && head < n_heads + n_kv; d++) {
            size_t other = (d + size / 2) % size;
            double a = x[d] * factor * (norm ? norm[d] : 1);
            double b = x[other] * factor * (norm ? norm[other] : 1);
            double sine = rope[size / 2 + d % (size / 2)];
            double want = a * rope[d % (size / 2)] + (d < size / 2 ? -b : b) * sine;

            check_close(done[d], want, 4e-6, "q or k", index);
            if (head >= n_heads && !is_int8)
                check_close(pool_value(&view, row, 0, head - n_heads, d), done[d],
                            pool_error * fabs(done[d]) + 1e-7, "a stored key", index);
        }
        for (size_t d = 0; d < size && head >= n_heads + n_kv && !is_int8; d++)
            check_close(pool_value(&view, row, 1, head - n_heads - n_kv, d), x[d],
                        pool_error * fabs(x[d]) + 1e-7, "a stored value", index);
        if (is_int8 && head >= n_heads)
            check_int8_vector(s, row, (head - n_heads) / n_kv, (head - n_heads) % n_kv,
                              head < n_heads + n_kv ? done : x, index);
    }
}

static void test_reference(void **state)
{
    const struct kernels *set = *state;

    for (size_t index = 0; index < N_TYPES * N_CASES; index++) {
        struct sequence *s = sequence_new(index / N_TYPES, types[index % N_TYPES]);
        bool is_bf16 = !strcmp(set->name, "avx512bf16") && s->shape.kv_type == KV_F16;
        /* what is left with bf16: the rounding of the weights, 2^-9 of each */
        double tolerance = is_bf16 ? 5e-3 : s->shape.kv_type == KV_INT8 ? 5e-4 : 2e-5;
        double want[256];

        run_sequence(s, set->attention, FILL_ZERO, 64, 64, false);
        for (size_t row = 0; row < s->n_rows; row += 1 + row / 9) {
            check_append_row(s, row, index);
            for (size_t head = 0; head < s->shape.n_heads; head++) {
                reference_row(s, row, head, is_bf16, want);
                for (size_t d = 0; d < s->shape.head_size; d++)
                    check_close(s->out[row * s->out_floats + head * s->shape.head_size + d],
                                want[d], tolerance, "an output", index);
            }
        }
        sequence_free(s);
    }
}

static void check_same(const struct sequence *s, const float *want, size_t n_rows, size_t index,
                       const char *what)
{
    for (size_t i = 0; i < n_rows * s->out_floats; i++) {
        if (memcmp(&s->out[i], &want[i], sizeof *want) != 0)
            fail_msg("case %zu, %s: row %zu element %zu is %.9g, not %.9g", index, what,
                     i / s->out_floats, i % s->out_floats, s->out[i], want[i]);
    }
}

static void test_any_cut_gives_the_same_bytes(void **state)
{
    static const struct {
        const char *name;
        enum fill fill;
        size_t first_rows;
        size_t n_rows;
        bool append_first;
    } cuts[] = {
        {"token by token", FILL_ZERO, 1, 1, false},
        {"token by token, later keys present", FILL_ZERO, 1, 1, true},
        {"token by token on stale NaN", FILL_NAN, 1, 1, false},
        {"chunks of 7", FILL_ZERO, 7, 7, false},
        {"chunks of 7 on stale garbage", FILL_GARBAGE, 7, 7, false},
        {"chunks of 17 from position 5 on stale NaN", FILL_NAN, 5, 17, false},
        {"chunks of 64 from position 33", FILL_GARBAGE, 33, 64, true},
        {"chunks of 64 on stale NaN", FILL_NAN, 64, 64, false},
    };
    const struct kernels *set = *state;

    for (size_t index = 0; index < N_TYPES * N_CASES; index++) {
        struct sequence *s = sequence_new(index / N_TYPES, types[index % N_TYPES]);
        size_t n = s->n_rows * s->out_floats;
        float *want = random_floats(n, 0.0F, 0.0F);

        run_sequence(s, set->attention, FILL_ZERO, 64, 64, false);
        memcpy(want, s->out, n * sizeof *want);
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            run_sequence(s, set->attention, cuts[i].fill, cuts[i].first_rows, cuts[i].n_rows,
                         cuts[i].append_first);
            check_same(s, want, s->n_rows, index, cuts[i].name);
        }
        free(want);
        sequence_free(s);
    }
}

/* A token whose values overflowed spoils the rows that see it and no other. */
static void test_bad_token_harms_no_earlier_row(void **state)
{
    const struct kernels *set = *state;

    for (size_t index = 0; index < N_TYPES * N_CASES; index++) {
        struct sequence *s = sequence_new(index / N_TYPES, types[index % N_TYPES]);
        size_t n = s->n_rows * s->out_floats;
        size_t bad = s->n_rows / 2;
        float *want = random_floats(n, 0.0F, 0.0F);

        run_sequence(s, set->attention, FILL_ZERO, 64, 64, false);
        memcpy(want, s->out, n * sizeof *want);
        for (size_t i = 0; i < s->row_floats; i++)
            s->qkv[bad * s->row_floats + i] = i % 2 ? NAN : INFINITY;
        run_sequence(s, set->attention, FILL_ZERO, 64, 64, false);
        check_same(s, want, bad, index, "a later token is NaN");
        assert_true(isnan(s->out[bad * s->out_floats]));
        for (size_t row = bad + s->shape.window; s->shape.window && row < s->n_rows; row++)
            assert_memory_equal(s->out + row * s->out_floats, want + row * s->out_floats,
                                s->out_floats * sizeof *want);
        free(want);
        sequence_free(s);
    }
}

/* Scores in the thousands, all of one sign: the maximum must be taken out before exp. */
static void test_large_scores(void **state)
{
    const struct kernels *set = *state;

    for (size_t sign = 0; sign < 2; sign++) {
        struct sequence *s = sequence_new(0, KV_F32);
        double want[256];

        s->shape.scale = sign ? -40.0F : 40.0F;
        run_sequence(s, set->attention, FILL_ZERO, 64, 64, false);
        for (size_t row = 0; row < s->n_rows; row += 13) {
            reference_row(s, row, 0, false, want);
            for (size_t d = 0; d < s->shape.head_size; d++)
                check_close(s->out[row * s->out_floats + d], want[d], 5e-3, "an output", sign);
        }
        sequence_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_any_cut_gives_the_same_bytes),
        cmocka_unit_test(test_bad_token_harms_no_earlier_row),
        cmocka_unit_test(test_large_scores),
    };

    return run_with_each_set(tests, COUNT(tests));
}
