/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler: which tokens each filter leaves, against tables and against transformers' own
 * processors (tests/golden/make_sampling.py), drawn frequencies against the exact probabilities,
 * penalties, barred tokens, and log-probabilities.
 */
#include "engine/sampler.h"

#include "engine/logits.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 10, N_DRAWS = 40000 };

/* probabilities .4 .2 .1 .1 .1 .05 .02 .01 .01 .01 in a shuffled order of ids */
static const float probabilities[V] = {.1F, .01F, .4F, .02F, .1F, .01F, .2F, .05F, .1F, .01F};

static kvern_sampling defaults(void)
{
    return (kvern_sampling){.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1};
}

/* After one prompt token of id 0 and n_answer more. */
static struct sampler_place place_after(const float *logits, size_t n_answer)
{
    static const int32_t zeros[N_DRAWS + 1];

    return (struct sampler_place){
        .logits = logits, .history = zeros, .n_history = n_answer + 1, .n_prompt = 1};
}

static void draw_many(const kvern_sampling *sampling, const float *logits, double *frequencies)
{
    struct sampler sampler;

    assert_int_equal(sampler_init(&sampler, V, NULL), KVERN_OK);
    memset(frequencies, 0, V * sizeof *frequencies);
    for (size_t i = 0; i < N_DRAWS; i++) {
        struct sampler_place place = place_after(logits, i);
        int32_t token = -1;

        assert_int_equal(sampler_pick(&sampler, sampling, &place, &token, NULL), KVERN_OK);
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
        float top_p, min_p, typical_p;
        unsigned kept;
    } cases[] = {
        {1, 0, 1, 0, 1, 0x3ff},
        {1, 1, 1, 0, 1, 1 << 2},
        {1, 3, 1, 0, 1, 1 << 2 | 1 << 6 | 1 << 0}, /* of three equals the lowest id */
        {1, 4, 1, 0, 1, 1 << 2 | 1 << 6 | 1 << 0 | 1 << 4},
        {1, 100, 1, 0, 1, 0x3ff},
        {1, 0, .35F, 0, 1, 1 << 2},
        {1, 0, .55F, 0, 1, 1 << 2 | 1 << 6},
        {1, 0, .65F, 0, 1, 1 << 2 | 1 << 6 | 1 << 0},
        {1, 0, 1e-6F, 0, 1, 1 << 2},
        {1, 3, .8F, 0, 1, 1 << 2 | 1 << 6}, /* top-p of what top-k left: .6 / .7 >= .8 */
        {1, 0, 1, .2F, 1, 1 << 2 | 1 << 6 | 1 << 0 | 1 << 4 | 1 << 8},
        {1, 0, 1, 1, 1, 1 << 2},
        {2, 0, 1, 0, 1, 0x3ff},
        {.5F, 2, 1, 0, 1, 1 << 2 | 1 << 6},
        /* the entropy is 1.79, between -log(.2) = 1.61, -log(.1) = 2.3 and -log(.4) = .92 */
        {1, 0, 1, 0, 1e-6F, 1 << 6},
        {1, 0, 1, 0, .25F, 1 << 6 | 1 << 0}, /* of three equals the lowest id */
        {1, 0, 1, 0, .35F, 1 << 6 | 1 << 0 | 1 << 4},
        {1, 0, 1, 0, .55F, 1 << 6 | 1 << 0 | 1 << 4 | 1 << 8 | 1 << 2},
        /* of what min-p left: .44 .22 .11 .11 .11, entropy 1.43 */
        {1, 0, 1, .2F, .3F, 1 << 6 | 1 << 2},
        {1e-30F, 0, 1, 0, 1, 1 << 2},
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
        sampling.typical_p = cases[c].typical_p;
        sampling.seed = c;
        draw_many(&sampling, logits, frequencies);
        for (size_t i = 0; i < V; i++)
            sum += cases[c].kept >> i & 1
                       ? pow(probabilities[i] / .4, 1 / (double)sampling.temperature)
                       : 0;
        for (size_t i = 0; i < V; i++) {
            double exact = cases[c].kept >> i & 1
                               ? pow(probabilities[i] / .4, 1 / (double)sampling.temperature) / sum
                               : 0;
            /* five standard deviations */
            double allowed = 5 * sqrt(exact * (1 - exact) / N_DRAWS);

            if (fabs(frequencies[i] - exact) > allowed + 1e-9)
                fail_msg("case %zu, id %zu: drawn %g, exact %g", c, i, frequencies[i], exact);
        }
    }
}

/* Greedy choices: what the penalties, biases and barred tokens make of four logits. */
static void test_logits_are_edited(void **state)
{
    static const struct {
        float logits[4];
        int32_t history[6]; /* the first two are the prompt; -1: the end */
        float repetition, presence, frequency;
        kvern_logit_bias bias[2]; /* 0: none */
        int32_t barred[4];        /* -1: the end */
        int32_t token;
    } cases[] = {
        {{1, 3, 3, 2}, {1, 1, -1}, 1, 0, 0, {{0}}, {-1}, 1},
        {{1, 3, 3, 2}, {1, 1, -1}, 2, 0, 0, {{0}}, {-1}, 2},
        {{1, 3, 2, 2}, {1, 1, -1}, 1.4F, 0, 0, {{0}}, {-1}, 1}, /* once, though seen twice */
        {{1, 3, 2, 2}, {0, 0, 1, 1, -1}, 1.4F, 0, 0, {{0}}, {-1}, 1},
        {{-1, -1.5F, -2, -3}, {0, 1, -1}, 2, 0, 0, {{0}}, {-1}, 0},
        {{-1, -1.5F, -2, -3}, {0, 0, -1}, 1.6F, 0, 0, {{0}}, {-1}, 1},
        {{-1, -1.5F, -2, -3}, {2, 2, -1}, .4F, 0, 0, {{0}}, {-1}, 2},
        {{-INFINITY, -INFINITY, -5, -INFINITY}, {0, 0, -1}, 1, 0, 0, {{0}}, {-1}, 2},
        {{-INFINITY, -INFINITY, -5, -INFINITY}, {0, 2, 0, 2, -1}, 9, 2, 2, {{0}}, {-1}, 2},
        /* presence: once, and the prompt does not count */
        {{1, 3, 2.8F, 2}, {1, 1, -1}, 1, 1, 0, {{0}}, {-1}, 1},
        {{1, 3, 2.8F, 2}, {0, 0, 1, -1}, 1, 1, 0, {{0}}, {-1}, 2},
        {{1, 3, 1.8F, 1}, {0, 0, 1, 1, 1, -1}, 1, 1, 0, {{0}}, {-1}, 1},
        {{1, 3, 2, 2}, {0, 0, 3, -1}, 1, -1.5F, 0, {{0}}, {-1}, 3},
        /* frequency: each time */
        {{1, 3, 1.5F, 1}, {0, 0, 1, 1, -1}, 1, 0, .7F, {{0}}, {-1}, 1},
        {{1, 3, 1.5F, 1}, {0, 0, 1, 1, 1, -1}, 1, 0, .7F, {{0}}, {-1}, 2},
        {{1, 3, 1.5F, 1}, {1, 1, 1, 1, -1}, 1, 0, .7F, {{0}}, {-1}, 1},
        {{1, 3, 1.5F, 1}, {0, 0, 1, 1, -1}, 1, .2F, .7F, {{0}}, {-1}, 2},
        /* after the repetition penalty: 3 / 2 - .5 = 1, not 2.5 / 2 */
        {{1.1F, 3, 0, 0}, {1, 1, 1, -1}, 2, .5F, 0, {{0}}, {-1}, 0},
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{0, 2.5F}}, {-1}, 0},
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{1, -100}, {3, .1F}}, {-1}, 3},
        {{1, 3, 2, 2}, {0, 0, -1}, 2, 0, 0, {{0, 2.6F}}, {-1}, 0}, /* .5 + 2.6, not 3.6 / 2 */
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{0}}, {1, -1}, 2},
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{0}}, {1, 2, 3, -1}, 0},
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{1, 100}}, {1, -1}, 2},
        /* nothing else is left: barred, but the penalties still count */
        {{1, 3, 2, 2}, {0, 0, -1}, 1, 0, 0, {{0}}, {0, 1, 2, 3}, 1},
        {{1, 3, 2, 2}, {0, 0, 1, -1}, 1, 2, 0, {{0}}, {0, 1, 2, 3}, 2},
        {{-INFINITY, 3, -INFINITY, 2}, {0, 0, -1}, 1, 0, 0, {{0}}, {3, 1, -1}, 1},
    };
    struct sampler sampler;
    (void)state;

    assert_int_equal(sampler_init(&sampler, 4, NULL), KVERN_OK);
    sampler.round = UINT32_MAX - 20; /* marks are cleared when the rounds are used up */
    for (size_t i = 0; i < 2 * COUNT(cases); i++) {
        size_t c = i % COUNT(cases);
        kvern_sampling sampling = defaults();
        struct sampler_place place = {
            .logits = cases[c].logits, .history = cases[c].history, .n_prompt = 2};
        int32_t token = -1;

        sampling.temperature = i < COUNT(cases) ? 0 : 1;
        sampling.top_k = 1; /* the same */
        sampling.repetition_penalty = cases[c].repetition;
        sampling.presence_penalty = cases[c].presence;
        sampling.frequency_penalty = cases[c].frequency;
        sampling.logit_bias = cases[c].bias;
        for (size_t j = 0; j < 2 && cases[c].bias[j].bias != 0; j++)
            sampling.n_logit_bias++;
        while (place.history[place.n_history] >= 0)
            place.n_history++;
        place.barred = cases[c].barred;
        while (place.n_barred < 4 && place.barred[place.n_barred] >= 0)
            place.n_barred++;
        assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
        if (token != cases[c].token)
            fail_msg("case %zu: %d, expected %d", i, token, cases[c].token);
    }
    assert_true(sampler.round < COUNT(cases) * 4);
    sampler_clear(&sampler);
}

/* Each number of the golden, in order. */
static double next_number(char **at)
{
    char *end;
    double number = strtod(*at, &end);

    assert_ptr_not_equal(*at, end);
    *at = end;
    return number;
}

static size_t next_ids(char **at, int32_t *ids, size_t capacity)
{
    size_t n = (size_t)next_number(at);

    assert_in_range(n, 0, capacity);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)next_number(at);
    return n;
}

static void check_golden_case(struct sampler *sampler, const float *rows, size_t c, char **at)
{
    enum { MOST = 64 };
    kvern_sampling sampling = defaults();
    struct sampler_place place = {.logits = rows + (size_t)next_number(at) * sampler->vocab_size};
    kvern_logit_bias bias[MOST];
    int32_t history[MOST];
    int32_t barred[MOST];
    double expected[MOST] = {0};
    int32_t token;

    sampling.repetition_penalty = (float)next_number(at);
    sampling.presence_penalty = (float)next_number(at);
    sampling.frequency_penalty = (float)next_number(at);
    sampling.temperature = (float)next_number(at);
    sampling.top_k = (int32_t)next_number(at);
    sampling.top_p = (float)next_number(at);
    sampling.min_p = (float)next_number(at);
    sampling.typical_p = (float)next_number(at);
    place.n_prompt = (size_t)next_number(at);
    place.n_history = next_ids(at, history, MOST);
    place.history = history;
    sampling.n_logit_bias = (size_t)next_number(at);
    assert_in_range(sampling.n_logit_bias, 0, MOST);
    for (size_t i = 0; i < sampling.n_logit_bias; i++) {
        bias[i].id = (int32_t)next_number(at);
        bias[i].bias = (float)next_number(at);
    }
    sampling.logit_bias = bias;
    place.n_barred = next_ids(at, barred, MOST);
    place.barred = barred;
    size_t n_left = (size_t)next_number(at);
    for (size_t i = 0; i < n_left; i++) {
        size_t id = (size_t)next_number(at);

        assert_in_range(id, 0, sampler->vocab_size - 1);
        expected[id] = next_number(at);
    }

    assert_int_equal(sampler_pick(sampler, &sampling, &place, &token, NULL), KVERN_OK);
    assert_true(expected[token] > 0);
    assert_int_equal(sampler->left.n, n_left);
    double sum = candidates_sum(&sampler->left);
    for (size_t i = 0; i < n_left; i++) {
        int32_t id = sampler->left.items[i].id;
        double p = (double)sampler->left.items[i].value / sum;

        if (!(fabs(p - expected[id]) <= 1e-5 * expected[id] + 1e-9))
            fail_msg("case %zu, token %d: %.9g, golden %.9g", c, id, p, expected[id]);
    }
}

static void test_like_transformers(void **state)
{
    FILE *file = fopen(KVERN_SOURCE_DIR "/tests/golden/sampling.txt", "rb");
    static char text[100000];
    struct sampler sampler;
    char *at = text;
    (void)state;

    assert_non_null(file);
    assert_in_range(fread(text, 1, sizeof text - 1, file), 1000, sizeof text - 2);
    fclose(file);
    size_t n_rows = (size_t)next_number(&at);
    size_t vocab_size = (size_t)next_number(&at);
    float *rows = calloc(n_rows * vocab_size, sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < n_rows * vocab_size; i++)
        rows[i] = (float)next_number(&at);
    assert_int_equal(sampler_init(&sampler, vocab_size, NULL), KVERN_OK);
    size_t n_cases = (size_t)next_number(&at);
    assert_true(n_cases >= 100);
    for (size_t c = 0; c < n_cases; c++)
        check_golden_case(&sampler, rows, c, &at);
    sampler_clear(&sampler);
    free(rows);
}

static void test_not_finite(void **state)
{
    const float bad[] = {NAN, INFINITY};
    struct sampler sampler;
    float logits[V] = {0};
    kvern_sampling sampling = defaults();
    const int32_t barred[] = {0, 1, 2, 3, 4};
    struct sampler_place place = place_after(logits, 0);
    int32_t token;
    kvern_error err = {0};
    (void)state;

    assert_int_equal(sampler_init(&sampler, V, NULL), KVERN_OK);
    place.barred = barred; /* which does not hide them */
    for (size_t i = 0; i < 8 * V; i++) {
        memset(logits, 0, sizeof logits);
        logits[i / 8] = bad[i % 2];
        sampling.temperature = i / 2 % 2 ? 1 : 0;
        place.n_barred = i / 4 % 2 ? COUNT(barred) : 0;
        assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, &err), KVERN_RUNTIME);
        assert_string_equal(err.message, "logits of token 1 are not finite");
        assert_true(isnan(log_probability(logits, V, 0)));
    }
    for (size_t i = 0; i < V; i++)
        logits[i] = -INFINITY;
    assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, &err), KVERN_RUNTIME);
    sampler_clear(&sampler);
}

/* Of the model and of what was sampled from, with their best; -infinity is never listed. */
static void test_logprobs(void **state)
{
    enum { N_TOP = 4 };
    static const struct {
        kvern_logprobs kind;
        float temperature;
        int32_t top_k;
        kvern_logit_bias bias;
        int32_t top[N_TOP];
        double p[N_TOP]; /* 0: -infinity */
    } cases[] = {
        {KVERN_LOGPROBS_MODEL, 0, 0, {9, 0}, {2, 6, 0, 4}, {.4, .2, .1, .1}},
        {KVERN_LOGPROBS_MODEL, 2, 2, {9, 50}, {2, 6, 0, 4}, {.4, .2, .1, .1}},
        {KVERN_LOGPROBS_SAMPLED, 0, 0, {9, 0}, {2, -1, -1, -1}, {1, 0, 0, 0}},
        {KVERN_LOGPROBS_SAMPLED, 0, 0, {9, 50}, {9, -1, -1, -1}, {1, 0, 0, 0}},
        {KVERN_LOGPROBS_SAMPLED, 1, 0, {9, 0}, {2, 6, 0, 4}, {.4, .2, .1, .1}},
        {KVERN_LOGPROBS_SAMPLED, 1, 3, {9, 0}, {2, 6, 0, -1}, {4. / 7, 2. / 7, 1. / 7, 0}},
        {KVERN_LOGPROBS_SAMPLED, .5F, 3, {9, 0}, {2, 6, 0, -1}, {16. / 21, 4. / 21, 1. / 21, 0}},
    };
    float logits[V];
    struct sampler sampler;
    (void)state;

    assert_int_equal(sampler_init(&sampler, V, NULL), KVERN_OK);
    for (size_t i = 0; i < V; i++)
        logits[i] = logf(probabilities[i]) + 3;
    for (size_t c = 0; c < COUNT(cases); c++) {
        for (size_t i = 0; i < 50; i++) {
            struct sampler_place place = place_after(logits, i);
            kvern_sampling sampling = defaults();
            kvern_logprob top[N_TOP];
            float logprob = NAN;
            int32_t token;

            sampling.temperature = cases[c].temperature;
            sampling.top_k = cases[c].top_k;
            sampling.logit_bias = &cases[c].bias;
            sampling.n_logit_bias = 1;
            assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
            sampler_logprobs(&sampler, cases[c].kind, &place, token, &logprob, top, N_TOP);
            if (cases[c].kind == KVERN_LOGPROBS_MODEL)
                assert_true(logprob == log_probability(logits, V, token));
            for (size_t j = 0; j < N_TOP; j++) {
                if (top[j].id != cases[c].top[j] ||
                    !(fabs(exp((double)top[j].logprob) - cases[c].p[j]) < 1e-6))
                    fail_msg("case %zu, place %zu: token %d with %g", c, j, top[j].id,
                             exp((double)top[j].logprob));
                if (top[j].id == token)
                    assert_true(top[j].logprob == logprob);
            }
            sampler_logprobs(&sampler, cases[c].kind, &place, token, &logprob, NULL, 0);
            assert_true(isfinite(logprob));
        }
    }
    for (size_t i = 0; i < V; i++)
        logits[i] = i == 3 ? 0 : -INFINITY;
    struct sampler_place place = place_after(logits, 0);
    kvern_sampling sampling = defaults();
    kvern_logprob top[2];
    float logprob;
    int32_t token;
    assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
    for (kvern_logprobs kind = KVERN_LOGPROBS_MODEL; kind <= KVERN_LOGPROBS_SAMPLED; kind++) {
        sampler_logprobs(&sampler, kind, &place, token, &logprob, top, 2);
        assert_true(token == 3 && logprob == 0 && top[0].id == 3 && top[0].logprob == 0);
        assert_true(top[1].id == -1 && top[1].logprob == -INFINITY);
    }
    sampler_clear(&sampler);
}

/* The quick exponential, over its whole range. */
static void test_weights(void **state)
{
    enum { N = 4001 };
    float logits[N];
    float weights[N];
    (void)state;

    for (size_t i = 0; i < N; i++)
        logits[i] = 5 - (float)i / 40;
    logits[N - 1] = -INFINITY;
    logits_weigh(logits, N, 5, 1, weights);
    assert_true(weights[0] == 1 && weights[N - 1] == 0);
    for (size_t i = 0; i < N; i++) {
        double exact = exp((double)logits[i] - 5);

        if (exact < exp(-87.0) ? weights[i] != 0 : fabs((double)weights[i] - exact) > 3e-7 * exact)
            fail_msg("exp(%g): %.9g, exact %.9g", (double)logits[i] - 5, (double)weights[i], exact);
    }
}

/* Filters over a large vocabulary leave what a full sort would. */
static int compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x < y) - (x > y);
}

/* The tokens left lie nearer to the entropy than all others, and weigh just enough. */
static void check_typical(struct sampler *sampler, const float *logits, double sum)
{
    struct sampler_place place = place_after(logits, 0);
    kvern_sampling sampling = defaults();
    double entropy = log(sum);
    double farthest = 0;
    double kept = 0;
    size_t n_nearer = 0;
    int32_t token;

    for (size_t i = 0; i < sampler->vocab_size; i++)
        entropy -= exp(logits[i]) / sum * logits[i];
    sampling.top_k = 0;
    sampling.typical_p = .3F;
    assert_int_equal(sampler_pick(sampler, &sampling, &place, &token, NULL), KVERN_OK);
    for (size_t i = 0; i < sampler->left.n; i++) {
        double x = logits[sampler->left.items[i].id];

        kept += exp(x) / sum;
        farthest = fmax(farthest, fabs(log(sum) - x - entropy));
    }
    for (size_t i = 0; i < sampler->vocab_size; i++)
        n_nearer += fabs(log(sum) - logits[i] - entropy) < farthest - 1e-5;
    assert_true(fabs(kept - .3) < 1e-4);
    assert_true(n_nearer <= sampler->left.n && n_nearer + 20 >= sampler->left.n);
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
    for (size_t i = 0; i < 40; i++) {
        struct sampler_place place = place_after(logits, i);
        int32_t token;

        sampling.top_k = i % 2 ? K : 0;
        sampling.top_p = i % 2 ? 1 : .1F;
        assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
        assert_true(logits[token] >= sorted[i % 2 ? K - 1 : n_nucleus + 1]);
        assert_true(i % 2 || (sampler.left.n + 1 >= n_nucleus && sampler.left.n <= n_nucleus + 1));
    }
    check_typical(&sampler, logits, sum);
    assert_true(fabs(log_probability(logits, LARGE, 5) - (logits[5] - log(sum))) < 1e-4);
    sampler_clear(&sampler);
    free(logits);
    free(sorted);
}

/* What no_repeat_ngram_size leaves of five equal logits, greedy (the lowest id) and drawn. */
static void test_no_repeats(void **state)
{
    static const struct {
        int32_t size;
        size_t n_history;
        int32_t history[8];
        unsigned kept; /* a bit for each id */
    } cases[] = {
        {0, 3, {0, 0, 0}, 0x1f},
        {1, 3, {0, 2, 0}, 0x1a},
        {2, 1, {0}, 0x1f},                /* there is no row of two yet */
        {2, 4, {0, 1, 3, 0}, 0x1d},       /* 0 1 is there */
        {2, 5, {0, 1, 0, 0, 0}, 0x1c},    /* 0 1 and 0 0 are */
        {3, 6, {0, 1, 2, 1, 0, 1}, 0x1b}, /* 0 1 2 */
        {3, 2, {0, 0}, 0x1f},
        {4, 8, {1, 2, 3, 0, 4, 1, 2, 3}, 0x1e}, /* 1 2 3 0 */
        {INT32_MAX, 2, {0, 1}, 0x1f},
        {1, 5, {0, 1, 2, 3, 4}, 0x1f}, /* nothing else is left */
    };
    static const float logits[5] = {2, 2, 2, 2, 2};
    struct sampler sampler;

    (void)state;
    assert_int_equal(sampler_init(&sampler, 5, NULL), KVERN_OK);
    for (size_t c = 0; c < COUNT(cases); c++) {
        kvern_sampling sampling = defaults();
        struct sampler_place place = {.logits = logits,
                                      .history = cases[c].history,
                                      .n_history = cases[c].n_history,
                                      .n_prompt = 1};
        unsigned drawn = 0;
        int32_t token;
        int32_t lowest = 0;

        sampling.no_repeat_ngram_size = cases[c].size;
        for (sampling.seed = 0; sampling.seed < 200; sampling.seed++) {
            assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
            drawn |= 1U << token;
        }
        assert_int_equal(drawn, cases[c].kept);
        sampling.temperature = 0;
        assert_int_equal(sampler_pick(&sampler, &sampling, &place, &token, NULL), KVERN_OK);
        while (!(cases[c].kept >> lowest & 1))
            lowest++;
        assert_int_equal(token, lowest);
    }
    sampler_clear(&sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),     cmocka_unit_test(test_logits_are_edited),
        cmocka_unit_test(test_like_transformers), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_logprobs),          cmocka_unit_test(test_weights),
        cmocka_unit_test(test_large_vocabulary),  cmocka_unit_test(test_no_repeats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
