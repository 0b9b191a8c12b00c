/* SPDX-License-Identifier: Apache-2.0
 *
 * From a pickled state dict to tensors: finds the state dict, gives each tensor the bytes of its
 * storage's entry, and checks that offset, dims and strides stay inside them. The bytes themselves
 * are not looked at.
 */
#include "convert/torch_file.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "convert/pickle.h"
#include "convert/zip_file.h"

#include <stdlib.h>
#include <string.h>

/* A tensor's name may stand in the pickle once and be used often, so both are bounded. */
enum { MAX_TENSORS = 1 << 17, MAX_NAME_BYTES = 1000, MAX_PREFIX_BYTES = 1000, MAX_KEY_BYTES = 20 };

static const char pickle_name[] = "data.pkl";

static const struct storage_type {
    const char *name;
    size_t value_bytes;
    bool is_float;
    bool is_readable;
    enum tensor_type type;
} storage_types[] = {
    [PICKLE_F32] = {"f32", 4, true, true, TENSOR_F32},
    [PICKLE_F16] = {"f16", 2, true, true, TENSOR_F16},
    [PICKLE_BF16] = {"bf16", 2, true, true, TENSOR_BF16},
    [PICKLE_F64] = {"f64", 8, true, false, 0},
    [PICKLE_I64] = {"i64", 8, false, false, 0},
    [PICKLE_I32] = {"i32", 4, false, false, 0},
    [PICKLE_I16] = {"i16", 2, false, false, 0},
    [PICKLE_I8] = {"i8", 1, false, false, 0},
    [PICKLE_U8] = {"u8", 1, false, false, 0},
    [PICKLE_BOOLS] = {"bool", 1, false, false, 0},
};

struct reader {
    struct torch_file *out;
    struct zip_file zip;
    struct pickle pickle;
    const char *prefix; /* [n_prefix], in the file: what stands before data.pkl, "archive/" */
    size_t n_prefix;
    const struct file_map *file;
    kvern_error *err;
};

/* ---- the container ---- */

/* Before torch 1.6 a file was a tar, then a row of pickles of which the first is torch's magic
 * number, a long of 10 bytes; both forms still stand behind a flag. */
static bool is_legacy(const uint8_t *data, size_t n_bytes)
{
    static const uint8_t magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    static const char tar[] = "ustar";
    const size_t tar_at = 257;

    if (n_bytes >= 4 + sizeof magic && data[0] == 0x80 && data[2] == 0x8a && data[3] == 10)
        return memcmp(data + 4, magic, sizeof magic) == 0;
    return n_bytes >= tar_at + strlen(tar) && memcmp(data + tar_at, tar, strlen(tar)) == 0;
}

static kvern_status check_form(const uint8_t *data, size_t n_bytes, kvern_error *err)
{
    if (is_legacy(data, n_bytes))
        return fail(err, KVERN_UNSUPPORTED,
                    "this is torch.save's form of before version 1.6; load it with torch and save "
                    "it again, or get the model's safetensors");
    if (!zip_file_is_zip(data, n_bytes))
        return fail(err, KVERN_FORMAT,
                    "this is not a file of torch.save: it does not begin as a "
                    "zip");
    return KVERN_OK;
}

/* The pickle lies in the archive's one folder, whose name is the file's first one. */
static kvern_status find_pickle(struct reader *reader, const struct zip_entry **found)
{
    const size_t n_name = strlen(pickle_name);

    *found = NULL;
    for (size_t i = 0; i < reader->zip.n_entries; i++) {
        const struct zip_entry *entry = &reader->zip.entries[i];
        const char *slash = memchr(entry->name, '/', entry->name_bytes);
        size_t n_prefix = slash ? (size_t)(slash - entry->name) + 1 : 0;

        if (entry->name_bytes != n_prefix + n_name ||
            memcmp(entry->name + n_prefix, pickle_name, n_name) != 0)
            continue;
        if (*found)
            return fail(reader->err, KVERN_FORMAT, "torch: the archive has two %s", pickle_name);
        *found = entry;
        reader->prefix = entry->name;
        reader->n_prefix = n_prefix;
    }
    if (!*found)
        return fail(reader->err, KVERN_FORMAT, "torch: the archive has no %s", pickle_name);
    if (reader->n_prefix > MAX_PREFIX_BYTES)
        return fail(reader->err, KVERN_LIMIT, "torch: the archive's folder has a name of %zu bytes",
                    reader->n_prefix);
    return KVERN_OK;
}

/* The entry of the pickle's folder with this name; NULL if there is none. */
static const struct zip_entry *find_entry(const struct reader *reader, const char *folder,
                                          const char *name, size_t n_name)
{
    char path[MAX_PREFIX_BYTES + 16 + MAX_KEY_BYTES];
    char *end;

    if (n_name > MAX_KEY_BYTES)
        return NULL;
    memcpy(path, reader->prefix, reader->n_prefix);
    end = stpcpy(path + reader->n_prefix, folder);
    memcpy(end, name, n_name);
    return zip_file_find(&reader->zip, path, (size_t)(end - path) + n_name);
}

static kvern_status check_byte_order(const struct reader *reader)
{
    const struct zip_entry *order = find_entry(reader, "", "byteorder", strlen("byteorder"));

    if (order && (order->n_bytes != 6 || memcmp(order->data, "little", 6) != 0))
        return fail(reader->err, KVERN_UNSUPPORTED,
                    "torch: the file's byte order is not little-endian");
    return KVERN_OK;
}

/* ---- the state dict ---- */

static const struct pickle_value *look_up(const struct pickle *pickle,
                                          const struct pickle_value *dict, const char *key)
{
    for (uint32_t i = dict->items.first; i != PICKLE_NO_ITEM;) {
        uint32_t value = pickle->items[i].next;

        if (pickle_is_text(&pickle->values[pickle->items[i].value], key))
            return &pickle->values[pickle->items[value].value];
        i = pickle->items[value].next;
    }
    return NULL;
}

/* The root, or what a training checkpoint keeps in it. */
static kvern_status find_state_dict(const struct reader *reader, const struct pickle_value **found)
{
    static const char *const keys[] = {"state_dict", "model"};
    const struct pickle_value *root = &reader->pickle.values[reader->pickle.root];

    if (!pickle_is_dict(root))
        return fail(reader->err, KVERN_UNSUPPORTED,
                    "torch: the file holds something other than a dict of tensors");
    *found = root;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct pickle_value *nested = look_up(&reader->pickle, root, keys[i]);

        if (nested && pickle_is_dict(nested)) {
            *found = nested;
            break;
        }
    }
    return KVERN_OK;
}

/* Gives `name`, malloc'ed, for a key of the state dict. */
static kvern_status copy_name(const struct pickle_value *key, char **name, kvern_error *err)
{
    if (key->kind != PICKLE_STRING)
        return fail(err, KVERN_FORMAT, "torch: a tensor's name is no string");
    if (key->n == 0 || key->n > MAX_NAME_BYTES || memchr(key->text, '\0', key->n) ||
        !utf8_is_valid(key->text, key->n))
        return fail(err, KVERN_FORMAT, "torch: a tensor's name is no text of 1 to %d bytes",
                    MAX_NAME_BYTES);
    *name = copy_bytes_or_abort(key->text, key->n);
    return KVERN_OK;
}

/* ---- one tensor ---- */

/* Dims of one value have any stride. */
static bool is_contiguous(const struct pickle_tensor *from)
{
    int64_t stride = 1;

    for (size_t i = from->n_dims; i-- > 0; stride *= from->dims[i]) {
        if (from->dims[i] != 1 && from->strides[i] != stride)
            return false;
    }
    return true;
}

/* Sets dims, stride and n_bytes, and how many values of the storage lie behind the tensor's first.
 */
static kvern_status set_dims(struct tensor *tensor, const struct pickle_tensor *from,
                             size_t value_bytes, size_t *n_span, kvern_error *err)
{
    size_t n_values = 1;

    tensor->n_dims = from->n_dims;
    for (size_t i = 0; i < from->n_dims; i++) {
        if (from->dims[i] > INT32_MAX ||
            !multiply_sizes(n_values, (size_t)from->dims[i], &n_values) || n_values > INT64_MAX / 8)
            return fail(err, KVERN_FORMAT, "torch: %s has a dimension that is no size",
                        tensor->name);
        tensor->dims[i] = (size_t)from->dims[i];
    }
    *n_span = n_values;
    if (n_values > 0 && !is_contiguous(from)) {
        /* as they are left by `numpy.transpose` where a checkpoint came from another framework */
        if (from->n_dims != 2 || from->strides[0] != 1 || from->strides[1] < from->dims[0] ||
            from->strides[1] > INT32_MAX ||
            !multiply_sizes((size_t)from->strides[1], tensor->dims[1] - 1, n_span) ||
            !add_sizes(*n_span, tensor->dims[0], n_span) || *n_span > INT64_MAX / 8)
            return fail(err, KVERN_UNSUPPORTED,
                        "torch: the values of %s are not contiguous; save the model again after "
                        "calling .contiguous() on it",
                        tensor->name);
        tensor->stride = (size_t)from->strides[1];
    }
    tensor->n_bytes = *n_span * value_bytes;
    return KVERN_OK;
}

/* Fills `tensor`, whose name is set. */
static kvern_status read_tensor(const struct reader *reader, const struct pickle_tensor *from,
                                struct tensor *tensor)
{
    const struct pickle_storage *storage = &reader->pickle.storages[from->storage];
    const struct pickle_value *key = &reader->pickle.values[storage->key];
    const struct storage_type *type = &storage_types[storage->type];
    const struct zip_entry *entry = find_entry(reader, "data/", key->text, key->n);
    size_t n_span, n_bytes;
    kvern_status status = set_dims(tensor, from, type->value_bytes, &n_span, reader->err);

    if (status != KVERN_OK)
        return status;
    if (!entry)
        return fail(reader->err, KVERN_FORMAT, "torch: the archive has no storage data/%.*s of %s",
                    key->n > MAX_KEY_BYTES ? MAX_KEY_BYTES : (int)key->n, key->text, tensor->name);
    if (!multiply_sizes((size_t)storage->n_values, type->value_bytes, &n_bytes) ||
        n_bytes != entry->n_bytes)
        return fail(reader->err, KVERN_FORMAT,
                    "torch: the storage of %s has %zu bytes; %lld values of %s need others",
                    tensor->name, entry->n_bytes, (long long)storage->n_values, type->name);
    if (from->offset > storage->n_values || n_span > (size_t)(storage->n_values - from->offset))
        return fail(reader->err, KVERN_FORMAT,
                    "torch: %s, %zu values from %lld on, runs past its storage of %lld",
                    tensor->name, n_span, (long long)from->offset, (long long)storage->n_values);
    if (type->is_float && !type->is_readable)
        return fail(reader->err, KVERN_UNSUPPORTED, "torch: %s is %s; f32, f16 and bf16 are read",
                    tensor->name, type->name);
    tensor->type = type->type;
    tensor->data = entry->data + (size_t)from->offset * type->value_bytes;
    tensor->file = reader->file;
    return KVERN_OK;
}

static kvern_status read_entry(struct reader *reader, const struct pickle_value *key,
                               const struct pickle_value *value)
{
    struct torch_file *out = reader->out;
    struct tensor tensor = {0};
    const struct pickle_tensor *from;
    kvern_status status = copy_name(key, &tensor.name, reader->err);

    if (status != KVERN_OK)
        return status;
    if (value->kind != PICKLE_TENSOR) {
        status = fail(reader->err, KVERN_UNSUPPORTED,
                      "torch: %s is no tensor; only dicts of tensors are read", tensor.name);
        goto done;
    }
    from = &reader->pickle.tensors[value->place];
    status = read_tensor(reader, from, &tensor);
    if (status == KVERN_OK &&
        storage_types[reader->pickle.storages[from->storage].type].is_readable) {
        out->tensors[out->n_tensors++] = tensor;
        tensor.name = NULL;
    }
done:
    free(tensor.name);
    return status;
}

static kvern_status read_state_dict(struct reader *reader)
{
    const struct pickle *pickle = &reader->pickle;
    const struct pickle_value *dict = NULL;
    kvern_status status = find_state_dict(reader, &dict);

    if (status != KVERN_OK)
        return status;
    if (dict->n / 2 > MAX_TENSORS)
        return fail(reader->err, KVERN_LIMIT, "torch: the file has over %d tensors", MAX_TENSORS);
    reader->out->tensors = try_new(dict->n / 2, sizeof *reader->out->tensors);
    if (!reader->out->tensors)
        return fail(reader->err, KVERN_MEMORY, "no memory for %u tensors", dict->n / 2);
    for (uint32_t i = dict->items.first; i != PICKLE_NO_ITEM && status == KVERN_OK;) {
        uint32_t value = pickle->items[i].next;

        status = read_entry(reader, &pickle->values[pickle->items[i].value],
                            &pickle->values[pickle->items[value].value]);
        i = pickle->items[value].next;
    }
    return status;
}

kvern_status torch_file_parse(struct torch_file *out, const uint8_t *data, size_t n_bytes,
                              const struct file_map *file, kvern_error *err)
{
    struct reader reader = {.out = out, .file = file, .err = err};
    const struct zip_entry *entry = NULL;
    kvern_status status = check_form(data, n_bytes, err);

    *out = (struct torch_file){0};
    if (status == KVERN_OK)
        status = zip_file_parse(&reader.zip, data, n_bytes, err);
    if (status == KVERN_OK)
        status = find_pickle(&reader, &entry);
    if (status == KVERN_OK)
        status = check_byte_order(&reader);
    if (status == KVERN_OK)
        status = pickle_parse(&reader.pickle, entry->data, entry->n_bytes, err);
    if (status == KVERN_OK)
        status = read_state_dict(&reader);
    pickle_clear(&reader.pickle);
    zip_file_clear(&reader.zip);
    if (status != KVERN_OK)
        torch_file_clear(out);
    return status;
}

void torch_file_clear(struct torch_file *torch_file)
{
    for (size_t i = 0; i < torch_file->n_tensors; i++)
        free(torch_file->tensors[i].name);
    free(torch_file->tensors);
    *torch_file = (struct torch_file){0};
}
