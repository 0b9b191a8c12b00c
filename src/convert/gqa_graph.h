/* SPDX-License-Identifier: Apache-2.0
 *
 * The decoder in a GroupQueryAttention export, recognised by structure: which matrix is what, and
 * the numbers of the attention. Follows edges from the logits back to the embedding; names of nodes
 * are for messages only. Every node must have a part, or the graph computes something else.
 */
#ifndef KVERN_CONVERT_GQA_GRAPH_H
#define KVERN_CONVERT_GQA_GRAPH_H

#include "convert/gqa_weights.h"
#include "convert/onnx_graph.h"
#include "convert/tensor.h"
#include "kvern.h"
#include "model/config.h"

#include <stdbool.h>
#include <stddef.h>

/* Tensors without names; the vectors are [hidden], or [head_size] for q and k. */
struct gqa_layer {
    struct tensor input_norm;
    struct tensor post_norm;
    struct tensor q_norm; /* n_dims 0 without */
    struct tensor k_norm;
    struct gqa_linear q;
    struct gqa_linear k;
    struct gqa_linear v;
    struct gqa_linear o;
    struct gqa_linear gate;
    struct gqa_linear up;
    struct gqa_linear down;
};

struct gqa_graph {
    struct gqa_layer *layers; /* [n_layers], owned */
    size_t n_layers;
    struct tensor embedding;
    struct tensor final_norm;
    struct tensor lm_head;
    bool is_tied; /* lm_head and embedding are the same bytes, or floats of the same values */
    size_t n_heads;
    size_t n_kv_heads;
    size_t head_size;
    size_t window; /* 0: off */
    float norm_epsilon;
    enum model_activation activation;
    const struct onnx_tensor *cos; /* [positions, head_size / 2], f32 or f16 */
    const struct onnx_tensor *sin;
};

/* KVERN_UNSUPPORTED names the first node that does not fit. Tensors point into what `graph` points
 * into. On failure *out is zeroed. */
kvern_status gqa_graph_read(struct gqa_graph *out, const struct onnx_graph *graph,
                            kvern_error *err);
void gqa_graph_clear(struct gqa_graph *graph);

#endif
