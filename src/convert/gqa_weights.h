/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoint tensors from the ONNX operators that multiply by weights or look rows up in them:
 * MatMul, MatMulNBits, Gather and GatherBlockQuantized. Nothing is copied: a tensor describes bytes
 * of the export, whose sizes were compared with what the operator says.
 */
#ifndef KVERN_CONVERT_GQA_WEIGHTS_H
#define KVERN_CONVERT_GQA_WEIGHTS_H

#include "convert/onnx_graph.h"
#include "convert/tensor.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>

/* A walk over a graph that notes which nodes it has understood. */
struct gqa_walk {
    const struct onnx_graph *graph;
    bool *is_used; /* [graph->n_nodes] */
    kvern_error *err;
};

/* KVERN_UNSUPPORTED: says that `node` does not fit and why, and that the export runs as it is. */
kvern_status gqa_misfit(const struct gqa_walk *walk, const struct onnx_graph_node *node,
                        const char *format, ...) __attribute__((format(printf, 3, 4)));

void gqa_use(struct gqa_walk *walk, const struct onnx_graph_node *node);
/* The value before the float casts and identities in its way, which are used. */
const struct onnx_graph_value *gqa_origin(struct gqa_walk *walk,
                                          const struct onnx_graph_value *value);
/* The node that makes a value's origin, or NULL. */
const struct onnx_graph_node *gqa_maker(struct gqa_walk *walk,
                                        const struct onnx_graph_value *value);
/* The tensor that a value's origin is, or NULL. */
const struct onnx_tensor *gqa_constant(struct gqa_walk *walk, const struct onnx_graph_value *value);
/* All attributes of the node must be among `names` (the last one NULL): one that kvern does not
 * know may change what the node computes. */
kvern_status gqa_check_attributes(const struct gqa_walk *walk, const struct onnx_graph_node *node,
                                  const char *const *names);

/* A vector of floats that `node` reads. */
kvern_status gqa_vector(struct gqa_walk *walk, const struct onnx_graph_node *node,
                        const struct onnx_graph_value *value, struct tensor *vector);

struct gqa_linear {
    struct tensor weight; /* [N, K], without a name */
    struct tensor bias;   /* [N], without a name; type TENSOR_ZERO where there is none */
    const struct onnx_graph_value *input; /* an origin */
};

/* Whether a value comes out of a matrix, with or without a bias. */
bool gqa_is_linear(struct gqa_walk *walk, const struct onnx_graph_value *value);
/* `reader` is the node that wants it, for the message if it is none. */
kvern_status gqa_read_linear(struct gqa_walk *walk, const struct onnx_graph_value *value,
                             const struct onnx_graph_node *reader, struct gqa_linear *linear);

/* The embedding: rows of a table by a graph input. */
kvern_status gqa_read_table(struct gqa_walk *walk, const struct onnx_graph_value *value,
                            const struct onnx_graph_node *reader, struct tensor *table);

#endif
