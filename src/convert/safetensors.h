/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors container: a JSON header of names, types, dims and offsets, then the bytes. After
 * safetensors_parse() every tensor lies inside the file, overlaps no other and has the size its
 * dims say. Which files make a model is checkpoint.h's matter.
 */
#ifndef KVERN_CONVERT_SAFETENSORS_H
#define KVERN_CONVERT_SAFETENSORS_H

#include "convert/tensor.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct safetensors {
    struct tensor *tensors; /* [n_tensors], owned with their names */
    size_t n_tensors;       /* those of type F32, F16 and BF16; others are checked and left out */
};

/* Tensors point into `data`, which must outlive them; `file` is the mapping it is, or NULL. On
 * failure *out is zeroed. */
kvern_status safetensors_parse(struct safetensors *out, const uint8_t *data, size_t n_bytes,
                               const struct file_map *file, kvern_error *err);
void safetensors_clear(struct safetensors *safetensors);

#endif
