/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a model.onnx is what its manifest says, checked before ONNX Runtime sees the file: graph
 * inputs and outputs by name, type and rank, operators and their attributes against the dims, and
 * where every tensor's bytes lie. docs/graph.md describes the contract. Values of weights are not
 * looked at; shapes of packed weights are checked by the operators themselves when they open.
 */
#ifndef KVERN_MODEL_CONTRACT_H
#define KVERN_MODEL_CONTRACT_H

#include "kvern.h"
#include "model/manifest.h"

#include <stddef.h>
#include <stdint.h>

/* The graph as bytes. Tensors may lie in it or in files the manifest names, nowhere else. An error
 * names both sides: what the graph has and what the manifest says. */
kvern_status contract_check(const struct manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                            kvern_error *err);

/* contract_check of DIRECTORY/model.onnx. */
kvern_status contract_check_directory(const struct manifest *manifest, const char *directory,
                                      kvern_error *err);

#endif
