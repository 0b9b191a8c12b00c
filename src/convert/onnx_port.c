/* SPDX-License-Identifier: Apache-2.0
 *
 * TypeProto's fields, by number as onnx.proto gives them. What is no tensor (a sequence, a map) is
 * left with type 0: whoever needs a tensor there says so.
 */
#include "convert/onnx_port.h"

#include "base/error.h"

#include <stdlib.h>

static kvern_status fail_damaged(kvern_error *err)
{
    return fail(err, KVERN_FORMAT, "the graph has an input or output whose type is damaged");
}

static kvern_status read_dim(struct onnx_graph_port *port, struct protobuf fields, kvern_error *err)
{
    struct onnx_graph_dim *dim = &port->dims[port->n_dims];
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    if (port->n_dims == ONNX_TENSOR_MAX_DIMS)
        return fail(err, KVERN_LIMIT, "the graph has an input or output of more than %d dimensions",
                    ONNX_TENSOR_MAX_DIMS);
    port->n_dims++;
    dim->size = -1;
    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        if (field.number == 1 && field.type == PROTOBUF_VARINT && field.value <= INT64_MAX)
            dim->size = (int64_t)field.value;
        else if (field.number == 2 && field.n_bytes > 0)
            status = onnx_text_copy(&field, &dim->name, err);
    }
    return status == KVERN_OK && fields.is_damaged ? fail_damaged(err) : status;
}

static kvern_status read_shape(struct onnx_graph_port *port, struct protobuf dims, kvern_error *err)
{
    struct protobuf_field dim;
    kvern_status status = KVERN_OK;

    port->has_shape = true;
    while (status == KVERN_OK && protobuf_next(&dims, &dim)) {
        if (dim.number == 1)
            status = read_dim(port, protobuf_read(dim.bytes, dim.n_bytes), err);
    }
    return status == KVERN_OK && dims.is_damaged ? fail_damaged(err) : status;
}

kvern_status onnx_port_read_type(struct onnx_graph_port *port, const uint8_t *bytes, size_t n_bytes,
                                 kvern_error *err)
{
    struct protobuf type = protobuf_read(bytes, n_bytes);
    struct protobuf_field tensor, field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&type, &tensor)) {
        struct protobuf fields = protobuf_read(tensor.bytes, tensor.n_bytes);

        while (tensor.number == 1 && status == KVERN_OK && protobuf_next(&fields, &field)) {
            if (field.number == 1 && field.value <= INT32_MAX)
                port->type = (int32_t)field.value;
            else if (field.number == 2)
                status = read_shape(port, protobuf_read(field.bytes, field.n_bytes), err);
        }
        if (status == KVERN_OK && fields.is_damaged)
            status = fail_damaged(err);
    }
    return status == KVERN_OK && type.is_damaged ? fail_damaged(err) : status;
}

void onnx_port_clear(struct onnx_graph_port *port)
{
    for (size_t i = 0; i < port->n_dims; i++)
        free(port->dims[i].name);
    *port = (struct onnx_graph_port){0};
}
