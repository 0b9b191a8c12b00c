/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes small zip archives and state dicts as torch.save does, field by field, so that tests can
 * also write wrong ones.
 */
#ifndef KVERN_TESTS_SUPPORT_TORCH_H
#define KVERN_TESTS_SUPPORT_TORCH_H

#include "base/buffer.h"
#include "convert/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed is an archive without entries. */
struct zip_writer {
    struct buffer file;
    struct buffer directory;
    uint16_t n_entries;
};

void zip_writer_put(struct zip_writer *zip, const char *name, const void *bytes, size_t n_bytes);
/* Writes the central directory and the end: with is_zip64 both of its forms. */
void zip_writer_end(struct zip_writer *zip, bool is_zip64);
void zip_writer_clear(struct zip_writer *zip);

/* A tensor's line in a pickled state dict. */
struct pickled_tensor {
    const char *name;
    const char *storage; /* "FloatStorage", ... */
    const char *key;
    uint32_t n_values; /* of the storage */
    uint32_t offset;
    size_t n_dims;
    uint32_t dims[TENSOR_MAX_DIMS + 1];
    uint32_t strides[TENSOR_MAX_DIMS + 1];
};

/* Protocol 2, an empty OrderedDict and a mark: pickled names and values follow. */
void put_pickle_begin(struct buffer *pickle);
void put_pickle_tensor(struct buffer *pickle, const struct pickled_tensor *tensor);
void put_pickle_string(struct buffer *pickle, const char *text);
/* What was put goes into the dict, which is the root. */
void put_pickle_end(struct buffer *pickle);

/* A whole file of f32, f16 and bf16 tensors, each in a storage of its own; with is_transposed the
 * values of matrices stand column by column, as their strides say. */
void put_torch_file(struct zip_writer *zip, const struct tensor *tensors, size_t n_tensors,
                    bool is_transposed);

#endif
