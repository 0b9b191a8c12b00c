/* SPDX-License-Identifier: Apache-2.0
 *
 * One view of a model's checkpoint, whatever its files are: tensors under their Hugging Face names,
 * the config, the tokenizer and the chat template. The files stay mapped while it is open; nothing
 * is copied or converted here (see pack.h for that).
 */
#ifndef KVERN_CONVERT_CHECKPOINT_H
#define KVERN_CONVERT_CHECKPOINT_H

#include "base/file.h"
#include "base/map.h"
#include "convert/tensor.h"
#include "kvern.h"
#include "model/config.h"

#include <stddef.h>

struct onnx_model;

struct checkpoint {
    struct tensor *tensors; /* [n_tensors], owned */
    size_t n_tensors;
    struct map by_name;     /* name -> index into tensors */
    struct file_map *files; /* [n_files], owned; tensors point into them */
    size_t n_files;
    struct model_config config;
    struct onnx_model *onnx; /* owned; of an ONNX export, whose bytes its tensors point into */
    const char *format;      /* "gguf", "safetensors", "torch" or "onnx": static */
    char *tokenizer_json;    /* owned; NULL if there is none */
    char *chat_template;     /* owned; NULL if there is none */
};

/* `path` is a .gguf file, a .safetensors or torch file (.bin, .pt, .pth) with config.json beside
 * it, an .onnx file of a GroupQueryAttention export, or a directory that holds, in this order, one
 * of model.safetensors.index.json, model.safetensors, pytorch_model.bin.index.json,
 * pytorch_model.bin, model.onnx, onnx/model.onnx, or exactly one .gguf. The files that go with an
 * export lie where export_config_directory() says. On failure *checkpoint is zeroed. */
kvern_status checkpoint_open(struct checkpoint *checkpoint, const char *path, kvern_error *err);
/* Fine on a zeroed checkpoint; leaves a zeroed one. */
void checkpoint_close(struct checkpoint *checkpoint);

/* NULL if there is no such tensor. */
const struct tensor *checkpoint_find(const struct checkpoint *checkpoint, const char *name);
/* The same, but a missing tensor is an error that names it, and so are dims other than [n_rows, k]
 * (n_rows = 1: a vector [k]). */
kvern_status checkpoint_require(const struct checkpoint *checkpoint, const char *name,
                                size_t n_rows, size_t k, const struct tensor **tensor,
                                kvern_error *err);

/* For the readers: puts a tensor under a name that must be new. The name is taken over. */
kvern_status checkpoint_add(struct checkpoint *checkpoint, struct tensor tensor, kvern_error *err);

#endif
