/* SPDX-License-Identifier: Apache-2.0
 *
 * See support_scheduling.h.
 */
#include "support_scheduling.h"

#include "test.h"

enum { MAX_PROMPT = 400 };

void scheduling_open(struct scheduling *rig, size_t n_blocks, size_t max_running)
{
    struct scheduler_limits limits = {
        .step_tokens = 512, .max_running = max_running, .max_context = 1000, .scoring_rows = 100};

    assert_int_equal(scheduler_init(&rig->scheduler, &limits, n_blocks, NULL), KVERN_OK);
    assert_int_equal(plan_init(&rig->plan, max_running, NULL), KVERN_OK);
}

void scheduling_close(struct scheduling *rig)
{
    kvern_error err = {0};

    if (scheduler_check(&rig->scheduler, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(kv_blocks_available(&rig->scheduler.blocks), rig->scheduler.blocks.n_blocks);
    plan_clear(&rig->plan);
    scheduler_clear(&rig->scheduler);
}

void make_sequence(struct sequence *sequence, size_t n_prompt, size_t max_tokens, size_t differs_at)
{
    int32_t prompt[MAX_PROMPT];

    for (size_t i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)(i < differs_at ? i : 1000 + i);
    assert_int_equal(sequence_init(sequence, prompt, n_prompt, max_tokens, NULL), KVERN_OK);
}

void scheduling_finish(struct scheduling *rig, struct sequence *sequence)
{
    scheduler_retire(&rig->scheduler, sequence);
    sequence_clear(sequence);
}

void scheduling_step(struct scheduling *rig)
{
    kvern_error err = {0};

    scheduler_plan(&rig->scheduler, &rig->plan);
    for (size_t i = 0; i < rig->plan.n_items; i++) {
        struct plan_item *item = &rig->plan.items[i];

        scheduler_advance(&rig->scheduler, item->sequence, item->n_tokens);
        if (item->sequence->n_computed == item->sequence->n_tokens &&
            item->sequence->n_tokens < item->sequence->capacity)
            sequence_append(item->sequence, 7);
    }
    if (scheduler_check(&rig->scheduler, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}
