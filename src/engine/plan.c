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

void plan_clear(struct plan *plan)
{
    free(plan->items);
    free(plan->copies);
    *plan = (struct plan){0};
}
