/* SPDX-License-Identifier: Apache-2.0
 *
 * The few names of a pickle of tensors. Arguments are checked here one by one, by kind and count;
 * whether a tensor fits its storage is torch_file.c's matter.
 */
#include "convert/pickle_calls.h"

#include "base/error.h"

#include <string.h>

enum { MAX_ARGUMENTS = 7 };

static const struct known_name {
    const char *module;
    const char *name;
    int value; /* an enum pickle_name */
} known_names[] = {
    {"collections", "OrderedDict", NAME_ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", NAME_REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", NAME_REBUILD_PARAMETER},
    {"torch", "FloatStorage", NAME_STORAGES + PICKLE_F32},
    {"torch", "HalfStorage", NAME_STORAGES + PICKLE_F16},
    {"torch", "BFloat16Storage", NAME_STORAGES + PICKLE_BF16},
    {"torch", "DoubleStorage", NAME_STORAGES + PICKLE_F64},
    {"torch", "LongStorage", NAME_STORAGES + PICKLE_I64},
    {"torch", "IntStorage", NAME_STORAGES + PICKLE_I32},
    {"torch", "ShortStorage", NAME_STORAGES + PICKLE_I16},
    {"torch", "CharStorage", NAME_STORAGES + PICKLE_I8},
    {"torch", "ByteStorage", NAME_STORAGES + PICKLE_U8},
    {"torch", "BoolStorage", NAME_STORAGES + PICKLE_BOOLS},
};

static bool is_text(struct pickle_text text, const char *expected)
{
    return text.n_bytes == strlen(expected) && memcmp(text.text, expected, text.n_bytes) == 0;
}

/* How much of a name from the file goes into a message. */
static int shown_bytes(size_t n_bytes)
{
    return n_bytes < 100 ? (int)n_bytes : 100;
}

kvern_status pickle_find_name(struct pickle_text module, struct pickle_text name,
                              enum pickle_name *found, kvern_error *err)
{
    for (size_t i = 0; i < sizeof known_names / sizeof *known_names; i++) {
        if (is_text(module, known_names[i].module) && is_text(name, known_names[i].name)) {
            *found = (enum pickle_name)known_names[i].value;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_UNSUPPORTED,
                "the name %.*s.%.*s is none that a file of tensors needs; code is never loaded",
                shown_bytes(module.n_bytes), module.text, shown_bytes(name.n_bytes), name.text);
}

/* The values of a tuple of up to MAX_ARGUMENTS, NULL behind the last. */
struct arguments {
    const struct pickle_value *values[MAX_ARGUMENTS];
    uint32_t indexes[MAX_ARGUMENTS];
    size_t n;
};

static bool read_arguments(const struct pickle *pickle, uint32_t tuple, struct arguments *arguments)
{
    const struct pickle_value *value = &pickle->values[tuple];

    *arguments = (struct arguments){0};
    if (value->kind != PICKLE_TUPLE || value->n > MAX_ARGUMENTS)
        return false;
    for (uint32_t i = value->items.first; arguments->n < value->n; i = pickle->items[i].next) {
        arguments->indexes[arguments->n] = pickle->items[i].value;
        arguments->values[arguments->n++] = &pickle->values[pickle->items[i].value];
    }
    return true;
}

static bool is_size(const struct pickle_value *value)
{
    return value->kind == PICKLE_INT && value->integer >= 0;
}

/* Hooks and metadata of a tensor: nothing, or an empty dict. */
static bool is_nothing(const struct pickle_value *value)
{
    return value->kind == PICKLE_NONE || (pickle_is_dict(value) && value->n == 0);
}

static bool read_sizes(const struct pickle *pickle, const struct pickle_value *tuple, int64_t *out)
{
    uint32_t item = tuple->items.first;

    for (uint32_t i = 0; i < tuple->n; i++, item = pickle->items[item].next) {
        const struct pickle_value *value = &pickle->values[pickle->items[item].value];

        if (!is_size(value))
            return false;
        out[i] = value->integer;
    }
    return true;
}

/* torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
 */
static kvern_status rebuild_tensor(struct pickle *pickle, const struct arguments *arguments,
                                   uint32_t *result, kvern_error *err)
{
    const struct pickle_value *const *values = arguments->values;
    struct pickle_value value = {.kind = PICKLE_TENSOR, .place = (uint32_t)pickle->n_tensors};
    struct pickle_tensor tensor = {0};
    struct pickle_tensor *tensors;

    if (arguments->n < 6 || values[0]->kind != PICKLE_STORAGE || !is_size(values[1]) ||
        values[2]->kind != PICKLE_TUPLE || values[3]->kind != PICKLE_TUPLE ||
        values[2]->n != values[3]->n || values[4]->kind != PICKLE_BOOL || !is_nothing(values[5]) ||
        (arguments->n == 7 && !is_nothing(values[6])))
        return fail(err, KVERN_UNSUPPORTED,
                    "_rebuild_tensor_v2 has other arguments than a plain tensor's");
    if (values[2]->n > TENSOR_MAX_DIMS)
        return fail(err, KVERN_UNSUPPORTED, "a tensor has %u dimensions; up to %d are read",
                    values[2]->n, TENSOR_MAX_DIMS);
    tensor.storage = values[0]->place;
    tensor.offset = values[1]->integer;
    tensor.n_dims = values[2]->n;
    if (!read_sizes(pickle, values[2], tensor.dims) ||
        !read_sizes(pickle, values[3], tensor.strides))
        return fail(err, KVERN_FORMAT, "a tensor has a dimension or stride that is no size");
    tensors = pickle_make_room(pickle->tensors, pickle->n_tensors, sizeof *tensors);
    if (!tensors)
        return fail(err, KVERN_MEMORY, "no memory for %zu tensors", pickle->n_tensors);
    pickle->tensors = tensors;
    tensors[pickle->n_tensors++] = tensor;
    return pickle_add(pickle, value, result, err);
}

kvern_status pickle_call(struct pickle *pickle, uint32_t callee, uint32_t tuple, uint32_t *result,
                         kvern_error *err)
{
    static const struct pickle_value ordered_dict = {.kind = PICKLE_ORDERED_DICT,
                                                     .items = {PICKLE_NO_ITEM, PICKLE_NO_ITEM}};
    const struct pickle_value *name = &pickle->values[callee];
    struct arguments arguments;

    if (name->kind != PICKLE_NAME)
        return fail(err, KVERN_FORMAT, "what is no name is called");
    if (!read_arguments(pickle, tuple, &arguments))
        return fail(err, KVERN_UNSUPPORTED, "a call's arguments are no tuple of up to %d",
                    MAX_ARGUMENTS);
    switch (name->integer) {
    case NAME_ORDERED_DICT:
        if (arguments.n != 0)
            return fail(err, KVERN_UNSUPPORTED, "an OrderedDict is made with %zu arguments",
                        arguments.n);
        return pickle_add(pickle, ordered_dict, result, err);
    case NAME_REBUILD_TENSOR:
        return rebuild_tensor(pickle, &arguments, result, err);
    case NAME_REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (arguments.n != 3 || arguments.values[0]->kind != PICKLE_TENSOR ||
            arguments.values[1]->kind != PICKLE_BOOL || !is_nothing(arguments.values[2]))
            return fail(err, KVERN_UNSUPPORTED,
                        "_rebuild_parameter has other arguments than a plain parameter's");
        *result = arguments.indexes[0];
        return KVERN_OK;
    default:
        return fail(err, KVERN_UNSUPPORTED, "a storage class is called");
    }
}

kvern_status pickle_build(struct pickle *pickle, uint32_t object, uint32_t state, kvern_error *err)
{
    const struct pickle_value *attributes = &pickle->values[state];
    const struct pickle_value *key;

    if (pickle->values[object].kind != PICKLE_ORDERED_DICT || !pickle_is_dict(attributes))
        return fail(err, KVERN_UNSUPPORTED,
                    "attributes are set, of what is no OrderedDict or by what is no dict");
    for (uint32_t i = attributes->items.first; i != PICKLE_NO_ITEM;
         i = pickle->items[pickle->items[i].next].next) {
        key = &pickle->values[pickle->items[i].value];
        if (!pickle_is_text(key, "_metadata"))
            return fail(err, KVERN_UNSUPPORTED,
                        "the attribute %.*s of an OrderedDict is none that a file of tensors needs",
                        key->kind == PICKLE_STRING ? shown_bytes(key->n) : 0, key->text);
    }
    return KVERN_OK;
}

kvern_status pickle_load_storage(struct pickle *pickle, uint32_t id, uint32_t *result,
                                 kvern_error *err)
{
    struct pickle_value value = {.kind = PICKLE_STORAGE, .place = (uint32_t)pickle->n_storages};
    struct arguments parts;
    struct pickle_storage *storages;
    const struct pickle_value *const *values = parts.values;

    if (!read_arguments(pickle, id, &parts) || parts.n != 5 ||
        !pickle_is_text(values[0], "storage") || values[1]->kind != PICKLE_NAME ||
        values[1]->integer < NAME_STORAGES || values[2]->kind != PICKLE_STRING ||
        values[3]->kind != PICKLE_STRING || !is_size(values[4]))
        return fail(err, KVERN_UNSUPPORTED,
                    "a persistent id is not ('storage', class, key, location, number of values)");
    storages = pickle_make_room(pickle->storages, pickle->n_storages, sizeof *storages);
    if (!storages)
        return fail(err, KVERN_MEMORY, "no memory for %zu storages", pickle->n_storages);
    pickle->storages = storages;
    storages[pickle->n_storages++] =
        (struct pickle_storage){.type = (enum pickle_type)(values[1]->integer - NAME_STORAGES),
                                .key = parts.indexes[2],
                                .n_values = values[4]->integer};
    return pickle_add(pickle, value, result, err);
}
