/* SPDX-License-Identifier: Apache-2.0
 *
 * Pooling: what each kind reads, that pieces give the bytes of the whole, and values that are none.
 */
#include "test.h"

#include "engine/pooling.h"

#include <math.h>
#include <string.h>

enum { N_ROWS = 37, ROW_SIZE = 600 };

static float rows[N_ROWS][ROW_SIZE];

static int fill_rows(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (size_t i = 0; i < N_ROWS * ROW_SIZE; i++) {
        seed = seed * 1664525 + 1013904223;
        rows[i / ROW_SIZE][i % ROW_SIZE] = (float)(int32_t)seed / 3e8F;
    }
    return 0;
}

static const struct {
    kvern_pooling kind;
    const char *name;
    size_t n_values; /* of rows of ROW_SIZE */
    bool reads_logits, reads_all;
} kinds[] = {
    {KVERN_POOLING_LAST, "last", ROW_SIZE, false, false},
    {KVERN_POOLING_MEAN, "mean", ROW_SIZE, false, true},
    {KVERN_POOLING_CLS, "cls", ROW_SIZE, false, true},
    {KVERN_POOLING_LOGITS512, "logits512", 512, true, false},
};

/* The vector of all rows, given in pieces of n_piece rows. */
static void pool(size_t kind, size_t n_piece, float *values)
{
    struct pooling pooling;
    kvern_error err = {0};

    assert_int_equal(pooling_init(&pooling, kinds[kind].kind, ROW_SIZE, &err), KVERN_OK);
    assert_int_equal(pooling.n_values, kinds[kind].n_values);
    for (size_t i = 0; i < N_ROWS; i += n_piece)
        pooling_add(&pooling, rows[i], i + n_piece < N_ROWS ? n_piece : N_ROWS - i, ROW_SIZE);
    pooling_add(&pooling, NULL, 0, ROW_SIZE);
    assert_int_equal(pooling_finish(&pooling, &err), KVERN_OK);
    memcpy(values, pooling.values, pooling.n_values * sizeof *values);
    pooling_clear(&pooling);
}

static void each_kind_reads_its_rows(void **state)
{
    float values[ROW_SIZE];

    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        pool(k, N_ROWS, values);
        for (size_t i = 0; i < kinds[k].n_values; i++) {
            double sum = 0;

            for (size_t r = 0; r < N_ROWS; r++)
                sum += (double)rows[r][i];
            float expected = kinds[k].kind == KVERN_POOLING_CLS    ? rows[0][i]
                             : kinds[k].kind == KVERN_POOLING_MEAN ? (float)(sum / N_ROWS)
                                                                   : rows[N_ROWS - 1][i];
            if (values[i] != expected)
                fail_msg("%s: value %zu is %g, not %g", kinds[k].name, i, (double)values[i],
                         (double)expected);
        }
        assert_int_equal(pooling_reads_logits(kinds[k].kind), kinds[k].reads_logits);
        assert_int_equal(pooling_reads_all_rows(kinds[k].kind), kinds[k].reads_all);
    }
}

static void pieces_give_the_bytes_of_the_whole(void **state)
{
    float whole[ROW_SIZE];
    float values[ROW_SIZE];

    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        pool(k, N_ROWS, whole);
        for (size_t n_piece = 1; n_piece < N_ROWS; n_piece += 5) {
            pool(k, n_piece, values);
            assert_memory_equal(values, whole, kinds[k].n_values * sizeof *values);
        }
    }
}

static void what_is_not_finite_is_an_error(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t i = 0; i < COUNT(bad); i++) {
            const float row[3] = {1, 2, bad[i]};
            struct pooling pooling;
            kvern_error err = {0};

            assert_int_equal(pooling_init(&pooling, kinds[k].kind, 3, &err), KVERN_OK);
            pooling_add(&pooling, row, 1, 3);
            assert_int_equal(pooling_finish(&pooling, &err), KVERN_RUNTIME);
            assert_string_equal(err.message, "value 2 of the embedding is not finite");
            pooling_clear(&pooling);
        }
    }
}

/* A sum of floats that no float holds is still a mean that one does. */
static void sums_do_not_overflow(void **state)
{
    const float large[2] = {3e38F, 3e38F};
    struct pooling pooling;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(pooling_init(&pooling, KVERN_POOLING_MEAN, 1, &err), KVERN_OK);
    pooling_add(&pooling, large, 2, 1);
    assert_int_equal(pooling_finish(&pooling, &err), KVERN_OK);
    assert_true(pooling.values[0] == 3e38F);
    pooling_clear(&pooling);
}

static void names_go_both_ways(void **state)
{
    kvern_pooling kind;

    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        assert_string_equal(kvern_pooling_name(kinds[k].kind), kinds[k].name);
        assert_true(kvern_pooling_from_name(kinds[k].name, &kind));
        assert_int_equal(kind, kinds[k].kind);
    }
    assert_string_equal(kvern_pooling_name((kvern_pooling)77), "");
    assert_false(kvern_pooling_from_name("max", &kind));
    assert_false(kvern_pooling_from_name("", &kind));
}

static void lengths_and_cosines(void **state)
{
    static const struct {
        float a[2], b[2];
        double cosine;
    } cases[] = {
        {{1, 0}, {2, 0}, 1},      {{1, 0}, {0, 3}, 0},    {{1, 0}, {-5, 0}, -1},
        {{0, 0}, {1, 1}, 0},      {{0, 0}, {0, 0}, 0},    {{3e38F, 0}, {3e38F, 0}, 1},
        {{1e-30F, 0}, {2, 0}, 1}, {{3, 4}, {4, 3}, 0.96},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        float values[2] = {cases[i].a[0], cases[i].a[1]};
        bool is_zero = values[0] == 0 && values[1] == 0;

        assert_true(fabs(kvern_cosine(cases[i].a, cases[i].b, 2) - cases[i].cosine) < 1e-7);
        kvern_normalize(values, 2);
        double length = hypot((double)values[0], (double)values[1]);
        if (fabs(length - (is_zero ? 0 : 1)) > 1e-6)
            fail_msg("case %zu has length %g", i, length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_reads_its_rows),
        cmocka_unit_test(pieces_give_the_bytes_of_the_whole),
        cmocka_unit_test(what_is_not_finite_is_an_error),
        cmocka_unit_test(sums_do_not_overflow),
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(lengths_and_cosines),
    };

    return cmocka_run_group_tests(tests, fill_rows, NULL);
}
