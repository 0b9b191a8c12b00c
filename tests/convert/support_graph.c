/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/support_graph.h"

#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Onnx__ModelProto *graph_read(const char *path)
{
    char *bytes;
    size_t n_bytes;

    assert_int_equal(file_read(path, 1 << 22, &bytes, &n_bytes, NULL), KVERN_OK);
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, n_bytes, (const uint8_t *)bytes);
    assert_non_null(model);
    free(bytes);
    return model;
}

const Onnx__NodeProto *graph_node(const Onnx__ModelProto *model, const char *name)
{
    for (size_t i = 0; i < model->graph->n_node; i++) {
        if (!strcmp(model->graph->node[i]->name, name))
            return model->graph->node[i];
    }
    fail_msg("there is no node %s", name);
    return NULL;
}

const Onnx__TensorProto *graph_tensor(const Onnx__ModelProto *model, const char *name)
{
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        if (!strcmp(model->graph->initializer[i]->name, name))
            return model->graph->initializer[i];
    }
    return NULL;
}

int64_t graph_attribute_int(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (!strcmp(node->attribute[i]->name, name))
            return node->attribute[i]->i;
    }
    fail_msg("%s has no attribute %s", node->name, name);
    return 0;
}

float graph_attribute_float(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (!strcmp(node->attribute[i]->name, name))
            return node->attribute[i]->f;
    }
    fail_msg("%s has no attribute %s", node->name, name);
    return 0;
}

void graph_assert_inputs(const Onnx__ModelProto *model, const char *name, const char *expected)
{
    const Onnx__NodeProto *node = graph_node(model, name);
    char joined[1024] = "";

    for (size_t i = 0; i < node->n_input; i++) {
        size_t used = strlen(joined);

        snprintf(joined + used, sizeof joined - used, "%s%s", i ? " " : "",
                 node->input[i][0] ? node->input[i] : "-");
    }
    assert_string_equal(joined, expected);
}

void graph_assert_dims(const Onnx__ModelProto *model, const char *name, int type, size_t n_dims,
                       const int64_t *dims)
{
    const Onnx__TensorProto *tensor = graph_tensor(model, name);

    if (!tensor)
        fail_msg("there is no initializer %s", name);
    assert_int_equal(tensor->data_type, type);
    assert_int_equal(tensor->n_dims, n_dims);
    for (size_t i = 0; i < n_dims; i++)
        assert_int_equal(tensor->dims[i], dims[i]);
}

void graph_assert_connected(const Onnx__ModelProto *model)
{
    const Onnx__GraphProto *graph = model->graph;
    size_t *n_uses = calloc(graph->n_initializer, sizeof *n_uses);

    assert_non_null(n_uses);
    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t j = 0; j < graph->node[i]->n_input; j++) {
            const char *name = graph->node[i]->input[j];
            bool is_known = name[0] == '\0';

            for (size_t k = 0; k < graph->n_input; k++)
                is_known |= !strcmp(graph->input[k]->name, name);
            for (size_t k = 0; k < graph->n_initializer; k++) {
                bool is_it = !strcmp(graph->initializer[k]->name, name);

                is_known |= is_it;
                n_uses[k] += is_it;
            }
            for (size_t k = 0; k < i; k++)
                for (size_t l = 0; l < graph->node[k]->n_output; l++)
                    is_known |= !strcmp(graph->node[k]->output[l], name);
            if (!is_known)
                fail_msg("%s reads %s, which nothing makes", graph->node[i]->name, name);
        }
    }
    for (size_t k = 0; k < graph->n_initializer; k++) {
        if (n_uses[k] == 0)
            fail_msg("%s is not used", graph->initializer[k]->name);
    }
    free(n_uses);
}

const char *graph_attribute_string(const Onnx__NodeProto *node, const char *name)
{
    static char text[64];

    text[0] = '\0';
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (!strcmp(node->attribute[i]->name, name))
            snprintf(text, sizeof text, "%.*s", (int)node->attribute[i]->s.len,
                     (const char *)node->attribute[i]->s.data);
    }
    return text;
}

void graph_assert_value(const Onnx__ValueInfoProto *value, const char *name, int type,
                        const char *dims)
{
    const Onnx__TypeProto__Tensor *tensor = value->type->tensor_type;
    char joined[128] = "";

    for (size_t j = 0; j < tensor->shape->n_dim; j++) {
        const Onnx__TensorShapeProto__Dimension *dim = tensor->shape->dim[j];
        size_t used = strlen(joined);

        if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
            snprintf(joined + used, sizeof joined - used, "%s%s", j ? "," : "", dim->dim_param);
        else
            snprintf(joined + used, sizeof joined - used, "%s%lld", j ? "," : "",
                     (long long)dim->dim_value);
    }
    assert_string_equal(value->name, name);
    assert_int_equal(tensor->elem_type, type);
    assert_string_equal(joined, dims);
}
