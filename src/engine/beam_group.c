/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the search, which knows beams by number, and the scheduler, which knows sequences: beam i
 * is member i, and moves to another one's blocks instead of to another sequence.
 */
#include "engine/beam_group.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/sharing.h"

#include <stdlib.h>

kvern_status beam_group_new(kvern_request *const *requests, size_t n, size_t n_answers,
                            size_t max_tokens, const kvern_request_options *options,
                            kvern_error *err)
{
    struct beam_group *group = new_or_abort(sizeof *group);
    const struct beam_options of_search = {
        .n_beams = n,
        .length_penalty = options->length_penalty,
        .early_stopping = options->early_stopping,
        .max_tokens = max_tokens,
        .end_ids = requests[0]->end_ids,
        .n_end_ids = requests[0]->n_end_ids,
        .vocab_size = requests[0]->vocab_size,
    };
    kvern_status status = beam_search_init(&group->search, &of_search, err);

    for (size_t i = 0; i < n && status == KVERN_OK; i++)
        status = kv_table_init(&group->spare[i], requests[0]->sequence.table.capacity, err);
    group->n_members = n;
    if (status != KVERN_OK) {
        group->n_answers = n; /* none is its own yet */
        beam_group_free(group);
        return status;
    }
    group->n_answers = n_answers;
    for (size_t i = 0; i < n; i++) {
        group->members[i] = requests[i];
        requests[i]->beams = group;
        requests[i]->sequence.is_beam = true;
        requests[i]->sequence.is_held = i > 0; /* the first one runs the prompt */
    }
    return KVERN_OK;
}

void beam_group_free(struct beam_group *group)
{
    beam_search_clear(&group->search);
    for (size_t i = 0; i < group->n_members; i++)
        kv_table_clear(&group->spare[i]);
    for (size_t i = group->n_answers; i < group->n_members; i++)
        request_free(group->members[i]);
    free(group);
}

void beam_group_fail(struct beam_group *group, const kvern_error *error)
{
    if (!group->has_failed)
        group->error = *error;
    group->has_failed = true;
}

/* The members become the beams that were chosen. */
static void go_on(struct beam_group *group, struct scheduler *scheduler)
{
    const struct beam_search *search = &group->search;
    struct sequence *sequences[MAX_BEAMS];
    size_t parents[MAX_BEAMS];

    for (size_t i = 0; i < group->n_members; i++) {
        sequences[i] = &group->members[i]->sequence;
        parents[i] = search->beams[i].parent;
    }
    sharing_reorder(scheduler, sequences, parents, group->spare, group->n_members);
    for (size_t i = 0; i < group->n_members; i++) {
        struct sequence *sequence = sequences[i];

        beam_search_read(search, search->beams[i].node, search->n_tokens,
                         sequence->tokens + sequence->n_prompt);
        sequence->n_tokens = sequence->n_prompt + search->n_tokens;
        sequence->is_held = false;
    }
    group->n_seen = 0;
}

static size_t index_of(const struct beam_group *group, const kvern_request *request)
{
    size_t i = 0;

    while (group->members[i] != request)
        i++;
    return i;
}

bool beam_group_see(struct beam_group *group, struct scheduler *scheduler, struct sampler *sampler,
                    kvern_request *request, const float *logits)
{
    struct beam_search *search = &group->search;
    size_t n_wanted = search->n_tokens == 0 ? 1 : group->n_members;
    const float *log_probs = NULL;
    kvern_error error;

    if (group->has_failed)
        return false;
    kvern_status status = request_log_softmax(request, sampler, logits, &log_probs, &error);
    if (status == KVERN_OK) {
        beam_search_see(search, index_of(group, request), log_probs);
        request->sequence.is_held = true;
        if (++group->n_seen < n_wanted)
            return false;
        status = beam_search_choose(search, &error);
    }
    if (status != KVERN_OK) {
        beam_group_fail(group, &error);
        return false;
    }
    if (group->members[0]->first_token_ms == 0)
        group->members[0]->first_token_ms = clock_ms();
    if (search->is_done)
        return true;
    go_on(group, scheduler);
    return false;
}

kvern_status beam_group_answer(struct beam_group *group, kvern_finish *finishes, kvern_error *err)
{
    const struct beam_search *search = &group->search;
    const kvern_request *leader = group->members[0];
    int32_t *tokens = try_new(search->n_tokens, sizeof *tokens);

    if (!tokens)
        return fail(err, KVERN_MEMORY, "no memory for an answer of %zu tokens", search->n_tokens);
    for (size_t i = 0; i < group->n_answers; i++) {
        const struct beam_answer *answer = &search->answers[i];
        kvern_request *request = group->members[i];

        request->started_ms = leader->started_ms;
        request->first_token_ms = leader->first_token_ms;
        request->sequence.n_cached = leader->sequence.n_cached;
        request->sequence.n_shown = leader->sequence.n_shown;
        beam_search_read(search, answer->node, answer->n_tokens, tokens);
        finishes[i] = request_add_answer(request, tokens, answer->n_tokens, answer->score);
    }
    free(tokens);
    return KVERN_OK;
}
