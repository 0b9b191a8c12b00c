/* SPDX-License-Identifier: Apache-2.0
 *
 * What the plans of decoders and encoders share: tensors are taken out of a checkpoint by name and
 * dims, matrices get their packed form and size, and what was never taken is found at the end.
 */
#ifndef KVERN_CONVERT_PLANNER_H
#define KVERN_CONVERT_PLANNER_H

#include "convert/checkpoint.h"
#include "convert/pack.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A Linear: the stacked matrices and, for each, its bias. */
struct linear_plan {
    struct pack_plan weight;
    const struct tensor *biases[PACK_MAX_PARTS]; /* [weight.n_parts], all NULL without bias */
};

struct planner {
    const struct checkpoint *checkpoint; /* not owned */
    bool *is_used;                       /* [checkpoint->n_tensors], owned */
    bool has_bits[33];                   /* which widths are in use */
    int64_t n_parameters;
    size_t data_bytes; /* of all packed matrices */
    kvern_error *err;
};

kvern_status planner_init(struct planner *planner, const struct checkpoint *checkpoint,
                          kvern_error *err);
/* Fine on a zeroed planner. */
void planner_clear(struct planner *planner);

/* checkpoint_require, and the tensor counts as used. */
kvern_status planner_require(struct planner *planner, const char *name, size_t n_rows, size_t k,
                             const struct tensor **tensor);
/* pack_plan_make, and the matrix's bytes and width are counted. */
kvern_status planner_add_matrix(struct planner *planner, const struct tensor *const *parts,
                                size_t n_parts, enum weights_choice choice, struct pack_plan *out);
/* KVERN_UNSUPPORTED names the first tensor that was not taken and that is_ignored() does not pass:
 * a weight without a place in the graph makes a model that answers wrongly. */
kvern_status planner_check_all_used(const struct planner *planner,
                                    bool is_ignored(const struct checkpoint *checkpoint,
                                                    const char *name));
/* "q4", "q8", "f32" or "mixed", by the matrices added: static. */
const char *planner_name_weights(const struct planner *planner);

#endif
