/* SPDX-License-Identifier: Apache-2.0
 *
 * struct planner: the bookkeeping of a plan. Reads dims only, never a value.
 */
#include "convert/planner.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

kvern_status planner_init(struct planner *planner, const struct checkpoint *checkpoint,
                          kvern_error *err)
{
    *planner = (struct planner){.checkpoint = checkpoint, .err = err};
    planner->is_used = try_new(checkpoint->n_tensors, sizeof *planner->is_used);
    return planner->is_used
               ? KVERN_OK
               : fail(err, KVERN_MEMORY, "out of memory for %zu tensors", checkpoint->n_tensors);
}

void planner_clear(struct planner *planner)
{
    free(planner->is_used);
    *planner = (struct planner){0};
}

kvern_status planner_require(struct planner *planner, const char *name, size_t n_rows, size_t k,
                             const struct tensor **tensor)
{
    kvern_status status =
        checkpoint_require(planner->checkpoint, name, n_rows, k, tensor, planner->err);

    if (status != KVERN_OK)
        return status;
    planner->is_used[*tensor - planner->checkpoint->tensors] = true;
    planner->n_parameters += (int64_t)(n_rows * k);
    return KVERN_OK;
}

kvern_status planner_add_matrix(struct planner *planner, const struct tensor *const *parts,
                                size_t n_parts, enum weights_choice choice, struct pack_plan *out)
{
    kvern_status status = pack_plan_make(out, parts, n_parts, choice, planner->err);
    size_t n_bytes;

    if (status != KVERN_OK)
        return status;
    n_bytes = out->data_bytes + out->scales_bytes * (out->has_mins ? 2 : 1);
    if (!add_sizes(planner->data_bytes, n_bytes, &planner->data_bytes))
        return fail(planner->err, KVERN_LIMIT, "the model is too large for this machine");
    planner->has_bits[out->bits] = true;
    return KVERN_OK;
}

kvern_status planner_check_all_used(const struct planner *planner,
                                    bool is_ignored(const struct checkpoint *checkpoint,
                                                    const char *name))
{
    const struct checkpoint *checkpoint = planner->checkpoint;

    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const char *name = checkpoint->tensors[i].name;

        if (!planner->is_used[i] && !is_ignored(checkpoint, name))
            return fail(planner->err, KVERN_UNSUPPORTED,
                        "the checkpoint holds %s, for which a %s model of this config has no place",
                        name, config_family_name(checkpoint->config.family));
    }
    return KVERN_OK;
}

const char *planner_name_weights(const struct planner *planner)
{
    bool has_q4 = planner->has_bits[4];
    bool has_q8 = planner->has_bits[8];
    bool has_f32 = planner->has_bits[32];

    if (has_q4 + has_q8 + has_f32 > 1)
        return "mixed";
    return has_q4 ? "q4" : has_q8 ? "q8" : "f32";
}
