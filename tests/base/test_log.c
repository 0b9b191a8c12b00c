/* SPDX-License-Identifier: Apache-2.0
 *
 * Warnings reach the receiver that was set, formatted, one clean line each; without one nothing is
 * called.
 */
#include "base/log.h"
#include "test.h"

#include "kvern.h"

#include <string.h>

struct received {
    int n;
    char line[1024];
};

static void receive(const char *line, void *user_data)
{
    struct received *received = user_data;

    received->n++;
    assert_in_range(strlen(line), 0, sizeof received->line - 1);
    strcpy(received->line, line);
}

static void lines_are_formatted(void **state)
{
    struct received received = {0};

    (void)state;
    kvern_set_log(receive, &received);
    log_warning("%s has %d of %.1f", "model.onnx", 3, 4.5);
    assert_int_equal(received.n, 1);
    assert_string_equal(received.line, "model.onnx has 3 of 4.5");
    log_warning("100 %%");
    assert_int_equal(received.n, 2);
    assert_string_equal(received.line, "100 %");
    kvern_set_log(NULL, NULL);
}

/* Names in files may hold anything: a warning is one line all the same. */
static void a_warning_is_one_line(void **state)
{
    struct received received = {0};

    (void)state;
    kvern_set_log(receive, &received);
    log_warning("cannot remove %s", "a\nb\r\x1b[31mc\x7f \xc3\xa9");
    assert_string_equal(received.line, "cannot remove a?b??[31mc? \xc3\xa9");
    kvern_set_log(NULL, NULL);
}

static void long_lines_are_cut(void **state)
{
    struct received received = {0};
    char name[2000];

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    kvern_set_log(receive, &received);
    log_warning("%s", name);
    assert_int_equal(received.n, 1);
    assert_int_equal(strlen(received.line), 511);
    assert_memory_equal(received.line, name, 511);
    kvern_set_log(NULL, NULL);
}

static void without_a_receiver_they_are_dropped(void **state)
{
    struct received first = {0};
    struct received second = {0};

    (void)state;
    log_warning("nobody hears %s", "this"); /* the default: nothing set */
    kvern_set_log(receive, &first);
    kvern_set_log(receive, &second); /* one receiver: the last */
    log_warning("to the second");
    kvern_set_log(NULL, NULL);
    log_warning("to nobody");
    assert_int_equal(first.n, 0);
    assert_int_equal(second.n, 1);
    assert_string_equal(second.line, "to the second");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_receiver_they_are_dropped),
        cmocka_unit_test(lines_are_formatted),
        cmocka_unit_test(a_warning_is_one_line),
        cmocka_unit_test(long_lines_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
