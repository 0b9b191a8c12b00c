/* SPDX-License-Identifier: Apache-2.0
 *
 * An ONNX file opened for reading: its graph (onnx_graph.h), the operator sets it asks for, and the
 * mappings its tensors' bytes lie in. The files are untrusted and stay mapped while it is open.
 */
#ifndef KVERN_CONVERT_ONNX_MODEL_H
#define KVERN_CONVERT_ONNX_MODEL_H

#include "base/file.h"
#include "convert/onnx_graph.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct onnx_opset {
    char domain[64]; /* "" for ai.onnx */
    int64_t version;
};

struct onnx_model {
    struct onnx_graph graph;
    struct onnx_opset opsets[64];
    size_t n_opsets;
    bool has_functions;          /* operators that the file itself defines, or training graphs */
    struct file_map file;        /* the .onnx file; empty after onnx_model_parse */
    struct file_map *data_files; /* [n_data_files], owned: the external data */
    size_t n_data_files;
};

/* The model in memory, which must outlive it; external tensors stay without data. On failure
 * *model is zeroed. */
kvern_status onnx_model_parse(struct onnx_model *model, const uint8_t *bytes, size_t n_bytes,
                              kvern_error *err);
/* Maps the file and each file of external data: regular files in the same directory, neither links
 * nor files with other hard links. On failure *model is zeroed. */
kvern_status onnx_model_open(struct onnx_model *model, const char *path, kvern_error *err);
/* Fine on a zeroed model. */
void onnx_model_close(struct onnx_model *model);

#endif
