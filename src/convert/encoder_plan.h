/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors of a checkpoint make up an encoder of the BERT family, and how each matrix will be
 * packed: every tensor found, its shape checked, its packed size known before a byte is written.
 * Spellings of BERT, RoBERTa and DistilBERT are taken, with or without the model's prefix ("bert.")
 * and with LayerNorm's old names gamma and beta. Heads that transformers' AutoModel leaves out
 * (pooler, cls, classifier, ...) are left out here too.
 */
#ifndef KVERN_CONVERT_ENCODER_PLAN_H
#define KVERN_CONVERT_ENCODER_PLAN_H

#include "convert/checkpoint.h"
#include "convert/pack.h"
#include "convert/planner.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct norm_plan {
    const struct tensor *gamma; /* [hidden] */
    const struct tensor *beta;  /* [hidden] */
};

struct encoder_layer {
    struct linear_plan qkv; /* query, key and value rows: N = 3 hidden */
    struct linear_plan o;
    struct norm_plan attention_norm;
    struct linear_plan up;
    struct linear_plan down;
    struct norm_plan output_norm;
};

struct encoder_plan {
    const struct checkpoint *checkpoint; /* not owned; must outlive the plan */
    struct pack_plan words;
    struct tensor *place_table; /* owned, with its data: f32 [max_positions, hidden], the rows of
                                   the position table a text can have, plus token type 0's row */
    struct pack_plan places;    /* of place_table, f32 */
    struct norm_plan embedding_norm;
    struct encoder_layer *layers; /* [config.n_layers], owned */
    int64_t n_parameters;
    size_t data_bytes;   /* of all packed matrices: what is written as external data */
    const char *weights; /* "q4", "q8", "f32" or "mixed", place table aside: static */
};

/* `table` is the word table's form. Fails on a missing tensor, wrong dims, a matrix that cannot be
 * packed as chosen, or a tensor that the graph has no place for. */
kvern_status encoder_plan_make(struct encoder_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err);
void encoder_plan_clear(struct encoder_plan *plan);

#endif
