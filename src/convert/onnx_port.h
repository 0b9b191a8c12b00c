/* SPDX-License-Identifier: Apache-2.0
 *
 * Type and shape of a graph's input or output (TypeProto): what a caller must give and will get.
 * Dimensions may be numbers, symbols, or not said.
 */
#ifndef KVERN_CONVERT_ONNX_PORT_H
#define KVERN_CONVERT_ONNX_PORT_H

#include "convert/onnx_tensor.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct onnx_graph_value;

struct onnx_graph_dim {
    int64_t size; /* -1: known at run time only */
    char *name;   /* owned; its symbol, or NULL */
};

struct onnx_graph_port {
    const struct onnx_graph_value *value;
    int32_t type;   /* an onnx_element; 0: no tensor, or not said */
    bool has_shape; /* false: even the number of dimensions is not said */
    size_t n_dims;
    struct onnx_graph_dim dims[ONNX_TENSOR_MAX_DIMS];
};

/* `bytes` is a TypeProto. On failure the port is to be cleared as ever. */
kvern_status onnx_port_read_type(struct onnx_graph_port *port, const uint8_t *bytes, size_t n_bytes,
                                 kvern_error *err);
void onnx_port_clear(struct onnx_graph_port *port);

#endif
