/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/error.h"

#include <string.h>

static void fail_writes_one_printable_sentence(void **state)
{
    kvern_error err = {0};

    (void)state;
    assert_int_equal(fail(&err, KVERN_LIMIT, "prompt has %d tokens\n\x1b", 9), KVERN_LIMIT);
    assert_int_equal(err.status, KVERN_LIMIT);
    assert_string_equal(err.message, "prompt has 9 tokens??");
}

static void fail_cuts_what_does_not_fit(void **state)
{
    kvern_error err = {0};
    char text[2 * sizeof err.message];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    fail(&err, KVERN_IO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    fail_in(&err, KVERN_IO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void fail_in_names_the_place(void **state)
{
    kvern_error err = {0};

    (void)state;
    fail(&err, KVERN_FORMAT, "not JSON");
    assert_int_equal(fail_in(&err, KVERN_FORMAT, "line %d", 3), KVERN_FORMAT);
    assert_string_equal(err.message, "line 3: not JSON");
}

static void no_error_struct_is_fine(void **state)
{
    (void)state;
    assert_int_equal(fail(NULL, KVERN_BUSY, "x"), KVERN_BUSY);
    assert_int_equal(fail_in(NULL, KVERN_BUSY, "x"), KVERN_BUSY);
}

static void every_status_has_its_own_name(void **state)
{
    (void)state;
    for (int i = 0; i <= KVERN_TIMEOUT; i++) {
        assert_string_not_equal(kvern_status_name((kvern_status)i), "unknown status");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(kvern_status_name((kvern_status)i),
                                    kvern_status_name((kvern_status)j));
    }
    assert_string_equal(kvern_status_name((kvern_status)(KVERN_TIMEOUT + 1)), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_writes_one_printable_sentence),
        cmocka_unit_test(fail_cuts_what_does_not_fit),
        cmocka_unit_test(fail_in_names_the_place),
        cmocka_unit_test(no_error_struct_is_fine),
        cmocka_unit_test(every_status_has_its_own_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
