/* SPDX-License-Identifier: Apache-2.0
 *
 * The Linear kernels of every instruction set this machine has: against a reference in double, and
 * against themselves, byte for byte, for random cuts of the same work into rows and strips.
 */
#include "ops/kernels/kernels.h"

#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * bound) >> 32);
}

static float random_value(void)
{
    return (float)random_below(1u << 20) * 0x1p-19f - 1.0f;
}

/* Random f16 bits of magnitude 2^-6 to 2^-3 and a few subnormals. */
static uint16_t random_half(bool is_signed)
{
    uint16_t half = (uint16_t)(((9 + random_below(3)) << 10) | random_below(1024));

    if (random_below(50) == 0)
        half = (uint16_t)random_below(1024);
    if (is_signed && random_below(2))
        half |= 0x8000;
    return half;
}

static double half_value(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

    return half & 0x8000 ? -value : value;
}

/* A form of weight. */
struct form {
    int bits;
    size_t group; /* 32 where bits is 32: only for how x is made */
    bool has_mins, has_bias;
};

static const struct form forms[] = {
    {4, 32, false, false},  {4, 32, false, true},  {4, 64, false, false}, {4, 64, false, true},
    {4, 32, true, false},   {4, 32, true, true},   {8, 32, false, false}, {8, 32, false, true},
    {32, 32, false, false}, {32, 32, false, true},
};

enum { N_FORMS = sizeof forms / sizeof forms[0] };

struct problem {
    struct packed_weight w;
    size_t n_rows;
    double *values; /* W as numbers: [n, k] */
    float *x;       /* [n_rows, k] */
    struct quantized_rows rows;
    uint8_t *data;
    uint16_t *scales, *mins;
    float *bias;
};

/* One random weight of column n, written into the packed data; gives its value. */
static double put_weight(struct problem *p, size_t n, size_t k)
{
    const struct packed_weight *w = &p->w;
    size_t tile = n / 64, column = n % 64;
    uint8_t *data = p->data + tile * packed_tile_bytes(w->bits, w->k);
    size_t at = w->bits == 32 ? 0 : (tile * (w->k / w->group) + k / w->group) * 64 + column;

    if (w->bits == 32) {
        float value = random_value();

        ((float *)data)[k * 64 + column] = value;
        return value;
    }
    if (w->bits == 8) {
        uint8_t u8 = (uint8_t)random_below(256);

        data[k / 4 * 256 + column * 4 + k % 4] = random_below(20) ? u8 : 0;
        return half_value(p->scales[at]) * (data[k / 4 * 256 + column * 4 + k % 4] - 128);
    } else {
        uint8_t u4 = random_below(4) ? (uint8_t)random_below(16) : 15;

        data[k / 8 * 256 + column * 4 + k % 4] |= (uint8_t)(k % 8 < 4 ? u4 : u4 << 4);
        return half_value(p->scales[at]) * (p->mins ? u4 : u4 - 8) +
               (p->mins ? half_value(p->mins[at]) : 0);
    }
}

static int32_t zero_point_of(const struct packed_weight *w)
{
    return w->bits == 8 ? 128 : w->mins ? 0 : 8;
}

static void fill_x(struct problem *p, size_t group)
{
    for (size_t i = 0; i < p->n_rows * p->w.k; i++)
        p->x[i] = random_value();
    for (size_t row = 0; row < p->n_rows; row++) {
        float *x = p->x + row * p->w.k;

        if (row % 3 == 1 && p->w.bits != 32) /* a group of zeros, one whose sums are the largest */
            memset(x, 0, group * sizeof *x);
        for (size_t i = 0; i < group && row % 3 == 2; i++)
            x[p->w.k - group + i] = row % 2 ? -3.0f : 3.0f;
    }
}

static void problem_init(struct problem *p, const struct form *form, size_t n, size_t k,
                         size_t n_rows)
{
    int bits = form->bits;
    size_t n_groups = k / form->group;
    size_t n_tiles = packed_n_tiles(n), n_scales = n_tiles * n_groups * 64;

    memset(p, 0, sizeof *p);
    p->n_rows = n_rows;
    p->data = try_new_aligned(n_tiles, packed_tile_bytes(bits, k));
    p->values = try_new(n * k, sizeof *p->values);
    p->x = try_new(n_rows * k, sizeof *p->x);
    assert_true(p->data && p->values && p->x);
    if (bits != 32) {
        p->scales = try_new(n_scales, sizeof *p->scales);
        p->mins = form->has_mins ? try_new(n_scales, sizeof *p->mins) : NULL;
        for (size_t i = 0; i < n_scales; i++) {
            bool is_padding = i / (n_groups * 64) * 64 + i % 64 >= n;

            p->scales[i] = is_padding ? 0 : random_half(false);
            if (p->mins)
                p->mins[i] = is_padding ? 0 : random_half(true);
        }
    }
    if (form->has_bias) {
        p->bias = try_new(n, sizeof *p->bias);
        for (size_t i = 0; i < n; i++)
            p->bias[i] = random_value();
    }
    p->w = (struct packed_weight){bits,    n,         k,       bits == 32 ? 0 : form->group,
                                  p->data, p->scales, p->mins, p->bias};
    for (size_t column = 0; column < n; column++)
        for (size_t i = 0; i < k; i++)
            p->values[column * k + i] = put_weight(p, column, i);
    fill_x(p, form->group);
    p->rows.q = try_new_aligned(n_rows, k);
    p->rows.scales = try_new(n_rows * n_groups, sizeof(float));
    p->rows.starts = try_new(n_rows * n_groups, sizeof(int32_t));
    p->rows.sums = try_new(n_rows * n_groups, sizeof(float));
}

static void problem_clear(struct problem *p)
{
    free(p->data);
    free(p->values);
    free(p->x);
    free(p->scales);
    free(p->mins);
    free(p->bias);
    free(p->rows.q);
    free(p->rows.scales);
    free(p->rows.starts);
    free(p->rows.sums);
}

static void run(const struct linear_kernels *linear, const struct problem *p, size_t row_begin,
                size_t row_end, size_t strip_begin, size_t strip_end, float *y)
{
    if (p->w.bits == 32)
        linear->multiply_f32(&p->w, p->x, row_begin, row_end, strip_begin, strip_end, y);
    else
        linear->multiply_quantized(&p->w, &p->rows, row_begin, row_end, strip_begin, strip_end, y);
}

/* Every output against a sum in double of the values the kernel was given. */
static void check_values(const char *isa, const struct problem *p, const float *y)
{
    size_t k = p->w.k;

    for (size_t row = 0; row < p->n_rows; row++) {
        for (size_t n = 0; n < p->w.n; n++) {
            double sum = 0, size = 1e-6, got = y[row * p->w.n + n];

            for (size_t i = 0; i < k; i++) {
                double x = p->w.bits == 32 ? (double)p->x[row * k + i]
                                           : (double)p->rows.scales[(row * k + i) / p->w.group] *
                                                 p->rows.q[row * k + i];

                sum += x * p->values[n * k + i];
                size += fabs(x) * (fabs(p->values[n * k + i]) +
                                   (p->mins ? half_value(0x4800) : 0)); /* q and min may cancel */
            }
            if (p->bias) {
                sum += p->bias[n];
                size += fabs(p->bias[n]);
            }
            if (!(fabs(got - sum) <= size * 2e-6))
                fail_msg("%s %d bit%s N %zu K %zu: y[%zu, %zu] is %.9g, not %.9g", isa, p->w.bits,
                         p->mins ? " + mins" : "", p->w.n, k, row, n, got, sum);
        }
    }
}

/* A random cut of all rows x all strips into pieces, in random order of size. */
static void run_in_pieces(const struct linear_kernels *linear, const struct problem *p, float *y)
{
    size_t n_strips = (p->w.n + 15) / 16;

    for (size_t row = 0, row_end; row < p->n_rows; row = row_end) {
        row_end = row + 1 + random_below((uint32_t)(p->n_rows - row));
        for (size_t strip = 0, strip_end; strip < n_strips; strip = strip_end) {
            strip_end = strip + 1 + random_below(random_below(2) ? 4 : 9);
            run(linear, p, row, row_end, strip, strip_end, y);
        }
    }
}

/* One piece writes its own part of y and nothing else: other threads own the rest. */
static void check_only_its_own(const struct kernels *set, const struct problem *p,
                               const float *whole, float *y)
{
    size_t n_strips = (p->w.n + 15) / 16, n = p->w.n;
    size_t row_begin = random_below((uint32_t)p->n_rows);
    size_t row_end = row_begin + 1 + random_below((uint32_t)(p->n_rows - row_begin));
    size_t strip_begin = random_below((uint32_t)n_strips);
    size_t strip_end = strip_begin + 1 + random_below(3);

    memset(y, 0xee, p->n_rows * n * sizeof *y);
    run(set->linear, p, row_begin, row_end, strip_begin, strip_end, y);
    for (size_t i = 0; i < p->n_rows * n; i++) {
        size_t row = i / n, strip = i % n / 16;
        bool is_own =
            row >= row_begin && row < row_end && strip >= strip_begin && strip < strip_end;
        float untouched;

        memset(&untouched, 0xee, sizeof untouched);
        if (memcmp(&y[i], is_own ? &whole[i] : &untouched, sizeof y[i]) != 0)
            fail_msg("%s %d bit N %zu, rows %zu to %zu, strips %zu to %zu: y[%zu, %zu] is %.9g",
                     set->name, p->w.bits, n, row_begin, row_end, strip_begin, strip_end, row,
                     i % n, (double)y[i]);
    }
}

static void check_problem(const struct kernels *set, struct problem *p)
{
    size_t n_bytes = p->n_rows * p->w.n * sizeof(float);
    float *whole = try_new(n_bytes + 64, 1), *pieces = try_new(n_bytes + 64, 1);

    if (p->w.bits != 32)
        set->linear->quantize_rows(p->x, 0, p->n_rows, p->w.k, p->w.group, zero_point_of(&p->w),
                                   &p->rows);
    memset(whole, 0xee, n_bytes + 64);
    run(set->linear, p, 0, p->n_rows, 0, (p->w.n + 15) / 16, whole);
    check_values(set->name, p, whole);
    for (int round = 0; round < 4; round++) {
        memset(pieces, 0xee, n_bytes + 64);
        run_in_pieces(set->linear, p, pieces);
        if (memcmp(whole, pieces, n_bytes + 64) != 0)
            fail_msg("%s %d bit N %zu K %zu, %zu rows: pieces differ from the whole", set->name,
                     p->w.bits, p->w.n, p->w.k, p->n_rows);
        check_only_its_own(set, p, whole, pieces);
    }
    free(whole);
    free(pieces);
}

static const struct {
    size_t n, k;
    size_t max_rows; /* 1 to this many rows are run, in uneven steps */
} shapes[] = {
    {64, 32, 19},   {100, 96, 19},   {16, 96, 7},    {5, 32, 7},
    {205, 576, 13}, {112, 1536, 13}, {64, 2080, 37}, {37, 64, 19},
};

static void test_multiply(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);

    (void)state;
    assert_true(n_sets >= 1);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (size_t i = 0; i < N_FORMS; i++) {
            for (size_t rows = 1; rows <= shapes[s].max_rows && shapes[s].k % forms[i].group == 0;
                 rows += shapes[s].k < 100 ? 1 : 1 + rows / 2) {
                struct problem p;

                random_state = (uint32_t)(s * 1000 + i * 100 + rows);
                problem_init(&p, &forms[i], shapes[s].n, shapes[s].k, rows);
                for (size_t set = 0; set < n_sets; set++)
                    check_problem(sets[set], &p);
                problem_clear(&p);
            }
        }
    }
}

/* Many rows take the other path of an instruction set: a row must not notice. */
static void test_row_alone_is_row_among_many(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);

    (void)state;
    for (size_t i = 0; i < N_FORMS; i++) {
        struct problem p;
        size_t n = 72, n_rows = 131;
        float *all = try_new(n_rows * n, sizeof *all), *one = try_new(n_rows * n, sizeof *one);

        random_state = 77;
        problem_init(&p, &forms[i], n, 1152, n_rows);
        for (size_t set = 0; set < n_sets; set++) {
            const struct linear_kernels *linear = sets[set]->linear;

            linear->quantize_rows(p.x, 0, n_rows, p.w.k, forms[i].group, zero_point_of(&p.w),
                                  &p.rows);
            run(linear, &p, 0, n_rows, 0, 5, all);
            for (size_t row = 0; row < n_rows; row++)
                run(linear, &p, row, row + 1, 0, 5, one);
            assert_memory_equal(all, one, n_rows * n * sizeof *all);
        }
        problem_clear(&p);
        free(all);
        free(one);
    }
}

static void check_group(const char *isa, const float *x, size_t group, int32_t zero_point,
                        const int8_t *q, float scale, int32_t start, float sum)
{
    float largest = 0;
    int32_t total = 0;

    for (size_t i = 0; i < group; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    if (scale != largest / 127.0f)
        fail_msg("%s: scale %.9g, not %.9g", isa, scale, largest / 127.0f);
    for (size_t i = 0; i < group; i++) {
        double want = largest > 0 ? x[i] * 127.0 / largest : 0;

        if (fabs(q[i] - want) > 0.5 + 1e-4)
            fail_msg("%s: q[%zu] is %d for %.9g", isa, i, q[i], want);
        total += q[i];
    }
    assert_int_equal(start, -zero_point * total);
    assert_true(sum == scale * (float)total);
}

static void test_quantize(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    enum { K = 192, ROWS = 12 };
    float x[ROWS * K], scales[ROWS * 6], sums[ROWS * 6];
    int32_t starts[ROWS * 6];
    int8_t q[ROWS * K];
    struct quantized_rows out = {q, scales, starts, sums};
    static const int32_t zero_points[] = {0, 8, 128};

    (void)state;
    random_state = 5;
    for (size_t i = 0; i < ROWS * K; i++)
        x[i] = random_value() * ldexpf(1, (int)random_below(40) - 20);
    memset(x + 64, 0, 64 * sizeof *x);
    for (int i = 0; i < 32; i++) /* halves: 127 makes the scale 1 */
        x[32 + i] = i ? (float)i - 16.5f : 127.0f;
    x[8 * 32] = 3e38f;
    for (size_t set = 0; set < n_sets; set++) {
        for (size_t z = 0; z < 6; z++) {
            const struct linear_kernels *linear = sets[set]->linear;
            size_t group = z < 3 ? 32 : 64, n_groups = ROWS * K / group;
            int32_t zero_point = zero_points[z % 3];

            memset(q, 99, sizeof q);
            linear->quantize_rows(x, 0, 2, K, group, zero_point, &out);
            linear->quantize_rows(x, 2, ROWS, K, group, zero_point, &out);
            for (size_t g = 0; g < n_groups; g++)
                check_group(sets[set]->name, x + g * group, group, zero_point, q + g * group,
                            scales[g], starts[g], sums[g]);
            for (int i = 1; i < 32 && group == 32; i++)
                assert_int_equal(q[32 + i], (int)rint(i - 16.5));
            assert_true(scales[64 / group] == 0 && sums[64 / group] == 0);
        }
    }
}

/* NaN and infinity must show in the row's output and in no other row's. */
static void test_not_finite(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t set = 0; set < n_sets; set++) {
        for (size_t i = 0; i < N_FORMS; i++) {
            struct problem p;
            float y[8 * 20];

            random_state = 3;
            problem_init(&p, &forms[i], 20, 64, 8);
            for (size_t b = 0; b < 4; b++)
                p.x[(2 * b + 1) * 64 + b * 17] = bad[b];
            sets[set]->linear->quantize_rows(p.x, 0, 8, 64, forms[i].group, zero_point_of(&p.w),
                                             &p.rows);
            run(sets[set]->linear, &p, 0, 8, 0, 2, y);
            for (size_t at = 0; at < 8 * 20; at++)
                assert_int_equal(!isfinite(y[at]), at / 20 % 2);
            problem_clear(&p);
        }
    }
}

/* Tiny values: no division by zero, no infinity. */
static void test_subnormal_input(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);

    (void)state;
    for (size_t set = 0; set < n_sets; set++) {
        struct problem p;

        random_state = 9;
        problem_init(&p, &(struct form){4, 32, true, false}, 16, 32, 1);
        for (size_t i = 0; i < 32; i++)
            p.x[i] = 1e-40f * (float)i;
        sets[set]->linear->quantize_rows(p.x, 0, 1, 32, 32, 0, &p.rows);
        assert_true(p.rows.scales[0] == 0 && p.rows.sums[0] == 0 && p.rows.q[31] == 0);
        problem_clear(&p);
    }
}

static void test_unpack_column(void **state)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);

    (void)state;
    for (size_t i = 0; i < N_FORMS; i++) {
        struct problem p;
        float out[192];

        random_state = 21;
        problem_init(&p, &forms[i], 130, 192, 1);
        for (size_t set = 0; set < n_sets; set++) {
            for (size_t n = 0; n < 130; n++) {
                sets[set]->linear->unpack_column(&p.w, n, out);
                for (size_t k = 0; k < 192; k++) {
                    double want = p.values[n * 192 + k];

                    if (!(fabs(out[k] - want) <= 2e-6))
                        fail_msg("%s %d bit: W[%zu, %zu] is %.9g, not %.9g", sets[set]->name,
                                 p.w.bits, n, k, (double)out[k], want);
                }
            }
        }
        problem_clear(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiply),        cmocka_unit_test(test_row_alone_is_row_among_many),
        cmocka_unit_test(test_quantize),        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_subnormal_input), cmocka_unit_test(test_unpack_column),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
