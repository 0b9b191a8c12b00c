/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF writer of the tests: little-endian fields, one after the other.
 */
#include "support_gguf.h"

#include <string.h>

void put_u32(struct buffer *file, uint32_t value)
{
    buffer_add(file, &value, sizeof value);
}

void put_u64(struct buffer *file, uint64_t value)
{
    buffer_add(file, &value, sizeof value);
}

void put_string(struct buffer *file, const char *text)
{
    put_u64(file, strlen(text));
    buffer_add_string(file, text);
}

void put_header(struct buffer *file, uint64_t n_tensors, uint64_t n_values)
{
    buffer_add_string(file, "GGUF");
    put_u32(file, 3);
    put_u64(file, n_tensors);
    put_u64(file, n_values);
}

void put_u32_value(struct buffer *file, const char *key, uint32_t value)
{
    put_string(file, key);
    put_u32(file, 4);
    put_u32(file, value);
}

void put_f32_value(struct buffer *file, const char *key, float value)
{
    put_string(file, key);
    put_u32(file, 6);
    buffer_add(file, &value, sizeof value);
}

void put_bool_value(struct buffer *file, const char *key, int value)
{
    put_string(file, key);
    put_u32(file, 7);
    buffer_add_byte(file, (char)value);
}

void put_string_value(struct buffer *file, const char *key, const char *text)
{
    put_string(file, key);
    put_u32(file, 8);
    put_string(file, text);
}

void put_strings_value(struct buffer *file, const char *key, const char *const *items)
{
    size_t n = 0;

    while (items[n])
        n++;
    put_string(file, key);
    put_u32(file, 9);
    put_u32(file, 8);
    put_u64(file, n);
    for (size_t i = 0; i < n; i++)
        put_string(file, items[i]);
}

void put_ints_value(struct buffer *file, const char *key, const int32_t *items, size_t n)
{
    put_string(file, key);
    put_u32(file, 9);
    put_u32(file, 5);
    put_u64(file, n);
    buffer_add(file, items, n * sizeof *items);
}

void put_tensor(struct buffer *file, const char *name, uint64_t dim0, uint64_t dim1,
                uint32_t ggml_type, uint64_t offset)
{
    put_string(file, name);
    put_u32(file, dim1 ? 2 : 1);
    put_u64(file, dim0);
    if (dim1)
        put_u64(file, dim1);
    put_u32(file, ggml_type);
    put_u64(file, offset);
}

void put_padding(struct buffer *file, size_t alignment)
{
    while (file->n_bytes % alignment)
        buffer_add_byte(file, 0);
}
