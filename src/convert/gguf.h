/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF container, versions 2 and 3: metadata and tensor entries as views into the file's bytes.
 * After gguf_parse() every view lies inside those bytes, names and keys are unique, and each
 * tensor's size matches its dims and type. What the names mean is gguf_model.h's matter.
 */
#ifndef KVERN_CONVERT_GGUF_H
#define KVERN_CONVERT_GGUF_H

#include "base/map.h"
#include "convert/tensor.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gguf_type { /* numbers of the format */
                 GGUF_UINT8,
                 GGUF_INT8,
                 GGUF_UINT16,
                 GGUF_INT16,
                 GGUF_UINT32,
                 GGUF_INT32,
                 GGUF_FLOAT32,
                 GGUF_BOOL,
                 GGUF_STRING,
                 GGUF_ARRAY,
                 GGUF_UINT64,
                 GGUF_INT64,
                 GGUF_FLOAT64,
                 GGUF_N_TYPES
};

/* Bytes in the file: not terminated, may hold anything. */
struct gguf_string {
    const char *bytes;
    size_t n_bytes;
};

struct gguf_value {
    struct gguf_string key;
    enum gguf_type type;
    enum gguf_type item_type; /* of an array */
    size_t n_items;           /* of an array; else 1 */
    const uint8_t *data;      /* the value, or an array's first item */
    size_t n_bytes;
};

struct gguf_tensor {
    struct gguf_string name;
    enum tensor_type type;
    size_t n_dims;
    size_t dims[TENSOR_MAX_DIMS]; /* outermost first: GGUF's order turned round */
    const uint8_t *data;
    size_t n_bytes;
};

struct gguf {
    uint32_t version;
    struct gguf_value *values; /* [n_values], owned */
    size_t n_values;
    struct gguf_tensor *tensors; /* [n_tensors], owned */
    size_t n_tensors;
    struct map keys; /* key -> index into values */
};

/* `data` must outlive *gguf. On failure *gguf is zeroed. */
kvern_status gguf_parse(struct gguf *gguf, const uint8_t *data, size_t n_bytes, kvern_error *err);
void gguf_clear(struct gguf *gguf);

/* NULL if there is no such key. */
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);
/* Item `i` of a value that is a number (any width) or an array of numbers; false for another type,
 * a negative number, or one that does not fit. Booleans count as 0 and 1. */
bool gguf_unsigned(const struct gguf_value *value, size_t i, uint64_t *out);
bool gguf_float(const struct gguf_value *value, size_t i, double *out);
bool gguf_text(const struct gguf_value *value, struct gguf_string *out);
/* Walks an array of strings: *offset starts at 0 and moves on; call it at most n_items times. */
struct gguf_string gguf_next_string(const struct gguf_value *array, size_t *offset);

#endif
