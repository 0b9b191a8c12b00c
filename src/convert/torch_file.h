/* SPDX-License-Identifier: Apache-2.0
 *
 * What torch.save writes of a state dict (pytorch_model.bin, .pt, .pth): a zip with a pickle,
 * data.pkl, and the bytes of each storage in an entry data/KEY. After torch_file_parse() every
 * tensor lies inside its storage's entry; tied ones may share bytes. No code of the file is ever
 * run: see pickle.h. Which files make a model is checkpoint.h's matter.
 */
#ifndef KVERN_CONVERT_TORCH_FILE_H
#define KVERN_CONVERT_TORCH_FILE_H

#include "convert/tensor.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct torch_file {
    struct tensor *tensors; /* [n_tensors], owned with their names */
    size_t n_tensors;       /* f32, f16 and bf16; those of integers are checked and left out */
};

/* Takes a state dict, or a dict that holds one under "state_dict" or "model". A matrix may stand
 * transposed (then its `stride` says so); other tensors that are not contiguous, f64, and files of
 * before torch 1.6 are KVERN_UNSUPPORTED. Tensors point into `data`, which must outlive them;
 * `file` is the mapping it is, or NULL. On failure *out is zeroed. */
kvern_status torch_file_parse(struct torch_file *out, const uint8_t *data, size_t n_bytes,
                              const struct file_map *file, kvern_error *err);
/* Fine on a zeroed one. */
void torch_file_clear(struct torch_file *torch_file);

#endif
