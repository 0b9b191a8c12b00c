/* SPDX-License-Identifier: Apache-2.0
 *
 * Greedy choice and seeded sampling over vocabularies of 150,000 and more: nothing here sorts the
 * whole vocabulary; a heap gives just as many of the best as the filters need. Equal values rank by
 * id, lowest first, so every choice is one choice.
 */
#include "engine/sampler.h"

#include "base/error.h"
#include "base/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 32 };

kvern_status sampler_init(struct sampler *sampler, size_t vocab_size, kvern_error *err)
{
    *sampler = (struct sampler){.vocab_size = vocab_size};
    sampler->logits = try_new(vocab_size, sizeof *sampler->logits);
    sampler->candidates = try_new(vocab_size, sizeof *sampler->candidates);
    sampler->seen = try_new(vocab_size, sizeof *sampler->seen);
    if (!sampler->logits || !sampler->candidates || !sampler->seen) {
        sampler_clear(sampler);
        return fail(err, KVERN_MEMORY, "no memory to sample from %zu tokens", vocab_size);
    }
    return KVERN_OK;
}

void sampler_clear(struct sampler *sampler)
{
    free(sampler->logits);
    free(sampler->candidates);
    free(sampler->seen);
    *sampler = (struct sampler){0};
}

kvern_status sampling_check(const kvern_sampling *s, kvern_error *err)
{
    /* written so that NaN fails each */
    if (!(s->temperature >= 0 && s->temperature <= 100))
        return fail(err, KVERN_INVALID, "temperature is %g; it must be from 0 to 100",
                    (double)s->temperature);
    if (s->top_k < 0)
        return fail(err, KVERN_INVALID, "top_k is %d; it must be 0 (off) or more", s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return fail(err, KVERN_INVALID, "top_p is %g; it must be over 0 and at most 1",
                    (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return fail(err, KVERN_INVALID, "min_p is %g; it must be from 0 to 1", (double)s->min_p);
    if (!(s->repetition_penalty > 0 && s->repetition_penalty <= 100))
        return fail(err, KVERN_INVALID,
                    "repetition_penalty is %g; it must be over 0 and at most 100",
                    (double)s->repetition_penalty);
    return KVERN_OK;
}

/* The largest logit, in lanes that the compiler can keep in vectors. false: NaN or +infinity is
 * among them, or nothing is finite. */
static bool find_max(const float *logits, size_t n, float *max)
{
    float best[LANES];
    int n_bad[LANES] = {0};
    size_t i = 0;

    for (size_t j = 0; j < LANES; j++)
        best[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            float x = logits[i + j];

            best[j] = x > best[j] ? x : best[j];
            n_bad[j] += !(x <= FLT_MAX);
        }
    }
    for (; i < n; i++) {
        best[0] = logits[i] > best[0] ? logits[i] : best[0];
        n_bad[0] += !(logits[i] <= FLT_MAX);
    }
    *max = -INFINITY;
    for (size_t j = 0; j < LANES; j++) {
        *max = best[j] > *max ? best[j] : *max;
        if (n_bad[j])
            return false;
    }
    return *max > -INFINITY;
}

float log_probability(const float *logits, size_t vocab_size, int32_t token)
{
    double sum = 0;
    float max;

    if (!find_max(logits, vocab_size, &max))
        return NAN;
    for (size_t i = 0; i < vocab_size; i++)
        sum += (double)expf(logits[i] - max);
    return (float)((double)(logits[token] - max) - log(sum));
}

/* A penalty p divides the positive logits of tokens seen before and multiplies negative ones
 * (Keskar et al., CTRL, 2019), once however often a token was seen. */
static void penalise(struct sampler *sampler, float penalty, const float *logits,
                     const int32_t *history, size_t n_history)
{
    memcpy(sampler->logits, logits, sampler->vocab_size * sizeof *logits);
    if (++sampler->round == 0) {
        memset(sampler->seen, 0, sampler->vocab_size * sizeof *sampler->seen);
        sampler->round = 1;
    }
    for (size_t i = 0; i < n_history; i++) {
        size_t id = (size_t)history[i];
        float *logit = &sampler->logits[id];

        if (sampler->seen[id] == sampler->round)
            continue;
        sampler->seen[id] = sampler->round;
        *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
    }
}

static bool ranks_before(struct candidate a, struct candidate b)
{
    return a.value != b.value ? a.value > b.value : a.id < b.id;
}

/* Restores the heap below `root`: the best candidate at the top, or the worst. */
static void sift_down(struct candidate *heap, size_t n, size_t root, bool best_on_top)
{
    struct candidate moved = heap[root];

    for (size_t child = 2 * root + 1; child < n; child = 2 * root + 1) {
        if (child + 1 < n && ranks_before(heap[child + 1], heap[child]) == best_on_top)
            child++;
        if (ranks_before(heap[child], moved) != best_on_top)
            break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = moved;
}

static void make_heap(struct candidate *heap, size_t n, bool best_on_top)
{
    for (size_t i = n / 2; i > 0; i--)
        sift_down(heap, n, i - 1, best_on_top);
}

/* Moves the top behind the heap, which becomes one smaller. */
static void pop_heap(struct candidate *heap, size_t n, bool best_on_top)
{
    struct candidate top = heap[0];

    heap[0] = heap[n - 1];
    heap[n - 1] = top;
    sift_down(heap, n - 1, 0, best_on_top);
}

/* The k best logits into candidates [k], best first: a heap of k with the worst on top, which most
 * logits do not get past. */
static void take_top_k(struct candidate *candidates, const float *logits, size_t n, size_t k)
{
    for (size_t i = 0; i < k; i++)
        candidates[i] = (struct candidate){logits[i], (int32_t)i};
    make_heap(candidates, k, false);
    for (size_t i = k; i < n; i++) {
        /* an equal logit has the higher id here, so it ranks after */
        if (logits[i] > candidates[0].value) {
            candidates[0] = (struct candidate){logits[i], (int32_t)i};
            sift_down(candidates, k, 0, false);
        }
    }
    for (size_t m = k; m > 1; m--)
        pop_heap(candidates, m, false);
}

/* Keeps the fewest best candidates whose weights reach top_p of the sum; gives where they begin.
 * A token below (1 - top_p) / n of the sum is never among them: all such together weigh less than
 * 1 - top_p. Dropping these first makes the heap small. */
static struct candidate *take_top_p(struct candidate *candidates, size_t *n, float top_p)
{
    size_t n_likely = 0;
    double sum = 0;
    double kept = 0;

    for (size_t i = 0; i < *n; i++)
        sum += (double)candidates[i].value;

    double least = (1 - (double)top_p) * sum / (double)*n;
    for (size_t i = 0; i < *n; i++) {
        if ((double)candidates[i].value >= least)
            candidates[n_likely++] = candidates[i];
    }
    make_heap(candidates, n_likely, true);

    size_t n_left = n_likely;
    while (n_left > 0 && (kept < (double)top_p * sum || n_left == n_likely)) {
        kept += (double)candidates[0].value;
        pop_heap(candidates, n_left, true);
        n_left--;
    }
    *n = n_likely - n_left;
    return candidates + n_left;
}

/* A number in [0, 1) from seed and index: two rounds of splitmix64's mixer (Steele, Lea and Flood,
 * 2014), so that the n-th draw needs none of those before it. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static double uniform(uint64_t seed, uint64_t index)
{
    return (double)(mix(mix(seed) ^ mix(~index)) >> 11) * 0x1p-53;
}

static int32_t draw(const struct candidate *candidates, size_t n, float least, double u)
{
    double sum = 0;
    double passed = 0;
    int32_t last = candidates[0].id;

    for (size_t i = 0; i < n; i++) {
        if (candidates[i].value >= least)
            sum += (double)candidates[i].value;
    }
    for (size_t i = 0; i < n; i++) {
        if (candidates[i].value < least || candidates[i].value == 0)
            continue;
        passed += (double)candidates[i].value;
        last = candidates[i].id;
        if (passed > u * sum)
            break;
    }
    return last;
}

static int32_t sample(struct sampler *sampler, const kvern_sampling *sampling, const float *logits,
                      float max, double u)
{
    struct candidate *candidates = sampler->candidates;
    size_t n = sampler->vocab_size;

    if (sampling->top_k > 0 && (size_t)sampling->top_k < n) {
        take_top_k(candidates, logits, n, (size_t)sampling->top_k);
        n = (size_t)sampling->top_k;
    } else {
        for (size_t i = 0; i < n; i++)
            candidates[i] = (struct candidate){logits[i], (int32_t)i};
    }
    /* weights are relative to the likeliest token's, which is 1 */
    for (size_t i = 0; i < n; i++)
        candidates[i].value = expf((candidates[i].value - max) / sampling->temperature);
    if (sampling->top_p < 1)
        candidates = take_top_p(candidates, &n, sampling->top_p);
    return draw(candidates, n, sampling->min_p, u);
}

kvern_status sampler_pick(struct sampler *sampler, const kvern_sampling *sampling,
                          const float *logits, const int32_t *history, size_t n_history,
                          uint64_t draw_index, int32_t *token, kvern_error *err)
{
    float max;

    if (sampling->repetition_penalty != 1) {
        penalise(sampler, sampling->repetition_penalty, logits, history, n_history);
        logits = sampler->logits;
    }
    if (!find_max(logits, sampler->vocab_size, &max))
        return fail(err, KVERN_RUNTIME, "logits of token %zu are not finite", n_history);
    if (sampling->temperature > 0) {
        *token = sample(sampler, sampling, logits, max, uniform(sampling->seed, draw_index));
    } else {
        size_t i = 0;

        while (logits[i] != max)
            i++;
        *token = (int32_t)i;
    }
    return KVERN_OK;
}
