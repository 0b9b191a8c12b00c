/* SPDX-License-Identifier: Apache-2.0
 *
 * The attention of one layer of an export: from the output projection back through
 * GroupQueryAttention, rotary embedding and head norms to the q, k and v matrices. A part of
 * gqa_graph.c's walk.
 */
#ifndef KVERN_CONVERT_GQA_ATTENTION_H
#define KVERN_CONVERT_GQA_ATTENTION_H

#include "convert/gqa_weights.h"

struct gqa_graph;
struct gqa_layer;

/* `value` is what the layer adds; *x is the origin q, k and v read. The first layer read settles
 * the numbers of `out`, and the others must have the same. */
kvern_status gqa_read_attention(struct gqa_walk *walk, struct gqa_graph *out,
                                const struct onnx_graph_value *value,
                                const struct onnx_graph_node *reader, struct gqa_layer *layer,
                                const struct onnx_graph_value **x);

/* Operators that are an RMS norm of one input. */
bool gqa_is_rms_norm(const struct onnx_graph_node *node);
/* Whether a Split cuts the last axis into parts of these sizes. */
kvern_status gqa_check_split(struct gqa_walk *walk, const struct onnx_graph_node *split,
                             const size_t *sizes, size_t n_sizes);
/* Rows [begin, begin + n) of a matrix and its bias. */
struct gqa_linear gqa_linear_rows(const struct gqa_linear *linear, size_t begin, size_t n);

#endif
