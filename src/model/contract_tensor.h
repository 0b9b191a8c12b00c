/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of contract.c that looks at one initializer (TensorProto): that its type is one of ours,
 * that it has as many bytes as its dims say, and that these lie in the graph file itself or inside
 * a file the manifest names.
 */
#ifndef KVERN_MODEL_CONTRACT_TENSOR_H
#define KVERN_MODEL_CONTRACT_TENSOR_H

#include "kvern.h"
#include "model/manifest.h"
#include "model/protobuf.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes of a string field: a view into the graph, not terminated. */
struct text {
    const char *at;
    size_t n_bytes;
};

/* For a message: "%.*s" of a text, cut at 80 bytes. */
#define TEXT_ARGUMENTS(text) (int)((text).n_bytes < 80 ? (text).n_bytes : 80), (text).at

struct text text_of(const struct protobuf_field *field);
bool text_is(struct text text, const char *string);
/* 1 to 18 decimal digits and nothing else. */
bool text_read_decimal(struct text text, uint64_t *value);

/* `name` gets the tensor's name. */
kvern_status contract_check_tensor(const struct manifest *manifest, struct protobuf message,
                                   struct text *name, kvern_error *err);

#endif
