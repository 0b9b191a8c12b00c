/* SPDX-License-Identifier: Apache-2.0
 *
 * Amounts, and the progress line as it reaches stderr: plain off a terminal, nothing when quiet.
 */
#include "cli/progress.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void amounts(void **state)
{
    static const struct {
        double amount;
        enum progress_unit unit;
        const char *text;
    } cases[] = {
        {0, PROGRESS_ITEMS, "0"},
        {999, PROGRESS_ITEMS, "999"},
        {1000, PROGRESS_ITEMS, "1.0k"},
        {134515008, PROGRESS_ITEMS, "134.5M"},
        {512, PROGRESS_BYTES, "512 B"},
        {97048576, PROGRESS_BYTES, "97.0 MB"},
        {5e15, PROGRESS_BYTES, "5000.0 TB"},
        {1234, PROGRESS_TOKENS, "1.2k"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[32];

        format_amount(text, sizeof text, cases[i].amount, cases[i].unit);
        assert_string_equal(text, cases[i].text);
    }
}

/* What progress_show writes to stderr, `elapsed` seconds after the start and `since` after the last
 * line. */
static void shown(double elapsed, double since, const struct progress *like, int64_t done,
                  int64_t total, char line[256])
{
    int pipes[2];
    int kept = dup(STDERR_FILENO);
    struct progress progress;

    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(dup2(pipes[1], STDERR_FILENO), STDERR_FILENO);
    progress_begin(&progress, like->unit, like->is_quiet);
    progress.drawn_done = like->drawn_done;
    progress.n_at_once = like->n_at_once;
    progress.started -= elapsed;
    progress.drawn -= since;
    progress_show(&progress, "packing", done, total, NULL);
    progress_end(&progress);
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
    close(pipes[1]);
    ssize_t n = read(pipes[0], line, 255);
    assert_true(n >= 0);
    line[n] = '\0';
    close(pipes[0]);
}

static void plain_lines_come_now_and_then(void **state)
{
    static const struct {
        double since;
        struct progress like;
        int64_t done;
        int64_t total;
        const char *line;
    } cases[] = {
        {1, {.unit = PROGRESS_ITEMS, .drawn_done = -1}, 5, 20, ""},
        {6, {.is_quiet = true}, 5, 20, ""},
        {6,
         {.unit = PROGRESS_ITEMS, .drawn_done = -1},
         5,
         20,
         "packing [######..................]  25 %  0.5/s  30 s left\n"},
        {6,
         {.unit = PROGRESS_ITEMS, .drawn_done = -1},
         30,
         20,
         "packing [########################] 100 %  3/s  0 s left\n"},
        {6, {.unit = PROGRESS_ITEMS, .drawn_done = -1}, 20, 0, "packing  2/s\n"},
        {6,
         {.unit = PROGRESS_ITEMS, .drawn_done = -1},
         0,
         20,
         "packing [........................]   0 %  0/s\n"},
        {59, {.unit = PROGRESS_ITEMS, .drawn_done = 5}, 5, 20, ""}, /* nothing new */
        {61,
         {.unit = PROGRESS_ITEMS, .drawn_done = 5},
         5,
         20,
         "packing [######..................]  25 %  0.5/s  30 s left\n"},
        {6,
         {.unit = PROGRESS_ITEMS, .drawn_done = 4},
         5,
         20,
         "packing [######..................]  25 %  0.5/s  30 s left\n"},
        {6,
         {.unit = PROGRESS_ITEMS, .n_at_once = 5, .drawn_done = -1},
         5,
         20,
         "packing [######..................]  25 %  0/s\n"},
        {6,
         {.unit = PROGRESS_ITEMS, .n_at_once = 5, .drawn_done = -1},
         15,
         20,
         "packing [##################......]  75 %  1/s  5 s left\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char line[256];

        shown(10, cases[i].since, &cases[i].like, cases[i].done, cases[i].total, line);
        assert_string_equal(line, cases[i].line);
    }
}

static void slow_rates_are_not_zero(void **state)
{
    static const struct {
        double elapsed;
        enum progress_unit unit;
        int64_t done;
        int64_t total;
        const char *line;
    } cases[] = {
        {10, PROGRESS_ITEMS, 4, 0, "packing  0.4/s\n"},
        {10, PROGRESS_ITEMS, 9, 0, "packing  0.9/s\n"},
        {10, PROGRESS_ITEMS, 10, 0, "packing  1/s\n"},
        {10, PROGRESS_ITEMS, 1, 4, "packing [######..................]  25 %  0.1/s  30 s left\n"},
        {10, PROGRESS_TOKENS, 4, 0, "packing  0.4 tokens/s\n"},
        {100, PROGRESS_ITEMS, 1, 0, "packing  <0.1/s\n"},
        {10, PROGRESS_BYTES, 4, 0, "packing  0 B/s\n"}, /* no one waits for bytes one by one */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct progress like = {.unit = cases[i].unit, .drawn_done = -1};
        char line[256];

        shown(cases[i].elapsed, 6, &like, cases[i].done, cases[i].total, line);
        assert_string_equal(line, cases[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amounts),
        cmocka_unit_test(plain_lines_come_now_and_then),
        cmocka_unit_test(slow_rates_are_not_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
