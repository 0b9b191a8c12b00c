/* SPDX-License-Identifier: Apache-2.0
 *
 * The reference's steps, in its order and its numbers: -1e9 is what it adds to a score that must
 * not be chosen. Tokens are nodes that point to their parents, so that no choice copies a history.
 */
#include "engine/beam.h"

#include "base/error.h"
#include "base/memory.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float never = -1e9F;

struct beam_node {
    int32_t parent; /* -1: none */
    int32_t token;
};

/* A continuation of a beam. */
struct beam_candidate {
    float score;
    uint32_t beam;
    int32_t token;
    bool has_ended;
};

kvern_status beam_search_init(struct beam_search *search, const struct beam_options *options,
                              kvern_error *err)
{
    size_t per_beam = options->n_end_ids > 1 ? options->n_end_ids + 1 : 2;

    assert(options->n_beams >= 1 && options->n_beams <= MAX_BEAMS);
    *search = (struct beam_search){.options = *options, .may_improve = true};
    /* so many that, were all end tokens among them, there would still be n_beams to go on with */
    search->n_most =
        options->n_beams * (per_beam < options->vocab_size ? per_beam : options->vocab_size);
    search->candidates = try_new(search->n_most, sizeof *search->candidates);
    if (!search->candidates)
        return fail(err, KVERN_MEMORY, "no memory for a search with %zu beams", options->n_beams);
    for (size_t i = 0; i < options->n_beams; i++) {
        search->beams[i] = (struct beam){.score = i > 0 ? never : 0, .node = -1};
        search->answers[i] = (struct beam_answer){.score = never, .node = -1};
    }
    return KVERN_OK;
}

void beam_search_clear(struct beam_search *search)
{
    free(search->candidates);
    free(search->nodes);
    *search = (struct beam_search){0};
}

static bool ranks_before(const struct beam_candidate *a, const struct beam_candidate *b)
{
    if (a->score != b->score)
        return a->score > b->score;
    return a->beam != b->beam ? a->beam < b->beam : a->token < b->token;
}

static void add_candidate(struct beam_search *search, struct beam_candidate candidate)
{
    struct beam_candidate *best = search->candidates;
    size_t at = search->n_candidates;

    if (at < search->n_most)
        search->n_candidates++;
    else if (!ranks_before(&candidate, &best[--at]))
        return;
    for (; at > 0 && ranks_before(&candidate, &best[at - 1]); at--)
        best[at] = best[at - 1];
    best[at] = candidate;
}

static void see_row(struct beam_search *search, size_t beam, const float *log_probs)
{
    float score = search->beams[beam].score;

    for (size_t id = 0; id < search->options.vocab_size; id++) {
        float sum = log_probs[id] + score;

        if (search->n_candidates == search->n_most &&
            sum < search->candidates[search->n_most - 1].score)
            continue;
        add_candidate(search, (struct beam_candidate){
                                  .score = sum, .beam = (uint32_t)beam, .token = (int32_t)id});
    }
}

void beam_search_see(struct beam_search *search, size_t beam, const float *log_probs)
{
    see_row(search, beam, log_probs);
    for (size_t i = 1; search->n_tokens == 0 && i < search->options.n_beams; i++)
        see_row(search, i, log_probs);
}

static bool is_end(const struct beam_options *options, int32_t token)
{
    for (size_t i = 0; i < options->n_end_ids; i++) {
        if (options->end_ids[i] == token)
            return true;
    }
    return false;
}

static int32_t add_node(struct beam_search *search, const struct beam *parents,
                        const struct beam_candidate *candidate)
{
    search->nodes[search->n_nodes] =
        (struct beam_node){.parent = parents[candidate->beam].node, .token = candidate->token};
    return (int32_t)search->n_nodes++;
}

/* A score by which answers of different lengths are compared. */
static float scale(const struct beam_options *options, float score, size_t n_tokens)
{
    return score / (float)pow((double)n_tokens, (double)options->length_penalty);
}

/* The best candidates that have not ended go on. */
static void choose_beams(struct beam_search *search, const struct beam *parents)
{
    size_t n_beams = search->options.n_beams;
    size_t n = 0;

    /* those that have ended come after all others, in the order they have */
    for (int has_ended = 0; has_ended < 2; has_ended++) {
        for (size_t i = 0; i < search->n_candidates && n < n_beams; i++) {
            const struct beam_candidate *candidate = &search->candidates[i];

            if (candidate->has_ended != (bool)has_ended)
                continue;
            search->beams[n++] = (struct beam){.parent = candidate->beam,
                                               .token = candidate->token,
                                               .score = candidate->score + (has_ended ? never : 0),
                                               .node = add_node(search, parents, candidate)};
        }
    }
}

static bool all_are_finished(const struct beam_search *search)
{
    for (size_t i = 0; i < search->options.n_beams; i++) {
        if (!search->answers[i].is_finished)
            return false;
    }
    return true;
}

/* The index of the best answer that was not taken; equal ones: of the first. */
static size_t find_best(const struct beam_answer *answers, const bool *is_taken, size_t n)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++) {
        if (!is_taken[i] && (best == n || answers[i].score > answers[best].score))
            best = i;
    }
    return best;
}

/* Of the n_beams best candidates, those that have ended are answers, if they are better than the
 * worst there are. (The reference's further conditions are for batches, where other searches go on
 * after one is done.) */
static void choose_answers(struct beam_search *search, const struct beam *parents)
{
    const struct beam_options *options = &search->options;
    struct beam_answer merged[2 * MAX_BEAMS];
    bool is_taken[2 * MAX_BEAMS] = {false};
    const struct beam_candidate *of[2 * MAX_BEAMS] = {NULL};
    size_t n = options->n_beams;

    memcpy(merged, search->answers, n * sizeof *merged);
    for (size_t i = 0; i < options->n_beams; i++) {
        const struct beam_candidate *candidate = &search->candidates[i];

        if (!candidate->has_ended)
            continue;
        of[n] = candidate;
        merged[n++] =
            (struct beam_answer){.is_finished = true,
                                 .score = scale(options, candidate->score, search->n_tokens),
                                 .n_tokens = search->n_tokens,
                                 .node = -1};
    }
    for (size_t i = 0; i < options->n_beams; i++) {
        size_t best = find_best(merged, is_taken, n);

        is_taken[best] = true;
        search->answers[i] = merged[best];
        if (of[best])
            search->answers[i].node = add_node(search, parents, of[best]);
    }
}

/* Whether the best beam may still become one of the answers; once it may not, it never may. */
static bool may_improve(const struct beam_search *search)
{
    const struct beam_options *options = &search->options;
    bool is_patient =
        options->early_stopping == KVERN_EARLY_STOPPING_NEVER && options->length_penalty > 0;
    float best =
        scale(options, search->beams[0].score, is_patient ? options->max_tokens : search->n_tokens);
    float worst = INFINITY;

    for (size_t i = 0; i < options->n_beams; i++) {
        const struct beam_answer *answer = &search->answers[i];

        if (!answer->is_finished)
            worst = never;
        else if (answer->score < worst)
            worst = answer->score;
    }
    return search->may_improve && best > worst;
}

static kvern_status reserve_nodes(struct beam_search *search, kvern_error *err)
{
    size_t n_wanted = search->n_nodes + 2 * search->options.n_beams;
    size_t capacity = 2 * n_wanted;
    struct beam_node *nodes;

    if (n_wanted <= search->node_capacity)
        return KVERN_OK;
    nodes = try_resize(search->nodes, capacity, sizeof *nodes);
    if (!nodes)
        return fail(err, KVERN_MEMORY, "no memory for %zu tokens of %zu beams",
                    search->n_tokens + 1, search->options.n_beams);
    search->nodes = nodes;
    search->node_capacity = capacity;
    return KVERN_OK;
}

kvern_status beam_search_choose(struct beam_search *search, kvern_error *err)
{
    const struct beam_options *options = &search->options;
    struct beam parents[MAX_BEAMS];
    bool can_go_on = false;
    kvern_status status = reserve_nodes(search, err);

    assert(search->n_candidates == search->n_most);
    if (status != KVERN_OK)
        return status;
    memcpy(parents, search->beams, options->n_beams * sizeof *parents);
    search->n_tokens++;
    for (size_t i = 0; i < search->n_candidates; i++) {
        struct beam_candidate *candidate = &search->candidates[i];

        candidate->has_ended =
            search->n_tokens >= options->max_tokens || is_end(options, candidate->token);
        can_go_on |= !candidate->has_ended;
    }
    choose_beams(search, parents);
    choose_answers(search, parents);
    search->n_candidates = 0;
    search->may_improve = may_improve(search);
    search->is_done =
        !search->may_improve || !can_go_on ||
        (options->early_stopping == KVERN_EARLY_STOPPING_TRUE && all_are_finished(search));
    return KVERN_OK;
}

void beam_search_read(const struct beam_search *search, int32_t node, size_t n_tokens,
                      int32_t *tokens)
{
    for (size_t i = n_tokens; i > 0; i--) {
        tokens[i - 1] = search->nodes[node].token;
        node = search->nodes[node].parent;
    }
}
