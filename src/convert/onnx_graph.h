/* SPDX-License-Identifier: Apache-2.0
 *
 * A read-only view of an untrusted ONNX graph: nodes with attributes, values and who makes each,
 * tensors, subgraphs. Types and shapes of inputs and outputs are not looked at. What is here is
 * well-formed (every value made once and before it is read, every tensor as long as its dims say),
 * but no operator was looked at. Files are onnx_model.h's matter.
 */
#ifndef KVERN_CONVERT_ONNX_GRAPH_H
#define KVERN_CONVERT_ONNX_GRAPH_H

#include "base/map.h"
#include "convert/onnx_tensor.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct onnx_graph;
struct onnx_graph_node;

/* Whatever has a name in a graph. One that has neither node nor tensor and is no input comes, in a
 * subgraph, from the graph around it. */
struct onnx_graph_value {
    char *name;                         /* owned */
    const struct onnx_graph_node *node; /* that makes it, or NULL */
    size_t node_output;                 /* which of its outputs */
    const struct onnx_tensor *tensor;   /* an initializer, or what a Constant node says; or NULL */
    size_t n_readers;                   /* node inputs of this graph that name it */
    bool is_input;
    bool is_output;
};

/* AttributeProto.AttributeType */
enum onnx_attribute_type {
    ONNX_ATTRIBUTE_FLOAT = 1,
    ONNX_ATTRIBUTE_INT = 2,
    ONNX_ATTRIBUTE_STRING = 3,
    ONNX_ATTRIBUTE_TENSOR = 4,
    ONNX_ATTRIBUTE_GRAPH = 5,
    ONNX_ATTRIBUTE_FLOATS = 6,
    ONNX_ATTRIBUTE_INTS = 7,
    ONNX_ATTRIBUTE_STRINGS = 8,
};

struct onnx_graph_attribute {
    char *name; /* owned */
    enum onnx_attribute_type type;
    float f;
    int64_t i;
    char *s;                    /* owned; NULL unless a string without NUL bytes */
    int64_t *ints;              /* [n_ints], owned */
    size_t n_ints;              /* of ints; the values of other lists are not kept */
    struct onnx_tensor *tensor; /* owned */
    struct onnx_graph *graph;   /* owned */
};

struct onnx_graph_node {
    char *name;                       /* owned; may be "" */
    char *op;                         /* owned */
    char *domain;                     /* owned; "" for ai.onnx */
    struct onnx_graph_value **inputs; /* [n_inputs], NULL where an optional one is left out */
    size_t n_inputs;
    struct onnx_graph_value **outputs; /* [n_outputs], likewise */
    size_t n_outputs;
    struct onnx_graph_attribute *attributes; /* [n_attributes] */
    size_t n_attributes;
};

struct onnx_graph {
    struct onnx_graph_node *nodes; /* [n_nodes], owned: each after those whose values it reads */
    size_t n_nodes;
    struct onnx_tensor *tensors; /* [n_tensors], owned: the initializers */
    size_t n_tensors;
    struct onnx_graph_value *values; /* [n_values], owned */
    size_t n_values;
    struct map by_name; /* name -> index into values */
};

/* `bytes` is a GraphProto and must outlive the graph; external tensors stay without data. On
 * failure *graph is zeroed. */
kvern_status onnx_graph_parse(struct onnx_graph *graph, const uint8_t *bytes, size_t n_bytes,
                              kvern_error *err);
/* Fine on a zeroed graph. */
void onnx_graph_clear(struct onnx_graph *graph);

/* NULL if the graph has no value of that name. */
const struct onnx_graph_value *onnx_graph_find(const struct onnx_graph *graph, const char *name);
/* NULL if the node has no such attribute. */
const struct onnx_graph_attribute *graph_node_attribute(const struct onnx_graph_node *node,
                                                        const char *name);
int64_t graph_node_int(const struct onnx_graph_node *node, const char *name, int64_t otherwise);
float graph_node_float(const struct onnx_graph_node *node, const char *name, float otherwise);
/* NULL if the node has no such input, or leaves it out. */
const struct onnx_graph_value *graph_node_input(const struct onnx_graph_node *node, size_t i);
/* "" and "ai.onnx" are one domain. */
bool graph_node_is(const struct onnx_graph_node *node, const char *domain, const char *op);

#endif
