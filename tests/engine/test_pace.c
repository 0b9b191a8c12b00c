/* SPDX-License-Identifier: Apache-2.0
 *
 * The bound on prompts beside decoding streams, against machines made of two figures: a step's
 * milliseconds alone, and those of a prompt token.
 */
#include "test.h"

#include "engine/pace.h"

#include <stdint.h>

static void steps_stay_within_the_bound(void **state)
{
    static const struct {
        double most, decode_ms, token_ms;
        size_t least_tokens, most_tokens; /* after a while */
    } cases[] = {
        {1.5, 4.4, 0.5, 2, 4}, {1.5, 4.4, 0.05, 20, 44}, {2.0, 10, 0.5, 10, 20},
        {1.5, 1, 5, 1, 1}, /* one token is too much already: it goes on all the same */
        {1.0, 1, 0.01, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pace pace;
        size_t n_measured = 0;
        size_t n_over = 0;

        pace_init(&pace, cases[i].most);
        for (int step = 0; step < 2000; step++) {
            size_t n = pace_prompt_tokens(&pace, 1);
            double ms = cases[i].decode_ms + (double)n * cases[i].token_ms;

            n_measured += n == 0;
            if (step > 200) {
                n_over += n > cases[i].most_tokens;
                assert_true(n == 0 || n >= cases[i].least_tokens);
            }
            pace_see(&pace, 1, n, ms);
        }
        assert_int_equal(n_over, 0);
        assert_in_range(n_measured, 10, 40);
    }
}

/* Every thirtieth step takes ten times as long for no reason of ours. */
static void slow_steps_are_borne(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 1.5);
    for (int step = 0; step < 3000; step++) {
        size_t n = pace_prompt_tokens(&pace, 1);
        double ms = (4 + (double)n * 0.1) * (step % 30 == 29 ? 10 : 1);

        if (step > 200 && n > 0)
            assert_in_range(n, 10, 24); /* 20 would take half as long again */
        pace_see(&pace, 1, n, ms);
    }
}

static void there_may_be_no_bound(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 0);
    pace_see(&pace, 3, 100, 50);
    assert_true(pace_prompt_tokens(&pace, 3) == SIZE_MAX);
    pace_init(&pace, 1.5);
    assert_true(pace_prompt_tokens(&pace, 0) == SIZE_MAX);
}

/* Other numbers of streams take other times: they are measured again. */
static void more_streams_are_measured(void **state)
{
    struct pace pace;

    (void)state;
    pace_init(&pace, 1.5);
    assert_int_equal(pace_prompt_tokens(&pace, 8), 0);
    pace_see(&pace, 8, 0, 10);
    assert_true(pace_prompt_tokens(&pace, 8) > 0);
    assert_true(pace_prompt_tokens(&pace, 9) > 0);
    assert_int_equal(pace_prompt_tokens(&pace, 16), 0);
    assert_int_equal(pace_prompt_tokens(&pace, 2), 0);
    pace_see(&pace, 16, 0, 20);
    assert_true(pace_prompt_tokens(&pace, 16) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_stay_within_the_bound),
        cmocka_unit_test(slow_steps_are_borne),
        cmocka_unit_test(there_may_be_no_bound),
        cmocka_unit_test(more_streams_are_measured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
