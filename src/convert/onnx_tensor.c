/* SPDX-License-Identifier: Apache-2.0
 *
 * TensorProto's fields, by number as onnx.proto gives them. Every size is compared with what type
 * and dims need before anyone uses it, and the name of an external file is a plain name: no
 * directory, nothing hidden.
 */
#include "convert/onnx_tensor.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Bits of an element by TensorProto.DataType; 0: no type of fixed size. */
static const uint8_t element_bits[] = {
    [1] = 32,  [2] = 8,   [3] = 8,   [4] = 16,  [5] = 16,  [6] = 32,   [7] = 64,  [9] = 8,
    [10] = 16, [11] = 64, [12] = 32, [13] = 64, [14] = 64, [15] = 128, [16] = 16, [17] = 8,
    [18] = 8,  [19] = 8,  [20] = 8,  [21] = 4,  [22] = 4,  [23] = 4,
};

/* The fields seen so far of one TensorProto. */
struct reader {
    struct onnx_tensor *tensor;
    struct protobuf_field raw;
    const uint8_t *whole; /* of the message, for the second look at its numbers */
    size_t n_whole;
    bool has_segment;
    bool has_number_fields; /* float_data, int32_data, int64_data, double_data or uint64_data */
    bool is_external;
    bool has_length;
    size_t length;
    kvern_error *err;
};

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

kvern_status onnx_text_copy(const struct protobuf_field *field, char **text, kvern_error *err)
{
    if (field->type != PROTOBUF_BYTES ||
        (field->n_bytes && memchr(field->bytes, '\0', field->n_bytes)))
        return fail(err, KVERN_FORMAT, "the graph has a name that is no text");
    char *copy = try_new(field->n_bytes + 1, 1);
    if (!copy)
        return fail(err, KVERN_MEMORY, "out of memory for the graph's names");
    if (field->n_bytes)
        memcpy(copy, field->bytes, field->n_bytes);
    free(*text);
    *text = copy;
    return KVERN_OK;
}

static kvern_status add_dim(struct reader *reader, uint64_t value)
{
    struct onnx_tensor *tensor = reader->tensor;

    if (tensor->n_dims == ONNX_TENSOR_MAX_DIMS)
        return fail(reader->err, KVERN_LIMIT, "tensor %s has more than %d dimensions", tensor->name,
                    ONNX_TENSOR_MAX_DIMS);
    if (value > INT64_MAX)
        return fail(reader->err, KVERN_FORMAT, "tensor %s has a negative dimension", tensor->name);
    tensor->dims[tensor->n_dims++] = (size_t)value;
    return KVERN_OK;
}

static kvern_status add_dims(struct reader *reader, const struct protobuf_field *field)
{
    struct protobuf packed = protobuf_read(field->bytes, field->n_bytes);
    kvern_status status = KVERN_OK;
    uint64_t value;

    if (field->type == PROTOBUF_VARINT)
        return add_dim(reader, field->value);
    while (status == KVERN_OK && protobuf_next_varint(&packed, &value))
        status = add_dim(reader, value);
    if (status == KVERN_OK && packed.is_damaged)
        status = fail(reader->err, KVERN_FORMAT, "the dims of tensor %s are damaged",
                      reader->tensor->name);
    return status;
}

static bool read_decimal(const struct protobuf_field *field, size_t *value)
{
    uint64_t number = 0;

    if (field->n_bytes < 1 || field->n_bytes > 18)
        return false;
    for (size_t i = 0; i < field->n_bytes; i++) {
        if (field->bytes[i] < '0' || field->bytes[i] > '9')
            return false;
        number = number * 10 + (field->bytes[i] - '0');
    }
    *value = (size_t)number;
    return true;
}

static bool is_text(const struct protobuf_field *field, const char *text)
{
    return field->n_bytes == strlen(text) && memcmp(field->bytes, text, field->n_bytes) == 0;
}

/* One {key, value} of external_data; keys other than these three are the writer's own matter. */
static kvern_status read_external(struct reader *reader, const struct protobuf_field *entry)
{
    struct protobuf fields = protobuf_read(entry->bytes, entry->n_bytes);
    static const uint8_t nothing;
    struct protobuf_field key = {.type = PROTOBUF_BYTES, .bytes = &nothing};
    struct protobuf_field value = key;
    struct protobuf_field field;
    struct onnx_tensor *tensor = reader->tensor;
    bool is_good = true;

    while (protobuf_next(&fields, &field)) {
        if (field.type == PROTOBUF_BYTES && field.number == 1)
            key = field;
        else if (field.type == PROTOBUF_BYTES && field.number == 2)
            value = field;
    }
    if (is_text(&key, "location")) {
        kvern_status status = onnx_text_copy(&value, &tensor->location, reader->err);

        if (status != KVERN_OK)
            return status;
    } else if (is_text(&key, "offset")) {
        is_good = read_decimal(&value, &tensor->offset);
    } else if (is_text(&key, "length")) {
        is_good = read_decimal(&value, &reader->length);
        reader->has_length = true;
    }
    if (!is_good || fields.is_damaged)
        return fail(reader->err, KVERN_FORMAT, "tensor %s has bad external data: %.*s is no value",
                    tensor->name, (int)(value.n_bytes < 64 ? value.n_bytes : 64),
                    (const char *)value.bytes);
    return KVERN_OK;
}

static kvern_status read_field(struct reader *reader, const struct protobuf_field *field)
{
    struct onnx_tensor *tensor = reader->tensor;

    switch (field->number) {
    case 1:
        return add_dims(reader, field);
    case 2:
        tensor->type = field->value < 1 << 16 ? (int32_t)field->value : 0;
        break;
    case 3:
        reader->has_segment = true;
        break;
    case 4:
    case 5:
    case 7:
    case 10:
    case 11:
        reader->has_number_fields = true;
        break;
    case 9:
        reader->raw = *field;
        break;
    case 13:
        return read_external(reader, field);
    case 14:
        reader->is_external = field->value == 1;
        break;
    default:
        break;
    }
    return KVERN_OK;
}

/* The name first, so that every other message can say it. */
static kvern_status read_name(struct reader *reader)
{
    struct protobuf fields = protobuf_read(reader->whole, reader->n_whole);
    static const uint8_t nothing;
    struct protobuf_field name = {.type = PROTOBUF_BYTES, .bytes = &nothing};
    struct protobuf_field field;

    while (protobuf_next(&fields, &field)) {
        if (field.number == 8 && field.type == PROTOBUF_BYTES)
            name = field;
    }
    return onnx_text_copy(&name, &reader->tensor->name, reader->err);
}

static kvern_status count_bytes(struct reader *reader)
{
    struct onnx_tensor *tensor = reader->tensor;
    size_t n_types = sizeof element_bits / sizeof *element_bits;
    size_t bits =
        tensor->type > 0 && (size_t)tensor->type < n_types ? element_bits[tensor->type] : 0;
    size_t n_values = 1;

    for (size_t i = 0; i < tensor->n_dims; i++) {
        if (!multiply_sizes(n_values, tensor->dims[i], &n_values))
            return fail(reader->err, KVERN_LIMIT, "the dims of tensor %s are too large",
                        tensor->name);
    }
    if (bits == 0 && tensor->type != ONNX_ELEMENT_STRING)
        return fail(reader->err, KVERN_UNSUPPORTED, "tensor %s has the element type %d",
                    tensor->name, (int)tensor->type);
    if (n_values > SIZE_MAX / 128)
        return fail(reader->err, KVERN_LIMIT, "the dims of tensor %s are too large", tensor->name);
    tensor->n_bytes = n_values * bits / 8 + (n_values * bits % 8 != 0);
    return KVERN_OK;
}

/* ---- values spelled as numbers ---- */

/* Where the numbers go: `item_bytes` low bytes of each. */
struct numbers {
    uint8_t *out;
    size_t n_bytes;
    size_t n_done;
    size_t item_bytes;
};

static bool put_number(struct numbers *numbers, uint64_t value)
{
    if (numbers->n_bytes - numbers->n_done < numbers->item_bytes)
        return false;
    memcpy(numbers->out + numbers->n_done, &value, numbers->item_bytes); /* little-endian */
    numbers->n_done += numbers->item_bytes;
    return true;
}

/* One field of numbers: packed or not, varints or fixed width (`width` bytes). */
static bool put_field(struct numbers *numbers, const struct protobuf_field *field, size_t width)
{
    struct protobuf packed = protobuf_read(field->bytes, field->n_bytes);
    uint64_t value;

    if (field->type != PROTOBUF_BYTES)
        return put_number(numbers, field->value);
    if (width > 0) {
        if (field->n_bytes > numbers->n_bytes - numbers->n_done)
            return false;
        if (field->n_bytes)
            memcpy(numbers->out + numbers->n_done, field->bytes, field->n_bytes);
        numbers->n_done += field->n_bytes;
        return true;
    }
    while (protobuf_next_varint(&packed, &value)) {
        if (!put_number(numbers, value))
            return false;
    }
    return !packed.is_damaged;
}

/* The number field of a type and the width of its items in the file (0: varints). */
static unsigned number_field(int32_t type, size_t *width)
{
    *width = type == 1 || type == 14 ? 4 : type == 11 || type == 15 ? 8 : 0;
    switch (type) {
    case 1:
    case 14:
        return 4; /* float_data */
    case 7:
        return 7; /* int64_data */
    case 11:
    case 15:
        return 10; /* double_data */
    case 12:
    case 13:
        return 11; /* uint64_data */
    default:
        return 5; /* int32_data: all that is smaller */
    }
}

static kvern_status copy_numbers(struct reader *reader)
{
    struct onnx_tensor *tensor = reader->tensor;
    struct protobuf fields = protobuf_read(reader->whole, reader->n_whole);
    struct protobuf_field field;
    size_t width;
    unsigned number = number_field(tensor->type, &width);
    size_t item_bytes = element_bits[tensor->type] / 8u;
    struct numbers numbers = {.n_bytes = tensor->n_bytes,
                              .item_bytes = item_bytes ? item_bytes : 1};
    bool fits = true;

    if (width > 0 && numbers.item_bytes > width)
        numbers.item_bytes = width;            /* complex numbers: two items each */
    if (tensor->n_bytes / 8 > reader->n_whole) /* a number takes at least a byte of the file */
        return fail(reader->err, KVERN_FORMAT, "tensor %s has fewer values than its dims say",
                    tensor->name);
    tensor->copy = try_new(tensor->n_bytes, 1);
    if (!tensor->copy)
        return fail(reader->err, KVERN_MEMORY, "out of memory for tensor %s (%zu bytes)",
                    tensor->name, tensor->n_bytes);
    numbers.out = tensor->copy;
    while (fits && protobuf_next(&fields, &field)) {
        if (field.number == number)
            fits = put_field(&numbers, &field, width);
    }
    if (!fits || numbers.n_done != tensor->n_bytes)
        return fail(reader->err, KVERN_FORMAT,
                    "tensor %s has more or fewer values than its dims say", tensor->name);
    tensor->data = tensor->copy;
    return KVERN_OK;
}

/* ---- where the bytes are ---- */

static kvern_status find_bytes(struct reader *reader)
{
    struct onnx_tensor *tensor = reader->tensor;

    if (reader->has_segment)
        return fail(reader->err, KVERN_UNSUPPORTED, "tensor %s comes in segments", tensor->name);
    if (reader->is_external) {
        if (!tensor->location || !is_plain_name(tensor->location))
            return fail(reader->err, KVERN_FORMAT,
                        "tensor %s lies in the file \"%s\", which is not a plain name",
                        tensor->name, tensor->location ? tensor->location : "");
        if (tensor->type == ONNX_ELEMENT_STRING)
            return fail(reader->err, KVERN_FORMAT, "tensor %s holds strings outside the file",
                        tensor->name);
        if (reader->has_length && reader->length != tensor->n_bytes)
            return fail(reader->err, KVERN_FORMAT,
                        "tensor %s has %zu bytes in %s; its dims and type need %zu", tensor->name,
                        reader->length, tensor->location, tensor->n_bytes);
        return KVERN_OK;
    }
    free(tensor->location);
    tensor->location = NULL;
    if (tensor->n_bytes == 0)
        return KVERN_OK;
    if (reader->raw.type != PROTOBUF_BYTES) {
        if (reader->has_number_fields)
            return copy_numbers(reader);
        return fail(reader->err, KVERN_FORMAT, "tensor %s has no values", tensor->name);
    }
    if (reader->raw.n_bytes != tensor->n_bytes)
        return fail(reader->err, KVERN_FORMAT,
                    "tensor %s has %zu bytes; its dims and type need %zu", tensor->name,
                    reader->raw.n_bytes, tensor->n_bytes);
    tensor->data = reader->raw.bytes;
    return KVERN_OK;
}

kvern_status onnx_tensor_parse(struct onnx_tensor *tensor, const uint8_t *bytes, size_t n_bytes,
                               kvern_error *err)
{
    struct reader reader = {.tensor = tensor, .whole = bytes, .n_whole = n_bytes, .err = err};
    struct protobuf fields = protobuf_read(bytes, n_bytes);
    struct protobuf_field field;
    kvern_status status;

    *tensor = (struct onnx_tensor){0};
    status = read_name(&reader);
    while (status == KVERN_OK && protobuf_next(&fields, &field))
        status = read_field(&reader, &field);
    if (status == KVERN_OK && fields.is_damaged)
        status = fail(err, KVERN_FORMAT, "tensor %s is damaged", tensor->name);
    if (status == KVERN_OK)
        status = count_bytes(&reader);
    if (status == KVERN_OK)
        status = find_bytes(&reader);
    if (status != KVERN_OK)
        onnx_tensor_clear(tensor);
    return status;
}

kvern_status onnx_tensor_resolve(struct onnx_tensor *tensor, const struct file_map *file,
                                 kvern_error *err)
{
    if (tensor->offset > file->n_bytes || tensor->n_bytes > file->n_bytes - tensor->offset)
        return fail(err, KVERN_FORMAT,
                    "tensor %s ends at byte %zu + %zu of %s, which has %zu bytes", tensor->name,
                    tensor->offset, tensor->n_bytes, tensor->location, file->n_bytes);
    if (tensor->n_bytes > 0)
        tensor->data = file->data + tensor->offset;
    tensor->file = file;
    return KVERN_OK;
}

void onnx_tensor_clear(struct onnx_tensor *tensor)
{
    free(tensor->name);
    free(tensor->copy);
    free(tensor->location);
    *tensor = (struct onnx_tensor){0};
}

size_t onnx_tensor_n_values(const struct onnx_tensor *tensor)
{
    size_t n_values = 1;

    for (size_t i = 0; i < tensor->n_dims; i++)
        n_values *= tensor->dims[i];
    return n_values;
}

bool onnx_tensor_integers(const struct onnx_tensor *tensor, int64_t *values, size_t capacity,
                          size_t *n_values)
{
    size_t n = onnx_tensor_n_values(tensor);

    if ((tensor->type != ONNX_ELEMENT_I64 && tensor->type != ONNX_ELEMENT_I32) || n > capacity ||
        (n > 0 && !tensor->data))
        return false;
    for (size_t i = 0; i < n; i++) {
        int32_t small;

        if (tensor->type == ONNX_ELEMENT_I64) {
            memcpy(&values[i], tensor->data + 8 * i, 8);
        } else {
            memcpy(&small, tensor->data + 4 * i, 4);
            values[i] = small;
        }
    }
    *n_values = n;
    return true;
}
