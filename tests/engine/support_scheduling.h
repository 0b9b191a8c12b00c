/* SPDX-License-Identifier: Apache-2.0
 *
 * A scheduler and its plan, stepped by hand without an engine, and sequences for it.
 */
#ifndef KVERN_TESTS_SUPPORT_SCHEDULING_H
#define KVERN_TESTS_SUPPORT_SCHEDULING_H

#include "engine/scheduler.h"

struct scheduling {
    struct scheduler scheduler;
    struct plan plan;
};

void scheduling_open(struct scheduling *rig, size_t n_blocks, size_t max_running);
/* All sequences are gone, and all blocks free. */
void scheduling_close(struct scheduling *rig);
/* Tokens 0, 1, 2, ..; from `differs_at` on others. At most 400. */
void make_sequence(struct sequence *sequence, size_t n_prompt, size_t max_tokens,
                   size_t differs_at);
void scheduling_finish(struct scheduling *rig, struct sequence *sequence);
/* Plans a step and commits it; what has all its tokens computed generates token 7. */
void scheduling_step(struct scheduling *rig);

#endif
