/* SPDX-License-Identifier: Apache-2.0
 *
 * One tensor of an untrusted ONNX file (TensorProto): its type, dims and bytes. Bytes stay where
 * they are, in the .onnx file or in a file beside it ("external data"); only values that the file
 * spells as single numbers are copied. What a tensor means is its graph's matter.
 */
#ifndef KVERN_CONVERT_ONNX_TENSOR_H
#define KVERN_CONVERT_ONNX_TENSOR_H

#include "base/file.h"
#include "kvern.h"
#include "model/protobuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TensorProto.DataType: the ones somebody here asks for. */
enum onnx_element {
    ONNX_ELEMENT_F32 = 1,
    ONNX_ELEMENT_U8 = 2,
    ONNX_ELEMENT_I8 = 3,
    ONNX_ELEMENT_I32 = 6,
    ONNX_ELEMENT_I64 = 7,
    ONNX_ELEMENT_STRING = 8,
    ONNX_ELEMENT_BOOL = 9,
    ONNX_ELEMENT_F16 = 10,
    ONNX_ELEMENT_BF16 = 16,
    ONNX_ELEMENT_U4 = 21,
    ONNX_ELEMENT_I4 = 22,
};

enum { ONNX_TENSOR_MAX_DIMS = 8 };

struct onnx_tensor {
    char *name;   /* owned; "" for an attribute's tensor */
    int32_t type; /* an onnx_element, or another number of TensorProto.DataType */
    size_t n_dims;
    size_t dims[ONNX_TENSOR_MAX_DIMS];
    const uint8_t *data; /* [n_bytes], any alignment; NULL for strings, for no bytes at all, and
                            for external data that was not mapped */
    size_t n_bytes;      /* what type and dims say; 0 for strings */
    const struct file_map *file; /* the mapping data lies in; NULL inside the .onnx file */
    uint8_t *copy;               /* owned; what data points to, or NULL */
    char *location;              /* owned; a plain file name; NULL unless the data are external */
    size_t offset;               /* into that file */
};

/* `bytes` is a TensorProto and must outlive the tensor. After KVERN_OK the bytes are as many as
 * type and dims say, or wait in `location`. On failure *tensor is zeroed. */
kvern_status onnx_tensor_parse(struct onnx_tensor *tensor, const uint8_t *bytes, size_t n_bytes,
                               kvern_error *err);
/* Points `data` of an external tensor into `file`, which is the file of that name, mapped. */
kvern_status onnx_tensor_resolve(struct onnx_tensor *tensor, const struct file_map *file,
                                 kvern_error *err);
void onnx_tensor_clear(struct onnx_tensor *tensor);

/* A NUL-terminated copy of a field's bytes into *text, replacing what was there. Fails if the field
 * is no text. */
kvern_status onnx_text_copy(const struct protobuf_field *field, char **text, kvern_error *err);

/* All values of an I32 or I64 tensor of at most `capacity` values; false if it is no such. */
bool onnx_tensor_integers(const struct onnx_tensor *tensor, int64_t *values, size_t capacity,
                          size_t *n_values);
/* The product of the dims: it was checked to fit. */
size_t onnx_tensor_n_values(const struct onnx_tensor *tensor);

#endif
