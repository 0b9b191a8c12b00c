/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>

static void products_that_overflow_are_refused(void **state)
{
    static const struct {
        size_t a, b;
        int is_fine;
    } rows[] = {
        {0, SIZE_MAX, 1},     {1, SIZE_MAX, 1},         {2, SIZE_MAX, 0},
        {SIZE_MAX / 2, 2, 1}, {SIZE_MAX / 2 + 1, 2, 0}, {(size_t)1 << 32, (size_t)1 << 32, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t product = 0;

        assert_int_equal(multiply_sizes(rows[i].a, rows[i].b, &product), rows[i].is_fine);
        if (rows[i].is_fine)
            assert_true(product == rows[i].a * rows[i].b);
        else
            assert_null(try_new(rows[i].a, rows[i].b));
    }
}

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t n = 0; n < 300; n += 37) {
        unsigned char *memory = try_new_aligned(n, 3);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(memory[i], 0);
        free(memory);
    }
    unsigned char *pages = try_map_pages(12345);
    assert_non_null(pages);
    assert_int_equal(pages[12344], 0);
    memory_unmap(pages, 12345);
    assert_null(try_map_pages(0));
}

static void failures_can_be_injected(void **state)
{
    (void)state;
    memory_fail_after(1);
    void *first = try_new(1, 1);
    void *second = try_new(1, 1);
    void *third = try_new(1, 1);
    bool has_come = memory_fail_after(1);
    void *fourth = try_new(1, 1);
    bool has_come_again = memory_fail_after(-1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_non_null(fourth);
    assert_true(has_come);
    assert_false(has_come_again);
    free(first);
    free(third);
    free(fourth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(failures_can_be_injected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
