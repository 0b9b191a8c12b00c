/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors of a checkpoint make up an encoder-decoder of the T5 family (T5 1.0 and 1.1, FLAN,
 * mT5, CodeT5), and how each matrix will be packed: every tensor found, its shape checked, its
 * packed size known before a byte is written. Reads no value but the relative position biases.
 */
#ifndef KVERN_CONVERT_SEQ2SEQ_PLAN_H
#define KVERN_CONVERT_SEQ2SEQ_PLAN_H

#include "convert/checkpoint.h"
#include "convert/pack.h"
#include "convert/planner.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One of the encoder, or of the decoder, which alone has what is called cross. */
struct seq2seq_layer {
    const struct tensor *attention_norm; /* [hidden] */
    struct linear_plan qkv;              /* q, k and v rows: N = 3 H D */
    struct linear_plan o;
    const struct tensor *cross_norm; /* [hidden] */
    struct linear_plan cross_q;
    struct linear_plan cross_kv; /* k and v rows, of the encoder's output: N = 2 H D */
    struct linear_plan cross_o;
    const struct tensor *forward_norm; /* [hidden] */
    struct linear_plan up;             /* N = I, or gate rows and up rows: N = 2 I */
    struct linear_plan down;
};

/* The encoder or the decoder. */
struct seq2seq_stack {
    struct seq2seq_layer *layers; /* [n_layers], owned */
    size_t n_layers;
    const struct tensor *final_norm; /* [hidden] */
    /* [n_heads, 2 R + 1], owned: what the score of a key gets that stands d = -R .. R tokens after
     * the query; R = relative_max_distance stands for all that is farther */
    float *bias;
};

struct seq2seq_plan {
    const struct checkpoint *checkpoint; /* not owned; must outlive the plan */
    struct pack_plan embedding;          /* of both stacks */
    struct seq2seq_stack encoder, decoder;
    struct pack_plan lm_head; /* unused (n = 0) when tied */
    int64_t n_parameters;
    size_t data_bytes;   /* of all packed matrices: what is written as external data */
    const char *weights; /* "q4", "q8", "f32" or "mixed": static */
};

/* Fails on a missing tensor, wrong dims, a matrix that cannot be packed as chosen, or a tensor that
 * the graph has no place for. */
kvern_status seq2seq_plan_make(struct seq2seq_plan *plan, const struct checkpoint *checkpoint,
                               enum weights_choice weights, enum weights_choice table,
                               kvern_error *err);
void seq2seq_plan_clear(struct seq2seq_plan *plan);

/* The bucket of a key that stands `distance` tokens after the query (T5's
 * _relative_position_bucket): half of them for each direction in an encoder, all for what came
 * before in a decoder. */
size_t relative_bucket(ptrdiff_t distance, bool is_decoder, size_t n_buckets, size_t max_distance);

#endif
