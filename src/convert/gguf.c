/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing GGUF. The file is untrusted: everything goes through a cursor that never passes the end,
 * and a count is believed only if that many smallest possible items fit in the bytes left, so that
 * memory taken is bounded by the file's size.
 */
#include "convert/gguf.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 20,
    MAX_ARRAY_DEPTH = 4,
    MIN_VALUE_BYTES = 8 + 4 + 1,      /* key length, type, one byte */
    MIN_TENSOR_BYTES = 8 + 4 + 4 + 8, /* name length, n_dims, type, offset */
};

struct cursor {
    const uint8_t *data;
    size_t n_bytes;
    size_t offset;
    bool is_past_end; /* sticky: something asked for more than there was */
};

static const uint8_t *take(struct cursor *cursor, uint64_t n_bytes)
{
    const uint8_t *bytes = cursor->data + cursor->offset;

    if (cursor->is_past_end || n_bytes > cursor->n_bytes - cursor->offset) {
        cursor->is_past_end = true;
        return NULL;
    }
    cursor->offset += (size_t)n_bytes;
    return bytes;
}

static uint32_t take_u32(struct cursor *cursor)
{
    const uint8_t *bytes = take(cursor, 4);
    uint32_t value = 0;

    if (bytes)
        memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t take_u64(struct cursor *cursor)
{
    const uint8_t *bytes = take(cursor, 8);
    uint64_t value = 0;

    if (bytes)
        memcpy(&value, bytes, sizeof value);
    return value;
}

static struct gguf_string take_string(struct cursor *cursor)
{
    uint64_t n_bytes = take_u64(cursor);
    const uint8_t *bytes = take(cursor, n_bytes);

    return bytes ? (struct gguf_string){(const char *)bytes, (size_t)n_bytes}
                 : (struct gguf_string){"", 0};
}

static const uint8_t type_bytes[GGUF_N_TYPES] = {
    [GGUF_UINT8] = 1,  [GGUF_INT8] = 1,    [GGUF_UINT16] = 2, [GGUF_INT16] = 2,
    [GGUF_UINT32] = 4, [GGUF_INT32] = 4,   [GGUF_BOOL] = 1,   [GGUF_FLOAT32] = 4,
    [GGUF_UINT64] = 8, [GGUF_FLOAT64] = 8, [GGUF_INT64] = 8,
};

/* Moves past `n_items` items of a type; false if they do not fit or the type is unknown. */
static bool skip_items(struct cursor *cursor, uint32_t type, uint64_t n_items, int depth)
{
    if (type >= GGUF_N_TYPES)
        return false;
    if (type_bytes[type]) {
        if (n_items > cursor->n_bytes / type_bytes[type])
            return false;
        return take(cursor, n_items * type_bytes[type]) != NULL;
    }
    for (uint64_t i = 0; i < n_items && !cursor->is_past_end; i++) {
        if (type == GGUF_STRING) {
            take_string(cursor);
        } else {
            uint32_t item_type = take_u32(cursor);
            uint64_t n_inner = take_u64(cursor);

            if (depth >= MAX_ARRAY_DEPTH || !skip_items(cursor, item_type, n_inner, depth + 1))
                return false;
        }
    }
    return !cursor->is_past_end;
}

/* A name of the file as a C string for messages, cut to fit. */
static const char *show(struct gguf_string string, char text[80])
{
    size_t n = string.n_bytes < 79 ? string.n_bytes : 79;

    memcpy(text, string.bytes, n);
    text[n] = '\0';
    return text;
}

static kvern_status parse_value(struct cursor *cursor, struct gguf_value *value, kvern_error *err)
{
    char name[80];

    value->key = take_string(cursor);
    uint32_t type = take_u32(cursor);
    if (cursor->is_past_end)
        return fail(err, KVERN_FORMAT, "the GGUF file ends inside its metadata");
    value->n_items = 1;
    value->item_type = type;
    if (type == GGUF_ARRAY) {
        value->item_type = take_u32(cursor);
        value->n_items = take_u64(cursor);
    }
    value->type = type;
    value->data = cursor->data + cursor->offset;
    size_t begin = cursor->offset;
    if (!skip_items(cursor, value->item_type, value->n_items, 0))
        return fail(err, KVERN_FORMAT,
                    "GGUF metadata %s has an unknown type or runs past the end of the file",
                    show(value->key, name));
    value->n_bytes = cursor->offset - begin;
    return KVERN_OK;
}

static kvern_status parse_values(struct gguf *gguf, struct cursor *cursor, uint64_t n_values,
                                 kvern_error *err)
{
    char name[80];

    if (n_values > (cursor->n_bytes - cursor->offset) / MIN_VALUE_BYTES)
        return fail(err, KVERN_FORMAT,
                    "the GGUF header claims %llu metadata entries, more than the file can hold",
                    (unsigned long long)n_values);
    gguf->values = try_new(n_values, sizeof *gguf->values);
    if (!gguf->values)
        return fail(err, KVERN_MEMORY, "no memory for %llu metadata entries",
                    (unsigned long long)n_values);
    for (uint64_t i = 0; i < n_values; i++) {
        struct gguf_value *value = &gguf->values[i];
        kvern_status status = parse_value(cursor, value, err);
        uint32_t known;

        if (status != KVERN_OK)
            return status;
        if (map_get(&gguf->keys, value->key.bytes, value->key.n_bytes, &known))
            return fail(err, KVERN_FORMAT, "GGUF metadata %s stands there twice",
                        show(value->key, name));
        if (!map_put(&gguf->keys, value->key.bytes, value->key.n_bytes, (uint32_t)i))
            return fail(err, KVERN_MEMORY, "no memory for the metadata's names");
        gguf->n_values++;
    }
    return KVERN_OK;
}

static bool tensor_type_from_ggml(uint32_t ggml_type, enum tensor_type *type)
{
    static const struct {
        uint32_t ggml_type;
        enum tensor_type type;
    } known[] = {
        {0, TENSOR_F32},   {1, TENSOR_F16},   {2, TENSOR_Q4_0},  {3, TENSOR_Q4_1},
        {6, TENSOR_Q5_0},  {7, TENSOR_Q5_1},  {8, TENSOR_Q8_0},  {12, TENSOR_Q4_K},
        {13, TENSOR_Q5_K}, {14, TENSOR_Q6_K}, {30, TENSOR_BF16},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].ggml_type == ggml_type) {
            *type = known[i].type;
            return true;
        }
    }
    return false;
}

/* One tensor entry; *offset is relative to the data section. */
static kvern_status parse_tensor(struct cursor *cursor, struct gguf_tensor *tensor,
                                 uint64_t *offset, kvern_error *err)
{
    char name[80];

    tensor->name = take_string(cursor);
    uint32_t n_dims = take_u32(cursor);
    show(tensor->name, name);
    if (!cursor->is_past_end && (n_dims < 1 || n_dims > TENSOR_MAX_DIMS))
        return fail(err, KVERN_FORMAT, "GGUF tensor %s has %u dimensions (1 to %d are allowed)",
                    name, n_dims, TENSOR_MAX_DIMS);
    for (uint32_t i = 0; i < n_dims && !cursor->is_past_end; i++) {
        uint64_t dim = take_u64(cursor);

        if (!cursor->is_past_end && (dim < 1 || dim > INT32_MAX))
            return fail(err, KVERN_FORMAT, "GGUF tensor %s has a dimension of %llu", name,
                        (unsigned long long)dim);
        tensor->dims[n_dims - 1 - i] = (size_t)dim;
    }
    uint32_t ggml_type = take_u32(cursor);
    *offset = take_u64(cursor);
    if (cursor->is_past_end)
        return fail(err, KVERN_FORMAT, "the GGUF file ends inside its list of tensors");
    tensor->n_dims = n_dims;
    if (!tensor_type_from_ggml(ggml_type, &tensor->type))
        return fail(err, KVERN_UNSUPPORTED,
                    "GGUF tensor %s has type %u, which kvern cannot read (F32, F16, BF16, Q4_0, "
                    "Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K it can)",
                    name, ggml_type);
    if (tensor->dims[n_dims - 1] % tensor_type_block_values(tensor->type) != 0)
        return fail(err, KVERN_FORMAT, "GGUF tensor %s has rows of %zu, not whole blocks of %s",
                    name, tensor->dims[n_dims - 1], tensor_type_name(tensor->type));
    if (!tensor_count_bytes(tensor->type, tensor->dims, n_dims, &tensor->n_bytes))
        return fail(err, KVERN_FORMAT, "GGUF tensor %s has dimensions whose product is too large",
                    name);
    return KVERN_OK;
}

static kvern_status parse_tensors(struct gguf *gguf, struct cursor *cursor, uint64_t n_tensors,
                                  uint64_t *offsets, kvern_error *err)
{
    struct map names = {0};
    kvern_status status = KVERN_OK;
    char name[80];

    for (uint64_t i = 0; i < n_tensors && status == KVERN_OK; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        uint32_t known;

        status = parse_tensor(cursor, tensor, &offsets[i], err);
        if (status == KVERN_OK && map_get(&names, tensor->name.bytes, tensor->name.n_bytes, &known))
            status = fail(err, KVERN_FORMAT, "GGUF tensor %s stands there twice",
                          show(tensor->name, name));
        else if (status == KVERN_OK &&
                 !map_put(&names, tensor->name.bytes, tensor->name.n_bytes, (uint32_t)i))
            status = fail(err, KVERN_MEMORY, "no memory for the tensors' names");
        else
            gguf->n_tensors++;
    }
    map_clear(&names);
    return status;
}

/* Turns the tensors' offsets into pointers, once it is known where the data section starts. */
static kvern_status place_tensors(struct gguf *gguf, const struct cursor *cursor,
                                  const uint64_t *offsets, kvern_error *err)
{
    const struct gguf_value *value = gguf_find(gguf, "general.alignment");
    uint64_t alignment = DEFAULT_ALIGNMENT;
    char name[80];

    if (value && (!gguf_unsigned(value, 0, &alignment) || alignment < 1 ||
                  alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0))
        return fail(err, KVERN_FORMAT,
                    "GGUF metadata general.alignment is not a power of two up to %d",
                    MAX_ALIGNMENT);
    uint64_t begin = (cursor->offset + alignment - 1) & ~(alignment - 1);
    if (gguf->n_tensors > 0 && begin > cursor->n_bytes)
        return fail(err, KVERN_FORMAT, "the GGUF file ends before its tensors' data");
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t n_left = cursor->n_bytes - begin;

        show(tensor->name, name);
        if (offsets[i] & (alignment - 1))
            return fail(err, KVERN_FORMAT, "GGUF tensor %s starts at %llu, not a multiple of %llu",
                        name, (unsigned long long)offsets[i], (unsigned long long)alignment);
        if (offsets[i] > n_left || tensor->n_bytes > n_left - offsets[i])
            return fail(err, KVERN_FORMAT,
                        "GGUF tensor %s (%zu bytes at %llu) runs past the end of the file", name,
                        tensor->n_bytes, (unsigned long long)offsets[i]);
        tensor->data = cursor->data + begin + offsets[i];
    }
    return KVERN_OK;
}

kvern_status gguf_parse(struct gguf *gguf, const uint8_t *data, size_t n_bytes, kvern_error *err)
{
    struct cursor cursor = {.data = data, .n_bytes = n_bytes};
    uint64_t *offsets = NULL;
    kvern_status status;

    *gguf = (struct gguf){0};
    const uint8_t *magic = take(&cursor, 4);
    gguf->version = take_u32(&cursor);
    uint64_t n_tensors = take_u64(&cursor);
    uint64_t n_values = take_u64(&cursor);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) {
        status = fail(err, KVERN_FORMAT, "this is not a GGUF file: it does not begin with GGUF");
        goto done;
    }
    if (cursor.is_past_end) {
        status = fail(err, KVERN_FORMAT, "the GGUF file ends inside its header");
        goto done;
    }
    if (gguf->version != 2 && gguf->version != 3) {
        status = fail(err, KVERN_UNSUPPORTED, "GGUF version %u is not supported (2 and 3 are)",
                      gguf->version);
        goto done;
    }
    status = parse_values(gguf, &cursor, n_values, err);
    if (status != KVERN_OK)
        goto done;
    if (n_tensors > (n_bytes - cursor.offset) / MIN_TENSOR_BYTES) {
        status = fail(err, KVERN_FORMAT,
                      "the GGUF header claims %llu tensors, more than the file can hold",
                      (unsigned long long)n_tensors);
        goto done;
    }
    gguf->tensors = try_new(n_tensors, sizeof *gguf->tensors);
    offsets = try_new(n_tensors, sizeof *offsets);
    if (!gguf->tensors || !offsets) {
        status =
            fail(err, KVERN_MEMORY, "no memory for %llu tensors", (unsigned long long)n_tensors);
        goto done;
    }
    status = parse_tensors(gguf, &cursor, n_tensors, offsets, err);
    if (status == KVERN_OK)
        status = place_tensors(gguf, &cursor, offsets, err);
done:
    free(offsets);
    if (status != KVERN_OK)
        gguf_clear(gguf);
    return status;
}

void gguf_clear(struct gguf *gguf)
{
    free(gguf->values);
    free(gguf->tensors);
    map_clear(&gguf->keys);
    *gguf = (struct gguf){0};
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key)
{
    uint32_t i;

    return map_get(&gguf->keys, key, strlen(key), &i) ? &gguf->values[i] : NULL;
}

/* Reads a number of any type as both kinds; false if it is none. */
static bool read_number(const struct gguf_value *value, size_t i, int64_t *integer, double *real,
                        bool *is_integer)
{
    enum gguf_type type = value->item_type;
    uint64_t bits = 0;
    float single;

    if (type >= GGUF_N_TYPES || !type_bytes[type] || i >= value->n_items)
        return false;
    memcpy(&bits, value->data + i * type_bytes[type], type_bytes[type]);
    *is_integer = type != GGUF_FLOAT32 && type != GGUF_FLOAT64;
    if (type == GGUF_FLOAT32) {
        memcpy(&single, &bits, sizeof single);
        *real = single;
    } else if (type == GGUF_FLOAT64) {
        memcpy(real, &bits, sizeof *real);
    } else {
        int n_unused = 64 - 8 * type_bytes[type];
        bool is_signed = type == GGUF_INT8 || type == GGUF_INT16 || type == GGUF_INT32;

        if (type == GGUF_UINT64 && bits > INT64_MAX)
            return false;
        /* shift up and back down: copies the sign bit of a narrow signed type */
        *integer = is_signed ? (int64_t)(bits << n_unused) >> n_unused : (int64_t)bits;
        *real = (double)*integer;
    }
    return true;
}

bool gguf_unsigned(const struct gguf_value *value, size_t i, uint64_t *out)
{
    int64_t integer = 0;
    double real;
    bool is_integer;

    if (!read_number(value, i, &integer, &real, &is_integer) || !is_integer || integer < 0)
        return false;
    *out = (uint64_t)integer;
    return true;
}

bool gguf_float(const struct gguf_value *value, size_t i, double *out)
{
    int64_t integer;
    bool is_integer;

    return read_number(value, i, &integer, out, &is_integer);
}

bool gguf_text(const struct gguf_value *value, struct gguf_string *out)
{
    size_t offset = 0;

    if (value->type != GGUF_STRING)
        return false;
    *out = gguf_next_string(value, &offset);
    return true;
}

struct gguf_string gguf_next_string(const struct gguf_value *array, size_t *offset)
{
    struct cursor cursor = {array->data, array->n_bytes, *offset, false};
    struct gguf_string string = take_string(&cursor);

    *offset = cursor.offset;
    return string;
}
