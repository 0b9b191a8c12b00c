/* SPDX-License-Identifier: Apache-2.0
 *
 * Python's pickle, as far as a file of tensors needs it (protocols 2 to 5): dicts, lists, tuples,
 * strings, numbers, and the few names of pickle_calls.h. Nothing is ever imported or called: any
 * other opcode, name or argument is refused with its offset. What is read is a graph of values by
 * index. A list or dict may hold itself, so whoever walks it bounds the depth.
 */
#ifndef KVERN_CONVERT_PICKLE_H
#define KVERN_CONVERT_PICKLE_H

#include "convert/tensor.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,         /* items are keys and values in turn */
    PICKLE_ORDERED_DICT, /* likewise */
    PICKLE_NAME,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
};

/* Element types of a storage: what torch's storage classes say. */
enum pickle_type {
    PICKLE_F32,
    PICKLE_F16,
    PICKLE_BF16,
    PICKLE_F64,
    PICKLE_I64,
    PICKLE_I32,
    PICKLE_I16,
    PICKLE_I8,
    PICKLE_U8,
    PICKLE_BOOLS,
};

#define PICKLE_NO_ITEM UINT32_MAX

struct pickle_value {
    enum pickle_kind kind;
    uint32_t n; /* bytes of a STRING, items of a container */
    union {
        int64_t integer;  /* INT; BOOL: 0 or 1; NAME: an enum pickle_name */
        const char *text; /* [n], in the pickle and without a NUL */
        struct {
            uint32_t first; /* into items; PICKLE_NO_ITEM if there is none */
            uint32_t last;
        } items;
        uint32_t place; /* of a STORAGE or TENSOR in its array */
    };
};

struct pickle_item {
    uint32_t value; /* into values */
    uint32_t next;  /* into items, or PICKLE_NO_ITEM */
};

struct pickle_storage {
    enum pickle_type type;
    uint32_t key; /* a STRING: the name of the entry that holds the bytes */
    int64_t n_values;
};

struct pickle_tensor {
    uint32_t storage; /* into storages */
    int64_t offset;   /* in values, like strides; none is negative */
    size_t n_dims;
    int64_t dims[TENSOR_MAX_DIMS];
    int64_t strides[TENSOR_MAX_DIMS];
};

struct pickle {
    struct pickle_value *values; /* [n_values], owned, like the others */
    size_t n_values;
    struct pickle_item *items; /* [n_items] */
    size_t n_items;
    struct pickle_storage *storages; /* [n_storages] */
    size_t n_storages;
    struct pickle_tensor *tensors; /* [n_tensors] */
    size_t n_tensors;
    uint32_t root; /* into values */
};

/* A pickle is at most this long, and makes at most so many values and items of containers. */
enum { PICKLE_MAX_BYTES = 64 << 20, PICKLE_MAX_VALUES = 1 << 22 };

/* Strings point into `data`, which must outlive them. On failure *out is zeroed. */
kvern_status pickle_parse(struct pickle *out, const uint8_t *data, size_t n_bytes,
                          kvern_error *err);
/* Fine on a zeroed one. */
void pickle_clear(struct pickle *pickle);

bool pickle_is_dict(const struct pickle_value *value);
/* Whether it is a STRING, and this one. */
bool pickle_is_text(const struct pickle_value *value, const char *text);

/* For pickle_calls.c: adds a value, whose index goes to *index. */
kvern_status pickle_add(struct pickle *pickle, struct pickle_value value, uint32_t *index,
                        kvern_error *err);
/* Room for one more behind `n` items: `items`, perhaps moved, or NULL if there is no memory (then
 * `items` is as it was). A list that grows by it one by one has room up to the next power of two,
 * also after it has shrunk. */
void *pickle_make_room(void *items, size_t n, size_t item_bytes);

#endif
