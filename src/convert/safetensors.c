/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing safetensors. The header is untrusted: its length is bounded before it is parsed (JSON
 * takes several times its text in memory), and no offset is used before it is compared with the
 * file.
 */
#include "convert/safetensors.h"

#include "base/error.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 16 << 20 };

static const struct dtype {
    const char *name;
    size_t item_bytes;
    bool is_readable;
    enum tensor_type type;
} dtypes[] = {
    {"F32", 4, true, TENSOR_F32}, {"F16", 2, true, TENSOR_F16}, {"BF16", 2, true, TENSOR_BF16},
    {"F64", 8, false, 0},         {"I64", 8, false, 0},         {"I32", 4, false, 0},
    {"I16", 2, false, 0},         {"I8", 1, false, 0},          {"U64", 8, false, 0},
    {"U32", 4, false, 0},         {"U16", 2, false, 0},         {"U8", 1, false, 0},
    {"BOOL", 1, false, 0},        {"F8_E4M3", 1, false, 0},     {"F8_E5M2", 1, false, 0},
};

static const struct dtype *find_dtype(const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(json_string_value(name), dtypes[i].name) == 0)
            return &dtypes[i];
    }
    return NULL;
}

struct span {
    const char *name; /* owned by the JSON tree */
    size_t begin;
    size_t end;
};

static bool read_offset(const json_t *value, size_t n_bytes, size_t *offset)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > n_bytes)
        return false;
    *offset = (size_t)json_integer_value(value);
    return true;
}

/* Reads one entry of the header; `n_bytes` is the size of the data section. */
static kvern_status read_entry(const char *name, const json_t *entry, size_t n_bytes,
                               struct tensor *tensor, struct span *span, bool *is_readable,
                               kvern_error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const struct dtype *dtype = find_dtype(json_object_get(entry, "dtype"));
    size_t n_expected;

    if (!dtype)
        return fail(err, KVERN_UNSUPPORTED, "safetensors: %s has an unknown dtype", name);
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_MAX_DIMS)
        return fail(err, KVERN_FORMAT, "safetensors: %s has no shape of up to %d dimensions", name,
                    TENSOR_MAX_DIMS);
    *tensor = (struct tensor){.type = dtype->type, .n_dims = json_array_size(shape)};
    n_expected = dtype->item_bytes;
    for (size_t i = 0; i < tensor->n_dims; i++) {
        if (!read_offset(json_array_get(shape, i), INT32_MAX, &tensor->dims[i]) ||
            !multiply_sizes(n_expected, tensor->dims[i], &n_expected))
            return fail(err, KVERN_FORMAT, "safetensors: %s has a dimension that is no size", name);
    }
    if (json_array_size(offsets) != 2 ||
        !read_offset(json_array_get(offsets, 0), n_bytes, &span->begin) ||
        !read_offset(json_array_get(offsets, 1), n_bytes, &span->end) || span->begin > span->end)
        return fail(err, KVERN_FORMAT, "safetensors: the data_offsets of %s lie outside the file",
                    name);
    if (span->end - span->begin != n_expected)
        return fail(err, KVERN_FORMAT,
                    "safetensors: %s has %zu bytes; its shape and dtype need %zu", name,
                    span->end - span->begin, n_expected);
    tensor->n_bytes = n_expected;
    span->name = name;
    *is_readable = dtype->is_readable;
    return KVERN_OK;
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a;
    const struct span *right = b;

    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

static kvern_status check_overlap(struct span *spans, size_t n_spans, kvern_error *err)
{
    if (n_spans > 1)
        qsort(spans, n_spans, sizeof *spans, compare_spans);
    for (size_t i = 1; i < n_spans; i++) {
        if (spans[i].begin < spans[i - 1].end)
            return fail(err, KVERN_FORMAT, "safetensors: %s and %s share bytes", spans[i - 1].name,
                        spans[i].name);
    }
    return KVERN_OK;
}

static kvern_status read_entries(struct safetensors *out, json_t *header, const uint8_t *data,
                                 size_t n_bytes, const struct file_map *file, kvern_error *err)
{
    size_t n_entries = json_object_size(header);
    struct span *spans = try_new(n_entries, sizeof *spans);
    size_t n_spans = 0;
    kvern_status status = KVERN_OK;
    const char *name;
    json_t *entry;

    out->tensors = try_new(n_entries, sizeof *out->tensors);
    if (!spans || !out->tensors) {
        status = fail(err, KVERN_MEMORY, "no memory for %zu tensors", n_entries);
        goto done;
    }
    json_object_foreach(header, name, entry)
    {
        struct tensor *tensor = &out->tensors[out->n_tensors];
        bool is_readable = false;

        if (strcmp(name, "__metadata__") == 0)
            continue;
        status = read_entry(name, entry, n_bytes, tensor, &spans[n_spans], &is_readable, err);
        if (status != KVERN_OK)
            goto done;
        tensor->data = data + spans[n_spans].begin;
        tensor->file = file;
        n_spans++;
        if (is_readable) {
            tensor->name = copy_string_or_abort(name);
            out->n_tensors++;
        }
    }
    status = check_overlap(spans, n_spans, err);
done:
    free(spans);
    return status;
}

kvern_status safetensors_parse(struct safetensors *out, const uint8_t *data, size_t n_bytes,
                               const struct file_map *file, kvern_error *err)
{
    json_t *header = NULL;
    json_error_t where;
    uint64_t n_header;
    kvern_status status;

    *out = (struct safetensors){0};
    if (n_bytes < sizeof n_header)
        return fail(err, KVERN_FORMAT, "safetensors: the file has only %zu bytes", n_bytes);
    memcpy(&n_header, data, sizeof n_header);
    if (n_header > n_bytes - sizeof n_header)
        return fail(err, KVERN_FORMAT,
                    "safetensors: a header of %llu bytes runs past the end of the file",
                    (unsigned long long)n_header);
    if (n_header > MAX_HEADER_BYTES)
        return fail(err, KVERN_LIMIT, "safetensors: a header of %llu bytes is over the limit of %d",
                    (unsigned long long)n_header, MAX_HEADER_BYTES);
    data += sizeof n_header;
    header = json_loadb((const char *)data, (size_t)n_header, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(header)) {
        status =
            fail(err, KVERN_FORMAT, "safetensors: the header is not a JSON object: %s", where.text);
        goto done;
    }
    status =
        read_entries(out, header, data + n_header, n_bytes - sizeof n_header - n_header, file, err);
done:
    json_decref(header);
    if (status != KVERN_OK)
        safetensors_clear(out);
    return status;
}

void safetensors_clear(struct safetensors *safetensors)
{
    for (size_t i = 0; i < safetensors->n_tensors; i++)
        free(safetensors->tensors[i].name);
    free(safetensors->tensors);
    *safetensors = (struct safetensors){0};
}
