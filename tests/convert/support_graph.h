/* SPDX-License-Identifier: Apache-2.0
 *
 * A graph that was written, read back by protobuf-c: its nodes, tensors and values by name. What is
 * not there fails the test.
 */
#ifndef KVERN_TESTS_SUPPORT_GRAPH_H
#define KVERN_TESTS_SUPPORT_GRAPH_H

#include "onnx/onnx.pb-c.h"

#include <stddef.h>
#include <stdint.h>

/* Freed with onnx__model_proto__free_unpacked. */
Onnx__ModelProto *graph_read(const char *path);

const Onnx__NodeProto *graph_node(const Onnx__ModelProto *model, const char *name);
/* NULL: there is none. */
const Onnx__TensorProto *graph_tensor(const Onnx__ModelProto *model, const char *name);

int64_t graph_attribute_int(const Onnx__NodeProto *node, const char *name);
float graph_attribute_float(const Onnx__NodeProto *node, const char *name);
/* "" without; until the next call. */
const char *graph_attribute_string(const Onnx__NodeProto *node, const char *name);

/* The inputs of a node as "a b c", absent ones as "-". */
void graph_assert_inputs(const Onnx__ModelProto *model, const char *name, const char *expected);
void graph_assert_dims(const Onnx__ModelProto *model, const char *name, int type, size_t n_dims,
                       const int64_t *dims);
/* Every input of every node is a graph input, an initializer or an output of an earlier node; every
 * initializer is used. */
void graph_assert_connected(const Onnx__ModelProto *model);
/* An input or output of the graph; dims as "n_tokens,32". */
void graph_assert_value(const Onnx__ValueInfoProto *value, const char *name, int type,
                        const char *dims);

#endif
