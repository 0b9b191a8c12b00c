/* SPDX-License-Identifier: Apache-2.0
 *
 * struct plan: its memory, taken once for the most sequences a step may have.
 */
#include "engine/plan.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

kvern_status plan_init(struct plan *plan, size_t capacity, kvern_error *err)
{
    *plan = (struct plan){0};
    plan->items = try_new(capacity, sizeof *plan->items);
    plan->copies = try_new(capacity, sizeof *plan->copies);
    if (!plan->items || !plan->copies) {
        plan_clear(plan);
        return fail(err, KVERN_MEMORY, "no memory for a plan of %zu sequences", capacity);
    }
    plan->capacity = capacity;
    return KVERN_OK;
}

struct plan_tokens plan_count(const struct plan *plan)
{
    struct plan_tokens tokens = {0};

    for (size_t i = 0; i < plan->n_items; i++) {
        if (sequence_is_decoding(plan->items[i].sequence))
            tokens.n_decoded++;
        else
            tokens.n_prompt += plan->items[i].n_tokens;
    }
    return tokens;
}

void plan_clear(struct plan *plan)
{
    free(plan->items);
    free(plan->copies);
    *plan = (struct plan){0};
}
