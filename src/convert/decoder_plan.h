/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors of a checkpoint make up a decoder model of the Llama, Qwen2 or Qwen3 family, and
 * how each matrix will be packed: every tensor found, its shape checked, its packed size known
 * before a byte is written. Reads no value.
 */
#ifndef KVERN_CONVERT_DECODER_PLAN_H
#define KVERN_CONVERT_DECODER_PLAN_H

#include "convert/checkpoint.h"
#include "convert/pack.h"
#include "convert/planner.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct decoder_layer {
    const struct tensor *input_norm; /* [hidden] */
    const struct tensor *post_norm;  /* [hidden] */
    const struct tensor *q_norm;     /* [head_size], or NULL */
    const struct tensor *k_norm;     /* [head_size], or NULL */
    struct linear_plan qkv;          /* q, k and v rows: N = (H + 2 Hkv) D */
    struct linear_plan o;
    struct linear_plan gate_up; /* gate rows first: N = 2 I */
    struct linear_plan down;
};

struct decoder_plan {
    const struct checkpoint *checkpoint; /* not owned; must outlive the plan */
    struct pack_plan embedding;
    struct decoder_layer *layers; /* [config.n_layers], owned */
    const struct tensor *final_norm;
    struct pack_plan lm_head; /* unused (n = 0) when tied */
    int64_t n_parameters;
    size_t data_bytes;   /* of all packed matrices: what is written as external data */
    const char *weights; /* "q4", "q8", "f32" or "mixed": static */
};

/* Fails on a missing tensor, wrong dims, a matrix that cannot be packed as chosen, or a tensor that
 * the graph has no place for. */
kvern_status decoder_plan_make(struct decoder_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err);
void decoder_plan_clear(struct decoder_plan *plan);

#endif
