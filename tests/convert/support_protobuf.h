/* SPDX-License-Identifier: Apache-2.0
 *
 * Protobuf messages by hand, field by field: for ONNX files that no writer would make.
 */
#ifndef KVERN_TESTS_SUPPORT_PROTOBUF_H
#define KVERN_TESTS_SUPPORT_PROTOBUF_H

#include "base/buffer.h"

#include <stddef.h>
#include <stdint.h>

void put_varint(struct buffer *message, uint64_t value);
void put_number(struct buffer *message, unsigned field, uint64_t value);
void put_bytes(struct buffer *message, unsigned field, const void *bytes, size_t n_bytes);
void put_text(struct buffer *message, unsigned field, const char *text);
/* Clears `inner`. */
void put_message(struct buffer *message, unsigned field, struct buffer *inner);

/* ONNX's messages. `names` are separated by spaces, "-" is an absent one. */
struct buffer make_node(const char *op, const char *inputs, const char *outputs);
/* A TensorProto of type and dims (up to a 0), with raw bytes unless NULL. */
struct buffer make_tensor(const char *name, int type, const int64_t *dims, const void *raw,
                          size_t n_bytes);
/* A ValueInfoProto of f32 with a symbolic and a fixed dimension: ["n", 2]. */
struct buffer make_port(const char *name);

#endif
