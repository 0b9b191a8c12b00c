/* SPDX-License-Identifier: Apache-2.0
 *
 * Signals that ask a command to end: the first, the same one told twice, and a second one.
 */
#include "test.h"

#include "cli/interrupt.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STILL_THERE = 7 };

/* How a child ends that takes two signals with so much time between them. */
static int end_after(int first, int second, useconds_t gap_us)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        interrupt_watch();
        raise(first);
        usleep(gap_us);
        raise(second);
        _exit(was_interrupted() ? STILL_THERE : EXIT_FAILURE);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* timeout(1) tells the process and then its group, a terminal that closes does likewise. */
static void one_that_is_told_twice_is_one(void **state)
{
    (void)state;
    assert_int_equal(end_after(SIGTERM, SIGTERM, 0), STILL_THERE);
    assert_int_equal(end_after(SIGTERM, SIGTERM, 2000), STILL_THERE);
    assert_int_equal(end_after(SIGINT, SIGTERM, 0), STILL_THERE);
}

static void a_second_one_ends_at_once(void **state)
{
    (void)state;
    assert_int_equal(end_after(SIGINT, SIGINT, 400 * 1000), EXIT_INTERRUPTED);
    assert_int_equal(end_after(SIGTERM, SIGINT, 400 * 1000), EXIT_INTERRUPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_told_twice_is_one),
        cmocka_unit_test(a_second_one_ends_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
