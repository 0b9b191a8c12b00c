/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/map.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

enum { N_KEYS = 20000 };

static void every_key_is_found_with_its_last_value(void **state)
{
    struct map map = {0};
    char key[16];
    uint32_t value;

    (void)state;
    for (uint32_t i = 0; i < N_KEYS; i++) {
        int n = snprintf(key, sizeof key, "%u", i * 7);

        assert_true(map_put(&map, key, (size_t)n, i));
    }
    assert_true(map_put(&map, "7", 1, 99));
    assert_int_equal(map.n_entries, N_KEYS);
    for (uint32_t i = 0; i < N_KEYS; i++) {
        int n = snprintf(key, sizeof key, "%u", i * 7);

        assert_true(map_get(&map, key, (size_t)n, &value));
        assert_int_equal(value, i == 1 ? 99 : i);
    }
    assert_false(map_get(&map, "8", 1, &value));
    map_clear(&map);
}

static void keys_are_bytes_not_strings(void **state)
{
    struct map map = {0};
    uint32_t value = 0;

    (void)state;
    assert_false(map_get(&map, "", 0, &value));
    assert_true(map_put(&map, "", 0, 1));
    assert_true(map_put(&map, "a\0b", 3, 2));
    assert_true(map_put(&map, "a\0c", 3, 3));
    assert_true(map_get(&map, "a\0b", 3, &value));
    assert_int_equal(value, 2);
    assert_true(map_get(&map, "", 0, &value));
    assert_int_equal(value, 1);
    assert_false(map_get(&map, "a", 1, &value));
    map_clear(&map);
}

static void running_out_of_memory_keeps_what_is_there(void **state)
{
    (void)state;
    for (int n = 0; n < 6; n++) {
        struct map map = {0};
        uint32_t n_put = 0;
        uint32_t value;

        memory_fail_after(n);
        while (n_put < 1000 && map_put(&map, &n_put, sizeof n_put, n_put))
            n_put++;
        memory_fail_after(-1);
        assert_true(n_put < 1000);
        for (uint32_t i = 0; i < n_put; i++) {
            assert_true(map_get(&map, &i, sizeof i, &value));
            assert_int_equal(value, i);
        }
        assert_int_equal(map.n_entries, n_put);
        map_clear(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_found_with_its_last_value),
        cmocka_unit_test(keys_are_bytes_not_strings),
        cmocka_unit_test(running_out_of_memory_keeps_what_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
