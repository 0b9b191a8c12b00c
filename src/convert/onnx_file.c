/* SPDX-License-Identifier: Apache-2.0
 *
 * struct onnx_file: a protobuf-c ModelProto under construction. Everything the messages point to is
 * owned here and freed by one call of protobuf-c's own free on the whole model, so every string and
 * array comes from malloc. The data file is append only; n_data_bytes is always its length.
 */
#include "convert/onnx_file.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "onnx/onnx.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IR_VERSION = 8 }; /* ONNX 1.12: what opset 17 came with */

struct onnx_file {
    Onnx__ModelProto *model; /* owned, with all it points to */
    FILE *data;              /* NULL while no data file is open */
    char *data_path;         /* owned */
    size_t n_data_bytes;
    Onnx__TensorProto *open_tensor; /* between begin and end; part of `model` */
    size_t open_offset;
    size_t open_bytes; /* what its type and dims say */
};

struct onnx_node {
    Onnx__NodeProto proto;
};

/* Grows a protobuf-c repeated field by `item`. */
static void append(void *array, size_t *count, void *item)
{
    void ***items = array;

    *items = resize_or_abort(*items, (*count + 1) * sizeof **items);
    (*items)[(*count)++] = item;
}

static void append_string(char ***strings, size_t *count, const char *text)
{
    append(strings, count, copy_string_or_abort(text));
}

static Onnx__StringStringEntryProto *new_entry(const char *key, const char *value)
{
    Onnx__StringStringEntryProto *entry = new_or_abort(sizeof *entry);

    onnx__string_string_entry_proto__init(entry);
    entry->key = copy_string_or_abort(key);
    entry->value = copy_string_or_abort(value);
    return entry;
}

struct onnx_file *onnx_file_new(const char *graph_name)
{
    struct onnx_file *file = new_or_abort(sizeof *file);

    file->model = new_or_abort(sizeof *file->model);
    onnx__model_proto__init(file->model);
    file->model->has_ir_version = 1;
    file->model->ir_version = IR_VERSION;
    file->model->producer_name = copy_string_or_abort("kvern");
    file->model->graph = new_or_abort(sizeof *file->model->graph);
    onnx__graph_proto__init(file->model->graph);
    file->model->graph->name = copy_string_or_abort(graph_name);
    return file;
}

void onnx_file_free(struct onnx_file *file)
{
    if (!file)
        return;
    if (file->data)
        fclose(file->data);
    free(file->data_path);
    onnx__model_proto__free_unpacked(file->model, NULL);
    free(file);
}

void onnx_file_import(struct onnx_file *file, const char *domain, int64_t version)
{
    Onnx__OperatorSetIdProto *import = new_or_abort(sizeof *import);

    onnx__operator_set_id_proto__init(import);
    import->domain = copy_string_or_abort(domain);
    import->has_version = 1;
    import->version = version;
    append(&file->model->opset_import, &file->model->n_opset_import, import);
}

void onnx_file_metadata(struct onnx_file *file, const char *key, const char *value)
{
    append(&file->model->metadata_props, &file->model->n_metadata_props, new_entry(key, value));
}

static Onnx__TensorShapeProto__Dimension *new_dimension(const struct onnx_dim *dim)
{
    Onnx__TensorShapeProto__Dimension *proto = new_or_abort(sizeof *proto);

    onnx__tensor_shape_proto__dimension__init(proto);
    if (dim->name) {
        proto->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        proto->dim_param = copy_string_or_abort(dim->name);
    } else {
        proto->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        proto->dim_value = dim->size;
    }
    return proto;
}

static Onnx__ValueInfoProto *new_value(const char *name, enum onnx_type type,
                                       const struct onnx_dim *dims, size_t n_dims)
{
    Onnx__ValueInfoProto *value = new_or_abort(sizeof *value);
    Onnx__TypeProto__Tensor *tensor = new_or_abort(sizeof *tensor);

    onnx__value_info_proto__init(value);
    value->name = copy_string_or_abort(name);
    value->type = new_or_abort(sizeof *value->type);
    onnx__type_proto__init(value->type);
    value->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    value->type->tensor_type = tensor;
    onnx__type_proto__tensor__init(tensor);
    tensor->has_elem_type = 1;
    tensor->elem_type = type;
    tensor->shape = new_or_abort(sizeof *tensor->shape);
    onnx__tensor_shape_proto__init(tensor->shape);
    for (size_t i = 0; i < n_dims; i++)
        append(&tensor->shape->dim, &tensor->shape->n_dim, new_dimension(&dims[i]));
    return value;
}

void onnx_file_input(struct onnx_file *file, const char *name, enum onnx_type type,
                     const struct onnx_dim *dims, size_t n_dims)
{
    Onnx__GraphProto *graph = file->model->graph;

    append(&graph->input, &graph->n_input, new_value(name, type, dims, n_dims));
}

void onnx_file_output(struct onnx_file *file, const char *name, enum onnx_type type,
                      const struct onnx_dim *dims, size_t n_dims)
{
    Onnx__GraphProto *graph = file->model->graph;

    append(&graph->output, &graph->n_output, new_value(name, type, dims, n_dims));
}

struct onnx_node *onnx_file_node(struct onnx_file *file, const char *domain, const char *op,
                                 const char *name)
{
    Onnx__GraphProto *graph = file->model->graph;
    struct onnx_node *node = new_or_abort(sizeof *node);

    onnx__node_proto__init(&node->proto);
    node->proto.name = copy_string_or_abort(name);
    node->proto.op_type = copy_string_or_abort(op);
    node->proto.domain = copy_string_or_abort(domain);
    append(&graph->node, &graph->n_node, &node->proto);
    return node;
}

void onnx_node_input(struct onnx_node *node, const char *name)
{
    append_string(&node->proto.input, &node->proto.n_input, name ? name : "");
}

void onnx_node_output(struct onnx_node *node, const char *name)
{
    append_string(&node->proto.output, &node->proto.n_output, name);
}

static Onnx__AttributeProto *new_attribute(struct onnx_node *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attribute = new_or_abort(sizeof *attribute);

    onnx__attribute_proto__init(attribute);
    attribute->name = copy_string_or_abort(name);
    attribute->has_type = 1;
    attribute->type = type;
    append(&node->proto.attribute, &node->proto.n_attribute, attribute);
    return attribute;
}

void onnx_node_int(struct onnx_node *node, const char *name, int64_t value)
{
    Onnx__AttributeProto *attribute =
        new_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);

    attribute->has_i = 1;
    attribute->i = value;
}

void onnx_node_float(struct onnx_node *node, const char *name, float value)
{
    Onnx__AttributeProto *attribute =
        new_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);

    attribute->has_f = 1;
    attribute->f = value;
}

void onnx_node_string(struct onnx_node *node, const char *name, const char *value)
{
    Onnx__AttributeProto *attribute =
        new_attribute(node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);

    attribute->has_s = 1;
    attribute->s.data = (uint8_t *)copy_string_or_abort(value);
    attribute->s.len = strlen(value);
}

static size_t type_bytes(enum onnx_type type)
{
    switch (type) {
    case ONNX_U8:
        return 1;
    case ONNX_F16:
        return 2;
    case ONNX_F32:
    case ONNX_I32:
        return 4;
    case ONNX_I64:
        return 8;
    }
    return 0;
}

static kvern_status count_bytes(const char *name, enum onnx_type type, const int64_t *dims,
                                size_t n_dims, size_t *n_bytes, kvern_error *err)
{
    *n_bytes = type_bytes(type);
    for (size_t i = 0; i < n_dims; i++) {
        if (dims[i] <= 0 || !multiply_sizes(*n_bytes, (size_t)dims[i], n_bytes))
            return fail(err, KVERN_INVALID, "%s has a dimension of %lld that makes no tensor", name,
                        (long long)dims[i]);
    }
    return KVERN_OK;
}

static Onnx__TensorProto *new_initializer(struct onnx_file *file, const char *name,
                                          enum onnx_type type, const int64_t *dims, size_t n_dims)
{
    Onnx__GraphProto *graph = file->model->graph;
    Onnx__TensorProto *tensor = new_or_abort(sizeof *tensor);

    onnx__tensor_proto__init(tensor);
    tensor->name = copy_string_or_abort(name);
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->dims = new_or_abort((n_dims ? n_dims : 1) * sizeof *tensor->dims);
    tensor->n_dims = n_dims;
    memcpy(tensor->dims, dims, n_dims * sizeof *dims);
    append(&graph->initializer, &graph->n_initializer, tensor);
    return tensor;
}

kvern_status onnx_file_small_tensor(struct onnx_file *file, const char *name, enum onnx_type type,
                                    const int64_t *dims, size_t n_dims, const void *bytes,
                                    size_t n_bytes, kvern_error *err)
{
    size_t expected;
    kvern_status status = count_bytes(name, type, dims, n_dims, &expected, err);

    if (status != KVERN_OK)
        return status;
    if (n_bytes != expected)
        return fail(err, KVERN_INVALID, "%s takes %zu bytes, but %zu were given", name, expected,
                    n_bytes);
    uint8_t *copy = try_new(n_bytes, 1);
    if (!copy)
        return fail(err, KVERN_MEMORY, "out of memory for %s (%zu bytes)", name, n_bytes);
    memcpy(copy, bytes, n_bytes);

    Onnx__TensorProto *tensor = new_initializer(file, name, type, dims, n_dims);
    tensor->has_raw_data = 1;
    tensor->raw_data = (ProtobufCBinaryData){.len = n_bytes, .data = copy};
    return KVERN_OK;
}

static kvern_status fail_writing(const struct onnx_file *file, kvern_error *err)
{
    return fail(err, KVERN_IO, "cannot write %s: %s", file->data_path, strerror(errno));
}

kvern_status onnx_file_open_data(struct onnx_file *file, const char *path, kvern_error *err)
{
    file->data_path = copy_string_or_abort(path);
    file->data = fopen(path, "wbe");
    return file->data ? KVERN_OK : fail_writing(file, err);
}

static kvern_status write_data(struct onnx_file *file, const void *bytes, size_t n_bytes,
                               kvern_error *err)
{
    if (n_bytes && fwrite(bytes, 1, n_bytes, file->data) != n_bytes)
        return fail_writing(file, err);
    file->n_data_bytes += n_bytes;
    return KVERN_OK;
}

kvern_status onnx_file_begin_tensor(struct onnx_file *file, const char *name, enum onnx_type type,
                                    const int64_t *dims, size_t n_dims, kvern_error *err)
{
    static const uint8_t zeros[ONNX_ALIGNMENT];
    size_t padding = (ONNX_ALIGNMENT - file->n_data_bytes % ONNX_ALIGNMENT) % ONNX_ALIGNMENT;
    kvern_status status = count_bytes(name, type, dims, n_dims, &file->open_bytes, err);

    if (status == KVERN_OK)
        status = write_data(file, zeros, padding, err);
    if (status != KVERN_OK)
        return status;
    file->open_offset = file->n_data_bytes;
    file->open_tensor = new_initializer(file, name, type, dims, n_dims);
    return KVERN_OK;
}

kvern_status onnx_file_put(struct onnx_file *file, const void *bytes, size_t n_bytes,
                           kvern_error *err)
{
    return write_data(file, bytes, n_bytes, err);
}

kvern_status onnx_file_end_tensor(struct onnx_file *file, kvern_error *err)
{
    Onnx__TensorProto *tensor = file->open_tensor;
    size_t n_bytes = file->n_data_bytes - file->open_offset;
    char number[32];

    if (n_bytes != file->open_bytes)
        return fail(err, KVERN_INVALID, "%s takes %zu bytes, but %zu were given", tensor->name,
                    file->open_bytes, n_bytes);
    tensor->has_data_location = 1;
    tensor->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    append(&tensor->external_data, &tensor->n_external_data,
           new_entry("location", path_base(file->data_path)));
    snprintf(number, sizeof number, "%zu", file->open_offset);
    append(&tensor->external_data, &tensor->n_external_data, new_entry("offset", number));
    snprintf(number, sizeof number, "%zu", n_bytes);
    append(&tensor->external_data, &tensor->n_external_data, new_entry("length", number));
    file->open_tensor = NULL;
    return KVERN_OK;
}

static kvern_status close_data(struct onnx_file *file, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (!file->data)
        return KVERN_OK;
    if (fflush(file->data) != 0 || fsync(fileno(file->data)) != 0)
        status = fail_writing(file, err);
    if (fclose(file->data) != 0 && status == KVERN_OK)
        status = fail_writing(file, err);
    file->data = NULL;
    return status;
}

/* A node's inputs are known by position, so absent ones in the middle stay as empty names; those at
 * the end say nothing. */
static void drop_trailing_inputs(Onnx__GraphProto *graph)
{
    for (size_t i = 0; i < graph->n_node; i++) {
        Onnx__NodeProto *node = graph->node[i];

        while (node->n_input > 0 && node->input[node->n_input - 1][0] == '\0')
            free(node->input[--node->n_input]);
    }
}

kvern_status onnx_file_write(struct onnx_file *file, const char *path, kvern_error *err)
{
    struct file_writer writer = {0};
    uint8_t *bytes = NULL;
    kvern_status status = close_data(file, err);

    if (status != KVERN_OK)
        return status;
    drop_trailing_inputs(file->model->graph);
    size_t n_bytes = onnx__model_proto__get_packed_size(file->model);
    bytes = try_new(n_bytes, 1);
    if (!bytes) {
        status = fail(err, KVERN_MEMORY, "out of memory writing %s (%zu bytes)", path, n_bytes);
        goto done;
    }
    onnx__model_proto__pack(file->model, bytes);
    status = file_writer_open(&writer, path, err);
    if (status == KVERN_OK)
        status = file_writer_put(&writer, bytes, n_bytes, err);
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, err);

done:
    file_writer_clear(&writer);
    free(bytes);
    return status;
}
