/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler: tables of which tokens each filter leaves, drawn frequencies against the exact
 * probabilities, refused values, and log-probabilities.
 */
#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 10, N_DRAWS = 40000 };

/* probabilities .4 .2 .1 .1 .1 .05 .02 .01 .01 .01 in a shuffled order of ids */
static const float probabilities[V] = {.1F, .01F, .4F, .02F, .1F, .01F, .2F, .05F, .1F, .01F};

static kvern_sampling defaults(void)
{
    return (kvern_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
}

static void draw_many(const kvern_sampling *sampling, const float *logits, double *frequencies)
{
    struct sampler sampler;

    assert_int_equal(sampler_init(&sampler, V, NULL), KVERN_OK);
    memset(frequencies, 0, V * sizeof *frequencies);
    for (uint64_t i = 0; i < N_DRAWS; i++) {
        int32_t token = -1;

        assert_int_equal(
            sampler_pick(&sampler, sampling, logits, (const int32_t[]){0}, 1, i, &token, NULL),
            KVERN_OK);
        assert_in_range(token, 0, V - 1);
        frequencies[token] += 1.0 / N_DRAWS;
    }
    sampler_clear(&sampler);
}

/* `kept`: a bit for each id that may be drawn; its exact probability is its share among those. */
static void test_distributions(void **state)
{
    static const struct {
        float temperature;
        int32_t top_k;
        float top_p, min_p;
        unsigned kept;
    } cases[] = {
        {1, 0, 1, 0, 0x3ff},
        {1, 1, 1, 0, 1 << 2},
        {1, 3, 1, 0, 1 << 2 | 1 << 6 | 1 << 0}, /* of three equals the lowest id */
        {1, 4, 1, 0, 1 << 2 | 1 << 6 | 1 << 0 | 1 << 4},
        {1, 100, 1, 0, 0x3ff},
        {1, 0, .35F, 0, 1 << 2},
        {1, 0, .55F, 0, 1 << 2 | 1 << 6},
        {1, 0, .65F, 0, 1 << 2 | 1 << 6 | 1 << 0},
        {1, 0, 1e-6F, 0, 1 << 2},
        {1, 3, .8F, 0, 1 << 2 | 1 << 6}, /* top-p of what top-k left: .6 / .7 >= .8 */
        {1, 0, 1, .2F, 1 << 2 | 1 << 6 | 1 << 0 | 1 << 4 | 1 << 8},
        {1, 0, 1, 1, 1 << 2},
        {2, 0, 1, 0, 0x3ff},
        {.5F, 2, 1, 0, 1 << 2 | 1 << 6},
    };
    float logits[V];
    (void)state;

    for (size_t i = 0; i < V; i++)
        logits[i] = logf(probabilities[i]) + 3;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        kvern_sampling sampling = defaults();
        double frequencies[V];
        double sum = 0;

        sampling.temperature = cases[c].temperature;
        sampling.top_k = cases[c].top_k;
        sampling.top_p = cases[c].top_p;
        sampling.min_p = cases[c].min_p;
        sampling.seed = c;
        draw_many(&sampling, logits, frequencies);
        for (size_t i = 0; i < V; i++)
            sum += cases[c].kept >> i & 1 ? pow(probabilities[i], 1 / sampling.temperature) : 0;
        for (size_t i = 0; i < V; i++) {
            double exact =
                cases[c].kept >> i & 1 ? pow(probabilities[i], 1 / sampling.temperature) / sum : 0;
            /* five standard deviations */
            double allowed = 5 * sqrt(exact * (1 - exact) / N_DRAWS);

            if (fabs(frequencies[i] - exact) > allowed + 1e-9)
                fail_msg("case %zu, id %zu: drawn %g, exact %g", c, i, frequencies[i], exact);
        }
    }
}

static void test_greedy_and_penalty(void **state)
{
    static const struct {
        float logits[4];
        float penalty;
        int32_t history[2];
        int32_t token;
    } cases[] = {
        {{1, 3, 3, 2}, 1, {1, 1}, 1},
        {{1, 3, 3, 2}, 2, {1, 1}, 2},
        {{1, 3, 2, 2}, 1.4F, {1, 1}, 1}, /* 3 / 1.4 = 2.14: once, though seen twice */
        {{-1, -1.5F, -2, -3}, 2, {0, 1}, 0},
        {{-1, -1.5F, -2, -3}, 1.6F, {0, 0}, 1},
        {{-INFINITY, -INFINITY, -5, -INFINITY}, 1, {0, 0}, 2},
    };
    struct sampler sampler;
    (void)state;

    assert_int_equal(sampler_init(&sampler, 4, NULL), KVERN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_sampling sampling = defaults();
        int32_t token = -1;

        sampling.temperature = 0;
        sampling.repetition_penalty = cases[i].penalty;
        assert_int_equal(sampler_pick(&sampler, &sampling, cases[i].logits, cases[i].history, 2, 0,
                                      &token, NULL),
                         KVERN_OK);
        assert_int_equal(token, cases[i].token);
    }
    sampler_clear(&sampler);
}

static void test_not_finite(void **state)
{
    const float bad[] = {NAN, INFINITY};
    struct sampler sampler;
    float logits[V] = {0};
    kvern_sampling sampling = defaults();
    int32_t token;
    kvern_error err = {0};
    (void)state;

    assert_int_equal(sampler_init(&sampler, V, NULL), KVERN_OK);
    for (size_t i = 0; i < 2 * V; i++) {
        memset(logits, 0, sizeof logits);
        logits[i / 2] = bad[i % 2];
        assert_int_equal(
            sampler_pick(&sampler, &sampling, logits, (const int32_t[]){0}, 1, 0, &token, &err),
            KVERN_RUNTIME);
        assert_string_equal(err.message, "logits of token 1 are not finite");
        assert_true(isnan(log_probability(logits, V, 0)));
    }
    sampler_clear(&sampler);
}

static void test_refused_values(void **state)
{
    static const struct {
        kvern_sampling sampling;
        const char *message;
    } cases[] = {
        {{-1, 0, 1, 0, 1, 0}, "temperature is -1; it must be from 0 to 100"},
        {{NAN, 0, 1, 0, 1, 0}, "temperature is nan; it must be from 0 to 100"},
        {{1, -1, 1, 0, 1, 0}, "top_k is -1; it must be 0 (off) or more"},
        {{1, 0, 0, 0, 1, 0}, "top_p is 0; it must be over 0 and at most 1"},
        {{1, 0, 1, 1.5F, 1, 0}, "min_p is 1.5; it must be from 0 to 1"},
        {{1, 0, 1, 0, 0, 0}, "repetition_penalty is 0; it must be over 0 and at most 100"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_error err = {0};

        assert_int_equal(sampling_check(&cases[i].sampling, &err), KVERN_INVALID);
        assert_string_equal(err.message, cases[i].message);
    }
}

/* Filters over a large vocabulary leave what a full sort would. */
static int compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x < y) - (x > y);
}

static void test_large_vocabulary(void **state)
{
    enum { LARGE = 150000, K = 40 };
    float *logits = malloc(LARGE * sizeof *logits);
    float *sorted = malloc(LARGE * sizeof *sorted);
    struct sampler sampler;
    kvern_sampling sampling = defaults();
    uint32_t random = 1;
    double sum = 0;
    double kept = 0;
    size_t n_nucleus = 0;
    (void)state;

    for (size_t i = 0; i < LARGE; i++) {
        random = random * 1664525 + 1013904223;
        sorted[i] = logits[i] = (float)(random >> 8) / (float)(1 << 20);
        sum += exp(logits[i]);
    }
    qsort(sorted, LARGE, sizeof *sorted, compare);
    while (kept < .1 * sum)
        kept += exp(sorted[n_nucleus++]);
    assert_int_equal(sampler_init(&sampler, LARGE, NULL), KVERN_OK);
    for (uint64_t i = 0; i < 40; i++) {
        int32_t token;

        sampling.top_k = i % 2 ? K : 0;
        sampling.top_p = i % 2 ? 1 : .1F;
        assert_int_equal(
            sampler_pick(&sampler, &sampling, logits, (const int32_t[]){0}, 1, i, &token, NULL),
            KVERN_OK);
        assert_true(logits[token] >= sorted[i % 2 ? K - 1 : n_nucleus + 1]);
    }
    assert_true(fabs(log_probability(logits, LARGE, 5) - (logits[5] - log(sum))) < 1e-4);
    sampler_clear(&sampler);
    free(logits);
    free(sorted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),    cmocka_unit_test(test_greedy_and_penalty),
        cmocka_unit_test(test_not_finite),       cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_large_vocabulary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
