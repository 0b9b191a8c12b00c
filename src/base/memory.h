/* SPDX-License-Identifier: Apache-2.0
 *
 * Two allocators. The *_or_abort family is for small, bounded requests of our own: it never returns
 * NULL. The try_* family is for any size that comes from a file or a request: it can fail, checks
 * the product for overflow, and can be made to fail by tests.
 */
#ifndef KVERN_BASE_MEMORY_H
#define KVERN_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *new_or_abort(size_t n_bytes); /* zeroed */
void *resize_or_abort(void *pointer, size_t n_bytes);
char *copy_string_or_abort(const char *text);
char *copy_bytes_or_abort(const char *bytes, size_t n_bytes); /* adds a final NUL */

/* Zeroed memory for `count` items of `item_bytes`, or NULL. try_new(0, x) gives a valid pointer. */
void *try_new(size_t count, size_t item_bytes);
/* Like realloc on count * item_bytes; on NULL the old memory is still the caller's. New bytes are
 * not zeroed. */
void *try_resize(void *pointer, size_t count, size_t item_bytes);
/* Zeroed and aligned to 64 bytes; freed with free(). Large blocks are lazily backed by the OS. */
void *try_new_aligned(size_t count, size_t item_bytes);

/* Zeroed pages that take no memory until they are touched: for pools sized by a limit, not by need.
 * NULL when the system refuses. Given back with memory_unmap and the same size. */
void *try_map_pages(size_t n_bytes);
void memory_unmap(void *pages, size_t n_bytes);

/* a * b into *product; false on overflow. */
bool multiply_sizes(size_t a, size_t b, size_t *product);
bool add_sizes(size_t a, size_t b, size_t *sum);

/* Tests only: let the n-th try_* call from now fail (0 = the next one); -1 turns it off. Returns
 * whether the failure asked for before has come. */
bool memory_fail_after(int64_t n_calls);

#endif
