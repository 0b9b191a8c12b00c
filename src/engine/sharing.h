/* SPDX-License-Identifier: Apache-2.0
 *
 * What a sequence takes over of others when it is admitted, instead of computing it: the KV of its
 * conversation, of the sample that runs its prompt, of the prefix cache, or, where KV is in values
 * beside the blocks, of a prompt that was kept whole. It never changes an answer: what is taken is
 * what the sequence would compute, byte for byte (but for conversations; see docs/sessions.md). The
 * scheduler's part that knows tokens.
 */
#ifndef KVERN_ENGINE_SHARING_H
#define KVERN_ENGINE_SHARING_H

#include "engine/scheduler.h"

/* A sequence that follows no other any more; fine on one that never did. */
void sharing_leave_leader(struct sequence *sequence);
/* Whether a running prompt is what this waiting one begins with, as far as that is worth waiting
 * for: its own tokens would come after that prompt's anyway. */
bool sharing_is_worth_a_wait(const struct scheduler *scheduler, const struct sequence *sequence);
/* Takes over what is there; sets n_computed. One token is left to run. true: out of the prefix
 * cache or of a kept prompt. */
bool sharing_take(struct scheduler *scheduler, struct sequence *sequence);
/* After a step: full blocks are remembered, or a prompt that ended is kept. */
void sharing_remember(struct scheduler *scheduler, struct sequence *sequence);

/* Beams [n] of one search that have computed all their tokens: each goes on in the KV of the one
 * with the index parents[i], which their tokens are then set to. Who waits for blocks gets no KV,
 * and what is a beam's that was pre-empted is computed again. `spare` [n] are empty tables of the
 * beams' size, and are so again afterwards. */
void sharing_reorder(struct scheduler *scheduler, struct sequence *const *beams,
                     const size_t *parents, struct kv_table *spare, size_t n);

#endif
