/* SPDX-License-Identifier: Apache-2.0
 *
 * The two allocators of memory.h and checked size arithmetic. Holds no memory of its own.
 */
#include "base/memory.h"

#include "kvern.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic int64_t calls_until_failure = -1;

bool memory_fail_after(int64_t n_calls)
{
    return atomic_exchange(&calls_until_failure, n_calls) < 0;
}

static bool must_fail_now(void)
{
    if (atomic_load_explicit(&calls_until_failure, memory_order_relaxed) < 0)
        return false;
    return atomic_fetch_sub(&calls_until_failure, 1) == 0;
}

bool multiply_sizes(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

bool add_sizes(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

void *new_or_abort(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes ? n_bytes : 1);

    if (!memory)
        abort();
    return memory;
}

void *resize_or_abort(void *pointer, size_t n_bytes)
{
    void *memory = realloc(pointer, n_bytes ? n_bytes : 1);

    if (!memory)
        abort();
    return memory;
}

char *copy_bytes_or_abort(const char *bytes, size_t n_bytes)
{
    char *copy = new_or_abort(n_bytes + 1);

    if (n_bytes)
        memcpy(copy, bytes, n_bytes);
    return copy;
}

char *copy_string_or_abort(const char *text)
{
    return copy_bytes_or_abort(text, strlen(text));
}

void *try_new(size_t count, size_t item_bytes)
{
    size_t n_bytes;

    if (must_fail_now() || !multiply_sizes(count, item_bytes, &n_bytes))
        return NULL;
    return calloc(1, n_bytes ? n_bytes : 1);
}

void *try_resize(void *pointer, size_t count, size_t item_bytes)
{
    size_t n_bytes;

    if (must_fail_now() || !multiply_sizes(count, item_bytes, &n_bytes))
        return NULL;
    return realloc(pointer, n_bytes ? n_bytes : 1);
}

void *try_new_aligned(size_t count, size_t item_bytes)
{
    enum { ALIGNMENT = 64 };
    size_t n_bytes;

    if (must_fail_now() || !multiply_sizes(count, item_bytes, &n_bytes))
        return NULL;
    if (n_bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    n_bytes = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (n_bytes == 0)
        n_bytes = ALIGNMENT;

    /* Fresh pages from the OS are zero already, but aligned_alloc may hand out used memory. */
    void *memory = aligned_alloc(ALIGNMENT, n_bytes);

    if (memory)
        memset(memory, 0, n_bytes);
    return memory;
}

void *try_map_pages(size_t n_bytes)
{
    if (must_fail_now() || n_bytes == 0)
        return NULL;

    void *pages = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return pages == MAP_FAILED ? NULL : pages;
}

void memory_unmap(void *pages, size_t n_bytes)
{
    if (pages)
        munmap(pages, n_bytes);
}

void kvern_free(void *pointer)
{
    free(pointer);
}

void kvern_strings_free(char **strings, size_t n_strings)
{
    for (size_t i = 0; strings && i < n_strings; i++)
        free(strings[i]);
    free(strings);
}
