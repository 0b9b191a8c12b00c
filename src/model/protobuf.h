/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader of protobuf's wire format over bytes in memory: one field after the other, nested
 * messages as further readers. It allocates nothing and never recurses, so that an untrusted file
 * can cost neither memory nor stack; which fields mean what is the caller's matter.
 */
#ifndef KVERN_MODEL_PROTOBUF_H
#define KVERN_MODEL_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct protobuf {
    const uint8_t *at;
    const uint8_t *end;
    bool is_damaged; /* set by the first ill-formed field; nothing is read after it */
};

enum protobuf_type {
    PROTOBUF_VARINT = 0,
    PROTOBUF_FIXED64 = 1,
    PROTOBUF_BYTES = 2, /* strings, nested messages, packed arrays */
    PROTOBUF_FIXED32 = 5,
};

struct protobuf_field {
    uint32_t number;
    enum protobuf_type type;
    uint64_t value;       /* of the number types */
    const uint8_t *bytes; /* [n_bytes], of PROTOBUF_BYTES */
    size_t n_bytes;
};

struct protobuf protobuf_read(const uint8_t *bytes, size_t n_bytes);
/* false: the end, or the rest is damaged. Groups (never written since proto2) count as damage. */
bool protobuf_next(struct protobuf *reader, struct protobuf_field *field);
/* Notes a message inside a message that may be there once (protobuf would merge two); *found is
 * zeroed before. false: it is the second, or no message. */
bool protobuf_enter(struct protobuf_field *found, const struct protobuf_field *field);
/* A varint by itself, as packed arrays hold them. */
bool protobuf_next_varint(struct protobuf *reader, uint64_t *value);

#endif
