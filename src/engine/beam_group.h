/* SPDX-License-Identifier: Apache-2.0
 *
 * The requests of one beam search: as many as it has beams, one sequence each. Each runs to its
 * last token, shows the search its logits and is held; when all have, the search chooses, and each
 * gets the tokens and the KV of the beam it goes on from. They end together. The first of them are
 * the caller's and give the answers, best first; the others belong to the group. All of it is under
 * the engine's mutex.
 */
#ifndef KVERN_ENGINE_BEAM_GROUP_H
#define KVERN_ENGINE_BEAM_GROUP_H

#include "engine/beam.h"
#include "engine/request.h"
#include "engine/scheduler.h"

struct beam_group {
    struct beam_search search;
    kvern_request *members[MAX_BEAMS]; /* [n_members] */
    size_t n_members;
    size_t n_answers;                 /* the first of them are the caller's */
    size_t n_seen;                    /* that have shown their logits since the last choice */
    struct kv_table spare[MAX_BEAMS]; /* [n_members] */
    bool has_failed;                  /* with this error; it ends before the next step */
    kvern_error error;
};

/* Makes the requests [n] one search; those from n_answers on are its own then. On failure nothing
 * has changed. */
kvern_status beam_group_new(kvern_request *const *requests, size_t n, size_t n_answers,
                            size_t max_tokens, const kvern_request_options *options,
                            kvern_error *err);
/* Frees the group and its own requests; all its sequences are out of the scheduler. */
void beam_group_free(struct beam_group *group);

/* The logits [vocab_size] that follow all tokens of a member. What goes wrong is the group's
 * error; true: the search has ended well. */
bool beam_group_see(struct beam_group *group, struct scheduler *scheduler, struct sampler *sampler,
                    kvern_request *request, const float *logits);
/* It ends before the next step. */
void beam_group_fail(struct beam_group *group, const kvern_error *error);
/* Delivers the answers of a search that has ended well: finishes [n_answers]. */
kvern_status beam_group_answer(struct beam_group *group, kvern_finish *finishes, kvern_error *err);

#endif
