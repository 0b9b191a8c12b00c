/* SPDX-License-Identifier: Apache-2.0
 *
 * The wire format: https://protobuf.dev/programming-guides/encoding/. A field number outside
 * 1..2^29-1, a varint over ten bytes and a length past the end are damage.
 */
#include "model/protobuf.h"

struct protobuf protobuf_read(const uint8_t *bytes, size_t n_bytes)
{
    static const uint8_t nothing;

    return (struct protobuf){.at = bytes ? bytes : &nothing,
                             .end = bytes ? bytes + n_bytes : &nothing};
}

bool protobuf_next_varint(struct protobuf *reader, uint64_t *value)
{
    *value = 0;
    if (reader->is_damaged || reader->at == reader->end)
        return false;
    for (unsigned shift = 0; shift < 70 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;

        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    reader->is_damaged = true;
    return false;
}

static bool take_fixed(struct protobuf *reader, size_t n_bytes, uint64_t *value)
{
    if ((size_t)(reader->end - reader->at) < n_bytes)
        return false;
    *value = 0;
    for (size_t i = 0; i < n_bytes; i++)
        *value |= (uint64_t)reader->at[i] << (8 * i);
    reader->at += n_bytes;
    return true;
}

static bool take_bytes(struct protobuf *reader, struct protobuf_field *field)
{
    uint64_t n_bytes;

    if (!protobuf_next_varint(reader, &n_bytes) || n_bytes > (size_t)(reader->end - reader->at))
        return false;
    field->bytes = reader->at;
    field->n_bytes = (size_t)n_bytes;
    reader->at += n_bytes;
    return true;
}

bool protobuf_next(struct protobuf *reader, struct protobuf_field *field)
{
    uint64_t key;
    bool is_read = false;

    *field = (struct protobuf_field){0};
    if (!protobuf_next_varint(reader, &key))
        return false;
    field->number = (uint32_t)(key >> 3);
    field->type = (enum protobuf_type)(key & 7);
    if (key >> 32 == 0 && field->number > 0) {
        switch (field->type) {
        case PROTOBUF_VARINT:
            is_read = protobuf_next_varint(reader, &field->value);
            break;
        case PROTOBUF_FIXED64:
            is_read = take_fixed(reader, 8, &field->value);
            break;
        case PROTOBUF_FIXED32:
            is_read = take_fixed(reader, 4, &field->value);
            break;
        case PROTOBUF_BYTES:
            is_read = take_bytes(reader, field);
            break;
        }
    }
    reader->is_damaged = !is_read;
    return is_read;
}

bool protobuf_enter(struct protobuf_field *found, const struct protobuf_field *field)
{
    if (found->number || field->type != PROTOBUF_BYTES)
        return false;
    *found = *field;
    return true;
}
