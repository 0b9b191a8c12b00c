/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes small GGUF files into a buffer, field by field, so that tests can also write wrong ones.
 */
#ifndef KVERN_TESTS_SUPPORT_GGUF_H
#define KVERN_TESTS_SUPPORT_GGUF_H

#include "base/buffer.h"

#include <stdint.h>

void put_u32(struct buffer *file, uint32_t value);
void put_u64(struct buffer *file, uint64_t value);
void put_string(struct buffer *file, const char *text);
/* "GGUF", version 3 and the two counts. */
void put_header(struct buffer *file, uint64_t n_tensors, uint64_t n_values);
void put_u32_value(struct buffer *file, const char *key, uint32_t value);
void put_f32_value(struct buffer *file, const char *key, float value);
void put_bool_value(struct buffer *file, const char *key, int value);
void put_string_value(struct buffer *file, const char *key, const char *text);
/* An array of strings, NULL-terminated. */
void put_strings_value(struct buffer *file, const char *key, const char *const *items);
/* An array of int32, `n` of them. */
void put_ints_value(struct buffer *file, const char *key, const int32_t *items, size_t n);
/* dims innermost first, as GGUF has them; a zero ends them. */
void put_tensor(struct buffer *file, const char *name, uint64_t dim0, uint64_t dim1,
                uint32_t ggml_type, uint64_t offset);
/* Zero bytes up to a multiple of `alignment`. */
void put_padding(struct buffer *file, size_t alignment);

#endif
