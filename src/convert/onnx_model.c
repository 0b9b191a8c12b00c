/* SPDX-License-Identifier: Apache-2.0
 *
 * ModelProto, and the files its tensors lie in. Paths are made of the model's own directory and a
 * name that onnx_tensor.c found plain; what is there must be a regular file with one name, so that
 * a model can show nobody a file from elsewhere.
 */
#include "convert/onnx_model.h"

#include "base/error.h"
#include "base/map.h"
#include "base/memory.h"
#include "model/protobuf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DATA_FILES = 4096 };

static kvern_status add_opset(struct onnx_model *model, struct protobuf fields, kvern_error *err)
{
    struct onnx_opset opset = {0};
    struct protobuf_field field;

    while (protobuf_next(&fields, &field)) {
        if (field.number == 1 && field.type == PROTOBUF_BYTES &&
            field.n_bytes < sizeof opset.domain) {
            memcpy(opset.domain, field.bytes, field.n_bytes);
            opset.domain[field.n_bytes] = '\0';
        } else if (field.number == 1) {
            fields.is_damaged = true;
        } else if (field.number == 2) {
            opset.version = (int64_t)field.value;
        }
    }
    if (fields.is_damaged || model->n_opsets == sizeof model->opsets / sizeof model->opsets[0])
        return fail(err, KVERN_FORMAT, "the model's list of opsets is damaged or too long");
    if (strcmp(opset.domain, "ai.onnx") == 0)
        opset.domain[0] = '\0';
    model->opsets[model->n_opsets++] = opset;
    return KVERN_OK;
}

kvern_status onnx_model_parse(struct onnx_model *model, const uint8_t *bytes, size_t n_bytes,
                              kvern_error *err)
{
    struct protobuf fields = protobuf_read(bytes, n_bytes);
    struct protobuf_field field;
    bool has_graph = false;
    kvern_status status = KVERN_OK;

    *model = (struct onnx_model){0};
    while (status == KVERN_OK && protobuf_next(&fields, &field)) {
        struct protobuf inner = protobuf_read(field.bytes, field.n_bytes);

        if (field.number == 7 && (has_graph || field.type != PROTOBUF_BYTES))
            status = fail(err, KVERN_FORMAT, "the file holds more than one graph");
        else if (field.number == 7)
            status = onnx_graph_parse(&model->graph, field.bytes, field.n_bytes, err);
        else if (field.number == 8)
            status = add_opset(model, inner, err);
        has_graph = has_graph || field.number == 7;
        model->has_functions = model->has_functions || field.number == 20 || field.number == 25;
    }
    if (status == KVERN_OK && (fields.is_damaged || !has_graph))
        status = fail(err, KVERN_FORMAT, "not an ONNX file, or one that is cut short or damaged");
    if (status != KVERN_OK)
        onnx_model_close(model);
    return status;
}

void onnx_model_close(struct onnx_model *model)
{
    onnx_graph_clear(&model->graph);
    for (size_t i = 0; i < model->n_data_files; i++)
        file_map_close(&model->data_files[i]);
    free(model->data_files);
    file_map_close(&model->file);
    *model = (struct onnx_model){0};
}

/* ---- external data ---- */

/* What is done with each tensor of a model that has a location. */
typedef kvern_status (*visit_fn)(struct onnx_tensor *tensor, void *data, kvern_error *err);

static kvern_status visit_tensors(struct onnx_graph *graph, visit_fn visit, void *data,
                                  kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < graph->n_tensors && status == KVERN_OK; i++) {
        if (graph->tensors[i].location)
            status = visit(&graph->tensors[i], data, err);
    }
    for (size_t i = 0; i < graph->n_nodes; i++) {
        struct onnx_graph_node *node = &graph->nodes[i];

        for (size_t j = 0; j < node->n_attributes && status == KVERN_OK; j++) {
            struct onnx_graph_attribute *attribute = &node->attributes[j];

            if (attribute->tensor && attribute->tensor->location)
                status = visit(attribute->tensor, data, err);
            if (attribute->graph && status == KVERN_OK)
                status = visit_tensors(attribute->graph, visit, data, err);
        }
    }
    return status;
}

struct resolver {
    struct onnx_model *model;
    struct map places; /* location -> index into names and data_files */
    const char *names[MAX_DATA_FILES];
};

static kvern_status note_location(struct onnx_tensor *tensor, void *data, kvern_error *err)
{
    struct resolver *resolver = data;
    size_t n = resolver->places.n_entries;
    uint32_t known;

    if (map_get(&resolver->places, tensor->location, strlen(tensor->location), &known))
        return KVERN_OK;
    if (n == MAX_DATA_FILES)
        return fail(err, KVERN_LIMIT, "the model's tensors lie in more than %d files",
                    MAX_DATA_FILES);
    resolver->names[n] = tensor->location;
    if (!map_put(&resolver->places, tensor->location, strlen(tensor->location), (uint32_t)n))
        return fail(err, KVERN_MEMORY, "out of memory for the names of the data files");
    return KVERN_OK;
}

static kvern_status resolve(struct onnx_tensor *tensor, void *data, kvern_error *err)
{
    struct resolver *resolver = data;
    uint32_t at = 0;

    map_get(&resolver->places, tensor->location, strlen(tensor->location), &at);
    return onnx_tensor_resolve(tensor, &resolver->model->data_files[at], err);
}

static kvern_status map_data_file(struct file_map *file, const char *directory, const char *name,
                                  kvern_error *err)
{
    char *path = path_join(directory, name);
    struct stat info;
    kvern_status status;

    if (lstat(path, &info) != 0)
        status = fail(err, errno == ENOENT ? KVERN_NOT_FOUND : KVERN_IO,
                      "the model's data file %s cannot be read: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = fail(err, KVERN_FORMAT,
                      "the model's data file %s is not a regular file; put a copy there", path);
    else if (info.st_nlink > 1)
        status = fail(err, KVERN_FORMAT, "%s has %lu hard links; put a copy there", path,
                      (unsigned long)info.st_nlink);
    else
        status = file_map_open(file, path, err);
    free(path);
    return status;
}

static kvern_status open_data_files(struct onnx_model *model, const char *directory,
                                    kvern_error *err)
{
    struct resolver *resolver = try_new(1, sizeof *resolver);
    kvern_status status;

    if (!resolver)
        return fail(err, KVERN_MEMORY, "out of memory for the names of the data files");
    resolver->model = model;
    status = visit_tensors(&model->graph, note_location, resolver, err);
    if (status != KVERN_OK)
        goto done;
    model->data_files = try_new(resolver->places.n_entries, sizeof *model->data_files);
    if (!model->data_files) {
        status = fail(err, KVERN_MEMORY, "out of memory for the data files");
        goto done;
    }
    for (size_t i = 0; i < resolver->places.n_entries && status == KVERN_OK; i++) {
        status = map_data_file(&model->data_files[i], directory, resolver->names[i], err);
        model->n_data_files = i + 1;
    }
    if (status == KVERN_OK)
        status = visit_tensors(&model->graph, resolve, resolver, err);
done:
    map_clear(&resolver->places);
    free(resolver);
    return status;
}

kvern_status onnx_model_open(struct onnx_model *model, const char *path, kvern_error *err)
{
    const char *base = path_base(path);
    char *directory =
        base == path ? copy_string_or_abort(".") : copy_bytes_or_abort(path, (size_t)(base - path));
    struct file_map file = {0};
    kvern_status status;

    *model = (struct onnx_model){0};
    status = file_map_open(&file, path, err);
    if (status == KVERN_OK)
        status = onnx_model_parse(model, file.data, file.n_bytes, err);
    if (status == KVERN_OK) {
        model->file = file;
        file = (struct file_map){0};
        status = open_data_files(model, directory, err);
    }
    if (status != KVERN_OK)
        onnx_model_close(model);
    file_map_close(&file);
    free(directory);
    return status;
}
