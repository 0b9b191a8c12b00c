/* SPDX-License-Identifier: Apache-2.0
 *
 * What the graphs of decoders and encoders are made of: packed matrices and vectors as
 * initializers, and the Linear and Embedding nodes that read them. Weights are streamed tile by
 * tile, so the peak of memory is the scales of one matrix.
 */
#ifndef KVERN_CONVERT_GRAPH_WRITER_H
#define KVERN_CONVERT_GRAPH_WRITER_H

#include "convert/onnx_file.h"
#include "convert/pack.h"
#include "convert/planner.h"
#include "kvern.h"
#include "model/config.h"

#include <stddef.h>
#include <stdint.h>

extern const char graph_domain[]; /* "ai.kvern" */

/* What the writing tells and asks: NULL `fn` is fine. */
struct graph_progress {
    kvern_progress_fn fn;
    void *user_data;
    int64_t done_bytes;
    int64_t total_bytes;
};

struct graph_writer {
    struct onnx_file *file; /* not owned; its data file is open */
    struct graph_progress *progress;
    char what[80]; /* shown by progress */
    kvern_error *err;
};

/* A name in a graph: our own, and short. */
struct graph_name {
    char text[128];
};

/* "prefix.suffix" */
struct graph_name graph_name_join(const char *prefix, const char *suffix);
/* "model.layers.3.part" */
struct graph_name graph_name_in_layer(size_t layer, const char *part);

/* As Linear and Activation call it: static. */
const char *graph_activation_name(enum model_activation activation);

/* Vectors, one after the other, as one f32 initializer. */
kvern_status graph_writer_put_vectors(struct graph_writer *writer, const char *name,
                                      const struct tensor *const *parts, size_t n_parts);
/* NAME.data and, where the plan has them, NAME.scales and NAME.mins. KVERN_CANCELLED if progress
 * said stop. */
kvern_status graph_writer_put_matrix(struct graph_writer *writer, const char *name,
                                     const struct pack_plan *plan);

/* A Linear node `name` on a matrix `weight` that was put. The node is given back for more
 * attributes. */
struct onnx_node *graph_writer_add_linear(struct graph_writer *writer, const char *name,
                                          const char *weight, const struct pack_plan *plan,
                                          const char *bias, const char *x, const char *output);
/* Weights, bias and node of one Linear called `name`; its output is NAME.out. `node` may be NULL;
 * else it gets the node. */
kvern_status graph_writer_put_linear(struct graph_writer *writer, const char *name,
                                     const struct linear_plan *linear, const char *x,
                                     struct onnx_node **node);
/* An Embedding node `name` of the rows `ids` of a matrix `weight` that was put; its output is
 * NAME.out. */
void graph_writer_add_embedding(struct graph_writer *writer, const char *name, const char *weight,
                                const struct pack_plan *table, const char *ids);
/* Table and node of an Embedding called `name` on the graph's `ids`; its output is NAME.out. */
kvern_status graph_writer_put_embedding(struct graph_writer *writer, const char *name,
                                        const struct pack_plan *table, const char *ids);
/* Weight, multiplied by `factor`, and node of an RMS norm called `name` of x, or of x + skip where
 * `skip` is not NULL: then NAME.sum is the sum. */
kvern_status graph_writer_put_norm(struct graph_writer *writer, const char *name,
                                   const struct tensor *weight, float factor, float epsilon,
                                   const char *x, const char *skip, const char *output);
/* NAME.out: the rows of `x` that the graph input `rows` names. */
void graph_writer_add_gather(struct graph_writer *writer, const char *name, const char *x,
                             const char *rows);

#endif
