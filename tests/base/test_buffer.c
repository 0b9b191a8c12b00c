/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

static void builds_a_terminated_string(void **state)
{
    struct buffer buffer = {0};
    size_t n_bytes = 0;

    (void)state;
    buffer_add_string(&buffer, "a");
    buffer_add_byte(&buffer, 'b');
    buffer_add_format(&buffer, "%0200d", 7);
    buffer_truncate(&buffer, 4);
    char *text = buffer_take(&buffer, &n_bytes);
    assert_string_equal(text, "ab00");
    assert_int_equal(n_bytes, 4);
    assert_null(buffer.data);
    free(text);
    text = buffer_take(&buffer, &n_bytes);
    assert_string_equal(text, "");
    free(text);
}

static void code_points_round_trip(void **state)
{
    static const unsigned points[] = {0x41, 0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff};

    (void)state;
    for (size_t i = 0; i < COUNT(points); i++) {
        struct buffer buffer = {0};
        uint32_t decoded = 0;

        buffer_add_code_point(&buffer, points[i]);
        assert_int_equal(utf8_decode(buffer.data, buffer.n_bytes, &decoded), buffer.n_bytes);
        assert_int_equal(decoded, points[i]);
        buffer_clear(&buffer);
    }
}

static void out_of_memory_is_remembered(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    buffer_add_string(&buffer, "kept");
    memory_fail_after(0);
    buffer_add_format(&buffer, "%01000d", 1);
    memory_fail_after(-1);
    buffer_add_string(&buffer, "dropped");
    assert_true(buffer.has_failed);
    assert_null(buffer_take(&buffer, NULL));
    assert_null(buffer.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds_a_terminated_string),
        cmocka_unit_test(code_points_round_trip),
        cmocka_unit_test(out_of_memory_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
