/* SPDX-License-Identifier: Apache-2.0
 *
 * Penalties touch the tokens that were seen and no others. A greedy choice without any reads the
 * model's logits once and copies nothing.
 */
#include "engine/sampler.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/logits.h"
#include "engine/sampling.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

kvern_status sampler_init(struct sampler *sampler, size_t vocab_size, kvern_error *err)
{
    *sampler = (struct sampler){.vocab_size = vocab_size};
    sampler->logits = try_new(vocab_size, sizeof *sampler->logits);
    sampler->candidates = try_new(vocab_size, sizeof *sampler->candidates);
    sampler->marks = try_new(vocab_size, sizeof *sampler->marks);
    if (!sampler->logits || !sampler->candidates || !sampler->marks) {
        sampler_clear(sampler);
        return fail(err, KVERN_MEMORY, "no memory to sample from %zu tokens", vocab_size);
    }
    return KVERN_OK;
}

void sampler_clear(struct sampler *sampler)
{
    free(sampler->logits);
    free(sampler->candidates);
    free(sampler->marks);
    *sampler = (struct sampler){0};
}

static void begin_round(struct sampler *sampler)
{
    if (++sampler->round == 0) {
        memset(sampler->marks, 0, sampler->vocab_size * sizeof *sampler->marks);
        sampler->round = 1;
    }
}

/* How often the id was met in this round, this time included. */
static uint32_t meet(struct sampler *sampler, int32_t id)
{
    struct token_mark *mark = &sampler->marks[id];

    if (mark->round != sampler->round)
        *mark = (struct token_mark){.round = sampler->round};
    return ++mark->n;
}

/* A penalty p divides the positive logits of tokens seen before and multiplies negative ones
 * (Keskar et al., CTRL, 2019), once however often a token was seen. */
static void penalise_repetition(struct sampler *sampler, float penalty,
                                const struct sampler_place *place)
{
    begin_round(sampler);
    for (size_t i = 0; i < place->n_history; i++) {
        float *logit = &sampler->logits[place->history[i]];

        if (meet(sampler, place->history[i]) == 1)
            *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
    }
}

/* OpenAI's penalties: presence + frequency * count, of the answer's tokens. The second pass takes a
 * token's whole count off where it stands first, so that the sum is rounded once. */
static void penalise_answer(struct sampler *sampler, const kvern_sampling *sampling,
                            const struct sampler_place *place)
{
    begin_round(sampler);
    for (size_t i = place->n_prompt; i < place->n_history; i++)
        meet(sampler, place->history[i]);
    for (size_t i = place->n_prompt; i < place->n_history; i++) {
        int32_t id = place->history[i];
        struct token_mark *mark = &sampler->marks[id];

        if (mark->n == 0)
            continue;
        sampler->logits[id] -=
            sampling->presence_penalty + sampling->frequency_penalty * (float)mark->n;
        mark->n = 0;
    }
}

/* NaN and +infinity stay, to be found. */
static void bar(struct sampler *sampler, int32_t id)
{
    if (sampler->logits[id] <= FLT_MAX)
        sampler->logits[id] = -INFINITY;
}

/* Tokens that would make the last n of the history's a row that it has already (fairseq's rule). */
static void bar_repeats(struct sampler *sampler, size_t n, const struct sampler_place *place)
{
    const int32_t *last = place->history + place->n_history + 1 - n;

    for (size_t i = 0; i + n <= place->n_history; i++) {
        if (memcmp(place->history + i, last, (n - 1) * sizeof *last) == 0)
            bar(sampler, place->history[i + n - 1]);
    }
}

static bool has_answer_penalty(const kvern_sampling *sampling, const struct sampler_place *place)
{
    return place->n_history > place->n_prompt &&
           (sampling->presence_penalty != 0 || sampling->frequency_penalty != 0);
}

/* Some token may not be chosen here. */
static bool has_bars(const kvern_sampling *sampling, const struct sampler_place *place)
{
    return place->n_barred > 0 || (sampling->no_repeat_ngram_size > 0 &&
                                   place->n_history >= (size_t)sampling->no_repeat_ngram_size);
}

/* Does everything to the sampler's logits that does not depend on their order. */
static void edit(struct sampler *sampler, const kvern_sampling *sampling,
                 const struct sampler_place *place, bool bars)
{
    if (sampling->repetition_penalty != 1)
        penalise_repetition(sampler, sampling->repetition_penalty, place);
    if (has_answer_penalty(sampling, place))
        penalise_answer(sampler, sampling, place);
    for (size_t i = 0; i < sampling->n_logit_bias; i++)
        sampler->logits[sampling->logit_bias[i].id] += sampling->logit_bias[i].bias;
    if (!bars)
        return;
    if (sampling->no_repeat_ngram_size > 0 &&
        place->n_history >= (size_t)sampling->no_repeat_ngram_size)
        bar_repeats(sampler, (size_t)sampling->no_repeat_ngram_size, place);
    for (size_t i = 0; i < place->n_barred; i++)
        bar(sampler, place->barred[i]);
}

/* The logits edited; the model's own where nothing is to be done. */
static const float *edit_logits(struct sampler *sampler, const kvern_sampling *sampling,
                                const struct sampler_place *place, bool bars)
{
    if (sampling->repetition_penalty == 1 && !has_answer_penalty(sampling, place) &&
        sampling->n_logit_bias == 0 && !bars)
        return place->logits;
    memcpy(sampler->logits, place->logits, sampler->vocab_size * sizeof *sampler->logits);
    edit(sampler, sampling, place, bars);
    return sampler->logits;
}

kvern_status sampler_log_softmax(struct sampler *sampler, const kvern_sampling *sampling,
                                 const struct sampler_place *place, const float **log_probs,
                                 kvern_error *err)
{
    size_t n = sampler->vocab_size;
    float max;

    if (!logits_find_max(place->logits, n, &max))
        return fail(err, KVERN_RUNTIME, "logits of token %zu are not finite", place->n_history);
    double log_sum = logits_log_sum(place->logits, n, max);
    for (size_t i = 0; i < n; i++)
        sampler->logits[i] = (float)((double)(place->logits[i] - max) - log_sum);
    edit(sampler, sampling, place, true);
    *log_probs = sampler->logits;
    return KVERN_OK;
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

static struct candidates filter(const kvern_sampling *sampling,
                                const struct candidate_source *source, struct candidate *items)
{
    size_t top_k = (size_t)sampling->top_k;
    struct candidates left = top_k > 0 && top_k < source->vocab_size
                                 ? candidates_top_k(source, top_k, items)
                                 : candidates_all(source, items);

    if (sampling->top_p < 1)
        candidates_keep_top_p(&left, sampling->top_p);
    if (sampling->min_p > 0)
        candidates_keep_min_p(&left, sampling->min_p);
    if (sampling->typical_p < 1)
        candidates_keep_typical(&left, source, sampling->typical_p);
    return left;
}

kvern_status sampler_pick(struct sampler *sampler, const kvern_sampling *sampling,
                          const struct sampler_place *place, int32_t *token, kvern_error *err)
{
    bool bars = has_bars(sampling, place);
    struct candidate_source source = {.vocab_size = sampler->vocab_size,
                                      .temperature = sampling->temperature};
    bool has_max;

    source.logits = edit_logits(sampler, sampling, place, bars);
    has_max = logits_find_max(source.logits, source.vocab_size, &source.max);
    if (!has_max && bars) {
        source.logits = edit_logits(sampler, sampling, place, false);
        has_max = logits_find_max(source.logits, source.vocab_size, &source.max);
    }
    if (!has_max)
        return fail(err, KVERN_RUNTIME, "logits of token %zu are not finite", place->n_history);
    if (sampling->temperature > 0) {
        sampler->left = filter(sampling, &source, sampler->candidates);
        *token = candidates_draw(
            &sampler->left,
            uniform(sampling->seed, (uint64_t)(place->n_history - place->n_prompt)));
    } else {
        *token = (int32_t)logits_find(source.logits, source.vocab_size, source.max);
        sampler->candidates[0] = (struct candidate){.value = 1, .id = *token};
        sampler->left = (struct candidates){sampler->candidates, 1};
    }
    return KVERN_OK;
}

/* The best so far, best first. */
struct ranking {
    struct candidate best[MAX_TOP_LOGPROBS];
    size_t n;
    size_t capacity;
    float least; /* what is below it has no place, nor what is equal and has a higher id */
};

static void rank(struct ranking *ranking, struct candidate candidate)
{
    struct candidate *best = ranking->best;
    size_t at = ranking->n;

    if (ranking->n < ranking->capacity)
        ranking->n++;
    else if (at == 0 || !candidate_ranks_before(candidate, best[--at]))
        return;
    for (; at > 0 && candidate_ranks_before(candidate, best[at - 1]); at--)
        best[at] = best[at - 1];
    best[at] = candidate;
    if (ranking->n == ranking->capacity)
        ranking->least = best[ranking->n - 1].value;
}

static void model_logprobs(const struct sampler *sampler, const float *logits, int32_t token,
                           float *logprob, kvern_logprob *top, size_t n_top)
{
    struct ranking ranking = {.capacity = n_top, .least = -INFINITY};
    size_t n = sampler->vocab_size;
    float max = 0;

    logits_find_max(logits, n, &max); /* finite: a token was picked from them */
    double log_sum = logits_log_sum(logits, n, max);
    *logprob = (float)((double)(logits[token] - max) - log_sum);
    for (size_t i = n_top > 0 ? logits_next_over(logits, 0, n, ranking.least) : n; i < n;
         i = logits_next_over(logits, i + 1, n, ranking.least))
        rank(&ranking, (struct candidate){logits[i], (int32_t)i});
    for (size_t i = 0; i < ranking.n; i++)
        top[i] = (kvern_logprob){ranking.best[i].id,
                                 (float)((double)(ranking.best[i].value - max) - log_sum)};
}

static void sampled_logprobs(const struct candidates *left, int32_t token, float *logprob,
                             kvern_logprob *top, size_t n_top)
{
    struct ranking ranking = {.capacity = n_top};
    double log_sum = log(candidates_sum(left));

    for (size_t i = 0; i < left->n; i++) {
        if (left->items[i].id == token)
            *logprob = (float)(log((double)left->items[i].value) - log_sum);
        if (left->items[i].value >= ranking.least)
            rank(&ranking, left->items[i]);
    }
    for (size_t i = 0; i < ranking.n; i++)
        top[i] = (kvern_logprob){ranking.best[i].id,
                                 (float)(log((double)ranking.best[i].value) - log_sum)};
}

void sampler_logprobs(const struct sampler *sampler, kvern_logprobs kind,
                      const struct sampler_place *place, int32_t token, float *logprob,
                      kvern_logprob *top, size_t n_top)
{
    for (size_t i = 0; i < n_top; i++)
        top[i] = (kvern_logprob){-1, -INFINITY};
    if (kind == KVERN_LOGPROBS_MODEL)
        model_logprobs(sampler, place->logits, token, logprob, top, n_top);
    else
        sampled_logprobs(&sampler->left, token, logprob, top, n_top);
}
