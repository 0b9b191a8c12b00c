/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes an ONNX model: nodes, inputs, outputs and small initializers are collected in memory;
 * large initializers ("external data") go straight to a second file as they are made, each at an
 * offset that is a multiple of ONNX_ALIGNMENT, so that ONNX Runtime can map instead of read them.
 * Knows the file format only: what the nodes mean is the caller's matter.
 */
#ifndef KVERN_CONVERT_ONNX_FILE_H
#define KVERN_CONVERT_ONNX_FILE_H

#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

enum { ONNX_ALIGNMENT = 4096 };

/* TensorProto.DataType */
enum onnx_type {
    ONNX_F32 = 1,
    ONNX_U8 = 2,
    ONNX_I32 = 6,
    ONNX_I64 = 7,
    ONNX_F16 = 10,
};

/* A dimension of a graph input or output: a name where it is known at run time only. */
struct onnx_dim {
    int64_t size;
    const char *name; /* NULL: `size` holds */
};

struct onnx_file;
struct onnx_node;

/* All strings given to these functions are copied. */
struct onnx_file *onnx_file_new(const char *graph_name);
/* Closes the data file if it is open; removes nothing. */
void onnx_file_free(struct onnx_file *file);

void onnx_file_import(struct onnx_file *file, const char *domain, int64_t version);
void onnx_file_metadata(struct onnx_file *file, const char *key, const char *value);
void onnx_file_input(struct onnx_file *file, const char *name, enum onnx_type type,
                     const struct onnx_dim *dims, size_t n_dims);
void onnx_file_output(struct onnx_file *file, const char *name, enum onnx_type type,
                      const struct onnx_dim *dims, size_t n_dims);

/* Adds a node without inputs; nodes must come in the order they can run. */
struct onnx_node *onnx_file_node(struct onnx_file *file, const char *domain, const char *op,
                                 const char *name);
/* NULL or "" is an absent optional input; trailing absent ones are left out of the file. */
void onnx_node_input(struct onnx_node *node, const char *name);
void onnx_node_output(struct onnx_node *node, const char *name);
void onnx_node_int(struct onnx_node *node, const char *name, int64_t value);
void onnx_node_float(struct onnx_node *node, const char *name, float value);
void onnx_node_string(struct onnx_node *node, const char *name, const char *value);

/* An initializer inside the .onnx file; `bytes` must be what type and dims say. */
kvern_status onnx_file_small_tensor(struct onnx_file *file, const char *name, enum onnx_type type,
                                    const int64_t *dims, size_t n_dims, const void *bytes,
                                    size_t n_bytes, kvern_error *err);

/* Creates the file of external data; it must lie in the folder the .onnx file will lie in. */
kvern_status onnx_file_open_data(struct onnx_file *file, const char *path, kvern_error *err);
/* Between begin and end the tensor's bytes are put in any number of pieces; end fails unless there
 * were as many as type and dims say. */
kvern_status onnx_file_begin_tensor(struct onnx_file *file, const char *name, enum onnx_type type,
                                    const int64_t *dims, size_t n_dims, kvern_error *err);
kvern_status onnx_file_put(struct onnx_file *file, const void *bytes, size_t n_bytes,
                           kvern_error *err);
kvern_status onnx_file_end_tensor(struct onnx_file *file, kvern_error *err);

/* Syncs and closes the data file, then writes the .onnx file by rename. */
kvern_status onnx_file_write(struct onnx_file *file, const char *path, kvern_error *err);

#endif
