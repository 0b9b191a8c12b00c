/* SPDX-License-Identifier: Apache-2.0
 *
 * When sources run, from the sequences that are there: each case is one line of steps.
 */
#include "test.h"

#include "engine/source_wave.h"

#include <string.h>

enum { MOST = 8, SOURCE = 16 };

/* A sequence by its letter: s, a source to run; S, one of a higher priority; a, an answer in
 * progress; p, a decoder's prompt that is not run yet; h, a source held for other beams. */
static struct sequence make(char letter)
{
    struct sequence sequence = {.n_source = SOURCE, .n_prompt = SOURCE + 1, .n_tokens = SOURCE + 1};

    if (letter == 'a' || letter == 'p')
        sequence.n_computed = SOURCE + (letter == 'a');
    if (letter == 'a')
        sequence.n_tokens++;
    sequence.priority = letter == 'S';
    sequence.is_held = letter == 'h';
    return sequence;
}

static bool step(struct source_wave *wave, const char *letters)
{
    struct sequence sequences[MOST];
    struct sequence_list running = {0};

    assert_in_range(strlen(letters), 0, MOST);
    for (size_t i = 0; letters[i]; i++) {
        sequences[i] = make(letters[i]);
        sequence_list_append(&running, &sequences[i]);
    }
    return source_wave_step(wave, &running);
}

static void sources_run_in_waves(void **state)
{
    static const struct {
        const char *name;
        const char *steps[6]; /* what is there */
        const char *runs;     /* whether sources run, of each step */
    } cases[] = {
        {"nothing to run", {"", "a"}, "nn"},
        {"no answer waits", {"s", "sss"}, "yy"},
        {"as many as answers", {"sa", "a", "saa", "ssaa"}, "ynny"},
        {"a wave runs to its end", {"sss", "ssa", "saa", "aaa", "saaa"}, "yyynn"},
        {"an answer that begins counts", {"sap", "ssap"}, "ny"},
        {"who is held neither waits nor counts", {"ha", "sah", "saah"}, "nyy"},
        {"a higher priority waits for none below", {"Saaa", "saaa"}, "yy"},
        {"the wave after it begins anew", {"Saaa", "aaaa", "saaa"}, "ynn"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct source_wave wave = {0};

        for (size_t k = 0; cases[i].runs[k]; k++) {
            if (step(&wave, cases[i].steps[k]) != (cases[i].runs[k] == 'y'))
                fail_msg("%s, step %zu (%s): not %c", cases[i].name, k, cases[i].steps[k],
                         cases[i].runs[k]);
        }
    }
}

static void none_waits_for_ever(void **state)
{
    struct source_wave wave = {0};
    int n_steps = 0;

    (void)state;
    while (!step(&wave, "saaa"))
        n_steps++;
    assert_int_equal(n_steps, MOST_STEPS_BETWEEN_WAVES);
    assert_false(step(&wave, "aaaa"));
    assert_false(step(&wave, "saaa")); /* counted anew */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_run_in_waves),
        cmocka_unit_test(none_waits_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
