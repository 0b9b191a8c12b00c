/* SPDX-License-Identifier: Apache-2.0
 *
 * ValueInfoProto: name, type.tensor_type.{elem_type, shape}.
 */
#include "model/value_info.h"

static bool read_shape(struct value_info *info, struct protobuf shape)
{
    struct protobuf_field field;

    while (protobuf_next(&shape, &field)) {
        struct protobuf dim = protobuf_read(field.bytes, field.n_bytes);
        int64_t size = -1;

        if (field.number != 1)
            continue;
        if (info->rank == VALUE_INFO_MAX_RANK)
            return false;
        while (protobuf_next(&dim, &field)) {
            if (field.number == 1)
                size = (int64_t)field.value;
        }
        if (dim.is_damaged)
            return false;
        info->dims[info->rank++] = size;
    }
    return !shape.is_damaged;
}

bool value_info_read(struct value_info *info, struct protobuf message)
{
    struct protobuf_field field;
    struct protobuf_field type = {0};
    struct protobuf_field tensor = {0};
    struct protobuf_field shape = {0};
    bool is_ok = true;

    while (is_ok && protobuf_next(&message, &field)) {
        if (field.number == 1)
            info->name = text_of(&field);
        else if (field.number == 2)
            is_ok = protobuf_enter(&type, &field);
    }
    if (!is_ok || message.is_damaged)
        return false;
    message = protobuf_read(type.bytes, type.n_bytes);
    while (is_ok && protobuf_next(&message, &field)) {
        if (field.number == 1)
            is_ok = protobuf_enter(&tensor, &field);
    }
    if (!is_ok || message.is_damaged)
        return false;
    message = protobuf_read(tensor.bytes, tensor.n_bytes);
    while (is_ok && protobuf_next(&message, &field)) {
        if (field.number == 1)
            info->type = field.value;
        else if (field.number == 2)
            is_ok = protobuf_enter(&shape, &field);
    }
    return is_ok && !message.is_damaged &&
           read_shape(info, protobuf_read(shape.bytes, shape.n_bytes));
}
