/* SPDX-License-Identifier: Apache-2.0
 *
 * TensorProto, field by field. External data may only name a file of the manifest: that list holds
 * plain names, and manifest_read has refused links and wrong sizes.
 */
#include "model/contract_tensor.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

enum { MAX_DIMS = 8, EXTERNAL_ALIGNMENT = 64, LOCATION_EXTERNAL = 1 };

struct tensor_entry {
    struct text name;
    uint64_t type;
    uint64_t dims[MAX_DIMS];
    size_t n_dims;
    bool has_bytes; /* in the graph file itself */
    size_t n_bytes;
    uint64_t location_kind;
    struct text location;
    struct text offset;
    struct text length;
};

struct text text_of(const struct protobuf_field *field)
{
    return (struct text){.at = field->bytes ? (const char *)field->bytes : "",
                         .n_bytes = field->n_bytes};
}

bool text_is(struct text text, const char *string)
{
    return text.n_bytes == strlen(string) && memcmp(text.at, string, text.n_bytes) == 0;
}

/* Bytes of an element; 0: not a type kvern's graphs hold. */
static size_t element_bytes(uint64_t type)
{
    switch (type) {
    case 2: /* uint8 */
        return 1;
    case 10: /* float16 */
        return 2;
    case 1: /* float */
    case 6: /* int32 */
        return 4;
    case 7: /* int64 */
        return 8;
    default:
        return 0;
    }
}

static bool add_dim(struct tensor_entry *tensor, uint64_t dim)
{
    if (tensor->n_dims == MAX_DIMS)
        return false;
    tensor->dims[tensor->n_dims++] = dim;
    return true;
}

static bool read_dims(struct tensor_entry *tensor, const struct protobuf_field *field)
{
    struct protobuf packed = protobuf_read(field->bytes, field->n_bytes);
    uint64_t dim;
    bool is_ok = true;

    if (field->type != PROTOBUF_BYTES)
        return add_dim(tensor, field->value);
    while (is_ok && protobuf_next_varint(&packed, &dim))
        is_ok = add_dim(tensor, dim);
    return is_ok && !packed.is_damaged;
}

/* One key and value of external_data; keys that say nothing about the place are passed over. */
static bool read_external(struct tensor_entry *tensor, const struct protobuf_field *field)
{
    struct protobuf message = protobuf_read(field->bytes, field->n_bytes);
    struct protobuf_field part;
    struct text key = {""};
    struct text value = {""};

    while (protobuf_next(&message, &part)) {
        if (part.number == 1)
            key = text_of(&part);
        else if (part.number == 2)
            value = text_of(&part);
    }
    if (text_is(key, "location"))
        tensor->location = value;
    else if (text_is(key, "offset"))
        tensor->offset = value;
    else if (text_is(key, "length"))
        tensor->length = value;
    return !message.is_damaged;
}

static kvern_status read_tensor(struct tensor_entry *tensor, struct protobuf message,
                                kvern_error *err)
{
    struct protobuf_field field;
    bool is_ok = true;

    while (is_ok && protobuf_next(&message, &field)) {
        switch (field.number) {
        case 1:
            is_ok = read_dims(tensor, &field);
            break;
        case 2:
            tensor->type = field.value;
            break;
        case 8:
            tensor->name = text_of(&field);
            break;
        case 9:
            tensor->has_bytes = true;
            tensor->n_bytes = field.n_bytes;
            break;
        case 12: /* doc_string */
            break;
        case 13:
            is_ok = read_external(tensor, &field);
            break;
        case 14:
            tensor->location_kind = field.value;
            break;
        default:
            return fail(err, KVERN_UNSUPPORTED,
                        "the tensor \"%.*s\" has the protobuf field %u, which kvern does not read",
                        TEXT_ARGUMENTS(tensor->name), field.number);
        }
    }
    if (!is_ok || message.is_damaged)
        return fail(err, KVERN_FORMAT, "the tensor \"%.*s\" is damaged or has over %d dims",
                    TEXT_ARGUMENTS(tensor->name), MAX_DIMS);
    return KVERN_OK;
}

bool text_read_decimal(struct text text, uint64_t *value)
{
    *value = 0;
    if (text.n_bytes == 0 || text.n_bytes > 18)
        return false;
    for (size_t i = 0; i < text.n_bytes; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(text.at[i] - '0');
    }
    return true;
}

static kvern_status check_place(const struct manifest *manifest, const struct tensor_entry *tensor,
                                size_t n_bytes, kvern_error *err)
{
    const struct manifest_file *file = NULL;
    uint64_t offset;
    uint64_t length;

    for (size_t i = 0; i < manifest->n_files && !file; i++) {
        if (text_is(tensor->location, manifest->files[i].name))
            file = &manifest->files[i];
    }
    if (!file)
        return fail(err, KVERN_FORMAT,
                    "the tensor \"%.*s\" lies in \"%.*s\", which is no file of " MANIFEST_FILE,
                    TEXT_ARGUMENTS(tensor->name), TEXT_ARGUMENTS(tensor->location));
    if (!text_read_decimal(tensor->offset, &offset) ||
        !text_read_decimal(tensor->length, &length) || offset % EXTERNAL_ALIGNMENT != 0)
        return fail(err, KVERN_FORMAT,
                    "the tensor \"%.*s\" has offset \"%.*s\" and length \"%.*s\"; the offset must "
                    "be a multiple of %d",
                    TEXT_ARGUMENTS(tensor->name), TEXT_ARGUMENTS(tensor->offset),
                    TEXT_ARGUMENTS(tensor->length), EXTERNAL_ALIGNMENT);
    if (length != n_bytes)
        return fail(err, KVERN_FORMAT, "the tensor \"%.*s\" has %llu bytes; its dims need %zu",
                    TEXT_ARGUMENTS(tensor->name), (unsigned long long)length, n_bytes);
    const uint64_t end = offset + length; /* 18 digits each: no overflow */
    if (end > (uint64_t)file->n_bytes)
        return fail(err, KVERN_FORMAT,
                    "the tensor \"%.*s\" ends at byte %llu of %s, which has %lld",
                    TEXT_ARGUMENTS(tensor->name), (unsigned long long)end, file->name,
                    (long long)file->n_bytes);
    return KVERN_OK;
}

kvern_status contract_check_tensor(const struct manifest *manifest, struct protobuf message,
                                   struct text *name, kvern_error *err)
{
    struct tensor_entry tensor = {.name = {""}, .location = {""}, .offset = {""}, .length = {""}};
    kvern_status status = read_tensor(&tensor, message, err);
    size_t n_bytes = element_bytes(tensor.type);
    bool is_bounded = true;

    *name = tensor.name;
    if (status != KVERN_OK)
        return status;
    if (n_bytes == 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "the tensor \"%.*s\" has ONNX element type %llu, which kvern does not run",
                    TEXT_ARGUMENTS(tensor.name), (unsigned long long)tensor.type);
    for (size_t i = 0; i < tensor.n_dims; i++)
        is_bounded = is_bounded && tensor.dims[i] > 0 && tensor.dims[i] <= INT64_MAX &&
                     multiply_sizes(n_bytes, (size_t)tensor.dims[i], &n_bytes);
    if (!is_bounded)
        return fail(err, KVERN_FORMAT, "the dims of the tensor \"%.*s\" are out of range",
                    TEXT_ARGUMENTS(tensor.name));
    if (tensor.location_kind == LOCATION_EXTERNAL && !tensor.has_bytes)
        return check_place(manifest, &tensor, n_bytes, err);
    if (tensor.location_kind != 0 || tensor.location.n_bytes > 0 || tensor.n_bytes != n_bytes)
        return fail(err, KVERN_FORMAT,
                    "the tensor \"%.*s\" has %zu bytes in the graph; its dims need %zu",
                    TEXT_ARGUMENTS(tensor.name), tensor.n_bytes, n_bytes);
    return KVERN_OK;
}
