/* SPDX-License-Identifier: Apache-2.0
 *
 * Two passes over each GraphProto: the first counts, so that every array is allocated once and
 * pointers into it stay good; the second reads initializers, inputs, nodes in their order, outputs.
 * What a file can make us allocate is bounded by its own bytes and by the limits below.
 */
#include "convert/onnx_graph.h"

#include "base/error.h"
#include "base/memory.h"
#include "model/protobuf.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_NODES = 1 << 18,
    MAX_TENSORS = 1 << 18,
    MAX_NAMES = 1 << 21, /* inputs and outputs of all nodes, initializers, ports */
    MAX_DEPTH = 8,       /* of subgraphs */
};

struct parser {
    struct onnx_graph *graph;
    size_t capacity; /* of graph->values */
    unsigned depth;
    kvern_error *err;
};

static kvern_status parse_graph(struct onnx_graph *graph, struct protobuf fields, unsigned depth,
                                kvern_error *err);

static kvern_status fail_memory(const struct parser *parser, const char *what)
{
    return fail(parser->err, KVERN_MEMORY, "out of memory for the graph's %s", what);
}

/* ---- values ---- */

/* The value of that name, which may be new. */
static kvern_status take_value(struct parser *parser, const char *name,
                               struct onnx_graph_value **value)
{
    struct onnx_graph *graph = parser->graph;
    size_t n_bytes = strlen(name);
    uint32_t at;

    if (map_get(&graph->by_name, name, n_bytes, &at)) {
        *value = &graph->values[at];
        return KVERN_OK;
    }
    if (graph->n_values == parser->capacity)
        return fail(parser->err, KVERN_FORMAT, "the graph has more values than were counted");
    char *copy = try_new(n_bytes + 1, 1);
    if (!copy || !map_put(&graph->by_name, name, n_bytes, (uint32_t)graph->n_values)) {
        free(copy);
        return fail_memory(parser, "names");
    }
    memcpy(copy, name, n_bytes + 1);
    *value = &graph->values[graph->n_values++];
    (*value)->name = copy;
    return KVERN_OK;
}

static bool is_made(const struct onnx_graph_value *value)
{
    return value->node || value->tensor || value->is_input;
}

/* ---- attributes ---- */

static size_t count_integers(const struct protobuf_field *field)
{
    size_t n = 0;

    if (field->type == PROTOBUF_VARINT)
        return 1;
    for (size_t i = 0; i < field->n_bytes; i++)
        n += field->bytes[i] < 0x80; /* the last byte of each varint */
    return n;
}

static kvern_status read_integers(struct parser *parser, struct onnx_graph_attribute *attribute,
                                  struct protobuf fields)
{
    struct protobuf again = fields;
    struct protobuf_field field;
    size_t n = 0;
    uint64_t value;

    while (protobuf_next(&again, &field))
        n += field.number == 8 ? count_integers(&field) : 0;
    if (n == 0)
        return KVERN_OK;
    attribute->ints = try_new(n, sizeof *attribute->ints);
    if (!attribute->ints)
        return fail_memory(parser, "attributes");
    while (protobuf_next(&fields, &field)) {
        if (field.number != 8)
            continue;
        if (field.type == PROTOBUF_VARINT) {
            attribute->ints[attribute->n_ints++] = (int64_t)field.value;
            continue;
        }
        struct protobuf packed = protobuf_read(field.bytes, field.n_bytes);
        while (attribute->n_ints < n && protobuf_next_varint(&packed, &value))
            attribute->ints[attribute->n_ints++] = (int64_t)value;
        if (packed.is_damaged)
            return fail(parser->err, KVERN_FORMAT, "the graph has a damaged list of integers");
    }
    return KVERN_OK;
}

static kvern_status read_tensor_attribute(struct parser *parser,
                                          struct onnx_graph_attribute *attribute,
                                          const struct protobuf_field *field)
{
    if (attribute->tensor)
        return fail(parser->err, KVERN_FORMAT, "the graph has an attribute of two tensors");
    attribute->tensor = try_new(1, sizeof *attribute->tensor);
    if (!attribute->tensor)
        return fail_memory(parser, "attributes");
    return onnx_tensor_parse(attribute->tensor, field->bytes, field->n_bytes, parser->err);
}

static kvern_status read_graph_attribute(struct parser *parser,
                                         struct onnx_graph_attribute *attribute,
                                         const struct protobuf_field *field)
{
    if (attribute->graph)
        return fail(parser->err, KVERN_FORMAT, "the graph has an attribute of two graphs");
    if (parser->depth == MAX_DEPTH)
        return fail(parser->err, KVERN_LIMIT, "the graph has more than %d levels of subgraphs",
                    MAX_DEPTH);
    attribute->graph = try_new(1, sizeof *attribute->graph);
    if (!attribute->graph)
        return fail_memory(parser, "subgraphs");
    return parse_graph(attribute->graph, protobuf_read(field->bytes, field->n_bytes),
                       parser->depth + 1, parser->err);
}

static kvern_status read_attribute(struct parser *parser, struct onnx_graph_attribute *attribute,
                                   struct protobuf fields)
{
    struct protobuf all = fields;
    struct protobuf_field field;
    kvern_status status = KVERN_OK;
    uint32_t bits;

    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        bool is_bytes = field.type == PROTOBUF_BYTES;

        if (field.number == 1)
            status = onnx_text_copy(&field, &attribute->name, parser->err);
        else if (field.number == 2 && field.type == PROTOBUF_FIXED32) {
            bits = (uint32_t)field.value;
            memcpy(&attribute->f, &bits, sizeof bits);
        } else if (field.number == 3)
            attribute->i = (int64_t)field.value;
        else if (field.number == 4 && is_bytes && field.n_bytes &&
                 !memchr(field.bytes, '\0', field.n_bytes))
            status = onnx_text_copy(&field, &attribute->s, parser->err);
        else if (field.number == 5 && is_bytes)
            status = read_tensor_attribute(parser, attribute, &field);
        else if (field.number == 6 && is_bytes)
            status = read_graph_attribute(parser, attribute, &field);
        else if (field.number == 10 || field.number == 11)
            status = fail(parser->err, KVERN_UNSUPPORTED,
                          "the graph has an attribute that is a list of tensors or graphs");
        else if (field.number == 20 && field.value <= INT32_MAX)
            attribute->type = (enum onnx_attribute_type)field.value;
    }
    if (status == KVERN_OK && (fields.is_damaged || !attribute->name))
        status = fail(parser->err, KVERN_FORMAT, "the graph has a damaged attribute");
    if (status == KVERN_OK)
        status = read_integers(parser, attribute, all);
    return status;
}

/* Constant says a tensor, or a few numbers that become one here. */
static kvern_status read_constant(struct parser *parser, struct onnx_graph_node *node)
{
    struct onnx_graph_attribute *attribute = node->n_attributes == 1 ? node->attributes : NULL;
    bool is_int = attribute && strcmp(attribute->name, "value_int") == 0;
    bool is_ints = attribute && strcmp(attribute->name, "value_ints") == 0;

    if (node->n_outputs != 1 || !node->outputs[0] || !attribute)
        return fail(parser->err, KVERN_FORMAT, "the Constant node %s has not one value and output",
                    node->name);
    if ((is_int || is_ints) && !attribute->tensor) {
        size_t n = is_int ? 1 : attribute->n_ints;
        struct onnx_tensor *tensor = try_new(1, sizeof *tensor);

        attribute->tensor = tensor;
        if (!tensor)
            return fail_memory(parser, "constants");
        tensor->name = try_new(1, 1);
        tensor->copy = try_new(n, sizeof(int64_t));
        if (!tensor->name || !tensor->copy)
            return fail_memory(parser, "constants");
        tensor->type = ONNX_ELEMENT_I64;
        tensor->n_dims = is_ints;
        tensor->dims[0] = n;
        tensor->n_bytes = n * sizeof(int64_t);
        if (n > 0) {
            memcpy(tensor->copy, is_int ? &attribute->i : attribute->ints, tensor->n_bytes);
            tensor->data = tensor->copy;
        }
    }
    node->outputs[0]->tensor = attribute->tensor;
    return KVERN_OK;
}

/* ---- nodes ---- */

static kvern_status add_input(struct parser *parser, struct onnx_graph_node *node,
                              const struct protobuf_field *field)
{
    char *name = NULL;
    struct onnx_graph_value *value;
    kvern_status status = onnx_text_copy(field, &name, parser->err);

    if (status != KVERN_OK || !*name) {
        node->n_inputs++;
        goto done;
    }
    status = take_value(parser, name, &value);
    if (status == KVERN_OK && parser->depth == 0 && !is_made(value))
        status =
            fail(parser->err, KVERN_FORMAT,
                 "the graph's node %s reads %s, which nothing before it makes", node->name, name);
    if (status == KVERN_OK) {
        value->n_readers++;
        node->inputs[node->n_inputs++] = value;
    }
done:
    free(name);
    return status;
}

static kvern_status add_output(struct parser *parser, struct onnx_graph_node *node,
                               const struct protobuf_field *field)
{
    char *name = NULL;
    struct onnx_graph_value *value;
    size_t n_before = parser->graph->n_values;
    kvern_status status = onnx_text_copy(field, &name, parser->err);

    if (status != KVERN_OK || !*name) {
        node->n_outputs++;
        goto done;
    }
    status = take_value(parser, name, &value);
    if (status == KVERN_OK && parser->graph->n_values == n_before)
        status = fail(parser->err, KVERN_FORMAT,
                      "the graph's node %s makes %s, which is there before it", node->name, name);
    if (status == KVERN_OK) {
        value->node = node;
        value->node_output = node->n_outputs;
        node->outputs[node->n_outputs++] = value;
    }
done:
    free(name);
    return status;
}

/* Name and operator first, since messages say them; and how many of the rest there are. */
static kvern_status read_node_names(struct parser *parser, struct onnx_graph_node *node,
                                    struct protobuf fields)
{
    struct protobuf_field field = {.type = PROTOBUF_BYTES};
    size_t n_inputs = 0, n_outputs = 0, n_attributes = 0;
    kvern_status status = onnx_text_copy(&field, &node->name, parser->err);

    if (status == KVERN_OK)
        status = onnx_text_copy(&field, &node->op, parser->err);
    if (status == KVERN_OK)
        status = onnx_text_copy(&field, &node->domain, parser->err);
    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        n_inputs += field.number == 1;
        n_outputs += field.number == 2;
        n_attributes += field.number == 5;
        if (field.number == 3)
            status = onnx_text_copy(&field, &node->name, parser->err);
        else if (field.number == 4)
            status = onnx_text_copy(&field, &node->op, parser->err);
        else if (field.number == 7)
            status = onnx_text_copy(&field, &node->domain, parser->err);
    }
    if (status == KVERN_OK && (fields.is_damaged || !*node->op))
        status = fail(parser->err, KVERN_FORMAT, "the graph has a damaged node %s", node->name);
    if (status != KVERN_OK)
        return status;
    if (strcmp(node->domain, "ai.onnx") == 0)
        node->domain[0] = '\0';
    node->inputs = try_new(n_inputs, sizeof(void *));
    node->outputs = try_new(n_outputs, sizeof(void *));
    node->attributes = try_new(n_attributes, sizeof *node->attributes);
    if (!node->inputs || !node->outputs || !node->attributes)
        return fail_memory(parser, "nodes");
    return KVERN_OK;
}

static kvern_status read_node(struct parser *parser, struct onnx_graph_node *node,
                              struct protobuf fields)
{
    struct protobuf again = fields;
    struct protobuf_field field;
    kvern_status status = read_node_names(parser, node, fields);

    /* all inputs before any output: a node cannot read what it makes */
    while (status == KVERN_OK && protobuf_next(&again, &field)) {
        if (field.number == 1)
            status = add_input(parser, node, &field);
    }
    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        if (field.number == 2)
            status = add_output(parser, node, &field);
        else if (field.number == 5)
            status = read_attribute(parser, &node->attributes[node->n_attributes++],
                                    protobuf_read(field.bytes, field.n_bytes));
    }
    if (status == KVERN_OK && graph_node_is(node, "", "Constant"))
        status = read_constant(parser, node);
    return status;
}

/* ---- inputs and outputs ---- */

/* A ValueInfoProto of a graph input (is_input) or output. */
static kvern_status read_port(struct parser *parser, bool is_input, struct protobuf fields)
{
    struct protobuf_field field;
    struct onnx_graph_value *value;
    char *name = NULL;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        if (field.number == 1)
            status = onnx_text_copy(&field, &name, parser->err);
    }
    if (status != KVERN_OK)
        goto done;
    if (fields.is_damaged || !name || !*name) {
        status = fail(parser->err, KVERN_FORMAT, "the graph has a damaged input or output");
        goto done;
    }
    status = take_value(parser, name, &value);
    if (status != KVERN_OK)
        goto done;
    if (is_input ? value->is_input : value->is_output || (parser->depth == 0 && !is_made(value))) {
        status = fail(parser->err, KVERN_FORMAT, "the graph's %s %s is there twice or never made",
                      is_input ? "input" : "output", name);
        goto done;
    }
    *(is_input ? &value->is_input : &value->is_output) = true;
done:
    free(name);
    return status;
}

/* ---- graphs ---- */

/* GraphProto's fields. */
enum { NODE = 1, INITIALIZER = 5, INPUT = 11, OUTPUT = 12, SPARSE_INITIALIZER = 15 };

struct counts {
    size_t n_nodes, n_tensors, n_names;
};

static kvern_status count_graph(struct counts *counts, struct protobuf fields, kvern_error *err)
{
    struct protobuf_field field, part;

    while (protobuf_next(&fields, &field)) {
        struct protobuf node = protobuf_read(field.bytes, field.n_bytes);

        counts->n_nodes += field.number == NODE;
        counts->n_tensors += field.number == INITIALIZER;
        counts->n_names +=
            field.number == INITIALIZER || field.number == INPUT || field.number == OUTPUT;
        while (field.number == NODE && protobuf_next(&node, &part))
            counts->n_names += part.number == 1 || part.number == 2;
        if (field.number == SPARSE_INITIALIZER)
            return fail(err, KVERN_UNSUPPORTED, "the graph has sparse initializers");
    }
    if (fields.is_damaged)
        return fail(err, KVERN_FORMAT, "the graph is cut short or damaged");
    if (counts->n_nodes > MAX_NODES || counts->n_tensors > MAX_TENSORS ||
        counts->n_names > MAX_NAMES)
        return fail(err, KVERN_LIMIT,
                    "the graph has %zu nodes, %zu tensors and %zu names; the limits are %d, %d, %d",
                    counts->n_nodes, counts->n_tensors, counts->n_names, MAX_NODES, MAX_TENSORS,
                    MAX_NAMES);
    return KVERN_OK;
}

static kvern_status read_initializer(struct parser *parser, const struct protobuf_field *field)
{
    struct onnx_graph *graph = parser->graph;
    struct onnx_tensor *tensor = &graph->tensors[graph->n_tensors];
    struct onnx_graph_value *value;
    kvern_status status = onnx_tensor_parse(tensor, field->bytes, field->n_bytes, parser->err);

    if (status != KVERN_OK)
        return status;
    graph->n_tensors++;
    if (!*tensor->name)
        return fail(parser->err, KVERN_FORMAT, "the graph has an initializer without a name");
    status = take_value(parser, tensor->name, &value);
    if (status == KVERN_OK && value->tensor)
        status =
            fail(parser->err, KVERN_FORMAT, "the graph has the initializer %s twice", tensor->name);
    if (status == KVERN_OK)
        value->tensor = tensor;
    return status;
}

/* Reads the fields of one number, in their order. */
static kvern_status read_all(struct parser *parser, struct protobuf fields, unsigned number)
{
    struct onnx_graph *graph = parser->graph;
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        struct protobuf inner = protobuf_read(field.bytes, field.n_bytes);

        if (field.number != number)
            continue;
        if (number == INITIALIZER)
            status = read_initializer(parser, &field);
        else if (number == NODE)
            status = read_node(parser, &graph->nodes[graph->n_nodes++], inner);
        else
            status = read_port(parser, number == INPUT, inner);
    }
    return status;
}

static kvern_status parse_graph(struct onnx_graph *graph, struct protobuf fields, unsigned depth,
                                kvern_error *err)
{
    static const unsigned order[] = {INITIALIZER, INPUT, NODE, OUTPUT};
    struct counts counts = {0};
    struct parser parser = {.graph = graph, .depth = depth, .err = err};
    kvern_status status = count_graph(&counts, fields, err);

    if (status != KVERN_OK)
        return status;
    parser.capacity = counts.n_names;
    graph->nodes = try_new(counts.n_nodes, sizeof *graph->nodes);
    graph->tensors = try_new(counts.n_tensors, sizeof *graph->tensors);
    graph->values = try_new(counts.n_names, sizeof *graph->values);
    if (!graph->nodes || !graph->tensors || !graph->values)
        return fail_memory(&parser, "nodes");
    for (size_t i = 0; i < sizeof order / sizeof *order && status == KVERN_OK; i++)
        status = read_all(&parser, fields, order[i]);
    return status;
}

static void clear_attribute(struct onnx_graph_attribute *attribute)
{
    if (attribute->tensor)
        onnx_tensor_clear(attribute->tensor);
    if (attribute->graph)
        onnx_graph_clear(attribute->graph);
    free(attribute->tensor);
    free(attribute->graph);
    free(attribute->ints);
    free(attribute->name);
    free(attribute->s);
}

static void clear_node(struct onnx_graph_node *node)
{
    for (size_t i = 0; i < node->n_attributes; i++)
        clear_attribute(&node->attributes[i]);
    free(node->attributes);
    free(node->inputs);
    free(node->outputs);
    free(node->name);
    free(node->op);
    free(node->domain);
}

void onnx_graph_clear(struct onnx_graph *graph)
{
    for (size_t i = 0; i < graph->n_nodes; i++)
        clear_node(&graph->nodes[i]);
    for (size_t i = 0; i < graph->n_tensors; i++)
        onnx_tensor_clear(&graph->tensors[i]);
    for (size_t i = 0; i < graph->n_values; i++)
        free(graph->values[i].name);
    free(graph->nodes);
    free(graph->tensors);
    free(graph->values);
    map_clear(&graph->by_name);
    *graph = (struct onnx_graph){0};
}

kvern_status onnx_graph_parse(struct onnx_graph *graph, const uint8_t *bytes, size_t n_bytes,
                              kvern_error *err)
{
    kvern_status status;

    *graph = (struct onnx_graph){0};
    status = parse_graph(graph, protobuf_read(bytes, n_bytes), 0, err);
    if (status != KVERN_OK)
        onnx_graph_clear(graph);
    return status;
}

/* ---- looking things up ---- */

const struct onnx_graph_value *onnx_graph_find(const struct onnx_graph *graph, const char *name)
{
    uint32_t at;

    return map_get(&graph->by_name, name, strlen(name), &at) ? &graph->values[at] : NULL;
}

const struct onnx_graph_attribute *graph_node_attribute(const struct onnx_graph_node *node,
                                                        const char *name)
{
    for (size_t i = 0; i < node->n_attributes; i++) {
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    }
    return NULL;
}

int64_t graph_node_int(const struct onnx_graph_node *node, const char *name, int64_t otherwise)
{
    const struct onnx_graph_attribute *attribute = graph_node_attribute(node, name);

    return attribute && attribute->type == ONNX_ATTRIBUTE_INT ? attribute->i : otherwise;
}

float graph_node_float(const struct onnx_graph_node *node, const char *name, float otherwise)
{
    const struct onnx_graph_attribute *attribute = graph_node_attribute(node, name);

    return attribute && attribute->type == ONNX_ATTRIBUTE_FLOAT ? attribute->f : otherwise;
}

const struct onnx_graph_value *graph_node_input(const struct onnx_graph_node *node, size_t i)
{
    return i < node->n_inputs ? node->inputs[i] : NULL;
}

bool graph_node_is(const struct onnx_graph_node *node, const char *domain, const char *op)
{
    return strcmp(node->domain, domain) == 0 && strcmp(node->op, op) == 0;
}
