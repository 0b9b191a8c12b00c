/* SPDX-License-Identifier: Apache-2.0
 *
 * Beam search against transformers' own generate() (tests/golden/make_beams.py) with all options
 * combined, and what the golden cannot show: ties, rows in any order, no memory.
 */
#include "engine/beam.h"

#include "base/memory.h"
#include "engine/sampler.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 64, MOST_VOCAB = 64 };

/* Each number of the golden, in order. */
static double next_number(char **at)
{
    char *end;
    double value = strtod(*at, &end);

    if (end == *at)
        fail_msg("the golden ends too early");
    *at = end;
    return value;
}

static size_t next_ids(char **at, int32_t *ids)
{
    size_t n = (size_t)next_number(at);

    assert_true(n <= MOST_TOKENS);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)next_number(at);
    return n;
}

struct golden_case {
    size_t n_vocab, n_return, n_ends, n_prompt, min_tokens;
    double end_bias;
    int32_t ends[MOST_TOKENS], prompt[MOST_TOKENS];
    struct beam_options options;
    kvern_sampling sampling;
};

static void read_case(struct golden_case *c, char **at)
{
    c->options = (struct beam_options){.n_beams = (size_t)next_number(at)};
    c->n_return = (size_t)next_number(at);
    c->options.length_penalty = (float)next_number(at);
    c->options.early_stopping = (kvern_early_stopping)next_number(at);
    c->sampling = (kvern_sampling){.top_p = 1, .typical_p = 1};
    c->sampling.no_repeat_ngram_size = (int32_t)next_number(at);
    c->sampling.repetition_penalty = (float)next_number(at);
    c->min_tokens = (size_t)next_number(at);
    c->options.max_tokens = (size_t)next_number(at);
    c->end_bias = next_number(at);
    c->options.n_end_ids = c->n_ends = next_ids(at, c->ends);
    c->options.end_ids = c->ends;
    c->n_prompt = next_ids(at, c->prompt);
    c->options.vocab_size = c->n_vocab;
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

/* The model: the rule of make_beams.py. */
static void make_logits(const struct golden_case *c, const int32_t *history, size_t n,
                        float *logits)
{
    uint64_t state = mix((uint64_t)n * 1000000 + (uint64_t)history[n - 1] * 1000 +
                         (n > 1 ? (uint64_t)history[n - 2] : 0));

    for (size_t id = 0; id < c->n_vocab; id++)
        logits[id] = (float)(mix(state + id) >> 40) / (float)(1 << 22);
    for (size_t i = 0; i < c->n_ends; i++)
        logits[c->ends[i]] += (float)c->end_bias;
}

static void see_beam(const struct golden_case *c, struct sampler *sampler,
                     struct beam_search *search, size_t beam)
{
    float logits[MOST_VOCAB];
    int32_t history[2 * MOST_TOKENS];
    const float *log_probs;
    struct sampler_place place = {.logits = logits,
                                  .history = history,
                                  .n_history = c->n_prompt + search->n_tokens,
                                  .n_prompt = c->n_prompt,
                                  .barred = c->ends,
                                  .n_barred = search->n_tokens < c->min_tokens ? c->n_ends : 0};

    memcpy(history, c->prompt, c->n_prompt * sizeof *history);
    beam_search_read(search, search->beams[beam].node, search->n_tokens, history + c->n_prompt);
    make_logits(c, history, place.n_history, logits);
    assert_int_equal(sampler_log_softmax(sampler, &c->sampling, &place, &log_probs, NULL),
                     KVERN_OK);
    beam_search_see(search, beam, log_probs);
}

/* Runs the search; every second step sees the last beam first. */
static void run_search(const struct golden_case *c, struct beam_search *search)
{
    struct sampler sampler;
    size_t n_beams = c->options.n_beams;

    assert_int_equal(sampler_init(&sampler, c->n_vocab, NULL), KVERN_OK);
    assert_int_equal(beam_search_init(search, &c->options, NULL), KVERN_OK);
    while (!search->is_done) {
        size_t n = search->n_tokens == 0 ? 1 : n_beams;

        for (size_t i = 0; i < n; i++)
            see_beam(c, &sampler, search, search->n_tokens % 2 ? n - 1 - i : i);
        assert_int_equal(beam_search_choose(search, NULL), KVERN_OK);
    }
    sampler_clear(&sampler);
}

static void check_case(size_t number, struct golden_case *c, char **at)
{
    struct beam_search search;

    read_case(c, at);
    run_search(c, &search);
    for (size_t i = 0; i < c->n_return; i++) {
        const struct beam_answer *answer = &search.answers[i];
        float score = (float)next_number(at);
        int32_t expected[MOST_TOKENS], tokens[MOST_TOKENS];
        size_t n = next_ids(at, expected);

        if (!(fabsf(answer->score - score) <= 1e-5F * fmaxf(1, fabsf(score))))
            fail_msg("case %zu, answer %zu: score %.9g, golden %.9g", number, i,
                     (double)answer->score, (double)score);
        assert_true(answer->is_finished);
        assert_int_equal(answer->n_tokens, n);
        beam_search_read(&search, answer->node, n, tokens);
        assert_memory_equal(tokens, expected, n * sizeof *tokens);
    }
    beam_search_clear(&search);
}

static void equals_transformers(void **state)
{
    FILE *file = fopen(KVERN_SOURCE_DIR "/tests/golden/beams.txt", "rb");
    static char text[1 << 17];
    static struct golden_case c;
    char *at = text;

    (void)state;
    assert_non_null(file);
    size_t n_bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_in_range(n_bytes, 1, sizeof text - 2);
    c.n_vocab = (size_t)next_number(&at);
    size_t n_cases = (size_t)next_number(&at);
    assert_true(n_cases > 100);
    for (size_t i = 0; i < n_cases; i++)
        check_case(i, &c, &at);
}

/* Of equals the lower beam comes first, then the lower id. */
static void ties(void **state)
{
    static const float equal[4] = {-1, -1, -1, -INFINITY};
    static const int32_t end = 3;
    const struct beam_options options = {.n_beams = 2,
                                         .length_penalty = 1,
                                         .max_tokens = 3,
                                         .end_ids = &end,
                                         .n_end_ids = 1,
                                         .vocab_size = 4};
    struct beam_search search;
    int32_t tokens[3];

    (void)state;
    assert_int_equal(beam_search_init(&search, &options, NULL), KVERN_OK);
    beam_search_see(&search, 0, equal);
    assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
    assert_int_equal(search.beams[0].token, 0);
    assert_int_equal(search.beams[1].token, 1);
    beam_search_see(&search, 1, equal);
    beam_search_see(&search, 0, equal);
    assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
    assert_int_equal(search.beams[0].parent, 0);
    assert_int_equal(search.beams[1].parent, 0);
    assert_int_equal(search.beams[1].token, 1);
    beam_search_see(&search, 0, equal);
    beam_search_see(&search, 1, equal);
    assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
    assert_true(search.is_done);
    beam_search_read(&search, search.answers[1].node, 3, tokens);
    assert_memory_equal(tokens, ((int32_t[]){0, 0, 1}), sizeof tokens);
    assert_true(search.answers[1].score == -1);
    beam_search_clear(&search);
}

/* One token that may follow: there is one answer, and places for the others stay empty. */
static void too_few_tokens(void **state)
{
    static const float one[3] = {-INFINITY, 0, -INFINITY};
    const struct beam_options options = {
        .n_beams = 3, .length_penalty = 0, .max_tokens = 1, .vocab_size = 3};
    struct beam_search search;

    (void)state;
    assert_int_equal(beam_search_init(&search, &options, NULL), KVERN_OK);
    beam_search_see(&search, 0, one);
    assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
    assert_true(search.is_done);
    assert_true(search.answers[0].is_finished);
    assert_true(search.answers[0].score == 0);
    assert_false(search.answers[1].is_finished);
    assert_true(search.answers[1].score == -1e9F);
    beam_search_clear(&search);
}

/* KVERN_EARLY_STOPPING_NEVER: a beam is measured at the length that is best for it, which is the
 * longest one only where length helps. */
static void never_looks_ahead_where_length_helps(void **state)
{
    static const float first[4] = {-0.5F, -3, -4, -1};
    static const float rows[2][4] = {{-0.2F, -5, -5, -0.4F}, {-2, -9, -9, -9}};
    static const int32_t end = 3;
    static const struct {
        float length_penalty;
        kvern_early_stopping early_stopping;
        bool is_done;
    } cases[] = {{-1, KVERN_EARLY_STOPPING_NEVER, false}, /* -1.4 may still be over -1.8 */
                 {-1, KVERN_EARLY_STOPPING_TRUE, true},
                 {1, KVERN_EARLY_STOPPING_NEVER, false},
                 {1, KVERN_EARLY_STOPPING_TRUE, true}};

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        const struct beam_options options = {.n_beams = 2,
                                             .length_penalty = cases[c].length_penalty,
                                             .early_stopping = cases[c].early_stopping,
                                             .max_tokens = 10,
                                             .end_ids = &end,
                                             .n_end_ids = 1,
                                             .vocab_size = 4};
        struct beam_search search;

        assert_int_equal(beam_search_init(&search, &options, NULL), KVERN_OK);
        beam_search_see(&search, 0, first);
        assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
        assert_false(search.is_done);
        for (size_t b = 0; b < 2; b++)
            beam_search_see(&search, b, rows[b]);
        assert_int_equal(beam_search_choose(&search, NULL), KVERN_OK);
        if (search.is_done != cases[c].is_done)
            fail_msg("case %zu: is_done is %d", c, search.is_done);
        beam_search_clear(&search);
    }
}

static void no_memory(void **state)
{
    static const float row[4] = {-1, -2, -3, -4};
    const struct beam_options options = {
        .n_beams = 2, .length_penalty = 1, .max_tokens = 9, .vocab_size = 4};
    struct beam_search search;
    kvern_error err = {0};

    (void)state;
    memory_fail_after(0);
    assert_int_equal(beam_search_init(&search, &options, &err), KVERN_MEMORY);
    assert_int_equal(beam_search_init(&search, &options, NULL), KVERN_OK);
    beam_search_see(&search, 0, row);
    memory_fail_after(0);
    assert_int_equal(beam_search_choose(&search, &err), KVERN_MEMORY);
    assert_string_equal(err.message, "no memory for 1 tokens of 2 beams");
    memory_fail_after(-1);
    beam_search_clear(&search);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_transformers),
        cmocka_unit_test(ties),
        cmocka_unit_test(too_few_tokens),
        cmocka_unit_test(never_looks_ahead_where_length_helps),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
